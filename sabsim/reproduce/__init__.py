"""The tables of the SAB paper (Ke et al. 2017, arXiv 1711.02326), run again in streaming mode."""

from .rendering import as_markdown, figures_of, write_table
from .tables import TABLES, Row, Table, plan

__all__ = ["TABLES", "Row", "Table", "as_markdown", "figures_of", "plan", "write_table"]
