"""Measured outcomes in one small file, so that a document can be made again, and added to, without the days that measuring took."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from .files import Row, read_json_lines

# What tells parts from each other: a task and a length, a thing that is erased and a way of asking, an arm and its budget.
PART = ("task", "tokens", "erased", "way", "arm", "budget", "seed")
LATER = ("style",)  # what older records do not say, and must be the same in those that do
DIGITS = 5  # significant ones that are kept of a number


class MeasuredError(Exception):
    """What was measured is not what is needed; the message says what."""


def _short(value: Any) -> Any:
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value


def save(path: Path, records: Sequence[Row], rows: Sequence[Row]) -> None:
    """By columns, which compress better. What a row does not have is null. The same content gives the same bytes."""
    keys = list(dict.fromkeys(key for row in rows for key in row))
    columns = {key: [_short(row.get(key)) for row in rows] for key in keys}
    text = json.dumps({"records": list(records), "columns": columns}, ensure_ascii=False, separators=(",", ":"))
    path.write_bytes(gzip.compress(text.encode(), mtime=0))


def load(path: Path) -> tuple[list[Row], list[Row]]:
    """Records and rows, as `save` was given them. Raises OSError, ValueError or KeyError where the file is none of these."""
    data = json.loads(gzip.decompress(path.read_bytes()))
    keys = list(data["columns"])
    rows = [{key: value for key, value in zip(keys, values, strict=True) if value is not None}
            for values in zip(*data["columns"].values(), strict=True)]  # fmt: skip
    return data["records"], rows


def _read_folder(
    folder: Path, rows_of: Callable[[Row, list[Row]], list[Row]], planned: Callable[[Row], bool]
) -> tuple[list[Row], list[Row]]:
    records, rows = [], []
    for path in sorted(folder.glob("*.record.json")):
        record = json.loads(path.read_text(encoding="utf-8"))
        if not planned(record):
            continue
        records.append(record)
        if "refused" not in record:
            outcomes = path.with_name(path.name.replace(".record.json", ".outcomes.jsonl"))
            rows += rows_of(record, read_json_lines(outcomes))
    return records, rows


def collect(
    sources: Sequence[Path],
    rows_of: Callable[[Row, list[Row]], list[Row]],
    alike: Sequence[str],
    planned: Callable[[Row], bool] = lambda record: True,
) -> tuple[list[Row], list[Row]]:
    """Records and rows of several sources: folders of parts, of whose records and outcomes `rows_of` makes rows, and archives.
    planned: whether a folder's part is wanted, by its record; others that lie there count for nothing. All records have the same
    values of the keys `alike`, and no part is in two sources."""
    records, rows = [], []
    for source in sources:
        more_records, more_rows = _read_folder(source, rows_of, planned) if source.is_dir() else load(source)
        records += more_records
        rows += more_rows
    for key in (*alike, *LATER):
        known = [record for record in records if key in record or key not in LATER]
        if len({json.dumps(record[key], sort_keys=True) for record in known}) > 1:
            raise MeasuredError(f"{', '.join(map(str, sources))}: the parts were not all made with the same {key}")
    parts = Counter(tuple(record.get(key) for key in PART) for record in records)
    if len(parts) < len(records):
        twice = ", ".join(str(value) for value in parts.most_common(1)[0][0] if value)
        raise MeasuredError(f"{', '.join(map(str, sources))}: the same part is in two of them: {twice}")
    return records, rows
