"""Where the time of a learning step goes with few and very many slots, all of them filled.

    python benchmarks/slots_cost.py --out results/recall/cost.json

CPU time of one thread, in microseconds a step, updates included (one every 5 steps), by part of the learner; default
settings on random inputs and signals, n = 128. CPU time, because a case of many slots takes long enough to be disturbed.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from sabsim import SAB, Adam, Network, Recent, StreamingLearner
from sabsim.runs.machine import cpu_model, git_revision

PARTS = {
    "step": ("window", "step"),
    "keys": ("window", "refresh"),
    "window backward": ("window", "backward"),
    "choice of replays": ("_replay", "choose"),
    "replay": ("_replay", "backward"),
    "noise": ("", "_draw_noise"),
    "retention": ("_backend", "place_block"),
    "optimiser": ("", "_step_of_optimizer"),
}
"""By what a part is called here: where the learner has it, and under what name."""


def measure(backend: Any, streams: int, slots: int, blocks: int) -> dict[str, Any]:
    """Microseconds a step, whole and by part."""
    learner = StreamingLearner(
        Network(d_in=10, d_out=9, hidden=128),
        credit=SAB(),
        retention=Recent(slots=slots),
        optimizer=Adam(),
        streams=streams,
        backend=backend,
    )
    generator = torch.Generator().manual_seed(0)
    memory = learner.macrostate.arrays
    memory["m"].uniform_(-0.5, 0.5, generator=generator)
    memory["stamp"].zero_()
    memory["score"].zero_()
    memory["empty"].zero_()
    inputs, signal = torch.randn(64, streams, 10, generator=generator), torch.randn(streams, 9, generator=generator)
    spent: Counter[str] = Counter()
    for part, (owner, name) in PARTS.items():
        holder = getattr(learner, owner) if owner else learner
        setattr(holder, name, _timed(getattr(holder, name), part, spent))

    def play(count: int) -> float:
        begun = time.thread_time()
        for _ in range(count * learner.credit.block):
            learner.step(inputs[learner.clock % len(inputs)])
            learner.learn(signal / streams)
        return time.thread_time() - begun

    play(3)
    spent.clear()
    whole, steps = play(blocks), blocks * learner.credit.block
    case: dict[str, Any] = {"backend": backend, "streams": streams, "slots": slots, "steps": steps}
    return case | {name: round(1e6 * value / steps, 1) for name, value in [("whole step", whole), *spent.most_common()]}


def _timed(call: Any, part: str, spent: Counter[str]) -> Any:
    def timed(*arguments: Any, **named: Any) -> Any:
        begun = time.thread_time()
        result = call(*arguments, **named)
        spent[part] += time.thread_time() - begun  # type: ignore[assignment]  # seconds, not a count
        return result

    return timed


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backends", nargs="+", default=["native", "torch"])
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--slots", type=int, nargs="+", default=[32, 1_000, 10_000, 100_000])
    parser.add_argument("--steps", type=int, default=50_000_000, help="about steps x slots x streams a case")
    parser.add_argument("--out", type=Path, default=None, help="JSON file for the result")
    options = parser.parse_args()
    torch.set_num_threads(1)
    cases = []
    for backend in options.backends:
        for streams in options.streams:
            for slots in options.slots:
                blocks = max(5, min(100, options.steps // (5 * slots * streams)))
                cases.append(measure(backend, streams, slots, blocks))
                print(cases[-1], flush=True)
    result = {
        "unit": "microseconds a step",
        "configuration": "defaults (n 128, k_top 5, k_trunc 5, replays 5, explore 10, Adam), retention recent, full memory",
        "cases": cases,
        "seed": 0,
        "machine": f"{cpu_model()}, {platform.system()}, one thread, CPU time",
        "torch": torch.__version__,
        "git": git_revision(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    if options.out is not None:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
