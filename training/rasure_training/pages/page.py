"""A page is made of a JSON file: which page it is, what was measured how, and the figures. The same file gives the same page and the
same picture again."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from ..files import Row, write_json_object
from . import dependents, erase_auto, erase_curve, leaks, many_erases, probes, replace


class Kind(Protocol):
    """One of the modules beside this one."""

    def lines(self, name: str, measured: Row, figures: Sequence[Row]) -> list[str]:
        """Of the page. name: of its files."""
        ...

    def draw(self, figures: Sequence[Row], path: Path) -> None: ...


KINDS: dict[str, Kind] = {
    "dependents": dependents,
    "erase_auto": erase_auto,
    "erase_curve": erase_curve,
    "leaks": leaks,
    "many_erases": many_erases,
    "probes": probes,
    "replace": replace,
}


def read(path: Path) -> Row:
    """Empty where the file is JSON, but of no page. Raises OSError and ValueError."""
    data = json.loads(path.read_text(encoding="utf-8"))
    return data if isinstance(data, dict) and data.get("page") in KINDS else {}


def text_of(name: str, data: Row) -> str:
    """data: as `read` returns it."""
    return "\n".join(KINDS[data["page"]].lines(name, data["measured"], data["figures"])) + "\n"


def draw(path: Path) -> None:
    """The picture beside the JSON file, if that is of a page."""
    if data := read(path):
        KINDS[data["page"]].draw(data["figures"], path.with_suffix(".svg"))


def write(out: Path, name: str, kind: str, measured: Row, figures: Sequence[Row]) -> None:
    """The JSON file NAME.json of the folder, and its page and picture."""
    out.mkdir(parents=True, exist_ok=True)
    path = out / f"{name}.json"
    write_json_object(path, {"page": kind, "measured": measured, "figures": list(figures)})
    path.with_suffix(".md").write_text(text_of(name, read(path)), encoding="utf-8")
    draw(path)
