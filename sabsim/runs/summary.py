"""`summary.json`: the final figures of a run."""

from __future__ import annotations

from typing import Any

import torch

from sabsim.attentive import AttentiveLearner
from sabsim.learner import StreamingLearner
from sabsim.runs.config import FORMAT, RunConfig
from sabsim.runs.evaluate import HeldOut
from sabsim.runs.machine import git_revision, peak_rss_mb, sabsim_version, utc_now

TIMED = ("seconds", "steps_per_second", "peak_rss_mb", "date")
"""What a resumed run may have different from an unbroken one."""


def summarise(
    config: RunConfig,
    learner: StreamingLearner | AttentiveLearner,
    result: HeldOut,
    *,
    validation: HeldOut | None,
    best_at: int | None,
    sequences: int,
    reached: bool,
    seconds: float,
    training_seconds: float,
) -> dict[str, Any]:
    """The keys of `docs/run-folder.md`; settings are those in force, after preset and credit rule."""
    credit, network, metric = learner.credit, learner.network, config.task.metric
    on_validation = (
        {}
        if validation is None
        else {
            "part": result.part,
            "best_at": best_at,
            f"validation_{metric}": validation.metric,
            "validation_sequences": validation.sequences,
        }
    )
    return {
        "format": FORMAT,
        "task": config.task.name,
        **config.task.facts(),
        "preset": config.learner.preset,
        "cell": network.cell,
        "hidden": network.hidden,
        "salience": network.salience,
        "sparsify": network.sparsify,
        "stores": network.stores,
        "readout": network.readout,
        "feeds": network.feeds,
        "credit": credit.name,
        "trigger": credit.trigger,
        "retention": config.learner.retention,
        "slots": config.learner.slots,
        "k_top": credit.k_top,
        "k_trunc": credit.k_trunc,
        "k_att": credit.k_att,
        "replays": credit.budget,
        "update_every": credit.block,
        "optimizer": config.optimizer.optimizer,
        "lr": config.optimizer.lr,
        "streams": config.run.streams,
        "stagger": config.run.stagger,
        "gap": config.run.gap,
        "seed": config.run.seed,
        "budget": config.run.budget,
        "stop_at": config.run.stop_at,
        "stopped_early": reached,
        "sequences": sequences,
        "updates": int(learner.updates),
        "steps": learner.clock,
        "seconds": seconds,
        "steps_per_second": learner.clock / training_seconds if training_seconds else 0.0,
        metric: result.metric,
        "standard_error": result.standard_error,
        "held_out_sequences": result.sequences,
        "held_out_loss": result.loss,
        "perfect_sequences": result.perfect,
        **on_validation,
        "baselines": config.task.baselines(),
        "parameters": learner.flat.numel(),
        "macrostate_bytes": learner.macrostate_bytes,
        "peak_rss_mb": peak_rss_mb(),
        "device": str(learner.device),
        "dtype": config.run.dtype,
        "backend": learner.backend,
        "threads": torch.get_num_threads(),
        "sabsim": sabsim_version(),
        "torch": torch.__version__,
        "git": git_revision(),
        "date": utc_now(),
    }
