"""Take the umbrella or not; the weather comes much later: bsuite's umbrella chain (Osband et al. 2020)."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from gymnasium.spaces import Box, Discrete
from numpy.typing import NDArray

from ._base import Observation, SmallEnv, Step, check_integer, check_number
from ._drawing import FAINT, FLOOR, GOLD, GREEN, INK, RED, VIOLET, WALL, Canvas, Colour, blend

SKY: Colour = (222, 234, 244)
GREY_SKY: Colour = (206, 212, 220)


class UmbrellaChain(SmallEnv):
    """
    ## Description
    The first observation holds a forecast: rain or sun. The first action takes the umbrella or leaves it. After a walk of
    ``chain_length`` steps the weather is as forecast: +1 if the umbrella fits it, -1 otherwise. Every other step pays a
    random +1 or -1 that no action influences, so the credit of the first action is buried in noise. Memory is not needed:
    forecast and umbrella stay in view.

    ## Action Space
    `Discrete(2)`: at the first step 1 takes the umbrella and 0 leaves it; afterwards without effect.

    ## Observation Space
    `Box` of float32 in [0, 1], shape `(3 + n_distractor,)`: entry 0, the forecast (1 rain: the umbrella is needed); entry
    1, whether the agent has the umbrella (random before the first action); entry 2, time left, 1 - t / chain_length; the
    rest, distractors, each 0 or 1 anew at every step.

    ## Rewards
    The last step: +1 if the umbrella fits the weather, otherwise -1. All others: ``noise`` or -``noise``, with equal
    probability.

    ## Starting State
    Forecast and umbrella are drawn independently and uniformly.

    ## Episode End
    Terminates after ``chain_length`` steps.

    ## Arguments
    ``chain_length`` (20): steps of an episode, at least 1; bsuite goes from 1 to 100. ``n_distractor`` (20): random
    entries of the observation, at least 0. ``noise`` (1.0): size of the random rewards, at least 0; 0 leaves only the
    reward of the end.

    `info`: ``position`` (steps walked); ``phase`` ("choice", "walk", "end"); ``causal_step`` (0, the step of the choice,
    with the last reward; -1 otherwise); ``need``, ``has`` (0 or 1); ``correct`` (1 or 0 at the end, -1 before).

    ## Returns of scripted policies
    Optimal: 1 on average with standard deviation ``noise`` * sqrt(chain_length - 1), 4.36 by default. Uniformly random: 0
    on average (both exact).

    ## References
    Osband et al. 2020, Behaviour Suite for Reinforcement Learning, arXiv 1908.03568 (umbrella length, umbrella distract).
    With ``chain_length`` = 1 the first action is also the last, as there. Deviations: ``noise`` is an argument, 1 there;
    bsuite's extra leading axis of length 1 is dropped.

    ## Version History
    * v0: first version
    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["ansi", "rgb_array"], "render_fps": 8}  # type: ignore[misc]
    state_names = ("clock", "need", "has", "last_reward")

    def __init__(
        self, *, chain_length: int = 20, n_distractor: int = 20, noise: float = 1.0, render_mode: str | None = None
    ) -> None:
        super().__init__(render_mode=render_mode)
        self.chain_length = check_integer("chain_length", chain_length, 1)
        self.n_distractor = check_integer("n_distractor", n_distractor, 0)
        self.noise = check_number("noise", noise, 0.0)
        self.observation_space = Box(0.0, 1.0, (3 + self.n_distractor,), np.float32)
        self.action_space = Discrete(2)
        self.clock, self.need, self.has, self.last_reward = 0, 0, 0, 0.0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """A new forecast, and an umbrella at hand or not. ``options`` are not used."""
        super().reset(seed=seed)
        self.clock, self.last_reward = 0, 0.0
        self.need, self.has = self.np_random.integers(2, size=2).tolist()
        self.over = False
        return self._observation(), self._info()

    def step(self, action: int) -> Step:
        """Take the umbrella or leave it at the first step; walk on; the last step meets the weather."""
        chosen = self.check_action(action)
        if self.clock == 0:
            self.has = chosen
        self.clock += 1
        self.over = self.clock == self.chain_length
        if self.over:
            self.last_reward = 1.0 if self.has == self.need else -1.0
        else:
            self.last_reward = self.noise if self.np_random.random() < 0.5 else -self.noise
        return self._observation(), self.last_reward, self.over, False, self._info()

    def _observation(self) -> Observation:
        observation = np.empty(3 + self.n_distractor, np.float32)
        observation[0] = self.need
        observation[1] = self.has
        observation[2] = 1 - self.clock / self.chain_length
        if self.n_distractor:
            observation[3:] = self.np_random.random(self.n_distractor) < 0.5
        return observation

    def _phase(self) -> str:
        if self.clock == self.chain_length:
            return "end"
        return "walk" if self.clock else "choice"

    def _info(self) -> dict[str, Any]:
        return {
            "position": self.clock,
            "phase": self._phase(),
            "causal_step": 0 if self.over else -1,
            "need": self.need,
            "has": self.has,
            "correct": int(self.has == self.need) if self.over else -1,
        }

    def optimal_action(self) -> int:
        """Take the umbrella if rain is forecast."""
        return self.need

    def text(self) -> str:
        """Forecast, umbrella, time and the last reward."""
        forecast, umbrella = ("sun", "rain")[self.need], ("no umbrella", "umbrella")[self.has]
        time = f"step {self.clock} of {self.chain_length}: {self._phase()}"
        return f"forecast {forecast}, {umbrella}\n{time}, paid {self.last_reward:+g}"

    def picture(self) -> NDArray[np.uint8]:
        """A walk from a house to a hill top; the forecast stands beside the house and comes true at the end."""
        wet = self.over and self.need == 1
        canvas = Canvas(172, 340, GREY_SKY if wet else SKY)
        canvas.box(0, 136, 340, 172, blend(GREEN, FLOOR, 0.25))
        canvas.box(0, 140, 340, 152, FAINT)
        canvas.text(12, 10, self._phase(), INK)
        time = f"{self.clock}/{self.chain_length}"
        canvas.text(329 - 6 * len(time), 10, time, INK)
        canvas.box(14, 98, 54, 140, RED)
        canvas.polygon([(8, 100), (34, 74), (60, 100)], WALL)
        canvas.box(28, 116, 42, 140, INK)
        canvas.box(66, 54, 116, 94, FLOOR, round_by=8)  # the forecast
        canvas.text(91.5, 43, "FORECAST", INK, centre=True)
        self._draw_weather(canvas, 91, 72, 0.55)
        x = 78 + 226 * self.clock / self.chain_length
        if self.over:
            self._draw_weather(canvas, 286, 54, 0.9 if self.need else 1.0)
            if wet:
                for drop in range(9):
                    canvas.drop(256 + 7.5 * drop, 78 + 16 * (drop * 2 % 3), 3)
        if self.has:
            self._draw_umbrella(canvas, x, 108)
        canvas.animal(x, 138, 30)
        if self.clock and self.last_reward:
            words = f"{self.last_reward:+.3g}"
            canvas.box(140, 154, 200, 170, FLOOR, round_by=7)
            canvas.text(170, 157, words, blend(GREEN, INK, 0.5) if self.last_reward > 0 else RED, size=1.4, centre=True)
        if not self.has and self.clock == 0:
            canvas.text(170, 158, "UMBRELLA LEFT AT HOME", INK, centre=True)
        return canvas.image()

    def _draw_weather(self, canvas: Canvas, x: float, y: float, size: float) -> None:
        """A cloud with drops, or the sun, around (x, y)."""
        if not self.need:
            for ray in range(12):
                angle = ray * np.pi / 6
                canvas.disc(x + 26 * size * np.cos(angle), y + 26 * size * np.sin(angle), 2.4 * size, GOLD)
            canvas.disc(x, y, 19 * size, GOLD)
            return
        for dx, dy, radius in ((-17, 4, 12), (-4, -3, 16), (13, 2, 13)):
            canvas.disc(x + dx * size, y + dy * size, radius * size, WALL)
        canvas.box(x - 28 * size, y + 3 * size, x + 25 * size, y + 16 * size, WALL, round_by=6 * size)
        if size < 0.6:
            for dx in (-14, 0, 14):
                canvas.drop(x + dx * size, y + 25 * size, 4 * size)

    def _draw_umbrella(self, canvas: Canvas, x: float, y: float) -> None:
        """An open umbrella with its top at height ``y``."""
        canvas.box(x - 1, y - 6, x + 1, y + 30, INK)
        roof = [(x + 24 * np.cos(a), y + 10 - 18 * np.sin(a)) for a in np.linspace(0, np.pi, 19)]
        canvas.polygon(roof, VIOLET)
        for side in (-16, 0, 16):
            canvas.disc(x + side, y + 10.5, 7.4, blend(VIOLET, INK, 0.35), height=2.2)
