"""Time to 99 % on copying: the streaming learner by its replay budget, and ``nn.LSTM`` with full backpropagation.

    python benchmarks/time_to_solve.py --out results/time_to_solve

Both train on one thread until 99 % of the last ten symbols of held-out sequences are right, or until their budget of
sequences ends. The rows take turns, seed by seed, so that a busy machine disturbs all alike. Time is CPU time of training
alone, evaluations left out. The LSTM sees whole sequences in batches (Adam, gradients clipped at norm 1, forget biases 1)
and keeps all of a sequence's states to learn from; the streaming learner has the defaults of ``sabsim run``.
"""

from __future__ import annotations

import argparse
import csv
import json
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sabsim import SAB, Adam, Network, Novelty, StreamingLearner
from sabsim.runs.evaluate import held_out
from sabsim.runs.machine import made_by
from sabsim.tasks import Copying, TaskStream

SOLVED = 0.99
HELD_OUT = 256
ANSWER = 10
"""Steps at a sequence's end that are scored."""

Training = Iterator[tuple[int, Callable[[], float]]]
"""Sequences so far, and what evaluates the learner as it is then."""


def streaming(task: Copying, seed: int, replays: int, every: int) -> Training:
    """The streaming learner with ``replays`` segments per stream and update."""
    learner = StreamingLearner(
        Network(d_in=task.d_in, d_out=task.d_out),
        credit=SAB(replays=replays),
        retention=Novelty(slots=32),
        optimizer=Adam(),
        streams=8,
        seed=seed,
    )
    stream = task.stream(streams=8, seed=seed, stagger=True)
    due = every
    while True:
        step = stream.next()
        if stream.begins:
            learner.reset(step.first)
        score = stream.score(learner.step(step.x), step)
        learner.learn(score.dL_dy, score.loss)
        if stream.completed >= due:
            due += every
            yield stream.completed, lambda: held_out(learner, task, sequences=HELD_OUT, seed=seed).metric


class Fused(nn.Module):
    """``nn.LSTM`` of 128 units and a linear readout."""

    def __init__(self, task: Copying, seed: int) -> None:
        torch.manual_seed(seed)
        super().__init__()
        self.lstm = nn.LSTM(task.d_in, 128)
        self.readout = nn.Linear(128, task.d_out)
        with torch.no_grad():
            self.lstm.bias_ih_l0[128:256] = 1.0

    def forward(self, x: Tensor) -> Tensor:
        """x (steps, batch, d_in) -> logits (steps, batch, d_out)."""
        logits: Tensor = self.readout(self.lstm(x)[0])
        return logits


def whole_sequences(stream: TaskStream, steps: int) -> tuple[Tensor, Tensor]:
    """The next sequence of every stream: inputs (steps, batch, d_in) and target classes (steps, batch)."""
    rows = []
    for _ in range(steps):
        step = stream.next()
        rows.append((step.x.clone(), step.target.clone()))
    x, target = zip(*rows, strict=True)
    return torch.stack(x), torch.stack(target)


def backpropagation(task: Copying, seed: int, batch: int, lr: float, every: int) -> Training:
    """Full backpropagation through time by ``nn.LSTM``, one update a batch."""
    model = Fused(task, seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    stream = task.stream(streams=batch, seed=seed)
    test_x, test_target = whole_sequences(task.stream(streams=HELD_OUT, seed=seed, part="test"), task.length)
    done, due = 0, every

    def accuracy() -> float:
        with torch.no_grad():
            right = model(test_x)[-ANSWER:].argmax(2) == test_target[-ANSWER:]
        return float(right.double().mean())

    while True:
        x, target = whole_sequences(stream, task.length)
        loss = nn.functional.cross_entropy(model(x).flatten(0, 1), target.flatten())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        done += batch
        if done >= due:
            due += every
            yield done, accuracy


def solve(name: str, seed: int, training: Training, budget: int) -> dict[str, Any]:
    """Trains to the end; returns the row of the table."""
    spent, begun = 0.0, time.process_time()
    for sequences, evaluate in training:
        spent += time.process_time() - begun
        accuracy = evaluate()
        if accuracy >= SOLVED or sequences >= budget:
            break
        begun = time.process_time()
    row = {
        "learner": name,
        "seed": seed,
        "sequences": sequences,
        "seconds": round(spent, 2),
        "held_out_accuracy": round(accuracy, 4),
        "solved": accuracy >= SOLVED,
    }
    print(row, flush=True)
    return row


def summary(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each learner's median time to 99 % over seeds; one that did not get there counts as longer than any."""
    table = []
    for name in dict.fromkeys(row["learner"] for row in rows):
        mine = [row for row in rows if row["learner"] == name]
        times = sorted(row["seconds"] if row["solved"] else float("inf") for row in mine)
        median = statistics.median(times)
        table.append(
            {
                "learner": name,
                "seeds": len(mine),
                "solved": sum(row["solved"] for row in mine),
                "median_seconds": median if median < float("inf") else None,
                "seconds": [row["seconds"] for row in mine],
                "sequences": [row["sequences"] for row in mine],
            }
        )
    return table


def main() -> None:
    """Every row, every seed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="files to write, without the ending")
    parser.add_argument("--T", type=int, default=100, help="length of the blank")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4], help="seeds of every row")
    parser.add_argument("--replays", type=int, nargs="*", default=[1, 2, 4, 8], help="replay budgets")
    parser.add_argument("--budget", type=int, default=20_000, help="sequences at most, streaming learner")
    parser.add_argument("--bptt-budget", type=int, default=100_000, help="sequences at most, nn.LSTM")
    parser.add_argument("--bptt-batch", type=int, default=20, help="sequences in a batch, nn.LSTM")
    parser.add_argument("--bptt-lr", type=float, default=1e-3, help="step size, nn.LSTM")
    options = parser.parse_args()
    torch.set_num_threads(1)
    task, rows = Copying(T=options.T), []
    for seed in options.seeds:
        for replays in options.replays:
            training = streaming(task, seed, replays, every=500)
            rows.append(solve(f"SAB, {replays} replays", seed, training, options.budget))
        if options.bptt_budget:
            training = backpropagation(task, seed, options.bptt_batch, options.bptt_lr, every=1_000)
            rows.append(solve("nn.LSTM, full BPTT", seed, training, options.bptt_budget))
    options.out.parent.mkdir(parents=True, exist_ok=True)
    settings = {name: value for name, value in vars(options).items() if name != "out"}
    kept = {"settings": settings, "solved_at": SOLVED, "summary": summary(rows), "made_by": made_by()}
    options.out.with_name(f"{options.out.name}.json").write_text(json.dumps(kept, indent=1) + "\n")
    with options.out.with_name(f"{options.out.name}.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
