"""Every link in the pages leads to a file that is there, and to a heading that is in it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), *sorted((ROOT / "results").rglob("*.md"))]
_FENCED = re.compile(r"^( *)```.*?^\1```", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\((?P<place>[^)\s#]*)(?:#(?P<heading>[^)\s]+))?\)")


def prose(page: Path) -> str:
    """Without code: an index and a call look like a link."""
    return re.sub(r"`[^`\n]*`", "", _FENCED.sub("", page.read_text(encoding="utf-8")))


def headings(page: Path) -> set[str]:
    """The anchors of a page, made as GitHub makes them."""
    lines = re.findall(r"^#+ (.*)$", _FENCED.sub("", page.read_text(encoding="utf-8")), re.MULTILINE)
    words = (re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", line.replace("`", "").replace("*", "")) for line in lines)
    return {re.sub(r"[^\w\- ]", "", line.strip().lower()).replace(" ", "-") for line in words}


def broken(page: Path) -> list[str]:
    """The links of a page that lead nowhere on this disk; those into the net are left to the reader."""
    found = []
    for link in _LINK.finditer(prose(page)):
        place, heading = link["place"], link["heading"]
        if "://" in place or place.startswith("mailto:"):
            continue
        target = (page.parent / place).resolve() if place else page
        if not target.exists() or (heading and target.suffix == ".md" and heading not in headings(target)):
            found.append(link[0][1:])
    return found


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
def test_links_lead_somewhere(page: Path) -> None:
    assert broken(page) == []


def test_a_link_that_leads_nowhere_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# A `b`: *c*, d\n[1](#a-b-c-d) [2](page.md#a-b-c-d) [3](none.md) [4](#e) `x[5](y)` [6](https://x.org/y)\n"
        "```\nx[7](y)\n# F\n```\n[8](#f)\n"
    )
    assert broken(page) == ["(none.md)", "(#e)", "(#f)"]
