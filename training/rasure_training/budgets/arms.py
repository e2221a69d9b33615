"""What is measured: arms, as a TOML file says them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..runs import ConfigError, load_toml


@dataclass(frozen=True)
class Arm:
    """options: of `rasure eval`; budgets: values of --budget, "" where there is none to give."""

    name: str
    options: tuple[str, ...]
    budgets: tuple[str, ...]


def parse_arms(data: dict[str, Any]) -> list[Arm]:
    if set(data) != {"arm"}:
        raise ConfigError("arms are tables [[arm]], and nothing else")
    arms = []
    for table in data["arm"]:
        if not isinstance(table, dict) or set(table) != {"name", "options", "budgets"}:
            raise ConfigError("an arm has name, options and budgets")
        if not all(isinstance(item, str) for item in [table["name"], *table["options"], *table["budgets"]]):
            raise ConfigError(f"arm {table['name']}: name, options and budgets are strings")
        if not table["budgets"]:
            raise ConfigError(f'arm {table["name"]}: there is no budget; "" stands for none')
        arms.append(Arm(table["name"], tuple(table["options"]), tuple(table["budgets"])))
    if len({arm.name for arm in arms}) != len(arms):
        raise ConfigError("two arms have one name")
    return arms


def load_arms(path: Path) -> list[Arm]:
    return load_toml(path, parse_arms)
