"""What the small environments share: a saved state, the check of an action, and the two ways to render."""

from __future__ import annotations

import copy
import operator
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

Observation = NDArray[np.float32]
Step = tuple[Observation, float, bool, bool, dict[str, Any]]


class SmallEnv(gym.Env[Observation, Any]):
    """An environment whose whole state is a few plain attributes and the random generator.

    A subclass names those attributes in ``state_names``, sets ``self.over`` to False in ``reset`` and to True when an
    episode ends, calls ``check_action`` first in ``step``, and draws itself in ``text`` and ``picture``.
    """

    metadata: dict[str, Any] = {"render_modes": ["ansi", "rgb_array"], "render_fps": 8}  # noqa: RUF012 (Gymnasium's name)
    state_names: ClassVar[tuple[str, ...]] = ()
    action_space: gym.spaces.Discrete

    def __init__(self, *, render_mode: str | None = None) -> None:
        modes = self.metadata["render_modes"]
        if render_mode is not None and render_mode not in modes:
            raise ValueError(f"render_mode is {render_mode!r}; it must be None or one of {', '.join(modes)}")
        self.render_mode = render_mode
        self.over = True

    def check_action(self, action: int) -> int:
        """The action as a Python int.

        Raises ``ValueError`` for one outside the action space, ``gymnasium.error.ResetNeeded`` after an episode's
        end.
        """
        try:
            chosen = operator.index(action)
        except TypeError:
            chosen = -1
        if not 0 <= chosen < self.action_space.n:
            raise ValueError(f"action is {action!r}; it must be an integer from 0 to {self.action_space.n - 1}")
        if self.over:
            raise gym.error.ResetNeeded("the episode is over, or has not begun: call reset() before step()")
        return chosen

    def get_state(self) -> dict[str, Any]:
        """The whole state, as plain values that JSON can hold: the named attributes and the generator's state."""
        state = {name: getattr(self, name) for name in ("over", *self.state_names)}
        return copy.deepcopy(state) | {"generator": self.np_random.bit_generator.state}

    def set_state(self, state: dict[str, Any]) -> None:
        """Goes on from what ``get_state`` of an environment with the same arguments returned.

        Raises ``ValueError`` if ``state`` has other entries than this environment saves.
        """
        names = {"over", "generator", *self.state_names}
        if state.keys() != names:
            raise ValueError(f"state has the entries {sorted(state)}; {type(self).__name__} needs {sorted(names)}")
        for name in ("over", *self.state_names):
            setattr(self, name, copy.deepcopy(state[name]))
        self.np_random.bit_generator.state = state["generator"]

    def render(self) -> Any:
        """A short str (``ansi``), or a picture, uint8 of shape ``(height, width, 3)`` (``rgb_array``)."""
        if self.render_mode is None:
            gym.logger.warn(f"{type(self).__name__}.render() needs a render_mode: pass it to gymnasium.make")
            return None
        return self.text() if self.render_mode == "ansi" else self.picture()

    def text(self) -> str:
        """The present state in one or two lines."""
        raise NotImplementedError

    def picture(self) -> NDArray[np.uint8]:
        """The present state as a picture, uint8 of shape ``(height, width, 3)``."""
        raise NotImplementedError


def check_integer(name: str, value: int, low: int, high: int | None = None) -> int:
    """``value`` as an int; ``ValueError`` unless it is an integer of at least ``low`` (and at most ``high``)."""
    allowed = f"an integer of at least {low}" if high is None else f"an integer from {low} to {high}"
    try:
        number = operator.index(value)
    except TypeError:
        number = low - 1
    if isinstance(value, bool) or number < low or (high is not None and number > high):
        raise ValueError(f"{name} is {value!r}; it must be {allowed}")
    return number


def check_number(name: str, value: float, low: float, high: float | None = None) -> float:
    """``value`` as a float; ``ValueError`` unless it is a finite number of at least ``low`` (and at most ``high``)."""
    allowed = f"a number of at least {low:g}" if high is None else f"a number from {low:g} to {high:g}"
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float | np.integer | np.floating)
        or not np.isfinite(value)
        or value < low
        or (high is not None and value > high)
    ):
        raise ValueError(f"{name} is {value!r}; it must be {allowed}")
    return float(value)


def check_flag(name: str, value: bool) -> bool:
    """``value`` as a bool; ``ValueError`` unless it is True or False."""
    if not isinstance(value, bool | np.bool_):
        raise ValueError(f"{name} is {value!r}; it must be True or False")
    return bool(value)
