"""Pages of which a part is written by a script: what stands between two markers."""

from __future__ import annotations

from pathlib import Path


def fill(page: Path, text: str, begin: str, end: str, new: str) -> bool:
    """Writes `text` to the page with `new` on lines of its own between the markers. False, and nothing written, where it lacks them."""
    before, first, rest = text.partition(begin)
    _, last, after = rest.partition(end)
    if not first or not last:
        return False
    page.write_text(f"{before}{begin}\n{new}\n{end}{after}", encoding="utf-8")
    return True
