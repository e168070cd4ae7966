"""Delayed spatial alternation on a T or a W maze: the other side than last time (Frank et al. 2000; Ainge et al. 2007)."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import numpy as np
from gymnasium.spaces import Box, Discrete
from numpy.typing import NDArray

from ._base import Observation, SmallEnv, Step, check_integer, check_number
from ._drawing import FAINT, FLOOR, GREEN, INK, RED, WALL, WATER, Canvas, blend

UP, RIGHT, DOWN, LEFT = 0, 1, 2, 3
MOVES = ((0, 1), (1, 0), (0, -1), (-1, 0))
HOME = 0
SIDES = ("left", "right")


class Alternation(SmallEnv):
    """
    ## Description
    A rat alternates between two sides, without end. It runs up the stem from home, chooses an arm, and is paid at the end
    of the arm if it is the other side than the one visited last; it goes home, where a door holds it for ``delay`` steps;
    then it runs again. The stem looks the same on every run, so the rat must remember where it was. After a visit to an
    arm nothing is paid on either side before the rat has been home. For two sides "other than the last visited" and
    "other than the last rewarded" are the same as long as it goes home between visits.

    On the T maze home is the foot of the stem and pays nothing. On the W maze both side arms are bent down and run beside
    the stem, home is a well too, and coming home from a side pays as well: inbound runs need no memory, outbound runs do.

    ## Action Space
    `Discrete(4)`: 0 up, 1 right, 2 down, 3 left, one cell. Running against a wall or the closed door is staying.

    ## Observation Space
    `Box(0, 1, (cells + 2,), float32)`: entries 0 to cells - 1, the cell the rat is in (one-hot; home, up the stem to the
    junction, the left arm from the junction on, the right arm); entry cells, the door is closed; entry cells + 1, the
    last move was paid. The T maze has stem + 1 + 2 * arm cells, the W maze 2 * stem more.

    ## Rewards
    ``reward`` on arrival at the end of an arm if the rat comes from home and the side is not the one visited last (the
    first visit is always paid); on the W maze also on arrival home after a visit to a side. 0 otherwise.

    ## Starting State
    At home with the door open; no side has been visited.

    ## Episode End
    Never by itself. Registered with a limit of 1,000 steps (truncated).

    ## Arguments
    ``maze`` ("T"): "T" or "W". ``stem`` (4) and ``arm`` (3): their lengths in cells, at least 1 (on the W maze an arm is
    at least 2 wide). ``delay`` (10): steps behind the door, at least 0. ``reward`` (1.0): at least 0.

    `info`: ``position`` (the cell's number, as in the observation); ``x`` and ``y`` (of the cell; home is 0, 0); ``arm``
    ("home", "stem", "left", "right"); ``phase`` ("outbound", "inbound", "delay"); ``visits`` (runs from home to a side
    that have ended); ``last_side`` ("none", "left", "right"); ``correct`` (on arrival at a side from home, and on the W
    maze on arrival home or at the other side instead: 1 paid, 0 an error; -1 otherwise); ``causal_step`` (where
    ``correct`` is 0 or 1: the step at which the rat arrived at the side visited last; -1 for the first visit and
    otherwise).

    ## Returns of scripted policies
    ``optimal_action`` takes the shortest way to the next well that pays, which maximises the reward per step: a round of
    2 * (stem + arm) + delay steps on the T maze (1 reward), of 2 * (2 * stem + arm) + delay steps on the W maze (2
    rewards). In 1,000 steps of the default arguments: 42 on the T maze, 62 on the W maze (exact; nothing is random).
    Uniformly random: 2.7 on the T maze, 3.0 on the W maze (means of 300 episodes of 1,000 steps, standard error 0.06 and
    0.08).

    ## References
    Frank, Brown & Wilson (2000), Trajectory encoding in the hippocampus and entorhinal cortex, Neuron 27, 169-178 (W
    maze); Ainge, van der Meer, Langston & Wood (2007), Exploring the role of context-dependent hippocampal activity in
    spatial alternation behavior, Hippocampus 17, 988-1002 (alternation with a delay).

    ## Version History
    * v0: first version
    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["ansi", "rgb_array"], "render_fps": 12}  # type: ignore[misc]
    state_names = ("clock", "position", "ready", "last", "closed", "visits", "visit_step", "paid", "facing")

    def __init__(
        self,
        *,
        maze: Literal["T", "W"] = "T",
        stem: int = 4,
        arm: int = 3,
        delay: int = 10,
        reward: float = 1.0,
        render_mode: str | None = None,
    ) -> None:
        super().__init__(render_mode=render_mode)
        if maze not in ("T", "W"):
            raise ValueError(f"maze is {maze!r}; it must be 'T' or 'W'")
        self.maze = maze
        self.stem = check_integer("stem", stem, 1)
        self.arm = check_integer("arm", arm, 1 if maze == "T" else 2)
        self.delay = check_integer("delay", delay, 0)
        self.reward = check_number("reward", reward, 0.0)
        self.cells = self._make_cells()
        self.wells = self._number_of(-1), self._number_of(1)
        self.moves = self._make_moves()
        self.routes = tuple(self._make_route(goal) for goal in (*self.wells, HOME))
        self.action_space = Discrete(4)
        self.observation_space = Box(0.0, 1.0, (len(self.cells) + 2,), np.float32)
        self.clock, self.position, self.last, self.closed = 0, HOME, -1, 0
        self.visits, self.visit_step, self.facing = 0, -1, 1
        self.ready, self.paid = True, False

    def _make_cells(self) -> list[tuple[int, int]]:
        """(x, y) of each cell, home first, y upwards."""
        cells = [(0, y) for y in range(self.stem + 1)]
        for sign in (-1, 1):
            cells += [(sign * x, self.stem) for x in range(1, self.arm + 1)]
            if self.maze == "W":
                cells += [(sign * self.arm, y) for y in range(self.stem - 1, -1, -1)]
        return cells

    def _number_of(self, sign: int) -> int:
        """The cell at the end of the left (-1) or right (1) arm."""
        return self.cells.index((sign * self.arm, 0 if self.maze == "W" else self.stem))

    def _make_moves(self) -> list[list[int]]:
        """The cell that each action leads to, from each cell."""
        number = {cell: index for index, cell in enumerate(self.cells)}
        return [[number.get((x + dx, y + dy), number[x, y]) for dx, dy in MOVES] for x, y in self.cells]

    def _make_route(self, goal: int) -> list[int]:
        """The first action of the shortest way to ``goal``, from each cell."""
        route, found = [DOWN] * len(self.cells), [goal]
        for cell in found:  # grows while it is read: breadth first
            for action, origin in ((action, self.moves[cell][(action + 2) % 4]) for action in range(4)):
                if origin not in found:
                    route[origin] = action
                    found.append(origin)
        return route

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """At home, nothing visited. ``options`` are not used."""
        super().reset(seed=seed)
        self.clock, self.position, self.last, self.closed = 0, HOME, -1, 0
        self.visits, self.visit_step, self.facing = 0, -1, 1
        self.ready, self.paid, self.over = True, False, False
        return self._observation(), self._info(-1, -1)

    def step(self, action: int) -> Step:
        """One move, and what it is worth."""
        chosen = self.check_action(action)
        self.clock += 1
        before = self.position
        if self.closed:
            self.closed -= 1
        else:
            self.position = self.moves[before][chosen]
        correct, causal_step = -1, -1
        if self.position != before:
            self.facing = {RIGHT: 1, LEFT: -1}.get(chosen, self.facing)
            if self.position in self.wells:
                correct, causal_step = self._visit(self.wells.index(self.position))
            elif self.position == HOME and not self.ready:
                self.ready, self.closed = True, self.delay
                if self.maze == "W":
                    correct, causal_step = 1, self.visit_step
        self.paid = correct == 1
        return self._observation(), self.reward if self.paid else 0.0, False, False, self._info(correct, causal_step)

    def _visit(self, side: int) -> tuple[int, int]:
        """Arrival at the end of an arm: whether that is correct (-1: it does not count), and the visit that decides it."""
        correct, causal_step = -1, -1
        if self.ready:
            self.visits += 1
            correct, causal_step = int(side != self.last), self.visit_step
        elif self.maze == "W" and side != self.last:
            correct, causal_step = 0, self.visit_step
        self.ready, self.last, self.visit_step = False, side, self.clock
        return correct, causal_step

    def _observation(self) -> Observation:
        observation = np.zeros(len(self.cells) + 2, np.float32)
        observation[self.position] = 1.0
        observation[-2] = self.closed > 0
        observation[-1] = self.paid
        return observation

    def _phase(self) -> str:
        return "delay" if self.closed else "outbound" if self.ready else "inbound"

    def _arm(self) -> str:
        x = self.cells[self.position][0]
        if x:
            return SIDES[x > 0]
        return "home" if self.position == HOME else "stem"

    def _info(self, correct: int, causal_step: int) -> dict[str, Any]:
        x, y = self.cells[self.position]
        return {
            "position": self.position,
            "x": x,
            "y": y,
            "arm": self._arm(),
            "phase": self._phase(),
            "visits": self.visits,
            "last_side": "none" if self.last < 0 else SIDES[self.last],
            "correct": correct,
            "causal_step": causal_step,
        }

    def optimal_action(self) -> int:
        """Home after a visit, otherwise to the side not visited last (left at first); down behind the door."""
        goal = 2 if not self.ready else 1 if self.last == 0 else 0
        return DOWN if self.closed else self.routes[goal][self.position]

    def text(self) -> str:
        """Where the rat is, and which side pays next."""
        nexts = "either side" if self.last < 0 else SIDES[1 - self.last]
        door = f", door closed for {self.closed}" if self.closed else ""
        where = f"{self.maze} maze: {self._arm()}, cell {self.position}{door}"
        return f"{where}\n{self._phase()}, {self.visits} visits, next {nexts}"

    def picture(self) -> NDArray[np.uint8]:
        """The maze from above; a full drop at a well that would pay, a faint one at a well that would not."""
        pitch = 30
        canvas = Canvas(pitch * (self.stem + 1) + 72, max(220, pitch * (2 * self.arm + 1) + 90))
        middle, floor = canvas.width / 2, canvas.height - 40.0
        canvas.text(12, 10, self._phase(), INK)
        visits = f"VISITS {self.visits}"
        canvas.text(canvas.width - 11 - 6 * len(visits), 10, visits, INK)
        spots = [(middle + pitch * x, floor - pitch * y) for x, y in self.cells]
        half = pitch / 2
        for margin, colour in ((4, WALL), (0, FLOOR)):  # all walls first, then all floors
            for x, y in spots:
                reach = half + margin
                canvas.box(x - reach, y - reach, x + reach, y + reach, colour, round_by=margin)
        for x, y in spots:
            canvas.disc(x, y, 1.4, FAINT)
        self._draw_wells(canvas, spots, half)
        x, y = spots[HOME]
        if self.closed:
            canvas.box(x - half, y - half - 3, x + half, y - half + 3, RED)
            canvas.text(x + half + 12, y - 3, str(self.closed), RED)
        x, y = spots[self.position]
        canvas.animal(x, y, 19, self.facing)
        return canvas.image()

    def _draw_wells(self, canvas: Canvas, spots: list[tuple[float, float]], half: float) -> None:
        """A drop beside each well, and a green frame around the one that has just paid."""
        homes = [(HOME, not self.ready)] if self.maze == "W" else []
        for well, pays in [(self.wells[side], self.ready and side != self.last) for side in (0, 1)] + homes:
            x, y = spots[well]
            if self.paid and well == self.position:
                canvas.box(x - half, y - half, x + half, y + half, blend(GREEN, FLOOR, 0.4), round_by=4)
            if self.maze == "W":
                y += half + 16
            else:
                x += half + 15 if x > canvas.width / 2 else -half - 15
            canvas.drop(x, y, 7, WATER if pays else FAINT)
