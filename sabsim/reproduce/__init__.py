"""The tables of the SAB paper (Ke et al. 2017, arXiv 1711.02326), run again in streaming mode."""

from .collect import finished_runs, with_origin
from .figures import Figures, figures_of
from .full import FULL, full_size
from .page import PARTS, render_page
from .paper import PAPER, Published, published
from .rendering import as_markdown
from .store import merge, stored_rows, write_table
from .tables import TABLES, Row, Table, plan

__all__ = [
    "FULL",
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
    "full_size",
    "merge",
    "plan",
    "published",
    "render_page",
    "stored_rows",
    "with_origin",
    "write_table",
]
