"""The sessions of Ambrose, Pfeiffer & Foster (2016) on the linear track, as runs of agents.

Each animal, a seed, first learns to shuttle on sessions whose rewards are equal. Then, and always from there, come its
sessions: rewards change at one end in the second of three epochs, to fourfold or to nothing, or do not change at all (the
control). It goes on learning meanwhile: one stream, an update at every step, so that when a replay takes place is known to
the step. Odd animals have the other end changed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from sabsim.runs.progress import Display
from sabsim.runs.sweep import Planned

from .config import AgentConfig
from .options import AgentLearnerOptions, AgentOptimizerOptions, AgentRunOptions
from .train import train_agent

SESSIONS = ("4x", "0x", "equal")
"""What happens at the changed end in the second epoch; ``equal``: nothing."""
SESSION_LR = 3e-5
"""One stream's gradients are noisy: at 1e-4 two of six runs had stopped shuttling after ten sessions, at 5e-4 three."""


@dataclass(frozen=True, kw_only=True)
class Arm:
    """A group of animals: what is special about it, by option, and which sessions it has."""

    words: str
    learner: Mapping[str, Any]
    optimizer: Mapping[str, Any]
    trained: bool = True
    sessions: tuple[str, ...] = SESSIONS


ARMS: dict[str, Arm] = {
    "sab": Arm(words="SAB as it is: the 4 greatest credits of every update are replayed", learner={}, optimizer={}),
    "threshold": Arm(
        words="the same, but credits below the usual one are not replayed (--replay-threshold 1)",
        learner={"replay_threshold": 1.0},
        optimizer={},
    ),
    "frozen": Arm(
        words="with the threshold; nothing is learned in the sessions (--lr 0)",
        learner={"replay_threshold": 1.0},
        optimizer={"lr": 0.0},
        sessions=("4x", "0x"),
    ),
    "untrained": Arm(
        words="with the threshold; never trained before the sessions",
        learner={"replay_threshold": 1.0},
        optimizer={},
        trained=False,
        sessions=("4x", "0x"),
    ),
    "no-replay": Arm(
        words="replay switched off (--credit no-replay): only remindings are left",
        learner={"credit": "no-replay"},
        optimizer={},
        sessions=("4x", "0x"),
    ),
}
"""By name. The second and third declare what decides how often replay happens; the first has no such rule."""


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """How much of everything.

    ``training``: steps before, 32 streams together; ``sessions``: steps of an animal's sessions; ``untrained``: the same of
    one that walks at random and needs 15 times as long for a lap; ``track``: further arguments of the track.
    """

    training: int = 500_000
    sessions: int = 4_000
    untrained: int = 25_000
    track: Mapping[str, Any] = field(default_factory=dict)


QUICK = Sizes(training=4_000, sessions=600, untrained=600, track={"length": 4, "laps_per_epoch": 4})
"""Too little to learn anything from; to see that all of it works."""


def training(seed: int, sizes: Sizes) -> AgentConfig:
    """What an animal learns before: to shuttle, on sessions that never change."""
    return AgentConfig(
        env="sabsim/LinearTrack-v0",
        env_args={"session": "equal", **sizes.track},
        run=AgentRunOptions(
            seed=seed, steps=sizes.training, eval_every=sizes.training, eval_episodes=8, final_episodes=32, record_streams=0
        ),
    )


def session(seed: int, kind: str, arm: Arm, sizes: Sizes, begin_from: Path) -> AgentConfig:
    """An animal's sessions of one kind."""
    steps = sizes.sessions if arm.trained else sizes.untrained
    return AgentConfig(
        env="sabsim/LinearTrack-v0",
        env_args={"session": kind, "changed_end": seed % 2, **sizes.track},
        learner=replace(AgentLearnerOptions(window=1, k_trunc=5), **arm.learner),
        optimizer=replace(AgentOptimizerOptions(lr=SESSION_LR), **arm.optimizer),
        run=AgentRunOptions(
            seed=seed,
            streams=1,
            steps=steps,
            eval_every=steps,
            eval_episodes=1,
            final_episodes=1,
            record_every=1,
            begin_from=str(begin_from) if arm.trained else None,
        ),
    )


def plan(seeds: int, out: Path, *, first: int = 0, sizes: Sizes | None = None) -> list[Planned]:
    """All runs of ``seeds`` animals, each in ``out/SEED/ARM-SESSION``, after ``out/SEED/training``."""
    sizes = sizes or Sizes()
    runs = []
    for seed in range(first, first + seeds):
        home = out / str(seed)
        before = Planned(name=f"{seed}/training", config=training(seed, sizes), out=home / "training")
        runs.append(before)
        for name, arm in ARMS.items():
            for kind in arm.sessions:
                runs.append(
                    Planned(
                        name=f"{seed}/{name}-{kind}",
                        config=session(seed, kind, arm, sizes, before.out),
                        out=home / f"{name}-{kind}",
                        after=before.name if arm.trained else None,
                    )
                )
    return runs


def work(config: AgentConfig, *, out: Path, resume: bool, display: Display) -> dict[str, Any]:
    """One run of the plan.

    Raises SabsimError: as ``train_agent``.
    """
    return train_agent(config, out=out, resume=resume, display=display)
