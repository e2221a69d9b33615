"""What is measured: arms, as a TOML file says them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..runs import ConfigError, load_toml


@dataclass(frozen=True)
class Arm:
    """options: of `rasure eval`; budgets: values of --budget, "" where there is none to give; at: more options, by budget."""

    name: str
    options: tuple[str, ...]
    budgets: tuple[str, ...]
    at: dict[str, tuple[str, ...]]

    def options_at(self, budget: str) -> list[str]:
        return [*self.options, *self.at.get(budget, ()), *(["--budget", budget] if budget else [])]


def parse_arms(data: dict[str, Any]) -> list[Arm]:
    if set(data) != {"arm"}:
        raise ConfigError("arms are tables [[arm]], and nothing else")
    arms = []
    for table in data["arm"]:
        if not isinstance(table, dict) or set(table) - {"at"} != {"name", "options", "budgets"}:
            raise ConfigError("an arm has name, options and budgets, and may have at")
        at = table.get("at", {})
        more = [option for options in at.values() for option in options]
        if not all(isinstance(item, str) for item in [table["name"], *table["options"], *table["budgets"], *more]):
            raise ConfigError(f"arm {table['name']}: name, options and budgets are strings")
        if not set(at) <= set(table["budgets"]):
            raise ConfigError(f"arm {table['name']}: at has a budget that is none of the arm's")
        if not table["budgets"]:
            raise ConfigError(f'arm {table["name"]}: there is no budget; "" stands for none')
        arms.append(Arm(table["name"], tuple(table["options"]), tuple(table["budgets"]),
                        {budget: tuple(options) for budget, options in at.items()}))  # fmt: skip
    if len({arm.name for arm in arms}) != len(arms):
        raise ConfigError("two arms have one name")
    return arms


def load_arms(path: Path) -> list[Arm]:
    return load_toml(path, parse_arms)
