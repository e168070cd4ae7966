"""A linear track with a well at each end, whose rewards change for an epoch (Ambrose, Pfeiffer & Foster 2016)."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import numpy as np
from gymnasium.spaces import Box, Discrete
from numpy.typing import NDArray

from ._base import Observation, SmallEnv, Step, check_integer, check_number
from ._drawing import FAINT, FLOOR, GREEN, INK, RED, WALL, WATER, Canvas, blend

PHASES = ("before", "changed", "after")
CHANGES = {"4x": 4.0, "0x": 0.0, "equal": 1.0}
LEFT, RIGHT, STAY = 0, 1, 2


class LinearTrack(SmallEnv):
    """
    ## Description
    A rat shuttles between two wells at the ends of a track. A session has three epochs of ``laps_per_epoch`` laps
    each: both wells pay the same; the well at one end pays four times as much (session ``4x``) or nothing (``0x``);
    both pay the same again. Which end changes is constant in a session. In a session ``equal``, for training and as a
    control, neither does. Nothing shows the change but the rewards themselves. A lap is one run from one end to the
    other, counted on arrival. In the study the changed well altered the rate of reverse replay there, with forward
    replay unchanged. The rat may dwell.

    ## Action Space
    `Discrete(3)`: 0 one position to the left, 1 to the right, 2 stay. Running against an end is staying.

    ## Observation Space
    `Box(0, 1, (length + 3,), float32)`:
    entries 0 to length - 1, the place code: 1 at the rat's position and 0 elsewhere, or, with ``field_width`` > 0,
    the rates of place cells, exp(-(distance / field_width)^2 / 2); entry length, the reward just received, divided by
    four times ``reward``, the largest that any session pays; entries length + 1 and length + 2, the rat is at well 0
    (left), at well 1 (right).

    ## Rewards
    On arrival at an end, if the rat comes from the other end: ``reward``, times 4 or 0 at the changed end in the
    second epoch. A well pays once for an arrival: dwelling there, or leaving and returning, pays nothing.

    ## Starting State
    At an end drawn at random, which has been emptied. ``changed_end="random"`` draws the changed end here as well.

    ## Episode End
    After the last lap of the third epoch the session is truncated, not terminated: the rat is lifted off the track,
    and nothing it could perceive announced it. Registered with a limit of 20,000 steps (truncated).

    ## Arguments
    ``length`` (10): positions, at least 2. ``laps_per_epoch`` (20). ``session`` ("4x"): "4x", "0x" or "equal".
    ``changed_end`` ("random"): "random", 0 (left) or 1 (right). ``reward`` (1.0): the equal reward. ``field_width``
    (0.0): width of the place fields in positions, 0 for a one-hot code.

    `info`: ``position``; ``phase`` ("before", "changed", "after") and ``epoch`` (0, 1, 2), of the lap that is run or
    that has just ended; ``laps`` (finished); ``direction`` (+1 the last step went right, -1 left, 0 it did not move);
    ``end`` (0 or 1 at an end, else -1); ``arrived`` (a lap has just ended here); ``reward_size`` (what it has paid, 0
    where nothing); ``changed_end``; ``session``; ``causal_step`` (where a lap has just ended: the step at which the
    rat left the other end).

    ## Returns of scripted policies
    ``optimal_action`` runs to the other end without dwelling, which maximises the reward per step. A session of the
    default arguments returns 90 in 540 steps (``0x``: 50, ``equal``: 60), 111.1 laps per 1,000 steps. Uniformly
    random actions need 135 steps a lap in the mean (1.5 * 9 * 10, the hitting time of a lazy random walk), 7.4 laps
    per 1,000 steps, 8,100 steps a session, which returns the same 90.

    ## References
    Ambrose, Pfeiffer & Foster (2016), Reverse replay of hippocampal place cells is uniquely modulated by changing
    reward, Neuron 91, 1124-1136.

    ## Version History
    * v0: first version
    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["ansi", "rgb_array"], "render_fps": 12}  # type: ignore[misc]
    state_names = ("position", "origin", "laps", "epoch", "changed", "direction", "clock", "departure")

    def __init__(
        self,
        *,
        length: int = 10,
        laps_per_epoch: int = 20,
        session: Literal["4x", "0x", "equal"] = "4x",
        changed_end: Literal["random", 0, 1] = "random",
        reward: float = 1.0,
        field_width: float = 0.0,
        render_mode: str | None = None,
    ) -> None:
        super().__init__(render_mode=render_mode)
        self.length = check_integer("length", length, 2)
        self.laps_per_epoch = check_integer("laps_per_epoch", laps_per_epoch, 1)
        if session not in CHANGES:
            raise ValueError(f"session is {session!r}; it must be '4x', '0x' or 'equal'")
        if changed_end not in ("random", 0, 1) or isinstance(changed_end, bool):
            raise ValueError(f"changed_end is {changed_end!r}; it must be 'random', 0 or 1")
        self.session, self.changed_end = session, changed_end
        self.reward = check_number("reward", reward, 0.0)
        self.field_width = check_number("field_width", field_width, 0.0)
        self.largest = self.reward * max(CHANGES.values()) or 1.0
        self.action_space = Discrete(3)
        self.observation_space = Box(0.0, 1.0, (self.length + 3,), np.float32)
        self.codes = self._place_codes()
        self.position, self.origin, self.changed = 0, 0, 0
        self.laps, self.epoch, self.direction = 0, 0, 0
        self.clock, self.departure = 0, 0

    def _place_codes(self) -> Observation:
        """The observation at each position without a reward, ``(length, length + 3)``."""
        places = np.arange(self.length)
        apart = np.abs(places[:, None] - places[None, :]).astype(np.float64)
        codes = np.zeros((self.length, self.length + 3), dtype=np.float32)
        width = self.field_width
        codes[:, : self.length] = np.exp(-0.5 * (apart / width) ** 2) if width > 0 else apart == 0
        codes[0, -2] = codes[-1, -1] = 1.0
        return codes

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """A new session. ``options`` are not used."""
        super().reset(seed=seed)
        self.origin = int(self.np_random.integers(2))
        drawn = int(self.np_random.integers(2))  # drawn in any case: the same seed then starts at the same end
        self.changed = drawn if self.changed_end == "random" else int(self.changed_end)
        self.position = self.origin * (self.length - 1)
        self.laps, self.epoch, self.direction = 0, 0, 0
        self.clock, self.departure = 0, 0
        self.over = False
        return self.codes[self.position].copy(), self._info(False, 0.0)

    def step(self, action: int) -> Step:
        """One move, or none. ``origin`` is the end visited last; the other one pays."""
        chosen = self.check_action(action)
        before, last = self.position, self.length - 1
        if chosen == RIGHT:
            self.position = min(before + 1, last)
        elif chosen == LEFT:
            self.position = max(before - 1, 0)
        self.direction = self.position - before
        if before == self.origin * last and self.direction:
            self.departure = self.clock
        self.clock += 1
        self.epoch = self.laps // self.laps_per_epoch
        arrived = self.position == (1 - self.origin) * last
        size = 0.0
        if arrived:
            self.origin = 1 - self.origin
            size = self._pays(self.origin)
            self.laps += 1
            self.over = self.laps == 3 * self.laps_per_epoch
        observation = self.codes[self.position].copy()
        observation[self.length] = size / self.largest
        return observation, size, False, self.over, self._info(arrived, size)

    def _pays(self, end: int) -> float:
        """What a well pays on arrival in the present epoch."""
        return self.reward * (CHANGES[self.session] if self.epoch == 1 and end == self.changed else 1.0)

    def _end(self) -> int:
        """The end that the rat is at, or -1."""
        return 0 if self.position == 0 else 1 if self.position == self.length - 1 else -1

    def _info(self, arrived: bool, size: float) -> dict[str, Any]:
        return {
            "position": self.position,
            "phase": PHASES[self.epoch],
            "epoch": self.epoch,
            "laps": self.laps,
            "direction": self.direction,
            "end": self._end(),
            "arrived": arrived,
            "reward_size": size,
            "changed_end": self.changed,
            "session": self.session,
            "causal_step": self.departure if arrived else -1,
        }

    def optimal_action(self) -> int:
        """Run to the end that was not visited last."""
        return RIGHT if self.origin == 0 else LEFT

    def text(self) -> str:
        """The track, with the rat as R and the wells as their present rewards."""
        cells = ["R" if p == self.position else "." for p in range(self.length)]
        where = f"epoch {self.epoch + 1} of 3 ({PHASES[self.epoch]}), {self.laps} laps"
        return f"({self._pays(0):g})|{''.join(cells)}|({self._pays(1):g})\n{where}"

    def picture(self) -> NDArray[np.uint8]:
        """The track from the side: drops at the wells show what each pays now, a ring the end that pays next."""
        wide = 320
        canvas = Canvas(116, wide)
        side = ("LEFT", "RIGHT")[self.changed]
        changing = "EQUAL" if self.session == "equal" else f"{self.session} ON THE {side}"
        names = ("EPOCH 1: EQUAL", f"EPOCH 2: {changing}", "EPOCH 3: EQUAL AGAIN")
        canvas.text(12, 10, names[self.epoch], INK)
        lap = f"LAP {self.laps}"
        canvas.text(wide - 12 - 6 * len(lap) + 1, 10, lap, INK)
        left, right, floor = 62, wide - 62, 82
        canvas.box(left - 50, floor, right + 50, floor + 8, WALL, round_by=4)
        for x in (left - 26, right + 26):
            canvas.box(x - 4, floor + 6, x + 4, floor + 24, WALL)
        gap = (right - left) / (self.length - 1)
        for place in range(self.length):
            canvas.disc(left + place * gap, floor + 4, 1.6, FAINT)
        for end, x in ((0, left - 34), (1, right + 34)):
            pays, ready = self._pays(end), end != self.origin
            changed = self.epoch == 1 and end == self.changed and self.session != "equal"
            rim = (GREEN if pays else RED) if changed else WALL
            canvas.box(x - 15, floor - 10, x + 15, floor + 2, rim, round_by=4)
            canvas.box(x - 12, floor - 10, x + 12, floor - 3, blend(WATER, FLOOR, 0.2 if ready and pays else 0.75))
            drops = round(min(4.0, pays / self.reward)) if self.reward else 0
            for number in range(drops):
                spot = x + (number - (drops - 1) / 2) * 8
                canvas.drop(spot, floor - 23, 4.4, WATER if ready else blend(WATER, FLOOR, 0.65))
            if not drops:
                canvas.text(x, floor - 26, "0", RED, centre=True)
        canvas.animal(left + self.position * gap, floor - 11, 30, 1 if self.origin == 0 else -1)
        return canvas.image()
