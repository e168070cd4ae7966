"""The student: study or play now, distractions, and the exam's result much later."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from gymnasium.spaces import Box, Discrete
from numpy.typing import NDArray

from ._base import Observation, SmallEnv, Step, check_integer, check_number
from ._drawing import FAINT, FLOOR, GOLD, GREEN, INK, PAPER, RED, VIOLET, WALL, Canvas, blend

STUDY, PLAY = 0, 1
PHASES = ("before", "decision", "waiting", "exam")


class Exam(SmallEnv):
    """
    ## Description
    The example in the introduction of Ke et al.: a student chooses to study or to play, many other things happen,
    and the result of the exam, which depends on that choice alone, comes ``delay`` steps after it. Playing is paid
    at once. Before and after the choice small distractions come at random and pay whatever was chosen.

    ## Action Space
    `Discrete(2)`: 0 study, 1 play. It counts at the decision only; at all other steps both do nothing.

    ## Observation Space
    `Box(0, 1, (5,), float32)`: 0 the decision is now; 1 waiting, before it or after it; 2 the exam is being marked,
    the observation just before the result; 3 a distraction has just come; 4 the result: passed (in the last
    observation only). Nothing between the decision and the result shows what was chosen.

    ## Rewards
    The decision is at step ``lead``, counted from 0, the reset observation. With observation ``lead + 1``:
    ``play_reward`` if it was to play. With observation ``lead + delay``: ``exam_reward`` if it was to study. With
    every observation before that, with chance ``distraction_rate``, a distraction of size ``distraction + noise *
    N(0, 1)``.

    ## Starting State
    ``lead`` steps before the decision; nothing varies.

    ## Episode End
    Terminated with the result, after ``lead + delay`` steps.

    ## Arguments
    ``delay`` (50): steps from the decision to the result, at least 2. ``lead`` (0). ``exam_reward`` (1.0) and
    ``play_reward`` (0.1): studying must pay more than playing. ``distraction`` (0.05), at least 0; ``noise``
    (0.02): standard deviation; ``distraction_rate`` (0.3): from 0 to 1.

    `info`: ``phase`` ("before", "decision", "waiting", "exam"), ``position`` (the step), ``choice`` ("study",
    "play", or "none" before it), ``distracted`` (a distraction came with this step), ``passed`` (1.0 with the
    result if so), ``causal_step``: the decision's step with the play reward and with the result, else -1.

    ## Returns of scripted policies
    Distractions return ``(lead + delay - 1) * distraction_rate * distraction`` in the mean, 0.735 with the default
    arguments. ``optimal_action`` studies: 1.735 in the mean (exam and play alone: 1). Always playing: 0.835.
    Uniformly random actions: 1.285 (exam and play alone: 0.55). Discounted from the decision, studying is better
    while ``gamma ** (delay - 1) > play_reward / exam_reward``: gamma above 0.954 by default.

    ## References
    Ke et al. (2018), Sparse attentive backtracking: temporal credit assignment through reminding, arXiv 1809.03702;
    Ke et al. (2017), arXiv 1711.02326.

    ## Version History
    * v0: first version
    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["ansi", "rgb_array"], "render_fps": 8}  # type: ignore[misc]
    state_names = ("clock", "studied", "distracted", "last_reward")

    def __init__(
        self,
        *,
        delay: int = 50,
        lead: int = 0,
        exam_reward: float = 1.0,
        play_reward: float = 0.1,
        distraction: float = 0.05,
        noise: float = 0.02,
        distraction_rate: float = 0.3,
        render_mode: str | None = None,
    ) -> None:
        super().__init__(render_mode=render_mode)
        self.delay, self.lead = check_integer("delay", delay, 2), check_integer("lead", lead, 0)
        self.exam_reward = check_number("exam_reward", exam_reward, 0.0)
        self.play_reward = check_number("play_reward", play_reward, 0.0)
        if self.play_reward >= self.exam_reward:
            raise ValueError(f"play_reward is {play_reward}; it must be less than exam_reward, {exam_reward}")
        self.distraction, self.noise = check_number("distraction", distraction, 0.0), check_number("noise", noise, 0.0)
        self.distraction_rate = check_number("distraction_rate", distraction_rate, 0.0, 1.0)
        self.action_space = Discrete(2)
        self.observation_space = Box(0.0, 1.0, (5,), np.float32)
        self.last = self.lead + self.delay
        # -1: not yet chosen.
        self.clock, self.studied, self.distracted, self.last_reward = 0, -1, False, 0.0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """A new student. ``options`` are not used."""
        super().reset(seed=seed)
        self.clock, self.studied, self.distracted, self.last_reward = 0, -1, False, 0.0
        self.over = False
        return self._observe(), self._info(-1)

    def step(self, action: int) -> Step:
        """One step; what is chosen counts at step ``lead``."""
        chosen = self.check_action(action)
        reward, causal = 0.0, -1
        if self.clock == self.lead:
            self.studied = int(chosen == STUDY)
            if chosen == PLAY:
                reward, causal = self.play_reward, self.lead
        self.clock += 1
        self.over = self.clock == self.last
        self.distracted = False
        if self.over:
            reward, causal = self.exam_reward * self.studied, self.lead
        elif self.np_random.random() < self.distraction_rate:
            self.distracted = True
            reward += self.distraction + (self.noise * self.np_random.standard_normal() if self.noise else 0.0)
        self.last_reward = float(reward)
        return self._observe(), self.last_reward, self.over, False, self._info(causal)

    def _phase(self) -> int:
        """Where the present observation is, an index of ``PHASES``."""
        if self.clock < self.lead:
            return 0
        if self.clock == self.lead:
            return 1
        return 2 if self.clock < self.last - 1 else 3

    def _observe(self) -> Observation:
        observation = np.zeros(5, dtype=np.float32)
        if self.over:
            observation[4] = self.studied
            return observation
        observation[(1, 0, 1, 2)[self._phase()]] = 1.0
        observation[3] = self.distracted
        return observation

    def _info(self, causal_step: int) -> dict[str, Any]:
        return {
            "position": self.clock,
            "phase": PHASES[self._phase()],
            "choice": ("none", "play", "study")[self.studied + 1],
            "distracted": self.distracted,
            "passed": float(self.over and self.studied == 1),
            "causal_step": causal_step,
        }

    def optimal_action(self) -> int:
        """Study."""
        return STUDY

    def text(self) -> str:
        """The step, the phase, what was chosen and what was paid."""
        choice = ("not yet chosen", "played", "studied")[self.studied + 1]
        return f"step {self.clock} of {self.last}, {PHASES[self._phase()]}, {choice}, reward {self.last_reward:+.2f}"

    def picture(self) -> NDArray[np.uint8]:
        """A book and a ball at the decision, the time line, and the exam's paper at its end."""
        wide, tall = 320, 150
        canvas = Canvas(tall, wide)
        canvas.text(12, 12, f"STEP {self.clock} OF {self.last}")
        paid = f"{self.last_reward:+.2f}"
        strong = GOLD if self.last_reward else FAINT
        canvas.disc(wide - 62, 15, 7, strong)
        canvas.text(wide - 50, 12, paid, INK)
        left, right, line = 40.0, wide - 40.0, 108.0
        canvas.box(left, line - 2, right, line + 2, blend(WALL, FLOOR, 0.5), round_by=2)
        gap = (right - left) / self.last
        decision = left + self.lead * gap
        now = left + self.clock * gap
        canvas.box(left, line - 2, now, line + 2, WALL, round_by=2)
        if gap >= 8:
            for step in range(self.last + 1):
                canvas.disc(left + step * gap, line, 3, WALL if step <= self.clock else blend(WALL, FLOOR, 0.5))
        self._book(canvas, decision - 16, line - 50, pale=self.studied == 0)
        self._ball(canvas, decision + 18, line - 48, pale=self.studied == 1)
        self._paper(canvas, right, line - 42)
        if self.distracted:
            canvas.disc(now, line - 19, 7, GOLD)
            canvas.disc(now - 2.5, line - 21.5, 2, blend(GOLD, FLOOR, 0.7))
        canvas.disc(now, line, 8, INK)
        canvas.disc(now, line, 5, VIOLET if self.clock == self.lead else FLOOR)
        canvas.text(decision, tall - 22, "CHOICE", INK, centre=decision > 60)
        canvas.text(right, tall - 22, "RESULT", INK, centre=True)
        return canvas.image()

    def _book(self, canvas: Canvas, x: float, y: float, *, pale: bool) -> None:
        """An open book: studying."""
        cover = blend(VIOLET, PAPER, 0.75 if pale else 0.0)
        page = blend(FLOOR, PAPER, 0.6 if pale else 0.0)
        for way in (-1, 1):
            near, far = x, x + way * 14
            canvas.polygon([(near, y - 8), (far, y - 12), (far, y + 9), (near, y + 13)], cover)
            canvas.polygon([(near, y - 8), (far - way * 2, y - 11), (far - way * 2, y + 6), (near, y + 9)], page)
            for row in range(3):
                at = y - 4 + row * 4
                canvas.box(min(near + way * 3, far - way * 4), at, max(near + way * 3, far - way * 4), at + 1, cover)

    def _ball(self, canvas: Canvas, x: float, y: float, *, pale: bool) -> None:
        """A ball: playing."""
        red = blend(RED, PAPER, 0.75 if pale else 0.0)
        canvas.disc(x, y, 11, red)
        canvas.disc(x, y, 11, blend(red, FLOOR, 0.8), height=3.4)
        canvas.disc(x - 4, y - 6, 2.4, blend(red, FLOOR, 0.6))

    def _paper(self, canvas: Canvas, x: float, y: float) -> None:
        """The exam, with its mark once there is one."""
        canvas.box(x - 15, y - 18, x + 15, y + 20, WALL, round_by=3)
        canvas.box(x - 13, y - 16, x + 13, y + 18, FLOOR, round_by=2)
        if not self.over:
            for row in range(5):
                canvas.box(x - 9, y - 10 + row * 6, x + 9 - 3 * (row % 2), y - 8.5 + row * 6, FAINT)
        else:
            passed = self.studied == 1
            canvas.text(x, y - 9, "A" if passed else "F", GREEN if passed else RED, size=3, centre=True)
