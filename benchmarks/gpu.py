"""What a CUDA device makes of the learner: steps one by one, blocks as graphs, and cuDNN's LSTM beside them.

    python benchmarks/gpu.py --out runs/gpu [--quick]

Each case runs on its own: one that fails leaves its first line of error, and the rest goes on. It takes about a minute, and
leaves gpu.json and gpu.md. ``--device cpu`` tries the script itself.
"""

from __future__ import annotations

import argparse
import gc
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sabsim import SAB, TBPTT, Adam, Network, StreamingLearner
from sabsim.graph import first_line
from sabsim.retention import Novelty, Recent
from sabsim.runs.blocks import Blocks, begin_within, part_of
from sabsim.runs.machine import made_by
from sabsim.tasks import Copying, Task, TaskStep, TaskStream
from sabsim.tasks.cross_entropy import CrossEntropy

KINDS = 50
"""Characters of Penn Treebank, whose sizes the largest case has; its text is not needed."""


class Letters(Task):
    """Characters at random: what a text costs, without one."""

    name, metric, d_in, d_out, length = "letters", "bpc", KINDS, KINDS, None  # type: ignore[assignment]
    period = 100  # type: ignore[assignment]

    def baselines(self) -> dict[str, float]:
        return {}

    def _open(self, options: Any) -> TaskStream:
        return LetterStream(options)


class LetterStream(TaskStream):
    """A stream of such characters that never begins anew."""

    def __init__(self, options: Any) -> None:
        super().__init__(options, length=100)
        self._one_hot = torch.eye(KINDS, dtype=self.dtype, device=self.device)
        self._cross_entropy = CrossEntropy(streams=self.streams, classes=KINDS, like=self._one_hot)
        self._none = torch.zeros(self.streams, dtype=torch.bool, device=self.device)

    def next(self) -> TaskStep:
        return part_of(self.take(1), 0, 1)

    def take(self, count: int) -> TaskStep:
        codes = torch.randint(0, KINDS, (count + 1, self.streams), generator=self._generator, device=self.device)
        flags = self._none.expand(count, -1)
        weight = torch.full((count, self.streams), 0.01, dtype=self.dtype, device=self.device)
        self.clock += count
        return TaskStep(self._one_hot[codes[:-1]], codes[1:], weight, ~flags, flags, flags)

    def begins_at(self, clock: int) -> bool:
        return clock == 0

    def score(self, y: Tensor, step: TaskStep) -> Any:
        raise NotImplementedError("score_all is what blocks need")

    def score_all(self, y: Tensor, steps: TaskStep) -> Any:
        from sabsim.tasks import Score

        loss, gradient, _, of_target = self._cross_entropy.score_all(y, steps.target, steps.weight)
        return Score(loss, gradient, of_target, steps.scored.to(loss.dtype))

    def positions(self) -> Tensor:
        raise NotImplementedError("a bench asks for no positions and sources")

    sources = positions

    def _buffers(self) -> dict[str, Tensor]:
        return {}


def learner_of(task: Task, *, n: int, streams: int, credit: Any, slots: int, device: str) -> StreamingLearner:
    retention = Recent(slots=slots) if task.length is None else Novelty(slots=slots)
    network = Network(d_in=task.d_in, d_out=task.d_out, hidden=n)
    return StreamingLearner(
        network,
        credit=credit,
        retention=retention,
        optimizer=Adam(lr=1e-3),
        streams=streams,
        device=device,
        backend="torch",
    )


def seconds_of(call: Callable[[], object], *, least: float, device: str) -> float:
    """Seconds of one call, the mean of as many as fit into ``least`` seconds, all of them waited for."""
    wait = torch.cuda.synchronize if device == "cuda" else lambda: None
    call()
    wait()
    begun, calls = time.perf_counter(), 0
    while calls < 2 or time.perf_counter() - begun < least:
        call()
        wait()
        calls += 1
    return (time.perf_counter() - begun) / calls


def ours(
    task: Task, *, n: int, streams: int, credit: Any, slots: int, device: str, graph: bool, least: float
) -> dict[str, Any]:
    """Learning a stretch of steps, inputs and scores included."""
    learner = learner_of(task, n=n, streams=streams, credit=credit, slots=slots, device=device)
    stream = task.stream(streams=streams, seed=0, device=device, stagger=True)
    blocks = Blocks(learner, stream)
    if not graph:
        blocks.reason = "one by one is asked for"
    count = (task.length or 100) // blocks.size * blocks.size
    begun = time.perf_counter()

    def stretch() -> None:
        clock, steps = stream.clock, stream.take(count)
        for first in range(0, count, blocks.size):
            begins = begin_within(stream, clock + first, blocks.size)
            blocks.play(part_of(steps, first, blocks.size), begins=begins)

    for _ in range(2):
        stretch()
    if device == "cuda":
        torch.cuda.synchronize()
    first_stretch = time.perf_counter() - begun
    seconds = seconds_of(stretch, least=least, device=device) / count
    learner.check()
    found = {"first_seconds": first_stretch, "graph": graph and blocks.reason is None}
    if graph and blocks.reason:
        found["reason"] = blocks.reason
    return found | rates(seconds, streams, device)


def cudnn(*, d: int, d_out: int, n: int, streams: int, window: int, device: str, least: float) -> dict[str, Any]:
    """``nn.LSTM`` with truncated BPTT over ``window`` steps, torch's fused Adam, a window a call."""
    lstm, head = nn.LSTM(d, n).to(device), nn.Linear(n, d_out).to(device)
    parameters = [*lstm.parameters(), *head.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=1e-3, fused=device == "cuda")
    x = torch.eye(d, device=device)[torch.randint(0, d, (window, streams), device=device)]
    target = torch.randint(0, d_out, (window, streams), device=device).flatten()
    state = tuple(torch.zeros(1, streams, n, device=device) for _ in range(2))

    def call() -> None:
        nonlocal state
        optimizer.zero_grad()
        h, after = lstm(x, state)
        loss = nn.functional.cross_entropy(head(h).flatten(0, 1), target)
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        state = tuple(part.detach() for part in after)

    for _ in range(3):
        call()
    return rates(seconds_of(call, least=least, device=device) / window, streams, device)


def rates(seconds: float, streams: int, device: str) -> dict[str, Any]:
    found = {"us_per_step": 1e6 * seconds, "steps_per_second": 1 / seconds, "stream_steps_per_second": streams / seconds}
    if device == "cuda":
        found["peak_mb"] = torch.cuda.max_memory_allocated() / 1e6
    return found


def cases(device: str, least: float, quick: bool) -> dict[str, dict[str, Callable[[], dict[str, Any]]]]:
    """By title: what is measured, by name."""
    found: dict[str, dict[str, Callable[[], dict[str, Any]]]] = {}
    copying = Copying(T=100)
    sab5 = SAB(k_top=5, k_trunc=5)
    for streams in (4,) if quick else (32, 256, 1024):
        same = {"n": 128, "streams": streams, "device": device, "least": least}
        found[f"copying, n = 128, {streams} streams, k_trunc 5"] = {
            "SAB, one by one": lambda same=same: ours(copying, credit=sab5, slots=32, graph=False, **same),
            "SAB, graph": lambda same=same: ours(copying, credit=sab5, slots=32, graph=True, **same),
            "ours, TBPTT, graph": lambda same=same: ours(copying, credit=TBPTT(k_trunc=5), slots=32, graph=True, **same),
            "nn.LSTM, TBPTT": lambda same=same: cudnn(d=10, d_out=9, window=5, **same),
        }
    text = SAB(k_top=5, k_trunc=20, k_att=10, replays=2, explore=0.0)
    for streams in (2,) if quick else (64, 128, 256):
        for precision in ("highest",) if quick else ("highest", "high"):
            same = {"n": 32 if quick else 1000, "streams": streams, "device": device, "least": least}

            def with_precision(
                call: Callable[..., dict[str, Any]], *given: Any, precision: str = precision, **more: Any
            ) -> Any:
                torch.set_float32_matmul_precision(precision)
                torch.backends.cudnn.allow_tf32 = precision == "high"
                try:
                    return call(*given, **more)
                finally:
                    torch.set_float32_matmul_precision("highest")

            kind = "TF32" if precision == "high" else "float32"
            found[f"characters, n = {same['n']}, {streams} streams, k_trunc 20, {kind}"] = {
                "SAB, graph": lambda same=same, run=with_precision: run(
                    ours, Letters(), credit=text, slots=32, graph=True, **same
                ),
                "nn.LSTM, TBPTT": lambda same=same, run=with_precision: run(cudnn, d=KINDS, d_out=KINDS, window=20, **same),
            }
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/gpu"))
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--least", type=float, default=0.7, help="seconds that each figure is measured for, at least")
    parser.add_argument("--most", type=float, default=85.0, help="seconds after which no case is begun")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to try the script")
    chosen = parser.parse_args()
    begun, results = time.perf_counter(), {}
    chosen.out.mkdir(parents=True, exist_ok=True)
    for title, variants in cases(chosen.device, chosen.least, chosen.quick).items():
        results[title] = {}
        for name, measure in variants.items():
            if time.perf_counter() - begun > chosen.most:
                results[title][name] = {"error": f"not begun: {chosen.most:g} seconds are over"}
                continue
            if chosen.device == "cuda":
                gc.collect()
                torch.cuda.empty_cache()
                torch.cuda.reset_peak_memory_stats()
            try:
                results[title][name] = measure()
            except Exception as error:  # one case that fails is a result
                results[title][name] = {"error": f"{type(error).__name__}: {first_line(error)}"}
            print(f"{title}: {name}: {told(results[title][name])}", flush=True)
        about = made_by() | {"device": chosen.device, "seconds": time.perf_counter() - begun}
        if chosen.device == "cuda":
            about |= {"gpu": torch.cuda.get_device_name(), "cuda": torch.version.cuda}
        (chosen.out / "gpu.json").write_text(json.dumps({"made_by": about, "cases": results}, indent=1) + "\n")
        (chosen.out / "gpu.md").write_text(as_markdown(about, results))


def told(result: dict[str, Any]) -> str:
    if "error" in result:
        return str(result["error"])
    memory = f", {result['peak_mb']:,.0f} MB" if "peak_mb" in result else ""
    why = f" (no graph: {result['reason']})" if "reason" in result else ""
    return f"{result['us_per_step']:,.1f} us a step, {result['stream_steps_per_second']:,.0f} stream-steps/s{memory}{why}"


def as_markdown(about: dict[str, Any], results: dict[str, dict[str, Any]]) -> str:
    lines = ["# The learner on a CUDA device", "", "```", *(f"{name}: {value}" for name, value in about.items()), "```", ""]
    for title, variants in results.items():
        lines += [f"## {title}", "", "| | µs a step | steps/s | stream-steps/s | times nn.LSTM | peak MB |"]
        lines += ["|---|---:|---:|---:|---:|---:|"]
        peer = variants.get("nn.LSTM, TBPTT", {}).get("us_per_step")
        for name, r in variants.items():
            if "error" in r:
                lines.append(f"| {name} | {r['error']} | | | | |")
                continue
            ratio = f"{r['us_per_step'] / peer:.1f}" if peer else ""
            figures = f"{r['us_per_step']:,.1f} | {r['steps_per_second']:,.0f} | {r['stream_steps_per_second']:,.0f}"
            lines.append(f"| {name} | {figures} | {ratio} | {r.get('peak_mb', 0):,.0f} |")
        lines.append("")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
