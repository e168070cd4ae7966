"""The T-maze with memory length and credit length set independently (Ni et al. 2023)."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from gymnasium.spaces import Box, Discrete
from numpy.typing import NDArray

from ._base import Observation, SmallEnv, Step, check_flag, check_integer, check_number
from ._drawing import FAINT, FLOOR, GOLD, GREEN, RED, VIOLET, WALL, Canvas, blend

FORWARD, UP, BACK, DOWN = 0, 1, 2, 3
START, ORACLE, CORRIDOR, JUNCTION, UPPER, LOWER, CUE_UP, CUE_DOWN = range(8)
PHASES = ("start", "oracle", "corridor", "junction", "upper arm", "lower arm")


class TMaze(SmallEnv):
    """
    ## Description
    A corridor ends in a junction with an arm up and an arm down; the goal is at the end of one of them, and only the
    oracle, a cell at the corridor's beginning, shows which. The cue is shown once, at the first visit.

    *Passive* (``active=False``): the animal starts on the oracle and sees the cue in the first observation.
    *Active*: it starts one cell in front of the oracle, facing away from it, and must choose to step back first. A
    step back costs nothing and pays nothing until the goal.

    **Memory length** is the number of steps from the observation of the cue to the observation in which the turn is
    chosen: the corridor has ``memory_length`` steps from the oracle to the junction. **Credit length** is the
    number of steps from the decisive action to its reward, counting the action's own: an action chosen at
    observation t with credit length c is rewarded with observation t + c. The decisive action is, in the passive
    maze, the turn; in the active one, the step to the oracle. The length of the arms makes up the rest:
    ``credit_length`` steps in the passive maze, ``credit_length - memory_length - 1`` in the active one, where
    credit has to span the memory in any case, so that ``credit_length`` is at least ``memory_length + 2``. Ni et
    al. have arms of one step and count observations, one more than steps: their passive maze of horizon T has
    memory length T and credit length 1, here ``memory_length=T-1, credit_length=1``; their active one, T and T,
    here ``memory_length=T-2, credit_length=T``.

    By default the corridor and the arms carry the animal one cell a step, whatever it does: only the first step of
    the active maze and the turn are its own, and (without ``slack``) the lengths hold for every policy that is
    paid. ``walk=True`` is the maze of Ni et al.: it has to go forward by itself, and can go back. The entrance of
    an arm closes behind it.

    ## Action Space
    `Discrete(4)`: 0 forward, 1 up, 2 back, 3 down. An arm is followed with the action that led into it. Towards a
    wall: no move.

    ## Observation Space
    `Box(0, 1, (8,), float32)`, entries that are 1 where they apply: 0 the cell of the start; 1 the oracle's cell; 2
    the corridor; 3 the junction; 4 the upper arm; 5 the lower arm; 6 the cue says up; 7 the cue says down.

    ## Rewards
    ``reward`` at the end of the right arm, 0 at the end of the wrong one. With ``penalty`` > 0, every step after
    which the animal can no longer reach the end of an arm in time without ``slack`` costs ``penalty / (horizon -
    1)``, as in Ni et al.

    ## Starting State
    At the start; up or down with equal chances.

    ## Episode End
    Terminated at the end of an arm, or after ``horizon + slack`` steps, where the horizon is the optimal policy's
    steps: ``memory_length + credit_length`` in the passive maze, ``credit_length`` in the active one. The deadline
    is part of the task.

    ## Arguments
    ``memory_length`` (20), at least 1, active: 2; ``credit_length`` (None): None is the least, 1 or ``memory_length
    + 2``; ``active`` (False); ``walk`` (False); ``slack`` (0): further steps before the deadline; ``reward`` (1.0);
    ``penalty`` (0.0).

    `info`: ``position`` (cells from the oracle; in an arm it counts on), ``phase``, ``goal`` ("up" or "down"),
    ``cue_step`` (when the cue was seen, or -1), ``turn_step`` (the observation at which the turn was chosen, or
    -1), ``success`` (1.0 at the end of the right arm), ``causal_step``: with the reward at the end of an arm, the
    step of the decisive action; in the active maze that is -1 if the animal never went to the oracle.

    ## Returns of scripted policies
    Default arguments: ``optimal_action`` returns 1 in every episode; uniformly random actions 1/4 (exact: two of four
    actions turn at the junction, and the deadline allows one try). ``active=True``: 1, and 0.390625 exactly.

    ## References
    Ni, Ma, Eysenbach & Bacon (2023), When do transformers shine in RL? Decoupling memory from credit assignment,
    arXiv 2307.03864. Bakker (2001), Reinforcement learning with long short-term memory.

    ## Version History
    * v0: first version
    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["ansi", "rgb_array"], "render_fps": 8}  # type: ignore[misc]
    state_names = ("position", "arm", "depth", "goal", "clock", "cue_step", "oracle_step", "turn_step", "success")

    def __init__(
        self,
        *,
        memory_length: int = 20,
        credit_length: int | None = None,
        active: bool = False,
        walk: bool = False,
        slack: int = 0,
        reward: float = 1.0,
        penalty: float = 0.0,
        render_mode: str | None = None,
    ) -> None:
        super().__init__(render_mode=render_mode)
        self.active, self.walk = check_flag("active", active), check_flag("walk", walk)
        self.memory_length = check_integer("memory_length", memory_length, 2 if self.active else 1)
        least = self.memory_length + 2 if self.active else 1
        self.credit_length = check_integer("credit_length", least if credit_length is None else credit_length, least)
        self.slack = check_integer("slack", slack, 0)
        self.reward, self.penalty = check_number("reward", reward, 0.0), check_number("penalty", penalty, 0.0)
        self.arm_length = self.credit_length - (self.memory_length + 1 if self.active else 0)
        self.start = 1 if self.active else 0
        self.horizon = self.start + self.memory_length + self.arm_length
        self.action_space = Discrete(4)
        self.observation_space = Box(0.0, 1.0, (8,), np.float32)
        self.position, self.arm, self.depth, self.goal, self.clock = self.start, 0, 0, 1, 0
        self.cue_step, self.oracle_step, self.turn_step, self.success = -1, -1, -1, 0.0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """A new goal. ``options`` are not used."""
        super().reset(seed=seed)
        self.goal = 1 if self.np_random.random() < 0.5 else -1
        self.position, self.arm, self.depth, self.clock = self.start, 0, 0, 0
        self.cue_step, self.oracle_step, self.turn_step, self.success = -1, -1, -1, 0.0
        self.over = False
        return self._observe(), self._info(-1)

    def step(self, action: int) -> Step:
        """One move, by the animal or by the corridor."""
        chosen = self.check_action(action)
        if self.arm:
            if not self.walk or chosen == (UP if self.arm > 0 else DOWN):
                self.depth += 1
        elif self.position == self.memory_length:
            self._at_junction(chosen)
        elif chosen == BACK and (self.walk or (self.active and self.clock == 0)):
            if self.position == 1 and self.cue_step < 0:
                self.oracle_step = self.clock
            self.position = max(self.position - 1, 0)
        elif not self.walk or chosen == FORWARD:
            self.position += 1
        self.clock += 1
        arrived = self.depth == self.arm_length
        self.over = arrived or self.clock >= self.horizon + self.slack
        self.success = float(arrived and self.arm == self.goal)
        reward = self.reward * self.success
        if self.penalty and self.clock + self._left() > self.horizon:
            reward -= self.penalty / max(self.horizon - 1, 1)
        decisive = self.oracle_step if self.active else self.turn_step
        return self._observe(), reward, self.over, False, self._info(decisive if arrived else -1)

    def _at_junction(self, chosen: int) -> None:
        if chosen in (UP, DOWN):
            self.arm, self.depth = (1 if chosen == UP else -1), 1
            self.turn_step = self.clock
        elif chosen == BACK and self.walk:
            self.position -= 1

    def _left(self) -> int:
        """Steps to the end of the nearest arm."""
        return self.memory_length - self.position + self.arm_length - self.depth

    def _place(self) -> int:
        """The kind of cell the animal is in, an entry of the observation."""
        if self.arm:
            return UPPER if self.arm > 0 else LOWER
        if self.position == self.memory_length:
            return JUNCTION
        if self.position == 0:
            return ORACLE
        return START if self.active and self.position == 1 else CORRIDOR

    def _observe(self) -> Observation:
        observation = np.zeros(8, dtype=np.float32)
        place = self._place()
        observation[place] = 1.0
        if place == ORACLE:
            if not self.active:
                observation[START] = 1.0
            if self.cue_step < 0:
                self.cue_step = self.clock
                observation[CUE_UP if self.goal > 0 else CUE_DOWN] = 1.0
        return observation

    def _info(self, causal_step: int) -> dict[str, Any]:
        return {
            "position": self.position + self.depth,
            "phase": PHASES[self._place()],
            "goal": "up" if self.goal > 0 else "down",
            "cue_step": self.cue_step,
            "turn_step": self.turn_step,
            "success": self.success,
            "causal_step": causal_step,
        }

    def optimal_action(self) -> int:
        """To the oracle if it has not been seen, then to the goal."""
        if self.active and self.cue_step < 0 and self.clock == 0:
            return BACK
        if self.arm:
            return UP if self.arm > 0 else DOWN
        if self.position == self.memory_length:
            return UP if self.goal > 0 else DOWN
        return FORWARD

    def text(self) -> str:
        """The corridor with the animal as A, the goal's arm, and the cue where it shows."""
        cells = ["O", *("-" * (self.memory_length - 1)), "+"]
        if not self.arm:
            cells[self.position] = "A"
        where = f" arm {'up' if self.arm > 0 else 'down'} {self.depth}/{self.arm_length}" if self.arm else ""
        cue = f" cue {'up' if self.goal > 0 else 'down'}" if self.cue_step == self.clock else ""
        return f"{''.join(cells)}{where}{cue} (goal {'up' if self.goal > 0 else 'down'})"

    def picture(self) -> NDArray[np.uint8]:
        """The maze from above. A long corridor or arm is drawn to scale, without its cells."""
        wide, tall = 320, 190
        canvas = Canvas(tall, wide)
        middle, left, right, half = 98.0, 34.0, wide - 52.0, 12.0
        top, bottom = 34.0, 162.0
        canvas.box(left - half - 4, middle - half - 4, right + half + 4, middle + half + 4, WALL, round_by=6)
        canvas.box(right - half - 4, top - half - 4, right + half + 4, bottom + half + 4, WALL, round_by=6)
        canvas.box(left - half, middle - half, right + half, middle + half, FLOOR, round_by=3)
        canvas.box(right - half, top - half, right + half, bottom + half, FLOOR, round_by=3)
        along, out = (right - left) / self.memory_length, (middle - top) / self.arm_length
        if along >= 7:
            for cell in range(1, self.memory_length):
                canvas.disc(left + cell * along, middle, 1.3, FAINT)
        if out >= 7:
            for cell in range(1, self.arm_length):
                for way in (-1, 1):
                    canvas.disc(right, middle + way * cell * out, 1.3, FAINT)
        canvas.box(left - half, middle - half, left + half, middle + half, blend(VIOLET, FLOOR, 0.7), round_by=3)
        for way, y in ((1, top), (-1, bottom)):
            colour = GOLD if way == self.goal else blend(WALL, FLOOR, 0.6)
            canvas.disc(right, y, 9, colour)
            canvas.disc(right, y, 5, blend(colour, FLOOR, 0.6))
        if self.cue_step >= 0:
            self._arrow(canvas, left, middle - 34, shown=self.cue_step == self.clock)
        canvas.text(12, 12, f"STEP {self.clock} OF {self.horizon + self.slack}")
        canvas.text(left - half, middle + half + 12, "ORACLE" if self.active else "CUE", VIOLET)
        if self.over:
            word, colour = ("GOAL", GREEN) if self.success else ("NO REWARD", RED)
            canvas.text(right - half - 12 - 6 * len(word), tall - 19, word, colour)
        x = left + self.position * along
        y = middle - self.arm * self.depth * out
        canvas.animal(x, y, 16)
        return canvas.image()

    def _arrow(self, canvas: Canvas, x: float, y: float, *, shown: bool) -> None:
        """The cue: strong at the step that shows it, faint afterwards (the animal does not see it any more)."""
        colour = VIOLET if shown else blend(VIOLET, FLOOR, 0.72)
        way = -self.goal
        canvas.box(x - 3, min(y, y - way * 11), x + 3, max(y, y - way * 11), colour)
        canvas.polygon([(x - 9, y), (x + 9, y), (x, y + way * 11)], colour)
