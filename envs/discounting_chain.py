"""The first action picks one of five chains that pay at different times: bsuite's discounting chain (Osband 2020)."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from gymnasium.spaces import Box, Discrete
from numpy.typing import NDArray

from ._base import Observation, SmallEnv, Step, check_integer
from ._drawing import FAINT, FLOOR, GOLD, INK, WALL, Canvas, blend

PAY_STEPS = (1, 3, 10, 30, 100)
LENGTH = 100


class DiscountingChain(SmallEnv):
    """
    ## Description
    The first action picks a chain; all later actions do nothing. Each chain pays once, 1, 3, 10, 30 or 100 steps after
    the start. Four of them pay 1.0 and one pays 1.1. An agent that discounts or truncates its credit prefers an early
    chain; to find the better one the credit of a reward must reach the first action whatever the delay.

    ## Action Space
    `Discrete(5)`: the chain, at the first step; without effect afterwards.

    ## Observation Space
    `Box` of float32, shape `(2,)`: entry 0, the chain picked (0 to 4), -1 before the first action; entry 1, t / 100.

    ## Rewards
    On chain 0 to 4 the reward comes with step 1, 3, 10, 30 or 100: 1.1 on chain ``mapping_seed`` % 5, 1.0 on the others;
    0 on every other step.

    ## Starting State
    No chain is picked. Nothing is random.

    ## Episode End
    Terminates after 100 steps, whichever chain was picked.

    ## Arguments
    ``mapping_seed`` (4): an integer of at least 0; ``mapping_seed`` % 5 is the chain that pays 1.1. The default is the
    hardest, the chain that pays last.

    `info`: ``position`` (steps along the chain); ``phase`` ("choice", "chain", "paid", "end"); ``causal_step`` (0, the
    step of the choice, with the reward; -1 otherwise); ``chain`` (the chain picked, -1 before); ``reward_step`` (when it
    pays, -1 before the choice).

    ## Returns of scripted policies
    Optimal (greatest undiscounted return): 1.1 in every episode. Uniformly random: 1.02 on average (exact).

    ## References
    Osband et al. 2020, Behaviour Suite for Reinforcement Learning, arXiv 1908.03568 (discounting chain). Deviations:
    bsuite draws a ``mapping_seed`` that is left out, here it has a default; bsuite's extra leading axis of length 1 is
    dropped.

    ## Version History
    * v0: first version
    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["ansi", "rgb_array"], "render_fps": 20}  # type: ignore[misc]
    state_names = ("clock", "chain")

    def __init__(self, *, mapping_seed: int = 4, render_mode: str | None = None) -> None:
        super().__init__(render_mode=render_mode)
        self.mapping_seed = check_integer("mapping_seed", mapping_seed, 0)
        self.best_chain = self.mapping_seed % len(PAY_STEPS)
        self.pays = tuple(1.1 if chain == self.best_chain else 1.0 for chain in range(len(PAY_STEPS)))
        high = np.array([len(PAY_STEPS) - 1, 1], np.float32)
        self.observation_space = Box(np.array([-1, 0], np.float32), high, dtype=np.float32)
        self.action_space = Discrete(len(PAY_STEPS))
        self.clock, self.chain = 0, -1

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Back to the choice. ``options`` are not used."""
        super().reset(seed=seed)
        self.clock, self.chain = 0, -1
        self.over = False
        return self._observation(), self._info(False)

    def step(self, action: int) -> Step:
        """Pick a chain, or go one step along it."""
        chosen = self.check_action(action)
        if self.clock == 0:
            self.chain = chosen
        self.clock += 1
        self.over = self.clock == LENGTH
        paid = self.clock == PAY_STEPS[self.chain]
        return self._observation(), self.pays[self.chain] if paid else 0.0, self.over, False, self._info(paid)

    def _observation(self) -> Observation:
        return np.array((self.chain, self.clock / LENGTH), np.float32)

    def _phase(self) -> str:
        if self.clock == 0:
            return "choice"
        if self.clock == LENGTH:
            return "end"
        return "chain" if self.clock < PAY_STEPS[self.chain] else "paid"

    def _info(self, paid: bool) -> dict[str, Any]:
        return {
            "position": self.clock,
            "phase": self._phase(),
            "causal_step": 0 if paid else -1,
            "chain": self.chain,
            "reward_step": PAY_STEPS[self.chain] if self.chain >= 0 else -1,
        }

    def optimal_action(self) -> int:
        """The chain that pays 1.1."""
        return self.best_chain

    def text(self) -> str:
        """The chain, when it pays, and the time."""
        known = self.chain >= 0
        where = f"chain {self.chain}, pays {self.pays[self.chain]:g} at {PAY_STEPS[self.chain]}" if known else "no chain"
        return f"{where}\nstep {self.clock} of {LENGTH}: {self._phase()}"

    def picture(self) -> NDArray[np.uint8]:
        """The five chains one above the other, a coin where each pays (the larger one pays 1.1), the mouse on its own."""
        canvas = Canvas(196, 372)
        canvas.text(12, 10, self._phase(), INK)
        time = f"{self.clock}/{LENGTH}"
        canvas.text(361 - 6 * len(time), 10, time, INK)
        left, scale = 66.0, 2.7
        rows = [44 + 31 * chain for chain in range(len(PAY_STEPS))]
        middle = rows[len(rows) // 2]
        for chain, y in enumerate(rows):
            ink = FAINT if self.chain >= 0 and chain != self.chain else WALL
            for step in range(11):  # the way from the start to the chain, as dots
                share = step / 10
                canvas.disc(26 + 36 * share, middle + (y - middle) * share, 1.1, ink)
            canvas.box(left, y - 2, left + scale * LENGTH, y + 2, ink, round_by=2)
            x = left + scale * PAY_STEPS[chain]
            taken = chain == self.chain and self.clock >= PAY_STEPS[chain]
            radius = 9.5 if chain == self.best_chain else 7.5
            canvas.disc(x, y, radius, blend(ink, INK, 0.3))
            canvas.disc(x, y, radius - 1.5, FLOOR if taken else blend(GOLD, FLOOR, 0.65) if ink == FAINT else GOLD)
            label = f"{self.pays[chain]:.1f}"
            canvas.text(x + 13 if chain < len(rows) - 1 else x - 46, y - 12, label, INK)
        on_chain = self.chain >= 0
        at = left + scale * self.clock if on_chain else 26
        canvas.animal(min(at, 344), rows[self.chain] - 7 if on_chain else middle, 24)
        return canvas.image()
