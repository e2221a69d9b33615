"""What training runs have in common: their TOML files, their folders, checkpoints and logs, their commands."""

from __future__ import annotations

import argparse
import csv
import os
import sys
import tomllib
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any, Protocol, get_type_hints

import torch

from .gguf_model import ModelError
from .text import DataError
from .world import World


class ConfigError(Exception):
    """The file is no run; the message says why."""


class TrainingError(Exception):
    """The training cannot begin or go on; the message says why."""


# ---------------------------------------------------------------------------------------------- parameters


def section(kind: type, table: object, where: str) -> Any:
    """A dataclass from a table that must have exactly its fields. `where` begins the messages; "": the file itself."""
    prefix = f"{where}: " if where else ""
    if not isinstance(table, dict):
        raise ConfigError(f"{where} is not a table")
    wanted = {f.name for f in fields(kind)}
    for key in table:
        if key not in wanted:
            raise ConfigError(f"{prefix}there is no parameter {key}")
    for key in sorted(wanted - set(table)):
        raise ConfigError(f"{prefix}{key} is missing")
    hints = get_type_hints(kind)
    values = {}
    for key, value in table.items():
        if hints[key] is float and type(value) is int:
            value = float(value)
        if hints[key] in (int, float, str) and type(value) is not hints[key]:
            raise ConfigError(f"{prefix}{key} is {value!r}, not of type {hints[key].__name__}")
        values[key] = value
    return kind(**values)


def load_toml(path: Path, parse: Callable[[dict[str, Any]], Any]) -> Any:
    """What `parse` makes of a file; the message of a ConfigError begins with its name."""
    try:
        return parse(tomllib.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, ConfigError) as error:
        raise ConfigError(f"{path}: {error}") from error


def override(data: dict[str, Any], settings: list[str]) -> None:
    """Applies `section.key=value` to the parsed file; values are written as in TOML."""
    for setting in settings:
        path, equals, text = setting.partition("=")
        *sections, key = path.split(".")
        table: Any = data
        for name in sections:
            table = table.get(name) if isinstance(table, dict) else None
        if not equals or not isinstance(table, dict) or key not in table:
            raise ConfigError(f"--set {setting}: there is no parameter {path}")
        try:
            table[key] = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError as error:
            raise ConfigError(f"--set {setting}: {error}") from error


# ------------------------------------------------------------------------------------------------- folders


def default_out(name: str) -> Path:
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "rasure" / "training" / name


def save_state(path: Path, state: dict[str, Any]) -> None:
    """Whole or not at all."""
    partial = path.with_suffix(".partial")
    torch.save(state, partial)
    os.replace(partial, path)


def load_state(path: Path, identity: dict[str, Any]) -> dict[str, Any] | None:
    """What save_state has written; None where there is nothing. `identity` is what it must have been made with."""
    if not path.is_file():
        return None
    state = torch.load(path, weights_only=True)
    for key, value in identity.items():
        if state[key] != value:
            raise TrainingError(f"{path} was made with another {key}; take another --out, or delete it")
    return state


class Log:
    """A CSV file to which rows are added; on resuming, rows after the checkpoint's step go."""

    def __init__(self, path: Path, columns: tuple[str, ...], step: int) -> None:
        self.path = path
        self.columns = columns
        kept = [row for row in rows_of(path) if int(row["step"]) <= step and step > 0]
        partial = path.with_name(path.name + ".partial")
        with partial.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, columns, lineterminator="\n")
            writer.writeheader()
            writer.writerows(kept)
        os.replace(partial, path)

    def write(self, rows: list[dict[str, Any]]) -> None:
        with self.path.open("a", newline="", encoding="utf-8") as file:
            csv.DictWriter(file, self.columns, lineterminator="\n").writerows(rows)


def rows_of(path: Path) -> list[dict[str, str]]:
    """The rows of such a file; none where there is no file."""
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


# ------------------------------------------------------------------------------------------------ commands


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min" if minutes else f"{seconds:.0f} s"


def run_parser(prog: str, description: str | None, data_files: str) -> argparse.ArgumentParser:
    """The options of a command that trains."""
    parser = argparse.ArgumentParser(prog=prog, description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", required=True, type=Path, help="TOML file with every hyper-parameter")
    parser.add_argument("--model", required=True, type=Path, help="the base model, as GGUF")
    parser.add_argument("--data", required=True, type=Path, help=f"folder of {data_files}")
    parser.add_argument("--out", type=Path, help="folder to write to (default: the run's name in the cache folder)")
    parser.add_argument("--threads", type=int, default=1, help="threads of PyTorch in each process (default: %(default)s)")
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE",
                        help="another value of a hyper-parameter; may be repeated")  # fmt: skip
    return parser


class Named(Protocol):
    name: str


class Runnable(Protocol):
    def run(self) -> None: ...


def run_command(
    name: str,
    args: argparse.Namespace,
    parse: Callable[[dict[str, Any]], Named],
    trainer: Callable[[Any, Path, Path, Path, World], Runnable],
    errors: tuple[type[Exception], ...] = (),
) -> int:
    """Trains as run_parser's options say; the exit code. name: of the command, in messages. errors: others than those known here
    that are said and end the run."""
    torch.set_num_threads(args.threads)
    try:
        data = tomllib.loads(args.config.read_text(encoding="utf-8"))
        override(data, args.set)
        config = parse(data)
        out = args.out or default_out(config.name)
        out.mkdir(parents=True, exist_ok=True)
        world = World()
        try:
            trainer(config, args.model, args.data, out, world).run()
            world.wait()
        finally:
            world.close()
    except (ConfigError, tomllib.TOMLDecodeError, OSError) as error:
        say(f"{name}: {args.config}: {error}")
        return 2
    except (ModelError, DataError, TrainingError, *errors) as error:
        say(f"{name}: {error}")
        return 1
    except KeyboardInterrupt:
        say(f"{name}: stopped; the same command goes on from the last checkpoint")
        return 130
    return 0
