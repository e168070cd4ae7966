"""The page itself: a template filled in, with everything it needs inside, so that it can be mailed and opened anywhere."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from sabsim.errors import StorageError

from .. import style
from .explorer import explorer_data
from .moments import Moments
from .parts import Missing, NumberTable, Panel, Story
from .pictures import embedded_figure

_HERE = Path(__file__).parent
_WIDE = 2.0
"""Width over height of figures that are not set side by side."""


def write_report(
    path: Path,
    *,
    story: Story,
    panels: Sequence[Panel],
    tables: Sequence[NumberTable],
    missing: Sequence[Missing],
    episode: Moments | str,
) -> Path:
    """Write the page to ``path``, and return it. ``episode``: what is explored, or why there is nothing to explore.

    All text is escaped; the page's own policy forbids the browser to load anything.

    Raises StorageError: if the disk refuses.
    """
    try:
        page = _page(story, panels, tables, missing, episode)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(page, encoding="utf-8")
    except OSError as error:
        raise StorageError(f"'{path}': {error.strerror or error}; free space or give another --out") from error
    return path


def _page(
    story: Story,
    panels: Sequence[Panel],
    tables: Sequence[NumberTable],
    missing: Sequence[Missing],
    episode: Moments | str,
) -> str:
    # Here and not above: a command's help needs neither.
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from plotly.offline import get_plotlyjs

    environment = Environment(
        loader=FileSystemLoader(_HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    explored = None if isinstance(episode, str) else explorer_data(episode)
    return environment.get_template("page.html").render(
        story=story,
        picture=_shown(story.picture) if story.picture else None,
        panels=[_shown(panel) for panel in panels],
        tables=tables,
        missing=missing,
        episode=episode,
        explored=explored,
        colours={"blue": style.BLUE, "vermilion": style.VERMILION, "ink": style.INK, "faint": style.FAINT},
        sheet=_text("page.css"),
        script=_text("explorer.js"),
        plotly=get_plotlyjs() if explored else "",
    )


def _shown(panel: Panel) -> dict[str, Any]:
    return {
        "title": panel.title,
        "picture": embedded_figure(panel.figure),
        "alt": panel.alt,
        "caption": panel.caption,
        "caveat": panel.caveat,
        "wide": not isinstance(panel.figure, Path) and _is_wide(panel.figure),
    }


def _is_wide(figure: Figure) -> bool:
    """Whether it needs the page's whole width to be read."""
    width, height = figure.get_size_inches()
    return bool(width >= _WIDE * height)


def _text(name: str) -> str:
    return (_HERE / name).read_text(encoding="utf-8")
