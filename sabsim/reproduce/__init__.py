"""The tables of the SAB paper (Ke et al. 2017, arXiv 1711.02326), run again in streaming mode."""

from .collect import finished_runs, with_origin
from .figures import Figures, figures_of
from .page import PARTS, render_page
from .paper import PAPER, Published, published
from .rendering import as_markdown
from .store import merge, stored_rows, write_table
from .table import Row, Table
from .tables import TABLES, plan

__all__ = [
    "PAPER",
    "PARTS",
    "TABLES",
    "Figures",
    "Published",
    "Row",
    "Table",
    "as_markdown",
    "figures_of",
    "finished_runs",
    "merge",
    "plan",
    "published",
    "render_page",
    "stored_rows",
    "with_origin",
    "write_table",
]
