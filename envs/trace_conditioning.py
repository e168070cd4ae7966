"""Trace conditioning: a stimulus, an empty interval, a drop of water; licking shows what is expected."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from gymnasium.spaces import Box, Discrete
from numpy.typing import NDArray

from ._base import Observation, SmallEnv, Step, check_integer, check_number
from ._drawing import FAINT, FLOOR, GOLD, INK, RED, VIOLET, WALL, WATER, Canvas, blend

STILL, LICK = 0, 1
PHASES = ("interval", "stimulus", "trace", "reward")


class TraceConditioning(SmallEnv):
    """
    ## Description
    An endless sequence of trials: an interval of random length; the conditioned stimulus for ``stimulus`` steps;
    the trace interval, ``trace`` steps without any stimulus; one step in which a drop of water comes, or, in a
    probe trial, does not. The drop comes whatever the animal does, but it gets all of it only if it licks in time,
    so that licks before the drop, which cost a little, measure what it expects and when.

    ## Action Space
    `Discrete(2)`: 0 still, 1 lick.

    ## Observation Space
    `Box(0, 1, (3,), float32)`: 0 the stimulus is on; 1 a drop has just come; 2 the animal has just licked.

    ## Rewards
    With the observation of a drop: ``reward`` if the action chosen just before was a lick, else ``reward * spilt``,
    what it gets of a drop that it was not there for. Every lick costs ``lick_cost``, at once. If the stimulus is
    first seen at step t, the drop comes with observation ``t + stimulus + trace``; the lick that catches it is
    chosen at the observation before.

    ## Starting State
    At the beginning of an interval of random length.

    ## Episode End
    Never. Registered with a limit of 1,000 steps (truncated).

    ## Arguments
    ``stimulus`` (3) and ``trace`` (10): steps, at least 1 and 0. ``interval_min`` (10), at least 1, and
    ``interval_max`` (30): the interval's length is drawn uniformly from these and all between. ``probe_rate``
    (0.1): the share of trials without a drop, drawn independently, at most 1. ``reward`` (1.0), ``spilt`` (0.5),
    from 0 to 1, and ``lick_cost`` (0.05), at least 0.

    `info`: ``phase`` ("interval", "stimulus", "trace", "reward": the last also in a probe, when the drop would have
    come), ``since`` (steps since that phase began), ``trial`` (counted from 0), ``probe`` (the present trial is
    one), ``licked`` (just now), ``drop`` (came just now), ``causal_step``: with a drop, the step at which its
    stimulus was first seen, else -1 (a lick's cost is immediate).

    ## Returns of scripted policies
    ``optimal_action`` licks once a trial, so as to catch the drop, which maximises the reward per step where ``(1 -
    probe_rate) * (1 - spilt) * reward > lick_cost`` (else never): 0.85 per trial of 34 steps in the mean, 25.0 per
    1,000 steps. Never licking: 0.45 per trial, 13.2 per 1,000 steps. Uniformly random actions: 0.675 per trial less
    0.85 for 17 licks, -5.1 per 1,000 steps. An episode of 1,000 steps begins with an interval, so that its return
    is a little less than these rates: 24.7, 13.0 and -5.5 (means of 1,000 episodes, standard errors 0.06, 0.03,
    0.06).

    ## References
    Pavlov (1927), Conditioned reflexes; Fiorillo, Newsome & Schultz (2008), The temporal precision of reward
    prediction in dopamine neurons, Nature Neuroscience 11, 966-973.

    ## Version History
    * v0: first version
    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["ansi", "rgb_array"], "render_fps": 8}  # type: ignore[misc]
    state_names = ("clock", "phase", "since", "pause", "trial", "probe", "onset", "licked")

    def __init__(
        self,
        *,
        stimulus: int = 3,
        trace: int = 10,
        interval_min: int = 10,
        interval_max: int = 30,
        probe_rate: float = 0.1,
        reward: float = 1.0,
        spilt: float = 0.5,
        lick_cost: float = 0.05,
        render_mode: str | None = None,
    ) -> None:
        super().__init__(render_mode=render_mode)
        self.stimulus, self.trace = check_integer("stimulus", stimulus, 1), check_integer("trace", trace, 0)
        self.interval_min = check_integer("interval_min", interval_min, 1)
        self.interval_max = check_integer("interval_max", interval_max, self.interval_min)
        self.probe_rate = check_number("probe_rate", probe_rate, 0.0, 1.0)
        self.reward = check_number("reward", reward, 0.0)
        self.spilt = check_number("spilt", spilt, 0.0, 1.0)
        self.lick_cost = check_number("lick_cost", lick_cost, 0.0)
        self.action_space = Discrete(2)
        self.observation_space = Box(0.0, 1.0, (3,), np.float32)
        # ``phase``: an index of PHASES; ``since``: steps since it began; ``pause``: the present interval's length.
        self.clock, self.phase, self.since, self.pause = 0, 0, 0, self.interval_min
        self.trial, self.probe, self.onset, self.licked = 0, False, -1, False

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """A new sequence of trials. ``options`` are not used."""
        super().reset(seed=seed)
        self.clock, self.trial, self.onset, self.licked = 0, 0, -1, False
        self._next_trial()
        self.over = False
        return self._observe(), self._info()

    def _next_trial(self) -> None:
        self.phase, self.since = 0, 0
        self.pause = int(self.np_random.integers(self.interval_min, self.interval_max + 1))
        self.probe = bool(self.np_random.random() < self.probe_rate)

    def step(self, action: int) -> Step:
        """One step of the trial; the action decides whether the animal licks as it passes."""
        self.licked = self.check_action(action) == LICK
        self.clock += 1
        self.since += 1
        if self.phase == 3:
            self.trial += 1
            self._next_trial()
        elif self.since == (self.pause, self.stimulus, self.trace)[self.phase]:
            self.phase, self.since = self.phase + 1, 0
            if self.phase == 1:
                self.onset = self.clock
            elif self.phase == 2 and self.trace == 0:
                self.phase = 3
        reward = -self.lick_cost if self.licked else 0.0
        if self.phase == 3 and not self.probe:
            reward += self.reward * (1.0 if self.licked else self.spilt)
        return self._observe(), reward, False, False, self._info()

    def _drop(self) -> bool:
        """A drop has just come."""
        return self.phase == 3 and not self.probe

    def _observe(self) -> Observation:
        observation = np.zeros(3, dtype=np.float32)
        observation[0], observation[1], observation[2] = self.phase == 1, self._drop(), self.licked
        return observation

    def _info(self) -> dict[str, Any]:
        drop = self._drop()
        return {
            "phase": PHASES[self.phase],
            "since": self.since,
            "trial": self.trial,
            "probe": self.probe,
            "licked": self.licked,
            "drop": drop,
            "causal_step": self.onset if drop else -1,
        }

    def optimal_action(self) -> int:
        """Lick when the next observation may bring a drop, if that is worth its cost."""
        worth = (1 - self.probe_rate) * (1 - self.spilt) * self.reward > self.lick_cost
        ending = self.phase == 2 and self.since == self.trace - 1
        if self.trace == 0:
            ending = self.phase == 1 and self.since == self.stimulus - 1
        return LICK if worth and ending else STILL

    def text(self) -> str:
        """The step, the phase, and what happened just now."""
        happened = [name for name, yes in (("lick", self.licked), ("drop", self._drop()), ("probe", self.probe)) if yes]
        return f"step {self.clock}, trial {self.trial}, {PHASES[self.phase]} {self.since} {' '.join(happened)}".rstrip()

    def picture(self) -> NDArray[np.uint8]:
        """The animal at the spout below the lamp, and the present trial's time line."""
        wide, tall = 320, 170
        canvas = Canvas(tall, wide)
        canvas.text(12, 12, f"TRIAL {self.trial + 1}")
        if self.probe:
            canvas.text(wide - 42, 12, "PROBE", RED)
        on = self.phase == 1
        if on:
            canvas.disc(84, 46, 27, blend(GOLD, FLOOR, 0.72))
        canvas.box(80, 24, 88, 32, WALL)
        canvas.disc(84, 46, 15, GOLD if on else blend(WALL, FLOOR, 0.75))
        canvas.disc(79, 41, 4, FLOOR if on else blend(WALL, FLOOR, 0.88))
        canvas.box(30, 116, wide - 60, 122, WALL, round_by=3)
        canvas.animal(150, 97, 58, 1)
        canvas.box(204, 74, 262, 82, WALL, round_by=3)
        canvas.box(204, 74, 212, 92, WALL, round_by=3)
        if self._drop():
            canvas.drop(208, 102, 6.5, WATER)
        if self.licked:
            canvas.box(197, 100, 209, 104, (226, 120, 126), round_by=2)
            canvas.text(222, 98, "LICK", RED)
        self._time_line(canvas, 30, wide - 30, 142)
        return canvas.image()

    def _time_line(self, canvas: Canvas, left: float, right: float, y: float) -> None:
        """Interval, stimulus, trace and drop, to scale, and where the trial is now."""
        lengths = (self.pause, self.stimulus, self.trace, 1)
        gap = (right - left) / sum(lengths)
        colours = (FAINT, GOLD, blend(VIOLET, FLOOR, 0.55), RED if self.probe else WATER)
        x, now = left, left
        for phase, (length, colour) in enumerate(zip(lengths, colours, strict=True)):
            canvas.box(x, y, x + length * gap, y + 9, colour)
            if phase == self.phase:
                now = x + (self.since + 0.5) * gap
            x += length * gap
        canvas.polygon([(now - 5, y + 20), (now + 5, y + 20), (now, y + 11)], INK)
