"""One stream of a million steps: does a step stay as quick, and memory as small, as at the beginning?

    python benchmarks/endless.py --steps 1000000 --out results/endless.json

The learner learns all the way (copying, default settings, 32 slots); the stream can also be given no sequence ends at
all (``--endless``), so that nothing is ever reset. Time is CPU time in pieces of 1,000 steps; compared are the medians of
the pieces in the first and in the last tenth, so that a busy machine disturbs little. Memory is the resident set size.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from sabsim import SAB, Adam, Network, Novelty, StreamingLearner
from sabsim.runs.machine import cpu_model, git_revision, rss_mb
from sabsim.tasks import Copying

PIECE = 1_000
"""Steps timed together."""

WARM_UP = 10_000
"""Steps after which memory should have stopped growing."""


def play(steps: int, streams: int, endless: bool) -> tuple[list[float], list[float]]:
    """Seconds of CPU time and resident megabytes of every piece."""
    task = Copying(T=100)
    learner = StreamingLearner(
        Network(d_in=task.d_in, d_out=task.d_out),
        credit=SAB(),
        retention=Novelty(slots=32),
        optimizer=Adam(),
        streams=streams,
    )
    stream = task.stream(streams=streams, seed=0)
    seconds, memory = [], []
    for piece in range(steps // PIECE):
        begun = time.process_time()
        for _ in range(PIECE):
            step = stream.next()
            if stream.begins and not (endless and stream.clock > 1):
                learner.reset(step.first)
            score = stream.score(learner.step(step.x), step)
            learner.learn(score.dL_dy, score.loss)
        learner.check()
        seconds.append(time.process_time() - begun)
        memory.append(rss_mb())
        if piece % 100 == 99:
            spent = 1e6 * seconds[-1] / PIECE
            print(f"{(piece + 1) * PIECE:9,} steps  {spent:6.0f} us/step  {memory[-1]:.1f} MB", flush=True)
    return seconds, memory


def summarise(seconds: list[float], memory: list[float], options: argparse.Namespace) -> dict[str, Any]:
    """The figures to keep, with configuration, machine, revision and date."""
    tenth = max(1, len(seconds) // 10)
    first, last = (1e6 * statistics.median(part) / PIECE for part in (seconds[:tenth], seconds[-tenth:]))
    return {
        "steps": options.steps,
        "streams": options.streams,
        "endless": options.endless,
        "first_tenth_us_per_step": round(first, 1),
        "last_tenth_us_per_step": round(last, 1),
        "ratio": round(last / first, 3),
        "rss_mb_after_warm_up": round(memory[WARM_UP // PIECE - 1], 2),
        "rss_mb_at_end": round(memory[-1], 2),
        "rss_growth_mb": round(memory[-1] - memory[WARM_UP // PIECE - 1], 2),
        "configuration": "copying T=100, preset stable, n 128, k_top 5, k_trunc 5, replays 5, novelty, 32 slots, Adam",
        "seed": 0,
        "machine": f"{cpu_model()}, {platform.system()}, one thread",
        "torch": torch.__version__,
        "git": git_revision(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def main() -> None:
    """Play, print and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=1_000_000, help="steps of the stream (default 1,000,000)")
    parser.add_argument("--streams", type=int, default=1, help="streams side by side, B (default 1)")
    parser.add_argument("--endless", action="store_true", help="never reset: one sequence without end")
    parser.add_argument("--out", type=Path, default=None, help="JSON file for the result")
    options = parser.parse_args()
    if options.steps < 2 * WARM_UP:
        parser.error(f"--steps {options.steps}: must be at least {2 * WARM_UP}")
    torch.set_num_threads(1)
    result = summarise(*play(options.steps, options.streams, options.endless), options)
    print(json.dumps(result, indent=2))
    if options.out is not None:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
