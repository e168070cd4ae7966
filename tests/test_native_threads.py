"""Threads of the native backend: the same numbers to the last bit however many there are, whoever else computes."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from sabsim import SAB, TBPTT, Adam, All, ConfigError, Network, Novelty, StreamingLearner
from sabsim.attentive import AttentiveLearner
from sabsim.credit import FullAttention
from sabsim.native import library_or_none
from sabsim.runs.config import RunConfig
from sabsim.runs.options import LearnerOptions, RunOptions
from sabsim.runs.train import train
from sabsim.tasks import Copying

pytestmark = pytest.mark.skipif(library_or_none(torch.float32) is None, reason="no C compiler here")
linux = pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="threads are counted as Linux tells them")
D, BLOCK = 5, 6
SIZES = ((400, 30), (66, 2_100))
"""Units and streams: enough for products, packing and the optimiser to be shared out, and for functions of units."""
Learner = StreamingLearner | AttentiveLearner


@pytest.fixture(autouse=True)
def _threads_as_before() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def make(kind: str, dtype: torch.dtype, size: tuple[int, int] = SIZES[0]) -> Learner:
    """A learner with all that is shared out in it: a replay's segments, gates, the running mean of the parameters."""
    hidden, streams = size
    network = Network(d_in=D, d_out=D, hidden=hidden)
    same: dict[str, Any] = {"streams": streams, "dtype": dtype, "backend": "native"}
    optimizer = Adam(lr=0.01, average=0.9, amsgrad=kind == "tbptt", weight_decay=0.1)
    if kind == "full-attention":
        rule, retention = FullAttention(length=BLOCK), All(slots=BLOCK)
        return AttentiveLearner(network, credit=rule, retention=retention, optimizer=optimizer, **same)
    if kind == "tbptt":
        return StreamingLearner(
            network, credit=TBPTT(k_trunc=BLOCK), retention=Novelty(slots=9), optimizer=optimizer, **same
        )
    credit = SAB(k_top=3, k_trunc=BLOCK, k_att=2, replays=2, explore=0.0)
    return StreamingLearner(network, credit=credit, retention=Novelty(slots=9), optimizer=optimizer, **same)


def history(learner: Learner, blocks: int = 2) -> dict[str, Tensor]:
    """Outputs of some blocks that are learned from, and the state after them."""
    generator, streams, ys = torch.Generator().manual_seed(1), learner.streams, []
    for step in range(blocks * BLOCK):
        if step % BLOCK == 0 and isinstance(learner, AttentiveLearner):
            learner.reset(torch.ones(streams, dtype=torch.bool))
        x, signal = (torch.randn(streams, D, generator=generator).to(learner.dtype) for _ in range(2))
        ys.append(learner.step(x).clone())
        learner.learn(signal)
    state = {name: value for name, value in learner.state_dict().items() if isinstance(value, Tensor)}
    return state | {"outputs": torch.stack(ys)}


def require_equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    """To the last bit."""
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert torch.equal(value, other[name]), name


def threads_of_this_process() -> int:
    return len(os.listdir("/proc/self/task"))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("kind", ["sab", "tbptt", "full-attention"])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_the_number_of_threads_changes_no_bit(isa: str, size: tuple[int, int], kind: str, dtype: torch.dtype) -> None:
    """An entry of a product is one sum in one order, whoever computes it."""
    torch.set_num_threads(1)
    alone = history(make(kind, dtype, size))
    assert not torch.equal(alone["flat"], make(kind, dtype, size).flat)
    torch.set_num_threads(3)
    require_equal(alone, history(make(kind, dtype, size)))


@linux
def test_a_large_learner_has_helpers_and_a_small_one_none() -> None:
    def helpers(learner: StreamingLearner) -> int:
        before = threads_of_this_process()
        for _ in range(BLOCK):
            learner.step(torch.zeros(learner.streams, D))
            learner.learn(torch.ones(learner.streams, D))
        return threads_of_this_process() - before

    # As many as nobody asked for before: those of earlier learners are still there.
    torch.set_num_threads(threads_of_this_process() + 3)
    network, credit = Network(d_in=D, d_out=D, hidden=16), TBPTT(k_trunc=BLOCK)
    few: dict[str, Any] = {"retention": Novelty(slots=9), "optimizer": Adam(), "streams": 2, "backend": "native"}
    small = StreamingLearner(network, credit=credit, **few)
    assert helpers(small) == 0
    large = make("tbptt", torch.float32)
    assert isinstance(large, StreamingLearner)
    assert helpers(large) > 0
    assert helpers(large) == 0  # they stay


def test_learners_in_threads_of_python_do_not_wait_for_each_other() -> None:
    """The helpers serve one learner at a time; another computes by itself meanwhile."""
    torch.set_num_threads(3)
    alone, found = history(make("sab", torch.float32)), dict[int, dict[str, Tensor]]()

    def learn(which: int) -> None:
        # What torch is told in one thread need not hold in another.
        torch.set_num_threads(3)
        found[which] = history(make("sab", torch.float32))

    many = [threading.Thread(target=learn, args=(which,)) for which in range(4)]
    for thread in many:
        thread.start()
    for thread in many:
        thread.join(timeout=120)
        assert not thread.is_alive()
    for which in range(4):
        require_equal(alone, found[which])


@linux
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_a_forked_process_has_helpers_of_its_own() -> None:
    # Of torch itself one thread: its own helpers do not outlive a fork.
    torch.set_num_threads(1)
    learner, library = make("tbptt", torch.float32), library_or_none(torch.float32)
    assert library is not None
    history(learner)
    library.sab_use_threads(2)
    history(learner)
    child = os.fork()
    if not child:
        alone = threads_of_this_process()
        try:
            history(learner)
        finally:
            os._exit(10 * alone + threads_of_this_process())
    ends: list[tuple[int, int]] = []
    waiting = threading.Thread(target=lambda: ends.append(os.waitpid(child, 0)), daemon=True)
    waiting.start()
    waiting.join(timeout=60)
    library.sab_use_threads(1)
    if waiting.is_alive():
        os.kill(child, signal.SIGKILL)
    assert [os.waitstatus_to_exitcode(status) for _, status in ends] == [12]


def config(threads: int, *, backend: str = "native", budget: int = 60) -> RunConfig:
    return RunConfig(
        task=Copying(T=10),
        learner=LearnerOptions(credit="tbptt", hidden=400),
        run=RunOptions(
            streams=30, budget=budget, eval_every=60, eval_sequences=20, threads=threads, backend=backend, device="cpu"
        ),
    )


def test_a_run_goes_on_with_other_threads(tmp_path: Path, same_run: Callable[..., None]) -> None:
    train(config(1, budget=120), out=tmp_path / "unbroken")
    train(config(1), out=tmp_path / "broken")
    summary = train(config(3, budget=120), out=tmp_path / "broken", resume=True)
    assert summary["threads"] == 3
    for run in ("unbroken", "broken"):
        # What it says of threads is the one thing that differs, and may.
        path = tmp_path / run / "summary.json"
        path.write_text(path.read_text().replace('"threads": 3', '"threads": 1'))
    same_run(tmp_path / "unbroken", tmp_path / "broken", empty={"hidden", "events"})


def test_torch_may_add_up_in_another_order_and_does_not(tmp_path: Path) -> None:
    train(config(1, backend="torch"), out=tmp_path)
    more = config(2, backend="torch", budget=120)
    with pytest.raises(ConfigError, match=r"threads = 2: the run in '.*' has 1; leave it out"):
        train(more, out=tmp_path, resume=True)
    train(replace(more, run=replace(more.run, threads=1)), out=tmp_path, resume=True)
