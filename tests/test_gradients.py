"""Where gradients go: every step's against autograd and the learner's own, kappa and d by brute force, and the command."""

from __future__ import annotations

import csv
import json
import shlex
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sabsim.analysis.gradient_figure import gradient_figure
from torch import Tensor, nn

from sabsim import SAB, SGD, Network, Novelty, StreamingLearner
from sabsim.cli import main
from sabsim.errors import ConfigError
from sabsim.gradients import CreditFlow, Measured, chains, describe, measure, sparsity
from sabsim.runs import LearnerOptions, RunConfig, RunOptions, build_learner, train
from sabsim.tasks import Adding, CharLM, Copying, Denoise, Task

STREAMS, HIDDEN, D_IN, D_OUT, STEPS, K_TRUNC, SLOTS = 2, 4, 3, 2, 20, 4, 6
TOLERANCE = 1e-9


def draw(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


X, SIGNAL = 2 * draw(1, STEPS, STREAMS, D_IN), draw(2, STEPS, STREAMS, D_OUT)


def learner_of(cell: str, **credit: Any) -> StreamingLearner:
    rule = {"k_top": 3, "k_trunc": K_TRUNC, "replays": 2, "negligible": 0.05, "explore": 0.0} | credit
    learner = StreamingLearner(
        Network(d_in=D_IN, d_out=D_OUT, hidden=HIDDEN, cell=cell),  # type: ignore[arg-type]
        credit=SAB(**rule),
        retention=Novelty(slots=SLOTS),
        optimizer=SGD(lr=0.0, clip=0.0),
        streams=STREAMS,
        dtype=torch.float64,
        backend="torch",
    )
    learner.flat.copy_(0.5 * draw(3, *learner.flat.shape))
    return learner


def flow_of(learner: StreamingLearner, **options: Any) -> CreditFlow:
    """The learner's own rule, but for ``options``."""
    network, credit = learner.network, learner.credit
    same = {"cell": network.cell, "salience": "cosine", "readout": "summary", "slots": SLOTS, "k_top": 3}
    own = {"k_trunc": K_TRUNC, "update_every": credit.block, "replays": credit.budget, "negligible": credit.negligible}
    return CreditFlow(learner.parameters, steps=STEPS, streams=STREAMS, **same | own | options)


def play(learner: StreamingLearner, flow: CreditFlow) -> dict[str, Tensor]:
    """Both through all steps, the flow told what memory holds; the learner's gradient, all blocks added up."""
    total = {name: torch.zeros_like(gradient) for name, gradient in learner.grads.items()}
    for x, signal in zip(X, SIGNAL, strict=True):
        for side in (learner, flow):
            side.reset(torch.zeros(STREAMS, dtype=torch.bool))
        birth = learner.macrostate.birth
        torch.testing.assert_close(learner.step(x), flow.step(x, birth), rtol=1e-12, atol=1e-12)
        learner.learn(signal)
        flow.learn(signal)
        if learner.block_is_full:
            total = {name: total[name] + gradient for name, gradient in learner.grads.items()}
    return total


def from_flow(flow: CreditFlow, cell: str) -> Tensor:
    """The gradient of W_h as the sum over steps of dL/dh_hat_t times what W_h has to do with h_hat_t directly.

    All of an RNN's; of an LSTM's the rows of the output gate (the first ones), which act on h_hat and on nothing else.
    """
    p, total = flow.parameters, torch.zeros(HIDDEN, HIDDEN, dtype=torch.float64)
    for b, stream in enumerate(flow._streams):
        for t, moment in enumerate(stream.moments):
            before = p["cell.W_x"] @ moment.x + p["cell.W_h"] @ moment.h_before + p["cell.b"]
            if cell == "rnn":
                slope = 1 - torch.tanh(before) ** 2
            else:
                o, i, f, g = before.chunk(4)
                c = torch.sigmoid(f) * moment.c_before + torch.sigmoid(i) * torch.tanh(g)
                slope = torch.tanh(c) * torch.sigmoid(o) * torch.sigmoid(-o)
            total += torch.outer(flow.flow[b, t] * slope, moment.h_before)
    return total.detach()


def error(found: Tensor, expected: Tensor) -> float:
    assert expected.abs().max() > 1e-3
    return float((found - expected).abs().max() / expected.abs().max())


@pytest.mark.parametrize("cell", ["rnn", "lstm"])
@pytest.mark.parametrize("update_every", [K_TRUNC, 2])
def test_credit_of_the_steps_adds_up_to_the_learner_s_own_gradient(cell: str, update_every: int) -> None:
    """Window and replay together, against the fast learner; either alone is not enough."""
    learner = learner_of(cell, update_every=update_every)
    flow = flow_of(learner)
    expected = play(learner, flow)["cell.W_h"][:HIDDEN]
    assert error(from_flow(flow, cell), expected) < TOLERANCE
    assert flow.replay.norm() > 0.01
    flow.replay.zero_()
    assert error(from_flow(flow, cell), expected) > 1e-3


def test_a_planted_bug_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the states of a replayed segment, one is not looked at."""
    honest = CreditFlow._formed

    def careless(self: CreditFlow, source: tuple[int, int], h_hat: Tensor, *, twin: bool = False) -> None:
        if not (twin and source[1] == 1):
            honest(self, source, h_hat, twin=twin)

    monkeypatch.setattr(CreditFlow, "_formed", careless)
    learner = learner_of("rnn")
    flow = flow_of(learner)
    expected = play(learner, flow)["cell.W_h"]
    assert error(from_flow(flow, "rnn"), expected) > 1e3 * TOLERANCE


@pytest.mark.parametrize(
    "options",
    [{}, {"constant_memory": True}, {"slots": STEPS, "k_top": STEPS, "update_every": 1}],
    ids=["recurrence and recall", "recurrence alone", "self-attention"],
)
@pytest.mark.parametrize("cell", ["rnn", "lstm"])
def test_whole_graphs_add_up_to_autograd_s_gradient(cell: str, options: dict[str, Any]) -> None:
    learner = learner_of(cell)
    flow = flow_of(learner, k_trunc=STEPS + 1, whole_sequence=True, **options)
    for t, (x, signal) in enumerate(zip(X, SIGNAL, strict=True)):
        learner.reset(torch.zeros(STREAMS, dtype=torch.bool))
        birth = torch.where(torch.arange(STEPS) < t, torch.arange(STEPS), -1).expand(STREAMS, -1)
        flow.step(x, birth if "slots" in options else learner.macrostate.birth)
        flow.learn(signal)
        learner.step(x)
        learner.learn(signal)
    expected = flow.finish()["cell.W_h"][:HIDDEN]
    assert error(from_flow(flow, cell), expected) < TOLERANCE


def by_torch(p: dict[str, Tensor], window: int, block: int) -> Tensor:
    """dL/dh_t of torch's LSTM without recall, each block's loss through the last ``window`` steps, summed over blocks."""
    cell = nn.LSTMCell(D_IN, HIDDEN).double()
    with torch.no_grad():
        for mine, theirs in (("W_x", cell.weight_ih), ("W_h", cell.weight_hh), ("b", cell.bias_ih)):
            theirs.copy_(p[f"cell.{mine}"].roll(-HIDDEN, 0))  # ours: o, i, f, g; torch's: i, f, g, o
        cell.bias_hh.zero_()
    zeros = torch.zeros(STREAMS, HIDDEN, dtype=torch.float64)
    states, found = [(zeros, zeros)], torch.zeros(STREAMS, STEPS, HIDDEN, dtype=torch.float64)
    for x in X:
        states.append(tuple(state.detach() for state in cell(x, states[-1])))
    for end in range(block, STEPS + 1, block):
        begin = max(0, end - window)
        state, chain, loss = states[begin], [], zeros.sum()
        for t in range(begin, end):
            state = cell(X[t], state)
            chain.append(state[0])
            if t >= end - block:
                loss = loss + (state[0] @ p["readout.W_h"].detach().T * SIGNAL[t]).sum()
        for t, gradient in enumerate(torch.autograd.grad(loss, chain), begin):
            found[:, t] += gradient
    return found


@pytest.mark.parametrize(("window", "block"), [(STEPS, STEPS), (K_TRUNC, K_TRUNC), (K_TRUNC, 1)])
def test_without_recall_it_is_torch_s_lstm(window: int, block: int) -> None:
    """Full BPTT over the whole graph, and truncated BPTT in blocks, the last with a sliding window."""
    p = learner_of("lstm").parameters
    whole = {"whole_sequence": True, "k_trunc": STEPS + 1} if window == STEPS else {"k_trunc": window}
    flow = CreditFlow(p, steps=STEPS, streams=STREAMS, k_top=0, update_every=block, **whole)
    for x, signal in zip(X, SIGNAL, strict=True):
        flow.step(x)
        flow.learn(signal)
    if flow.whole_sequence:
        flow.finish()
    assert error(flow.window, by_torch(p, window, block)) < TOLERANCE
    assert not flow.replay.any()


def shortest_chain(recalls: list[dict[int, float]], step: int, source: int, *, behind: int | None, least: float) -> int:
    """By trying every chain; 0 if there is none."""
    lengths = []
    for first, weight in recalls[step].items():
        if weight <= least:
            continue
        if first == source:
            lengths.append(1)
        if behind is None or (before := first - behind) < 0:
            continue
        if rest := shortest_chain(recalls, before, source, behind=behind, least=least):
            lengths.append(1 + rest)
    return min(lengths, default=0)


@pytest.mark.parametrize("behind", [None, 0, 1])
@pytest.mark.parametrize("least", [0.0, 0.3])
def test_kappa_and_depth_by_brute_force(behind: int | None, least: float) -> None:
    rng = np.random.default_rng(5)
    deepest = 0
    for _ in range(20):
        recalls = [{int(i): float(rng.random()) for i in range(t) if rng.random() < 2 / max(1, t)} for t in range(11)]
        expected = [[shortest_chain(recalls, t, i, behind=behind, least=least) for i in range(11)] for t in range(11)]
        found = chains(recalls, behind=behind, least=least)
        assert found.tolist() == expected
        deepest = max(deepest, int(found.max()))
        assert sparsity(recalls, least=least).tolist() == [sum(w > least for w in r.values()) for r in recalls]
    assert (deepest == 1) if behind is None else (deepest >= 3)


# Runs

SMALL = RunConfig(
    task=Copying(T=3),
    learner=LearnerOptions(hidden=8, slots=12, k_trunc=4, k_top=3),
    run=RunOptions(streams=2, budget=20, eval_every=20, eval_sequences=4, record_streams=0),
)


def measured_of(config: RunConfig, **options: Any) -> Measured:
    return measure(config, build_learner(config).learned, sequences=2, seed=0, **options)


def test_only_what_crosses_the_window_needs_replay() -> None:
    """The length, 23 steps, is no multiple of the block: the last answers count all the same."""
    found = measured_of(SMALL)
    needed = found.needed()
    assert [row.nonzero()[0].tolist() for row in needed] == [[*range(10)]] * 2
    assert [row.nonzero()[0].tolist() for row in found.scored()] == [[*range(13, 23)]] * 2
    assert not found.norm("tbptt")[needed].any()
    assert found.norm("sab")[needed].any()
    assert (found.norm("sab")[:, -1] > 0).all()
    assert np.allclose(found.norm("sab")[:, -1], found.norm("bptt")[:, -1], rtol=1e-9)
    assert (found.norm("recurrence")[needed] > 0).all()
    assert found.loss["sab"].tolist() == found.loss["tbptt"].tolist()
    # The last three steps are a block cut off by the end: within it nothing lies beyond the window.
    assert np.allclose(found.gradient["tbptt"][:, -3:], found.gradient["bptt"][:, -3:], rtol=1e-9)
    # Untrained, all is near the mean: 10 of 23 shares of ln 9.
    assert np.allclose(found.loss["sab"], 10 / 23 * np.log(9), rtol=0.2)
    run, attention = found.recalled["run"][0], found.recalled["self-attention"][0]
    assert run.kappa.max() == 3
    assert attention.kappa.tolist() == [[*range(23)]] * 2
    assert attention.depth.tolist() == [1, 1]
    assert describe(found)["rules"]["bptt"]["cosine"] == pytest.approx(1.0)
    everywhere = measured_of(SMALL, all_losses=True)
    assert (everywhere.norm("tbptt") > 0).all()
    assert np.allclose(everywhere.loss["sab"], np.log(9), rtol=0.2)


@pytest.mark.parametrize(
    ("task", "learner", "rules", "left_out"),
    [
        (Denoise(T=11), {"credit": "tbptt"}, ["tbptt", "bptt"], ["sab", "recurrence", "self-attention"]),
        (Adding(T=9), {"preset": "paper"}, ["sab", "tbptt", "recurrence", "bptt"], ["self-attention"]),
        (Adding(T=8), {"cell": "gru"}, ["sab", "tbptt", "recurrence", "bptt", "self-attention"], []),
    ],
)
def test_other_tasks_and_rules(task: Task, learner: dict[str, Any], rules: list[str], left_out: list[str]) -> None:
    config = replace(SMALL, task=task, learner=replace(SMALL.learner, **learner))
    found = measured_of(config)
    assert [*found.gradient] == rules
    assert [*found.left_out] == left_out
    assert all(np.isfinite(found.norm(rule)).all() and found.norm(rule).any() for rule in rules)
    assert all(len(pairs) == (2 if task.name == "adding" else 10) for pairs in found.sources)


def test_the_figure_has_a_line_a_rule_and_gaps_where_nothing_came() -> None:
    lines = {"one": np.array([0.0, 1e-3, 1.0]), "two": np.array([1e-30, 1.0, 0.5])}
    (axes,) = gradient_figure(lines, needed=[0], scored=[2], title="What\nHow").axes
    one, two, needed, scored = axes.get_lines()
    assert np.isnan(one.get_ydata()).tolist() == [True, False, False]
    assert axes.get_yscale() == "log"
    assert axes.get_ylim()[0] > 1e-16
    assert (needed.get_xdata().tolist(), scored.get_xdata().tolist()) == ([0], [2])
    assert one.get_color() != two.get_color()
    with pytest.raises(ConfigError, match="there is no gradient to draw"):
        gradient_figure({"one": np.zeros(3)}, needed=[], scored=[], title="")


def test_the_command_leaves_figure_and_tables(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], mistake: Callable[..., str]
) -> None:
    run = tmp_path / "a run[lr=1]"
    train(SMALL, out=run)
    assert main(["gradients", str(run), "--sequences", "2"]) == 0
    shown = capsys.readouterr().out
    assert "SAB, streaming" in shown
    assert "Sparsity kappa and depth d" in shown
    out = run / "gradients"
    assert str(out) in shown
    (file := tmp_path / "file").touch()
    assert "cannot be written (File exists); give another --out" in mistake("gradients", str(run), "--out", str(file))
    assert {path.name for path in out.iterdir()} == {f"gradients.{kind}" for kind in ("png", "svg", "json", "csv")}
    stored = json.loads((out / "gradients.json").read_text())
    assert shlex.split(stored["command"]) == ["sabsim", "gradients", str(run), "--sequences", "2"]
    assert (stored["task"], stored["T"], stored["trained_sequences"]) == ("copying", 3, 21)
    assert stored["rules"]["tbptt"]["without"] == 1.0
    with (out / "gradients.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["sequence"], row["step"]) for row in rows] == [(str(b), str(t)) for b in range(2) for t in range(23)]
    assert float(rows[-1]["sab"]) == float(rows[-1]["bptt"]) > 0


def test_a_mistake_is_one_line(tmp_path: Path, mistake: Callable[..., str]) -> None:
    assert "which run? give its folder" in mistake("gradients")
    assert "no run folder" in mistake("gradients", str(tmp_path))
    assert "sequences = 0: must be at least 1" in mistake("gradients", "x", "--sequences", "0")
    assert "loss = 'some': must be one of answers, all" in mistake("gradients", "x", "--loss", "some")
    for change, words in (
        ({"learner": replace(SMALL.learner, replay_threshold=0.5)}, "replay_threshold = 0.5: only runs without one"),
        ({"task": CharLM()}, "task = 'charlm': gradients can be followed in copying, adding, denoise"),
    ):
        with pytest.raises(ConfigError, match=words):
            measure(replace(SMALL, **change), {}, sequences=2, seed=0)
