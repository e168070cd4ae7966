"""Where the gradient of a loss goes, step by step and rule by rule, after Kerg et al. 2020 (arXiv 2006.09471)."""

from .flow import CreditFlow
from .measure import Measured, Recalled, measure
from .recall_graph import chains, sparsity
from .tables import as_rows, describe, write_gradients

__all__ = [
    "CreditFlow",
    "Measured",
    "Recalled",
    "as_rows",
    "chains",
    "describe",
    "measure",
    "sparsity",
    "write_gradients",
]
