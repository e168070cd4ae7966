"""Environments by name: any Gymnasium id, found before any work begins, and made the same way each time."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

import gymnasium as gym

# This also registers sabsim/NAME-v0.
from sabsim.envs import is_minigrid

from sabsim.choices import suggestion
from sabsim.errors import ConfigError

from .arena import Make

_MODULES = {"MiniGrid-": "minigrid", "BabyAI-": "minigrid"}
"""Where the environments whose names begin so are registered."""


def maker(env: str, env_args: Mapping[str, Any], *, kinds: bool = True) -> Make:
    """What makes one environment ``env`` with ``env_args``. One is made here, to see whether it can be.

    ``kinds``: a MiniGrid view, whose cells are three numbers each (object, colour, state), is shown as a vector of noughts
    and ones for each cell, by MiniGrid's own wrapper.

    Raises ConfigError: for an id that is not registered, a module that cannot be imported, arguments that the environment
    refuses, or a window to be drawn in.
    """
    if env_args.get("render_mode") == "human":
        raise ConfigError(
            "env_args: render_mode = 'human': many environments are played side by side, and without a window; leave it "
            "out, 'sabsim watch' shows episodes"
        )
    _register(env)

    def make() -> gym.Env[Any, Any]:
        # The checker looks at every step; the environments here are trusted, and steps are many.
        made = gym.make(env, disable_env_checker=True, **env_args)
        return _by_kind(made) if kinds and is_minigrid(made) else made

    try:
        make().close()
    except (TypeError, ValueError, AssertionError, gym.error.Error) as error:
        given = f" with {dict(env_args)}" if env_args else ""
        raise ConfigError(f"env = {env!r}: cannot be made{given} ({_line(error)})") from error
    return make


def _by_kind(made: gym.Env[Any, Any]) -> gym.Env[Any, Any]:
    from minigrid.wrappers import OneHotPartialObsWrapper  # here, for it takes its time and few runs need it

    wrapped: gym.Env[Any, Any] = OneHotPartialObsWrapper(made)  # type: ignore[no-untyped-call]
    return wrapped


def _register(env: str) -> None:
    """Imports what registers ``env``, and makes sure that it did."""
    module, colon, name = env.rpartition(":")
    if not colon:
        module = next((module for start, module in _MODULES.items() if name.startswith(start)), "")
    if module:
        try:
            importlib.import_module(module)
        except ImportError as error:
            raise ConfigError(f"env = {env!r}: module {module!r} cannot be imported ({_line(error)})") from error
    try:
        gym.spec(name)
    except gym.error.Error as error:
        raise ConfigError(
            f"env = {env!r}: no environment of this name is registered{suggestion(name, gym.registry)}; give a Gymnasium "
            "id such as sabsim/MemoryChain-v0 or MiniGrid-MemoryS7-v0, or module:Id"
        ) from error


def _line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
