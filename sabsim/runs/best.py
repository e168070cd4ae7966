"""The parameters that did best on the validation part, kept for the final evaluation."""

from __future__ import annotations

from collections.abc import Mapping
from math import inf
from typing import Any

import torch
from torch import Tensor

from sabsim.runs.evaluate import HeldOut


class Best:
    """What did best so far; `learned` is None until something was kept.

    Arguments:
        higher_is_better: whether a greater metric is a better one
    """

    def __init__(self, *, higher_is_better: bool) -> None:
        self._sign = 1 if higher_is_better else -1
        self.learned: dict[str, Tensor] | None = None
        """copies of the parameters, by the names of `StreamingLearner.learned`"""
        self.figures: dict[str, Any] = {}
        """`sequences` trained when they were kept, and the `metric` and `loss` that they had"""

    def beaten_by(self, result: HeldOut) -> bool:
        """Whether this is better than what is kept; of equal metrics the lower loss is."""
        if not self.figures:
            return True
        kept = self.figures["metric"], self.figures.get("loss", inf)  # folders of before the loss was kept have none
        return (self._sign * result.metric, -result.loss) > (self._sign * kept[0], -kept[1])

    def look(self, result: HeldOut, learned: Mapping[str, Tensor], *, sequences: int) -> None:
        """Keep these parameters if they did better than any before."""
        if self.beaten_by(result):
            self.keep(result, learned, sequences=sequences)

    def keep(self, result: HeldOut, learned: Mapping[str, Tensor], *, sequences: int) -> None:
        """Keep these parameters, whatever was before."""
        self.learned = {name: value.clone() for name, value in learned.items()}
        self.figures = {"sequences": sequences, "metric": result.metric, "loss": result.loss}

    def restore(self, learned: Mapping[str, Any] | None, figures: dict[str, Any], *, device: torch.device) -> None:
        """Be what a checkpoint holds."""
        self.figures = figures
        if learned is not None:
            self.learned = {name: value.to(device) for name, value in learned.items()}
