"""What centring costs: a learner with it and one without, by turns.

    python benchmarks/centring_cost.py --out results/recall/centring-cost.json

CPU time of one thread, in microseconds a step, updates included (one every 5 steps); medians over rounds of 200 blocks, and
the median of the rounds' ratios. Copying T = 100 in blocks, default settings, n = 128.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

import torch

from sabsim.runs import LearnerOptions, RunConfig, RunOptions, build
from sabsim.runs.blocks import begin_within, blocks_of, part_of
from sabsim.runs.machine import cpu_model, git_revision
from sabsim.tasks import Copying

BLOCKS = 200


class Side:
    """One learner on its stream."""

    def __init__(self, config: RunConfig) -> None:
        parts = build(config)
        self.stream, self.blocks = parts.stream, blocks_of(parts.learner, parts.stream)
        assert self.blocks is not None

    def play(self) -> float:
        """Microseconds a step, over ``BLOCKS`` blocks."""
        size, clock = self.blocks.size, self.stream.clock
        steps = self.stream.take(BLOCKS * size)
        begun = time.thread_time()
        for first in range(0, BLOCKS * size, size):
            block = part_of(steps, first, size)
            self.blocks.play(block, begins=begin_within(self.stream, clock + first, size))
        return 1e6 * (time.thread_time() - begun) / (BLOCKS * size)


def measure(streams: int, backend: str, rounds: int) -> dict[str, Any]:
    """Both sides by turns, the order turned round after each."""
    config = RunConfig(task=Copying(T=100), run=RunOptions(streams=streams, backend=backend, device="cpu"))
    sides = [Side(replace(config, learner=LearnerOptions(centred=centred))) for centred in (False, True)]
    for side in sides:
        side.play()
    spent: list[list[float]] = [[], []]
    for turn in range(rounds):
        for i in (0, 1) if turn % 2 else (1, 0):
            spent[i].append(sides[i].play())
    ratios = [after / before for before, after in zip(*spent, strict=True)]
    case = {
        "streams": streams,
        "backend": backend,
        "without": round(median(spent[0]), 1),
        "with": round(median(spent[1]), 1),
    }
    return case | {"ratio": round(median(ratios), 3), "least": round(min(ratios), 3), "greatest": round(max(ratios), 3)}


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--out", type=Path, default=None, help="JSON file for the result")
    options = parser.parse_args()
    torch.set_num_threads(1)
    cases = []
    for backend in ("native", "torch"):
        for streams in (1, 8):
            cases.append(measure(streams, backend, options.rounds))
            print(cases[-1], flush=True)
    result = {
        "unit": "microseconds a step",
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
