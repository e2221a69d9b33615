"""A page is made of a JSON file: which page it is, what was measured how, and the figures. The same file gives the same page and the
same picture again."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from ..files import Row, write_json_object
from . import dependents, erase_ablations, erase_auto, erase_curve, leaks, many_erases, probes, replace


class Kind(Protocol):
    """One of the modules beside this one."""

    def lines(self, name: str, measured: Row, figures: Sequence[Row]) -> list[str]:
        """Of the page. name: of its files."""
        ...

    def draw(self, figures: Sequence[Row], path: Path) -> None: ...


KINDS: dict[str, Kind] = {
    "dependents": dependents,
    "erase_ablations": erase_ablations,
    "erase_auto": erase_auto,
    "erase_curve": erase_curve,
    "leaks": leaks,
    "many_erases": many_erases,
    "probes": probes,
    "replace": replace,
}


def read(path: Path) -> Row:
    """What a JSON file holds; nothing where it is no object. Raises OSError, and ValueError where it names a page that is none."""
    data = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(data, dict):
        return {}
    if "page" in data and data["page"] not in KINDS:
        raise ValueError(f"{path}: no page is called {data['page']!r}")
    return data


def text_of(name: str, data: Row) -> str:
    """data: of a file that names its page."""
    return "\n".join(KINDS[data["page"]].lines(name, data["measured"], data["figures"])) + "\n"


def draw(data: Row, path: Path) -> None:
    """The picture."""
    KINDS[data["page"]].draw(data["figures"], path)


def write(out: Path, name: str, kind: str, measured: Row, figures: Sequence[Row]) -> None:
    """The JSON file NAME.json of the folder, and its page and picture."""
    out.mkdir(parents=True, exist_ok=True)
    data = {"page": kind, "measured": measured, "figures": list(figures)}
    write_json_object(out / f"{name}.json", data)
    (out / f"{name}.md").write_text(text_of(name, data), encoding="utf-8")
    draw(data, out / f"{name}.svg")
