"""Would an approximate index serve recall over very many slots? Keys as a trained learner has them, exact against index.

    python benchmarks/many_slots.py collect --out runs/keys.pt
    python benchmarks/many_slots.py measure runs/keys.pt --out results/recall/index.json
    python benchmarks/many_slots.py bound runs/keys.pt --out results/recall/bound.json
    python benchmarks/many_slots.py learn --missed 0 0.2 0.5 --out results/recall/learning.json

``collect`` trains on copying (T = 100, default settings, 32 slots) and goes on learning while it keeps states, the W_k that
were in force 0 to 1,000 updates earlier, and queries. ``measure`` needs faiss-cpu and hnswlib, of which sabsim uses
neither. It builds each index over keys made with an older W_k, asks for candidates, gives these their exact scores, and
compares the k_top with the exact ones. Times are CPU time of one thread; beside them what recall without an index pays in
torch: products of all keys with a query, and new keys for all slots once an update. ``bound`` counts the slots that the
native backend must look at more closely. ``learn`` trains on copying while recall misses each microstate at every step with
some probability, as an index does that finds the others.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from sabsim.exploration import Exploration
from sabsim.runs.build import build
from sabsim.runs.config import RunConfig
from sabsim.runs.evaluate import held_out
from sabsim.runs.machine import cpu_model, git_revision
from sabsim.runs.options import LearnerOptions, RunOptions
from sabsim.tasks import Copying

K_TOP = 5
LAGS = (0, 1, 10, 100, 1_000)
"""Age in updates of the W_k that an index's keys were made with."""
QUERIES = 200
"""Queries that are asked: the states of the last steps, of all streams."""


@torch.no_grad()
def collect(sequences: int, slots: int, seed: int) -> dict[str, Any]:
    """Plays; keeps ``m`` (slots, n), ``query`` (QUERIES, n), ``W_q`` and ``W_k`` by its age in updates."""
    config = RunConfig(task=Copying(T=100), run=RunOptions(seed=seed, device="cpu"))
    parts = build(config)
    learner, stream, streams = parts.learner, parts.stream, config.run.streams
    steps = sequences * config.task.length // streams
    keeping = max(-(-slots // streams), (max(LAGS) + 2) * learner.credit.block)
    kept, older = [], list[Tensor]()
    for t in range(steps + keeping):
        step = stream.next()
        if stream.begins:
            learner.reset(step.first)
        score = stream.score(learner.step(step.x), step)
        learner.learn(score.dL_dy, score.loss)
        if t >= steps:
            kept.append(learner.window.rings["h_hat"][learner._position - 1].clone())
            if learner._position == learner.window.history + learner.window.block:
                older = [*older[-max(LAGS) :], learner.parameters["salience.W_k"].clone()]
    states = torch.cat(kept)
    return {
        "m": states[-slots - QUERIES : -QUERIES].clone(),
        "query": states[-QUERIES:].clone(),
        "W_q": learner.parameters["salience.W_q"].clone(),
        "W_k": {lag: older[-1 - lag] for lag in LAGS},
        "configuration": f"copying T=100, defaults, {config.run.streams} streams, 32 slots, after {sequences} sequences",
        "seed": seed,
    }


class Index:
    """An approximate index over unit ``keys`` (S, n) by inner product, built at once."""

    name = ""

    def __init__(self, keys: Tensor) -> None:
        raise NotImplementedError

    def add(self, key: Tensor, label: int) -> None:
        """One more key, ``(1, n)``."""
        raise NotImplementedError

    def ask(self, query: Tensor, count: int) -> Tensor:
        """Candidates of a query ``(1, n)``: labels, ``(1, count)``; -1: none."""
        raise NotImplementedError


class Inverted(Index):
    """faiss: an inverted file with exact keys, sqrt(S) lists, 16 of them searched."""

    name = "faiss IVFFlat, nprobe 16"

    def __init__(self, keys: Tensor) -> None:
        import faiss

        faiss.omp_set_num_threads(1)
        lists, n = int(len(keys) ** 0.5), keys.shape[1]
        self.index = faiss.IndexIVFFlat(faiss.IndexFlatIP(n), n, lists, faiss.METRIC_INNER_PRODUCT)
        self.index.train(keys.numpy())
        self.index.add(keys.numpy())
        self.index.nprobe = 16

    def add(self, key: Tensor, label: int) -> None:
        self.index.add(key.numpy())

    def ask(self, query: Tensor, count: int) -> Tensor:
        return torch.from_numpy(self.index.search(query.numpy(), count)[1])


class Graph(Index):
    """hnswlib: a navigable small-world graph, M = 16, 100 candidates when built and asked."""

    name = "hnswlib HNSW, M 16, ef 100"

    def __init__(self, keys: Tensor) -> None:
        import hnswlib

        self.index = hnswlib.Index(space="ip", dim=keys.shape[1])
        self.index.init_index(max_elements=2 * len(keys), M=16, ef_construction=100)
        self.index.set_num_threads(1)
        self.index.add_items(keys.numpy())
        self.index.set_ef(100)

    def add(self, key: Tensor, label: int) -> None:
        self.index.add_items(key.numpy(), [label])

    def ask(self, query: Tensor, count: int) -> Tensor:
        return torch.from_numpy(self.index.knn_query(query.numpy(), k=count)[0].astype("int64"))


def seconds(call: Callable[[], Any]) -> tuple[float, Any]:
    """CPU seconds of this thread, and what ``call`` returned."""
    begun = time.thread_time()
    result = call()
    return time.thread_time() - begun, result


def measure(data: dict[str, Any], slots: int, candidates: int) -> dict[str, Any]:
    """Every index over keys of every age, beside exact recall."""
    m, older = data["m"][-slots:].contiguous(), data["W_k"]
    q = normalize(data["query"] @ data["W_q"].t(), dim=1)
    make, keys = seconds(lambda: normalize(m @ older[0].t(), dim=1))
    ask, exact = seconds(lambda: [(keys @ one).topk(K_TOP).indices for one in q])
    rows = []
    for kind in (Inverted, Graph):
        for lag in (0, 100, 1_000):
            stale = normalize(m @ older[lag].t(), dim=1)
            build, index = seconds(lambda kind=kind, stale=stale: kind(stale))
            found_in, found = seconds(lambda index=index: [index.ask(one.unsqueeze(0), candidates)[0] for one in q])
            chosen = [c[c >= 0][(keys[c[c >= 0]] @ one).topk(K_TOP).indices] for c, one in zip(found, q, strict=True)]
            kept = [len(set(c.tolist()) & set(e.tolist())) / K_TOP for c, e in zip(chosen, exact, strict=True)]
            added = seconds(lambda index=index, stale=stale: [index.add(stale[i : i + 1], slots + i) for i in range(100)])
            rows.append(
                {
                    "index": kind.name,
                    "age_of_keys_in_updates": lag,
                    "recall_at_5": round(sum(kept) / len(kept), 4),
                    "us_per_query": round(1e6 * found_in / len(q), 1),
                    "us_per_added_key": round(1e4 * added[0], 1),
                    "ms_to_build": round(1e3 * build, 1),
                }
            )
            print(slots, rows[-1], flush=True)
    exactly = {"us_per_query": round(1e6 * ask / len(q), 1), "ms_of_all_keys": round(1e3 * make, 1)}
    return {"slots": slots, "candidates": candidates, "exact, in torch": exactly, "indices": rows}


def bound(data: dict[str, Any], slots: int) -> dict[str, Any]:
    """How many slots the bound of ``sabsim/native/keys.c`` leaves that could be among the k_top, by the age of the keys."""
    m, newest = data["m"][-slots:], data["W_k"][0]
    q = normalize(data["query"] @ data["W_q"].t(), dim=1)
    rows = []
    for lag in LAGS[1:]:
        older = data["W_k"][lag]
        keys = m @ older.t()
        score, moved = q @ normalize(keys, dim=1).t(), (newest - older).norm() * m.norm(dim=1) / keys.norm(dim=1)
        slack = torch.where(moved < 0.25, 8 / 7 * moved, 2.0)
        least = (score - slack).topk(K_TOP, dim=1).values[:, -1:]
        left = (score + slack >= least).sum(1).float().quantile(torch.tensor([0.1, 0.5, 0.9]))
        rows.append({"age_of_keys_in_updates": lag, "slots_left_10_50_90_percent": [round(x) for x in left.tolist()]})
        print(rows[-1], flush=True)
    return {"slots": slots, "bound": rows}


class Overlooking:
    """Makes a learner's choice overlook each slot at each step with probability ``missed``, whether it explores or not.

    By way of exploration's noise, which every backend adds for the choice alone: minus infinity, nearly, where a slot is
    overlooked; otherwise what it was in the streams that explore, and nothing in the others.
    """

    def __init__(self, exploration: Exploration, missed: float) -> None:
        self.arrays, self.missed, self.temperature = exploration.arrays, missed, exploration.temperature
        self.explores, self.gumbel = self.arrays["exploring"].clone(), self.arrays["noise"].clone()
        self.seen = torch.ones_like(self.gumbel, dtype=torch.bool)
        self._draw = exploration.draw
        exploration.draw, exploration.begin = self.draw, self.begin  # type: ignore[method-assign]

    def draw(self, generator: torch.Generator) -> None:
        """In place of ``Exploration.draw``."""
        self._draw(generator)
        self.gumbel.copy_(self.arrays["noise"])
        self.seen = torch.rand(self.gumbel.shape, generator=generator) >= self.missed
        self._show()

    def begin(self, done: Tensor) -> None:
        """In place of ``Exploration.begin``."""
        self.explores = torch.where(done.unsqueeze(1), self.arrays["coin"], self.explores)
        self._show()

    def _show(self) -> None:
        self.arrays["exploring"].fill_(1)
        self.arrays["sharpness"].copy_(torch.where(self.explores > 0, 1 / self.temperature, 1.0))
        self.arrays["noise"].copy_(torch.where(self.seen, self.gumbel * self.explores, -1e20))


def learn(missed: float, T: int, sequences: int, seed: int) -> dict[str, Any]:
    """Held-out accuracy, with exact recall, every 1,000 sequences; retention keeps all states of a sequence."""
    options = LearnerOptions(retention="all", slots=T + 20)
    config = RunConfig(task=Copying(T=T), learner=options, run=RunOptions(seed=seed, device="cpu"))
    parts = build(config)
    learner, stream, curve = parts.learner, parts.stream, list[dict[str, float]]()
    assert learner._exploration is not None
    Overlooking(learner._exploration, missed)
    for done in range(1_000, sequences + 1, 1_000):
        for _ in range(1_000 * config.task.length // config.run.streams):
            step = stream.next()
            if stream.begins:
                learner.reset(step.first)
            score = stream.score(learner.step(step.x), step)
            learner.learn(score.dL_dy, score.loss)
        found = held_out(learner, config.task, sequences=128, seed=1)
        curve.append({"sequences": done, "accuracy": round(found.metric, 4)})
        print(missed, curve[-1], flush=True)
        if curve[-1]["accuracy"] > 0.99:
            break
    return {"missed": missed, "seed": seed, "T": T, "retention": f"all, {options.slots} slots", "curve": curve}


def main() -> None:
    """Collect or measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    first = commands.add_parser("collect", help="train, and keep states, queries and older W_k")
    first.add_argument("--sequences", type=int, default=12_000, help="training sequences before (default 12,000)")
    first.add_argument("--slots", type=int, default=100_000, help="states to keep (default 100,000)")
    first.add_argument("--seed", type=int, default=0)
    first.add_argument("--out", type=Path, required=True)
    second = commands.add_parser("measure", help="index against exact on what was collected")
    second.add_argument("data", type=Path)
    second.add_argument("--slots", type=int, nargs="+", default=[10_000, 100_000])
    second.add_argument("--candidates", type=int, default=50, help="asked of an index for each query (default 50)")
    second.add_argument("--out", type=Path, required=True)
    between = commands.add_parser("bound", help="slots that older keys leave in doubt, on what was collected")
    between.add_argument("data", type=Path)
    between.add_argument("--slots", type=int, nargs="+", default=[10_000])
    between.add_argument("--out", type=Path, required=True)
    third = commands.add_parser("learn", help="training while recall misses some of the microstates")
    third.add_argument("--missed", type=float, nargs="+", default=[0.0, 0.2, 0.5], help="probabilities (default 0 0.2 0.5)")
    third.add_argument("--T", type=int, default=100, help="T of copying (default 100)")
    third.add_argument("--sequences", type=int, default=12_000, help="training sequences (default 12,000)")
    third.add_argument("--seed", type=int, default=0)
    third.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.command == "collect":
        options.out.parent.mkdir(parents=True, exist_ok=True)
        torch.save(collect(options.sequences, options.slots, options.seed), options.out)
        return
    if options.command == "learn":
        result = {"runs": [learn(missed, options.T, options.sequences, options.seed) for missed in options.missed]}
    else:
        data = torch.load(options.data, weights_only=True)
        cases = [
            measure(data, slots, options.candidates) if options.command == "measure" else bound(data, slots)
            for slots in options.slots
        ]
        result = {"cases": cases, "keys": data["configuration"], "seed": data["seed"]}
    result |= {
        "machine": f"{cpu_model()}, {platform.system()}, one thread, CPU time",
        "torch": torch.__version__,
        "git": git_revision(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
