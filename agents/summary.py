"""``summary.json``: the final figures of an agent's run, with confidence intervals."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import torch

from sabsim.runs.config import FORMAT
from sabsim.runs.machine import made_by, peak_rss_mb

from .build import AgentParts
from .config import KIND
from .evaluation import Evaluation
from .intervals import of_mean, of_share

TIMED = ("seconds", "steps_per_second", "peak_rss_mb", "made_by")
"""What a resumed run may have different from an unbroken one."""


def figures(found: Evaluation) -> dict[str, Any]:
    """Return, length and success (None where not told) of an evaluation, each with its 95 % interval, and the counts."""
    success = of_share(found.successes, found.judged).as_json() if found.judged else None
    return {
        "episodes": len(found.episodes),
        "return": of_mean(found.returns).as_json(),
        "length": of_mean(found.lengths).as_json(),
        "judged": found.judged,
        "success": success,
    }


def summarise(
    parts: AgentParts,
    found: Evaluation,
    *,
    env_steps: int,
    episodes: int,
    reached: bool,
    seconds: float,
    training_seconds: float,
) -> dict[str, Any]:
    """The keys of ``docs/agents.md``."""
    config, learner = parts.config, parts.agent.learner
    updates, flat = getattr(learner, "updates", None), getattr(learner, "flat", None)
    return {
        "format": FORMAT,
        "kind": KIND,
        "env": config.env,
        "env_args": dict(config.env_args),
        "learner": asdict(config.learner),
        "optimizer": asdict(config.optimizer),
        "signal": asdict(config.signal),
        "run": asdict(config.run),
        "evaluation": figures(found),
        "stopped_early": reached,
        "steps": env_steps,
        "episodes": episodes,
        "updates": None if updates is None else int(updates),
        "seconds": seconds,
        "steps_per_second": env_steps / training_seconds if training_seconds else 0.0,
        "parameters": None if flat is None else flat.numel(),
        "macrostate_bytes": getattr(learner, "macrostate_bytes", None),
        "threads": torch.get_num_threads(),
        "peak_rss_mb": peak_rss_mb(),
        "made_by": made_by(),
    }
