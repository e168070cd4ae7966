"""An episode to look at: what was seen, what was recalled at each step, and where credit went after each window."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from sabsim.errors import ConfigError
from sabsim.learner import StreamingLearner
from sabsim.optim import SGD
from sabsim.replay import ReplayEvents

from .agent import Agent, Played
from .arena import Make
from .config import AgentConfig
from .environments import maker
from .success import pays_success, succeeded

LEAST_WEIGHT = 0.05
"""Recall weights below are not shown."""
_THUMBNAIL = 112
"""Longest side of the small pictures, kept of every step, in pixels."""

Picture = NDArray[np.uint8]
Numbers = NDArray[np.float64]


class Recalled(NamedTuple):
    """A reminding: ``step`` read the microstate that step ``source`` left, with the recall weight ``weight``."""

    step: int
    source: int
    weight: float


class Replayed(NamedTuple):
    """A replay: after window number ``window`` the norm ``credit`` reached the microstate of step ``source``.

    ``step`` read it with the greatest weight, ``weight``; credit went through ``length`` steps, the last one ``source``.
    """

    window: int
    step: int
    source: int
    weight: float
    credit: float
    length: int


@dataclass(frozen=True, kw_only=True)
class Watched:
    """One episode, or its beginning where it was cut.

    ``seed`` of the environment; ``first``: the step that the first of the ``frames`` shows, each ``(height, width, 3)`` and
    drawn before the step's action; ``thumbnails``: the same of every step, small. ``action``, ``reward``, ``value`` (before
    the action) and ``td_error``: ``(steps,)``, from step 0 on; ``action_names`` by number, where the environment tells.
    ``window``: steps between two updates. ``recalls``, ``replays``: whether the learner can. ``over``: the episode ended
    with its last step here; ``success``: whether it went well, where that is told.
    """

    seed: int
    first: int
    frames: list[Picture]
    thumbnails: list[Picture]
    action: NDArray[np.int64]
    action_names: Mapping[int, str]
    reward: Numbers
    value: Numbers
    td_error: Numbers
    window: int
    recalls: bool
    replays: bool
    recalled: list[Recalled]
    replayed: list[Replayed]
    over: bool
    success: bool | None


class Unmoved(StreamingLearner):
    """A copy of what ``learner`` has learned, with one stream and a fresh memory, that steps as an evaluation does.

    At each block's end it assigns credit as in training, replays included, but its parameters stay as they are, to the
    last bit. A learning signal is a mean over streams: of one stream it is divided by those of training, so that credit has
    the size that it has there, and what is usual stays what it has been.
    """

    def __init__(self, learner: StreamingLearner, *, seed: int) -> None:
        super().__init__(
            learner.network,
            credit=learner.credit,
            retention=learner.retention,
            optimizer=SGD(lr=0.0),
            encoder=learner.encoder,
            streams=1,
            seed=seed,
            device=learner.device,
            dtype=learner.dtype,
            backend=learner.backend,  # type: ignore[arg-type]
        )
        learned = learner.learned
        for name, value in self.learned.items():
            value.copy_(learned[name])
        self._share = 1 / learner.streams
        if self._replay is not None and learner._replay is not None:
            self._replay.usual.copy_(learner._replay.usual)
        self.learning, self._exploration = False, None
        self.window.refresh(self._memory)

    def learn_block(self, dL_dy: Tensor, loss: Tensor | None = None) -> ReplayEvents | None:
        """Credit for a block's learning signals; an update of size 0."""
        # Only here: while it learns it would explore, and follow what it sees.
        self.learning = True
        try:
            return super().learn_block(dL_dy * self._share, loss)
        finally:
            self.learning = False


def drawing_maker(config: AgentConfig) -> Make:
    """What makes the environment of ``config`` (of a mix, the first) so that it can draw itself.

    Raises ConfigError: if it cannot.
    """
    plain = maker(config.env, config.env_args, kinds=config.learner.kinds)()
    modes = plain.metadata.get("render_modes") or []
    plain.close()
    if "rgb_array" not in modes:
        raise ConfigError(f"env = {config.env!r}: cannot draw itself (no render_mode 'rgb_array'), so it cannot be watched")
    return maker(config.env, {**config.env_args, "render_mode": "rgb_array"}, kinds=config.learner.kinds)


def watch(
    agent: Agent,
    make: Make,
    *,
    seed: int,
    greedy: bool = False,
    first: int = 0,
    most: int = 400,
    side: int = 320,
    after_step: Callable[[int], None] | None = None,
) -> Watched:
    """Plays the episode that begins with ``seed`` and keeps what is to be seen of it.

    It is the episode that ``evaluate`` plays alone with this seed, action for action. What was replayed after each of its
    windows is what an update would have replayed; nothing is learned, and ``agent`` is not touched.

    Args: ``make``: of an environment that draws itself, as ``drawing_maker`` gives. ``greedy``: whether the likeliest
    action is taken. ``first``, ``most``: step of the first frame, and how many frames at most; a longer episode is cut.
    ``side``: longest side of a frame, in pixels. ``after_step`` hears how many steps are done.

    Raises ConfigError: for a ``first`` behind the episode's end, or an environment that draws nothing. NonFiniteError: if
    NaN or infinity was met.

    The first step of an agent that has learned nothing yet:

        >>> from sabsim.agents import AgentConfig, build_agent, drawing_maker, watch
        >>> parts = build_agent(AgentConfig(env="sabsim/TMaze-v0"))
        >>> seen = watch(parts.agent, drawing_maker(parts.config), seed=7, most=1)
        >>> seen.frames[0].shape, seen.over, seen.recalled
        ((190, 320, 3), False, [])
    """
    if first < 0 or most < 1:
        raise ConfigError(f"first = {first}, most = {most}: must be at least 0 and 1")
    arena = agent.arena.another(make, streams=1, seed=seed)
    player = agent.evaluator(arena, seed=seed, greedy=greedy)
    # Advantages are divided by what is usual in training, so that credit has its size.
    usual = agent.state()
    player.restore(player.state() | {name: usual[name] for name in ("square", "largest", "windows")})
    if isinstance(agent.learner, StreamingLearner):
        player.learner = Unmoved(agent.learner, seed=seed)
    eye = _Eye(player, first=first, end=first + most, side=side, after_step=after_step)
    windows: list[Played] = []
    while not eye.over and len(windows) * player.steps < first + most:
        windows.append(player.window(eye.look))
        eye.replays(windows[-1], len(windows) - 1)
    player.learner.check()
    arena.close()
    ends = np.concatenate([played.terminated | played.truncated for played in windows])[:, 0]
    length = int(ends.argmax()) + 1 if ends.any() else len(ends)
    steps = min(length, first + most)
    if first >= steps:
        raise ConfigError(f"first = {first}: the episode with seed {seed} has only {steps} steps (--from-step)")
    over = bool(ends[steps - 1])
    action, reward, value, td_error = (
        np.concatenate([getattr(played, name)[:, 0] for played in windows])[:steps]
        for name in ("action", "reward", "value", "td_error")
    )
    success = None
    if over:
        played, t = windows[(steps - 1) // player.steps], (steps - 1) % player.steps
        success = succeeded(
            played.infos[t][0],
            terminated=bool(played.terminated[t, 0]),
            reward=float(reward[-1]),
            pays=pays_success(arena.environments[0]),
        )
    return Watched(
        seed=seed,
        first=first,
        frames=eye.frames,
        thumbnails=eye.thumbnails,
        action=action,
        action_names=_names(arena.environments[0]),
        reward=reward,
        value=value,
        td_error=td_error,
        window=player.steps,
        recalls=player.learner.read is not None,
        replays=windows[0].events is not None,
        recalled=[event for event in eye.recalled if event.step < steps],
        replayed=[event for event in eye.replayed if event.step < steps],
        over=over,
        success=success,
    )


class _Eye:
    """What looks at each step of a player's first episode, up to step ``end``."""

    def __init__(self, player: Agent, *, first: int, end: int, side: int, after_step: Callable[[int], None] | None) -> None:
        self._player, self._first, self._end, self._side, self._after_step = player, first, end, side, after_step
        self._step, self.over = 0, False
        self.frames: list[Picture] = []
        self.thumbnails: list[Picture] = []
        self.recalled: list[Recalled] = []
        self.replayed: list[Replayed] = []

    def look(self, _: int) -> None:
        """Between the learner's step and the environment's."""
        step = self._step
        self._step += 1
        self.over = self.over or (step > 0 and bool(self._player.arena.begins[0]))
        if self.over or step >= self._end:
            return
        picture = self._picture()
        self.thumbnails.append(_shrunk(picture, _THUMBNAIL))
        if step >= self._first:
            self.frames.append(_shrunk(picture, self._side))
        read = self._player.learner.read
        if read is not None:
            pairs = zip(read.source_step[0].tolist(), read.weight[0].tolist(), strict=True)
            self.recalled += [Recalled(step, at, share) for at, share in pairs if share >= LEAST_WEIGHT and at >= 0]
        if self._after_step is not None:
            self._after_step(step + 1)

    def replays(self, played: Played, window: int) -> None:
        """At a window's end. The learner's clock began with the episode."""
        self.over = self.over or bool((played.terminated | played.truncated).any())
        if played.events is None:
            return
        names = ("step", "source_step", "weight", "credit", "replayed_steps", "valid")
        for *event, valid in zip(*(getattr(played.events, name)[0].tolist() for name in names), strict=True):
            found = Replayed(window, *event)
            if valid and found.credit > 0:
                self.replayed.append(found)

    def _picture(self) -> Any:
        try:
            picture = self._player.arena.render()
        except gym.error.Error as error:
            raise ConfigError(f"the environment cannot draw itself ({str(error).splitlines()[0]})") from error
        if not isinstance(picture, np.ndarray):
            raise ConfigError(f"the environment cannot draw itself: render() gave {type(picture).__name__}, not an array")
        return picture


def _shrunk(picture: Any, side: int) -> Picture:
    """The picture with its longest side at most ``side`` pixels."""
    image = Image.fromarray(picture).convert("RGB")
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    return np.array(image)


def _names(environment: gym.Env[Any, Any]) -> dict[int, str]:
    """Names of actions by number, from an ``Enum`` called ``actions`` such as MiniGrid's."""
    told = getattr(environment.unwrapped, "actions", None)
    return {int(action.value): action.name for action in told} if isinstance(told, type) and issubclass(told, Enum) else {}
