"""The facts that benchmarks/paper_facts.py measures of the paper's equations and of the released code."""

from __future__ import annotations

import importlib
import json
import math
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import nn

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
NOISE = 1e-12


@pytest.fixture(autouse=True)
def benchmarks_at_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)


def measured(what: str) -> ModuleType:
    """The file that measures it."""
    return importlib.import_module(f"paper_{what}")


RULES = ["eq. 1 and 2, literally", "preset paper", "released code, literally", "preset released"]


@pytest.mark.parametrize("rule", RULES)
def test_the_query_cancels(rule: str) -> None:
    recall = measured("recall")
    found = recall.query_dependence(recall.recalls(5)[rule], 12, pairs=5)
    assert max(found.values()) < NOISE


@pytest.mark.parametrize(("rule", "microstates"), [("preset stable", 12), ("released code, literally", 5)])
def test_where_it_does_not_it_is_seen(rule: str, microstates: int) -> None:
    """The default's query counts, and the released code's while no microstate is left out."""
    recall = measured("recall")
    found = recall.query_dependence(recall.recalls(5)[rule], microstates, pairs=5)
    assert min(found.values()) > 0.1


@pytest.mark.parametrize("k_top", [1, 2, 5])
def test_k_top_less_one_survive(k_top: int) -> None:
    found = measured("recall").survivors(k_top, draws=20)
    assert found == {rule: (k_top - 1,) for rule in RULES} | {"preset stable": (k_top,)}


def test_eq_1_to_5_overflow() -> None:
    """One seed of a network that is wide and sequences that are short, so that it is a matter of seconds."""
    found = measured("training").literal_training("eq. 1-5", T=20, hidden=256, batch=20, updates=40, seed=0, clip=math.inf)
    assert "not finite" in found["ended"]
    assert found["updates"] < 40
    assert found["largest h, an update before"] < 1  # nothing tells of it in the update before


def test_the_released_code_does_not_at_once() -> None:
    found = measured("training").literal_training("released", T=20, hidden=32, batch=20, updates=30, seed=0, clip=1.0)
    assert "finite; accuracy" in found["ended"]
    assert (found["updates"], found["largest h, an update before"] < 100) == (30, True)


@pytest.mark.parametrize("k_trunc", [1, 2, 5])
def test_truncation_is_a_fixed_grid(k_trunc: int) -> None:
    reach = measured("reach")
    for t in range(3 * k_trunc, 5 * k_trunc):
        assert reach.grid_reach(t, k_trunc) == (t + 1) % k_trunc + 1


def test_skips_recurse_without_limit() -> None:
    found = measured("reach").hops(2, T=30, seed=0)
    # One hop: its own step, and the segment of two steps of the one microstate that each of two steps can read.
    assert found["steps reached, one hop"] <= 1 + 2 * 2
    assert found["steps reached, without limit"] > 1 + 2 * 2
    assert found["longest chain of recalls"] > 2
    assert found["cosine"] < 0.99


def test_the_literal_port_is_the_preset_of_the_oracle() -> None:
    """Eq. 1-5 as literal batches and as sabsim's oracle: the same outputs with the same parameters, no cut in between."""
    literal = measured("literal")
    steps, n = 6, 4
    torch.manual_seed(0)
    model = literal.Eq1To5(steps=steps, hidden=n, k_top=3, k_trunc=100, k_att=1).double()
    with torch.no_grad():
        model.b.normal_()
    i, f, g, o = model.cell.weight_ih.chunk(4)
    i_h, f_h, g_h, o_h = model.cell.weight_hh.chunk(4)
    biases = (model.cell.bias_ih + model.cell.bias_hh).chunk(4)
    p = {
        "cell.W_x": torch.cat([o, i, f, g]),
        "cell.W_h": torch.cat([o_h, i_h, f_h, g_h]),
        "cell.b": torch.cat([biases[3], biases[0], biases[1], biases[2]]),
        "salience.w_h": model.w.weight[0, :n],
        "salience.w_m": model.w.weight[0, n:],
        "salience.b": model.b,
        "readout.W_h": model.out.weight[:, :n],
        "readout.W_a": model.out.weight[:, n:],
        "readout.b": model.out.bias,
    }
    from sabsim.reference_equations import Equations

    equations = Equations(
        cell="lstm", salience="affine", sparsify="relu", stores="h", readout="weights", k_top=3, slots=steps + 1
    )
    symbols = torch.randint(0, 10, (1, steps), generator=torch.Generator().manual_seed(1))
    x = model.encode(symbols)
    h = c = x.new_zeros(n)
    held, expected = [(0, h)], []
    for t in range(steps):
        out = equations.step(p, x[0, t], h, c, held)
        h, c = out.h, out.c
        held.append((t + 1, h))
        expected.append(out.y)
    torch.testing.assert_close(model(x)[0], torch.stack(expected), rtol=1e-12, atol=1e-12)
    assert nn.functional.one_hot(symbols, 10).equal(x.long())


def test_the_script_keeps_what_it_does_not_measure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    facts = measured("facts")

    def measure(*names: str, T: int) -> None:
        monkeypatch.setattr(sys, "argv", ["paper_facts.py", "--out", str(tmp_path), "--only", *names, "--T", str(T)])
        facts.main()

    row = {"what": "x", "value": 0.123456, "none": None}
    made = {name: (lambda options: facts.Fact("A title", f"T = {options.T}.", [row])) for name in facts.FACTS}
    monkeypatch.setattr(facts, "FACTS", made)
    measure("overflow", "grid", T=20)
    measure("survival", "grid", T=30)
    page = (tmp_path / "README.md").read_text()
    assert "## 2. A title\n\nT = 20.\n\n| what | value | none |\n| --- | --- | --- |\n| x | 0.123 |  |\n\n`python" in page
    stored = json.loads((tmp_path / "facts.json").read_text())
    assert [(name, fact["how"]) for name, fact in stored.items()] == [
        ("survival", "T = 30."),
        ("overflow", "T = 20."),
        ("grid", "T = 30."),
    ]
    assert stored["overflow"]["command"].endswith("--only overflow grid --T 20")
