"""Files that are written whole or not at all, and what a file is known by."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

Row = dict[str, Any]


def sha256(path: Path) -> str:
    """SHA-256 of the file's bytes in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_json_object(path: Path, data: Row) -> None:
    """A JSON object with one line for each item of its lists of objects."""
    fields = []
    for key, value in data.items():
        if isinstance(value, list) and value and isinstance(value[0], dict):
            items = ",\n".join(f" {json.dumps(item, ensure_ascii=False)}" for item in value)
            fields.append(f"{json.dumps(key)}: [\n{items}\n]")
        else:
            fields.append(f"{json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}")
    path.write_text("{\n" + ",\n".join(fields) + "\n}\n", encoding="utf-8")


def read_json_lines(path: Path) -> list[Row]:
    """One JSON object a line; empty lines count for nothing."""
    with path.open(encoding="utf-8") as file:
        return [json.loads(line) for line in file if line.strip()]


def write_json_lines(path: Path, rows: Iterable[Row]) -> None:
    """One JSON object a line. The file has its name only when all rows are in it."""
    partial = path.with_name(path.name + ".partial")
    try:
        with partial.open("w", encoding="utf-8") as file:
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
