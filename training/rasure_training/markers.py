"""Parts of a page that a program writes, each between two lines that name it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path


class MarkersError(Exception):
    """The page has no place for what is to be written; the message says which it lacks."""


def fill(page: Path, parts: Mapping[str, Sequence[str]]) -> None:
    """Puts the lines of each part in the place that the page has for it. A page need not have all, but one."""
    text = filled(page, parts)
    if text is None:
        raise MarkersError(f"{page} lacks the markers of {', '.join(parts)}")
    page.write_text(text, encoding="utf-8")


def filled(page: Path, parts: Mapping[str, Sequence[str]]) -> str | None:
    """The page with the lines of each part in the place that it has for it; None where it has none for any."""
    text, n_filled = page.read_text(encoding="utf-8"), 0
    for name, lines in parts.items():
        first, last = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
        before, begin, rest = text.partition(first)
        _, end, after = rest.partition(last)
        if bool(begin) != bool(end):
            raise MarkersError(f"{page} has one of the markers {first} and {last}, but not the other behind it")
        if begin:
            text = f"{before}{begin}\n" + "\n".join(lines) + f"\n{end}{after}"
            n_filled += 1
    return text if n_filled else None
