"""What was published: the figures of the paper's tables by table and row, each with where it was found.

Two papers describe the method: arXiv 1711.02326 (2017, "Long-Range Credit Assignment in Recurrent Networks") and arXiv
1809.03702 (NeurIPS 2018, "Temporal Credit Assignment Through Reminding"). Figures that could not be found are not here:
a row without an entry has no figure to be compared with. Units are those of the tables: accuracy as a share of 1, the
adding task's loss as mean squared error, characters in bits.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Published:
    """One figure.

    ``value`` in the table's unit; ``digits`` after the point, as it was printed (of a percentage: those of the share);
    ``source``: a key of ``SOURCES``; ``same_setting``: whether it is known to be of this very row, or only of the method
    (the best setting, or one that is not told).
    """

    value: float
    digits: int
    source: str
    same_setting: bool = True

    def __str__(self) -> str:
        return f"{self.value:.{self.digits}f}"


SOURCES: Mapping[str, str] = {
    "Ke": "Ke et al. (2017, 2018), second-hand, from notes on the paper: its tables could not be consulted",
    "user": "Ke et al. (2018), second-hand, in whole percent: quoted by a user of the released code "
    "(github.com/nke001/sparse_attentive_backtracking_release, issue 2)",
    "Kerg": "Kerg et al. (2020), arXiv 2006.09471, second-hand, in whole percent",
}
"""Where a figure comes from."""


def _ke(value: float, digits: int, *, same_setting: bool = True) -> Published:
    return Published(value=value, digits=digits, source="Ke", same_setting=same_setting)


def _kerg(value: float) -> Published:
    return Published(value=value, digits=2, source="Kerg")


_TEXT = ("SAB (20, 5, 10)", "SAB (20, 5, 5)", "SAB (20, 5, 5), feeds h_hat")

PAPER: Mapping[str, Mapping[str, Published]] = {
    "table1": {
        "LSTM, TBPTT (5)": Published(value=0.31, digits=2, source="user"),
        "SAB (5, 5)": _ke(0.996, 3),
        "SAB (10, 10)": _ke(1.0, 3),
    },
    "table2": {"SAB (5, 5)": _ke(0.993, 3), "SAB (10, 10)": _ke(0.987, 3)},
    "table3": {
        "SAB (5, 5)": _ke(0.989, 3, same_setting=False),
        "SAB (10, 10)": _ke(0.989, 3, same_setting=False),
    },
    "table4": {
        "SAB (5, 5)": _ke(0.0001, 4, same_setting=False),
        "SAB (10, 10)": _ke(0.0001, 4, same_setting=False),
    },
    "table5": {
        "SAB (5, 5)": _ke(0.00014, 5, same_setting=False),
        "SAB (10, 10)": _ke(0.00014, 5, same_setting=False),
    },
    "table6": dict.fromkeys(_TEXT, _ke(1.40, 2, same_setting=False)),
    "table7": dict.fromkeys(_TEXT, _ke(1.53, 2, same_setting=False)),
    "table8": {f"SAB (14, {k}, 14)": _ke(0.911, 3, same_setting=False) for k in (5, 10)},
    "table8-permuted": {f"SAB (14, {k}, 14)": _ke(0.942, 3, same_setting=False) for k in (5, 10)},
    "table7-full": dict.fromkeys(
        ("SAB (20, 5, 5), feeds h_hat, 32 streams", "SAB (20, 5, 5), feeds h_hat, n = 512, 16 streams"),
        _ke(1.53, 2, same_setting=False),
    ),
    "table8-permuted-full": dict.fromkeys(
        ("SAB (56, 14, 56)", "SAB (56, 14, 56), recurrent dropout"), _ke(0.942, 3, same_setting=False)
    ),
    "transfer": {
        "SAB, T = 200": _kerg(0.95),
        "SAB, T = 400": _kerg(0.75),
        "SAB, T = 2000": _kerg(0.47),
        "SAB, T = 5000": _kerg(0.41),
        "RelLSTM, T = 200": _kerg(0.99),
        "RelLSTM, T = 400": _kerg(0.99),
        "RelLSTM, T = 2000": _kerg(0.99),
        "RelLSTM, T = 5000": _kerg(0.99),
    },
}
"""By table and row name. ``transfer``: copying learned at T = 100, played at other lengths."""


def published(table: str, row: str) -> Published | None:
    """The figure of a row, None where none was found; a table at the paper's size has those of the small one as well."""
    figures = {**PAPER.get(table.removesuffix("-full"), {}), **PAPER.get(table, {})}
    return figures.get(row)
