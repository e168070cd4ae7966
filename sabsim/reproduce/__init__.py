"""The tables of the SAB paper (Ke et al. 2017, arXiv 1711.02326), run again in streaming mode."""

from .full import FULL, full_size
from .rendering import as_markdown, figures_of, write_table
from .tables import TABLES, Row, Table, plan

__all__ = ["FULL", "TABLES", "Row", "Table", "as_markdown", "figures_of", "full_size", "plan", "write_table"]
