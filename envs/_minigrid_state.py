"""The state of MiniGrid's own environments, which do not save themselves: their attributes, as plain values.

What an environment holds is numbers, arrays, and objects of MiniGrid's (the grid, keys and doors, rooms, instructions),
some of them at several places at once: a ball on the grid is also in the list of obstacles. So each object is saved
once, and told by its number wherever it is.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any

import gymnasium as gym
import numpy as np

_SAME = ("action_space", "observation_space", "actions", "reward_range", "spec")
_DRAWING = ("render_mode", "render_size", "window", "clock")
_CONSTANT = frozenset((*_SAME, *_DRAWING))
"""Attributes that are the same in every environment made in the same way, or that only drawing changes."""
_GENERATOR = "_np_random"
_OF_MINIGRID = "minigrid."


def is_minigrid(env: gym.Env[Any, Any]) -> bool:
    """Whether the environment, wrappers aside, is one of MiniGrid's kind. MiniGrid need not be imported."""
    module = sys.modules.get("minigrid.minigrid_env")
    return module is not None and isinstance(env.unwrapped, module.MiniGridEnv)


def get_minigrid_state(env: Any) -> dict[str, Any]:
    """The state of an environment without its wrappers, as plain values that JSON can hold.

    Raises ``ValueError`` if it holds what is neither plain nor MiniGrid's.
    """
    writer = _Writer(env)
    values = {name: value for name, value in vars(env).items() if name not in _CONSTANT and name != _GENERATOR}
    attributes = writer.attributes(values)
    return {"attributes": attributes, "objects": writer.objects, "generator": env.np_random.bit_generator.state}


def set_minigrid_state(env: Any, state: dict[str, Any]) -> None:
    """Puts an environment made in the same way into a state from ``get_minigrid_state``.

    Raises ``ValueError`` for objects that are not MiniGrid's.
    """
    reader = _Reader(env, state["objects"])
    kept = {name: value for name, value in vars(env).items() if name in _CONSTANT or name == _GENERATOR}
    found = reader.attributes(state["attributes"])
    vars(env).clear()
    vars(env).update(kept | found)
    env.np_random.bit_generator.state = state["generator"]


class _Writer:
    """From values to JSON. ``objects``: [module, class, attributes] of each object met, by its number."""

    def __init__(self, env: Any) -> None:
        self.objects: list[list[Any]] = []
        self._numbers: dict[int, int] = {}
        self._env = env

    def attributes(self, values: dict[str, Any]) -> dict[str, Any]:
        return {name: self._value(value, name) for name, value in values.items()}

    def _value(self, value: Any, where: str) -> Any:
        if value is None or type(value) in (bool, int, float, str):
            return value
        if isinstance(value, np.generic):
            return {"number": [value.dtype.str, value.item()]}
        if isinstance(value, np.ndarray) and value.dtype != object:
            return {"array": [value.dtype.str, list(value.shape), value.ravel().tolist()]}
        if type(value) in (list, tuple):
            return {type(value).__name__: [self._value(item, where) for item in value]}
        if type(value) is dict:
            return {"dict": [[self._value(key, where), self._value(item, where)] for key, item in value.items()]}
        if value is self._env:
            return {"environment": True}
        if type(value).__module__.startswith(_OF_MINIGRID) and hasattr(value, "__dict__"):
            return {"object": self._object(value)}
        name, odd = type(self._env).__name__, type(value).__name__
        raise ValueError(f"{name} cannot be saved: its {where} holds {odd}, which is neither plain nor MiniGrid's")

    def _object(self, value: Any) -> int:
        if id(value) not in self._numbers:
            # It has its number before its attributes are looked at: they may lead back to it.
            self._numbers[id(value)] = len(self.objects)
            self.objects.append(entry := [type(value).__module__, type(value).__name__, {}])
            entry[2] = self.attributes(vars(value))
        return self._numbers[id(value)]


class _Reader:
    """From JSON to values: the opposite of ``_Writer``."""

    def __init__(self, env: Any, objects: list[list[Any]]) -> None:
        self._env = env
        # All are there before any is filled: they may hold each other.
        self._objects = [_blank(module, name) for module, name, _ in objects]
        for there, (_, _, attributes) in zip(self._objects, objects, strict=True):
            vars(there).update(self.attributes(attributes))

    def attributes(self, values: dict[str, Any]) -> dict[str, Any]:
        return {name: self._value(value) for name, value in values.items()}

    def _value(self, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        ((kind, held),) = value.items()
        if kind == "number":
            return np.dtype(held[0]).type(held[1])
        if kind == "array":
            return np.array(held[2], dtype=held[0]).reshape(held[1])
        if kind == "list":
            return [self._value(item) for item in held]
        if kind == "tuple":
            return tuple(self._value(item) for item in held)
        if kind == "dict":
            return {self._value(key): self._value(item) for key, item in held}
        return self._env if kind == "environment" else self._objects[held]


def _blank(module: str, name: str) -> Any:
    """An object of one of MiniGrid's classes, without attributes yet."""
    if not module.startswith(_OF_MINIGRID):
        raise ValueError(f"the saved state has an object of {module}.{name}; only MiniGrid's are known")
    kind = getattr(importlib.import_module(module), name)
    if not isinstance(kind, type):
        raise ValueError(f"the saved state has an object of {module}.{name}, which is not a class")
    return object.__new__(kind)
