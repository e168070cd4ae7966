"""What the learner costs, beside its peers: the rows of ``sabsim bench``, timed by turns in one run.

    settings = Settings(device=device, backends=find_backends(device), quick=True)
    results = [measure_row(row, settings) for row in ROWS.values()]

A row is a question (``rows``), a case one of its sizes, a variant one way to do the work (``case``). ``timing`` takes the
samples, ``report`` and ``plots`` show them.
"""

from .backends import Backends, find_backends
from .case import CaseResult, Measurement, Row, RowResult
from .rows import ROWS, measure_row
from .settings import Settings

__all__ = ["ROWS", "Backends", "CaseResult", "Measurement", "Row", "RowResult", "Settings", "find_backends", "measure_row"]
