"""The parameters that did best on the validation part: which are kept."""

from __future__ import annotations

import pytest
import torch

from sabsim.runs.best import Best
from sabsim.runs.evaluate import HeldOut


def result(metric: float, loss: float) -> HeldOut:
    return HeldOut(part="validation", sequences=8, loss=loss, metric=metric, standard_error=0.1, perfect=None)


@pytest.mark.parametrize(
    ("higher_is_better", "met", "kept"),
    [
        (True, [(0.5, 1.0), (0.7, 2.0), (0.6, 0.5)], 1),
        (False, [(0.5, 1.0), (0.3, 2.0), (0.4, 0.5)], 1),
        (True, [(0.1, 2.30), (0.1, 2.29), (0.1, 2.31)], 1),  # of equal metrics the lower loss
        (True, [(0.1, 2.3), (0.1, 2.3)], 0),
    ],
)
def test_the_best_are_kept(higher_is_better: bool, met: list[tuple[float, float]], kept: int) -> None:
    best, learned = Best(higher_is_better=higher_is_better), {"w": torch.zeros(2)}
    for at, (metric, loss) in enumerate(met):
        learned["w"].fill_(at)
        best.look(result(metric, loss), learned, sequences=at)
    assert best.figures == {"sequences": kept, "metric": met[kept][0], "loss": met[kept][1]}
    assert best.learned is not None
    assert best.learned["w"].tolist() == [kept, kept]


def test_what_a_folder_kept_before_it_knew_losses_gives_way_to_its_equal() -> None:
    best = Best(higher_is_better=True)
    best.restore(None, {"sequences": 3, "metric": 0.1}, device=torch.device("cpu"))
    assert best.beaten_by(result(0.1, 2.3))
    assert not best.beaten_by(result(0.09, 0.1))
