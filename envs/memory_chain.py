"""One context, many blank steps, one question: bsuite's memory chain (Osband et al. 2020)."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from gymnasium.spaces import Box, Discrete
from numpy.typing import NDArray

from ._base import Observation, SmallEnv, Step, check_integer
from ._drawing import FAINT, FLOOR, GREEN, INK, RED, VIOLET, WALL, WATER, Canvas

SIGN_COLOURS = (WATER, VIOLET)  # of a bit that is -1, of one that is +1


class MemoryChain(SmallEnv):
    """
    ## Description
    The first observation shows a context of ``num_bits`` random signs. Nothing happens for ``memory_length`` - 1 steps.
    Then one of the bits is asked for, and the action is the answer. Only memory is tested: no earlier action matters.

    ## Action Space
    `Discrete(2)`: 0 answers that the bit was -1, 1 that it was +1. Actions before the question do nothing.

    ## Observation Space
    `Box` of float32, shape `(2 + num_bits,)`: entry 0, time left, 1 - t / memory_length, from 1 down to 0; entry 1, the
    index of the bit asked for, shown at t = memory_length - 1 and 0 otherwise; the rest, the context as -1 or +1 at t = 0
    and 0 afterwards.

    ## Rewards
    At the answer +1 if it is right and -1 if it is wrong; 0 on every other step.

    ## Starting State
    Context and question are drawn uniformly.

    ## Episode End
    Terminates with the answer, after exactly ``memory_length`` steps. With ``memory_length`` = 1 the context and the
    question are shown together.

    ## Arguments
    ``memory_length`` (10): steps of an episode, at least 1; 100 is the longest in bsuite. ``num_bits`` (1): bits of the
    context, at least 1.

    `info`: ``phase`` ("context", "wait", "question", "end"); ``causal_step`` (0, the step that showed the context, with
    the reward of the answer; -1 otherwise); ``context`` (the bit that is or will be asked for, 0 or 1) and ``query`` (its
    index), which the agent must not see; ``correct`` (1 or 0 with the answer, -1 before).

    ## Returns of scripted policies
    Optimal: 1 in every episode. Uniformly random: 0 on average, standard deviation 1 (exact).

    ## References
    Osband et al. 2020, Behaviour Suite for Reinforcement Learning, arXiv 1908.03568 (memory length, memory size). The
    answer ends the episode and the last observation has time left 0, as there. Deviation: bsuite's extra leading axis of
    length 1 is dropped.

    ## Version History
    * v0: first version
    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["ansi", "rgb_array"], "render_fps": 8}  # type: ignore[misc]
    state_names = ("clock", "context", "query", "answer")

    def __init__(self, *, memory_length: int = 10, num_bits: int = 1, render_mode: str | None = None) -> None:
        super().__init__(render_mode=render_mode)
        self.memory_length = check_integer("memory_length", memory_length, 1)
        self.num_bits = check_integer("num_bits", num_bits, 1)
        low = np.array([0, 0, *[-1] * self.num_bits], np.float32)
        high = np.array([1, max(1, self.num_bits - 1), *[1] * self.num_bits], np.float32)
        self.observation_space = Box(low, high, dtype=np.float32)
        self.action_space = Discrete(2)
        self.clock, self.query, self.answer = 0, 0, -1
        self.context = [0] * self.num_bits

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """A new context and question. ``options`` are not used."""
        super().reset(seed=seed)
        self.clock, self.answer = 0, -1
        self.context = self.np_random.integers(2, size=self.num_bits).tolist()
        self.query = int(self.np_random.integers(self.num_bits))
        self.over = False
        return self._observation(), self._info()

    def step(self, action: int) -> Step:
        """Wait, or answer if the question is asked."""
        chosen = self.check_action(action)
        self.clock += 1
        self.over = self.clock == self.memory_length
        reward = 0.0
        if self.over:
            self.answer = chosen
            reward = 1.0 if chosen == self.context[self.query] else -1.0
        return self._observation(), reward, self.over, False, self._info()

    def _observation(self) -> Observation:
        observation = np.zeros(2 + self.num_bits, np.float32)
        observation[0] = 1 - self.clock / self.memory_length
        if self.clock == self.memory_length - 1:
            observation[1] = self.query
        if self.clock == 0:
            observation[2:] = [2 * bit - 1 for bit in self.context]
        return observation

    def _phase(self) -> str:
        if self.clock == self.memory_length:
            return "end"
        if self.clock == self.memory_length - 1:
            return "question"
        return "wait" if self.clock else "context"

    def _info(self) -> dict[str, Any]:
        bit = self.context[self.query]
        return {
            "phase": self._phase(),
            "causal_step": 0 if self.over else -1,
            "context": bit,
            "query": self.query,
            "correct": int(self.answer == bit) if self.over else -1,
        }

    def optimal_action(self) -> int:
        """The bit that is or will be asked for."""
        return self.context[self.query]

    def text(self) -> str:
        """The context, the bit asked for in brackets, and the time."""
        signs = " ".join(f"[{'-+'[b]}]" if i == self.query else "-+"[b] for i, b in enumerate(self.context))
        answer = "" if self.answer < 0 else f", answered {'-+'[self.answer]}"
        return f"context {signs}\nstep {self.clock} of {self.memory_length}: {self._phase()}{answer}"

    def picture(self) -> NDArray[np.uint8]:
        """A corridor from a sign, which shows the context at the start only, to a fork with a door for each answer."""
        canvas = Canvas(148, 320)
        canvas.text(12, 10, self._phase(), INK)
        time = f"{self.clock}/{self.memory_length}"
        canvas.text(309 - 6 * len(time), 10, time, INK)
        canvas.box(12, 70, 268, 114, WALL, round_by=6)
        canvas.box(228, 36, 268, 140, WALL, round_by=6)
        canvas.box(16, 74, 264, 110, FLOOR, round_by=4)
        canvas.box(232, 40, 264, 136, FLOOR, round_by=4)
        for x in range(28, 232, 12):
            canvas.disc(x, 107, 0.9, FAINT)
        for bit, y in ((1, 58), (0, 122)):
            judged = self.over and bit == self.answer
            if judged:
                canvas.box(274, y - 18, 310, y + 18, GREEN if bit == self.context[self.query] else RED, round_by=7)
            canvas.box(278, y - 14, 306, y + 14, SIGN_COLOURS[bit], round_by=4)
            canvas.text(292.5, y - 7, "-+"[bit], FLOOR, size=2, centre=True)
        self._draw_context(canvas)
        if self.over:
            canvas.animal(250, 58 if self.answer else 122, 18)
        else:
            canvas.animal(42 + 202 * self.clock / self.memory_length, 94, 24)
        return canvas.image()

    def _draw_context(self, canvas: Canvas) -> None:
        """The sign above the start: the bits while they are shown, blank afterwards; the bit asked for when it is."""
        pitch = min(18.0, 170 / self.num_bits)
        canvas.box(12, 28, 20 + pitch * self.num_bits, 36 + pitch, WALL, round_by=4)
        for index, bit in enumerate(self.context):
            x = 16 + pitch * index
            colour = SIGN_COLOURS[bit] if self.clock == 0 else FAINT
            canvas.box(x + 1, 33, x + pitch - 1, 31 + pitch, colour, round_by=min(3.0, pitch / 4))
            if self.clock == 0 and pitch > 9:
                canvas.text(x + pitch / 2 + 0.5, 32 + pitch / 2 - 3.5, "-+"[bit], FLOOR, centre=True)
        if self._phase() in ("question", "end"):
            x = 16 + pitch * (self.query + 0.5)
            canvas.text(x + 0.5, 40 + pitch, "?", RED, size=1.6, centre=True)
