"""A sample, a delay with distractors, a test: match or not? Trial after trial (Miller, Erickson & Desimone 1996)."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from gymnasium.spaces import Box, Discrete
from numpy.typing import NDArray

from ._base import Observation, SmallEnv, Step, check_integer, check_number
from ._drawing import FAINT, FLOOR, GOLD, GREEN, INK, RED, VIOLET, WALL, WATER, Canvas, blend

WAIT, MATCH, NON_MATCH = 0, 1, 2
OUTCOMES = ("none", "right", "wrong", "missed")
COLOURS = (WATER, GOLD, VIOLET, GREEN)


class DelayedMatch(SmallEnv):
    """
    ## Description
    Delayed matching to sample, trial after trial without end. A trial: the sample is shown for one step; a delay, in
    which other stimuli may appear as distractors; the test stimulus is shown for one step and must be answered at once
    with "match" or "non-match"; an interval in which nothing is shown. The test matches in half of the trials. A
    distractor looks like a sample or a test but comes without their marks, and may be the sample's own stimulus.

    ## Action Space
    `Discrete(3)`: 0 wait, 1 answer "match", 2 answer "non-match". Answers outside the test have no effect.

    ## Observation Space
    `Box(0, 1, (stimuli + 2,), float32)`: entries 0 to stimuli - 1, the stimulus on the screen (one-hot, or all 0 where
    the screen is blank); entry stimuli, this is the sample; entry stimuli + 1, this is the test.

    ## Rewards
    ``reward`` for a right answer, -``penalty`` for a wrong one, 0 if the test is missed (answered by waiting) and on all
    other steps.

    ## Starting State
    The sample of the first trial is on the screen. Sample, match, test and delay are drawn uniformly for each trial.

    ## Episode End
    Never by itself. Registered with a limit of 1,000 steps (truncated).

    ## Arguments
    ``stimuli`` (2): how many there are, at least 2. ``delay_min`` (10) and ``delay_max`` (20): steps between sample and
    test, drawn from that range, both ends included. ``distractors`` (0.25): probability that a step of the delay shows a
    distractor. ``reward`` (1.0) and ``penalty`` (1.0): at least 0. ``interval`` (4): blank steps between two trials, at
    least 0.

    `info`: ``phase`` ("sample", "delay", "test", "interval"), of the observation returned; ``trial`` (finished trials are
    those with a smaller number, the first is 0), ``delay``, ``sample``, ``match`` (1 or 0), of the present trial, which
    the agent must not see; ``outcome`` ("right", "wrong" or "missed" on the step after a test, else "none"); ``correct``
    (1 right, 0 wrong or missed, -1 otherwise); ``causal_step`` (with an outcome: the step that showed the sample; -1
    otherwise).

    ## Returns of scripted policies
    Optimal (greatest reward per step): 1 a trial of 21 steps on average; 47.3 in 1,000 steps of the default arguments
    (mean of 125 episodes, standard deviation 1.1). Uniformly random: 0 on average (exact, as reward and penalty are equal
    and equally likely), standard deviation 5.6 (sqrt(47.3 * 2 / 3)).

    ## References
    Fuster & Alexander (1971), Neuron activity related to short-term memory, Science 173, 652-654; Miller, Erickson &
    Desimone (1996), Neural mechanisms of visual working memory in prefrontal cortex of the macaque, Journal of
    Neuroscience 16, 5154-5167 (stimuli between sample and test).

    ## Version History
    * v0: first version
    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["ansi", "rgb_array"], "render_fps": 6}  # type: ignore[misc]
    state_names = ("clock", "trial", "stage", "delay", "sample", "match", "test", "shown", "sample_step", "outcome")

    def __init__(
        self,
        *,
        stimuli: int = 2,
        delay_min: int = 10,
        delay_max: int = 20,
        distractors: float = 0.25,
        reward: float = 1.0,
        penalty: float = 1.0,
        interval: int = 4,
        render_mode: str | None = None,
    ) -> None:
        super().__init__(render_mode=render_mode)
        self.stimuli = check_integer("stimuli", stimuli, 2)
        self.delay_min = check_integer("delay_min", delay_min, 0)
        self.delay_max = check_integer("delay_max", delay_max, self.delay_min)
        self.distractors = check_number("distractors", distractors, 0.0, 1.0)
        self.reward = check_number("reward", reward, 0.0)
        self.penalty = check_number("penalty", penalty, 0.0)
        self.interval = check_integer("interval", interval, 0)
        self.action_space = Discrete(3)
        self.observation_space = Box(0.0, 1.0, (self.stimuli + 2,), np.float32)
        self.clock, self.trial, self.stage, self.delay = 0, 0, 0, 0
        self.sample, self.match, self.test = 0, 0, 0
        self.shown, self.sample_step, self.outcome = -1, 0, 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """The first trial's sample. ``options`` are not used."""
        super().reset(seed=seed)
        self.clock, self.trial, self.outcome = 0, 0, 0
        self._begin_trial()
        self.over = False
        return self._observation(), self._info()

    def _begin_trial(self) -> None:
        """Draws delay, sample, match and test."""
        draw = self.np_random.integers
        self.stage, self.sample_step = 0, self.clock
        self.delay = int(draw(self.delay_min, self.delay_max + 1))
        self.sample = int(draw(self.stimuli))
        self.match = int(draw(2))
        self.test = self.sample if self.match else (self.sample + 1 + int(draw(self.stimuli - 1))) % self.stimuli
        self.shown = self.sample

    def step(self, action: int) -> Step:
        """Judges the answer if the test is on the screen, and shows what comes next."""
        chosen = self.check_action(action)
        reward, self.outcome, sample_step = 0.0, 0, -1
        if self.stage == self.delay + 1:
            sample_step = self.sample_step
            if chosen == WAIT:
                self.outcome = 3
            elif (chosen == MATCH) == bool(self.match):
                self.outcome, reward = 1, self.reward
            else:
                self.outcome, reward = 2, -self.penalty
        self.clock += 1
        self.stage += 1
        if self.stage == self.delay + 2 + self.interval:
            self.trial += 1
            self._begin_trial()
        elif self.stage == self.delay + 1:
            self.shown = self.test
        elif self.stage <= self.delay and self.distractors and self.np_random.random() < self.distractors:
            self.shown = int(self.np_random.integers(self.stimuli))
        else:
            self.shown = -1
        return self._observation(), reward, False, False, self._info(sample_step)

    def _observation(self) -> Observation:
        observation = np.zeros(self.stimuli + 2, np.float32)
        if self.shown >= 0:
            observation[self.shown] = 1.0
        if self.stage == 0:
            observation[self.stimuli] = 1.0
        elif self.stage == self.delay + 1:
            observation[self.stimuli + 1] = 1.0
        return observation

    def _phase(self) -> str:
        if self.stage == 0:
            return "sample"
        if self.stage <= self.delay:
            return "delay"
        return "test" if self.stage == self.delay + 1 else "interval"

    def _info(self, sample_step: int = -1) -> dict[str, Any]:
        return {
            "phase": self._phase(),
            "causal_step": sample_step,
            "trial": self.trial,
            "delay": self.delay,
            "sample": self.sample,
            "match": self.match,
            "outcome": OUTCOMES[self.outcome],
            "correct": int(self.outcome == 1) if self.outcome else -1,
        }

    def optimal_action(self) -> int:
        """The right answer at the test, and waiting otherwise."""
        if self.stage != self.delay + 1:
            return WAIT
        return MATCH if self.match else NON_MATCH

    def text(self) -> str:
        """What is on the screen, and the last outcome."""
        screen = "blank" if self.shown < 0 else f"stimulus {self.shown}"
        last = "" if self.outcome == 0 else f", {OUTCOMES[self.outcome]}"
        drawn = f"sample {self.sample}, delay {self.delay}, match {self.match}"
        return f"trial {self.trial}, {self._phase()}: {screen}{last}\n{drawn}"

    def picture(self) -> NDArray[np.uint8]:
        """A screen, the mouse before it, the two answers; the bar below is the trial's course."""
        canvas = Canvas(190, 320)
        phase = self._phase()
        canvas.text(12, 10, phase, INK)
        trial = f"TRIAL {self.trial}"
        canvas.text(309 - 6 * len(trial), 10, trial, INK)
        rim = {"sample": INK, "test": RED}.get(phase, WALL)
        canvas.box(100, 28, 220, 118, rim, round_by=8)
        canvas.box(105, 33, 215, 113, FLOOR if self.shown >= 0 else blend(FAINT, FLOOR, 0.4), round_by=5)
        canvas.box(154, 118, 166, 132, WALL)
        canvas.box(134, 130, 186, 136, WALL, round_by=3)
        if self.shown >= 0:
            self._draw_stimulus(canvas, self.shown, 160, 73, 25, faint=phase == "delay")
        for name, x, number in (("SAME", 262, MATCH), ("OTHER", 262, NON_MATCH)):
            y = 52.0 if number == MATCH else 96.0
            right = number == (MATCH if self.match else NON_MATCH)
            chosen = self.outcome in (1, 2) and right == (self.outcome == 1)
            colour = (GREEN if self.outcome == 1 else RED) if chosen else INK if phase == "test" else FAINT
            canvas.box(x - 26, y - 14, x + 26, y + 14, colour, round_by=7)
            canvas.text(x + 0.5, y - 3.5, name, FLOOR if colour != FAINT else WALL, centre=True)
        canvas.animal(60, 122, 40)
        if self.outcome:
            canvas.text(60, 88, OUTCOMES[self.outcome], GREEN if self.outcome == 1 else RED, centre=True)
        length = self.delay + 2 + self.interval
        pitch = 296 / length
        for stage in range(length):
            ink = INK if stage == 0 else RED if stage == self.delay + 1 else WALL if stage <= self.delay else FAINT
            left = 12 + pitch * stage
            canvas.box(left + 0.6, 158, left + pitch - 0.6, 166, ink)
        now = 12 + pitch * (self.stage + 0.5)
        canvas.polygon([(now, 169), (now + 6, 179), (now - 6, 179)], INK)
        return canvas.image()

    @staticmethod
    def _draw_stimulus(canvas: Canvas, number: int, x: float, y: float, size: float, faint: bool) -> None:
        """One of four shapes in one of four colours, with a number where there are more than sixteen of them."""
        colour = COLOURS[(number + number // 4) % 4]
        colour = blend(colour, FLOOR, 0.35) if faint else colour
        if number % 4 == 0:
            canvas.disc(x, y, size, colour)
        elif number % 4 == 1:
            canvas.polygon([(x, y - size), (x + size, y + 0.8 * size), (x - size, y + 0.8 * size)], colour)
        elif number % 4 == 2:
            canvas.box(x - 0.85 * size, y - 0.85 * size, x + 0.85 * size, y + 0.85 * size, colour, round_by=3)
        else:
            canvas.polygon([(x, y - size), (x + size, y), (x, y + size), (x - size, y)], colour)
        if number >= 16:
            canvas.text(x + 1, y - 3, str(number), FLOOR, size=1.4, centre=True)
