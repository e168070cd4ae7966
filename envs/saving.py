"""The state of an environment with its wrappers, so that a run that was killed goes on bit for bit."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
from gymnasium import wrappers as gymnasium_wrappers

from ._minigrid_state import get_minigrid_state, is_minigrid, set_minigrid_state

# Gymnasium's own wrappers hold state in private attributes: which, by class. One without state has an empty list.
_PRIVATE: dict[type[gym.Wrapper[Any, Any, Any, Any]], tuple[str, ...]] = {
    gymnasium_wrappers.TimeLimit: ("_elapsed_steps",),
    gymnasium_wrappers.OrderEnforcing: (),
    gymnasium_wrappers.PassiveEnvChecker: (),
    gymnasium_wrappers.FlattenObservation: (),
    gymnasium_wrappers.TransformObservation: (),
    gymnasium_wrappers.TransformReward: (),
}

_STATELESS_OF_MINIGRID = ("OneHotPartialObsWrapper", "ImgObsWrapper", "FullyObsWrapper", "ViewSizeWrapper")
"""By name: MiniGrid takes a while to import, and not everyone needs it."""

AnyEnv = gym.Env[Any, Any]


def get_state(env: AnyEnv) -> dict[str, Any]:
    """The state of the environment and of every wrapper around it, as plain values that JSON can hold.

    MiniGrid's own environments, which have no ``get_state``, are saved by their attributes. Raises ``ValueError`` if
    another environment has none, or a wrapper is of a kind that cannot be saved.
    """
    layers = []
    while isinstance(env, gym.Wrapper):
        layers.append([type(env).__name__, _layer_state(env)])
        env = env.env
    if hasattr(env, "get_state"):
        return {"wrappers": layers, "env": env.get_state()}
    if is_minigrid(env):
        return {"wrappers": layers, "env": get_minigrid_state(env)}
    raise ValueError(f"{type(env).__name__} cannot be saved: it has no get_state")


def set_state(env: AnyEnv, state: dict[str, Any]) -> None:
    """Puts an environment made in the same way (same arguments, same wrappers) into a state from ``get_state``.

    Raises ``ValueError`` if the wrappers are not those that were saved.
    """
    env.reset()  # wrappers refuse to step before the first reset; what it changes is overwritten below
    inner = env
    for name, values in state["wrappers"]:
        if not isinstance(inner, gym.Wrapper) or type(inner).__name__ != name:
            raise ValueError(f"the saved state has the wrapper {name} where this environment has {type(inner).__name__}")
        if hasattr(inner, "set_wrapper_state"):
            inner.set_wrapper_state(values)
        else:
            for attribute, value in values.items():
                setattr(inner, attribute, value)
        inner = inner.env
    if isinstance(inner, gym.Wrapper):
        raise ValueError(f"this environment has the wrapper {type(inner).__name__}, which the saved state has not")
    if hasattr(inner, "set_state"):
        inner.set_state(state["env"])
    else:
        set_minigrid_state(inner, state["env"])


def _layer_state(wrapper: gym.Wrapper[Any, Any, Any, Any]) -> dict[str, Any]:
    """One wrapper's own state: through its ``get_wrapper_state``, or from the table above."""
    if hasattr(wrapper, "get_wrapper_state"):
        return dict(wrapper.get_wrapper_state())
    if type(wrapper).__module__ == "minigrid.wrappers" and type(wrapper).__name__ in _STATELESS_OF_MINIGRID:
        return {}
    for kind, attributes in _PRIVATE.items():
        if isinstance(wrapper, kind):
            return {attribute: getattr(wrapper, attribute) for attribute in attributes}
    raise ValueError(f"the wrapper {type(wrapper).__name__} cannot be saved: it has no get_wrapper_state")
