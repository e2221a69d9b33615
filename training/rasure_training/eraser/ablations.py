"""What of the training matters: trains short runs that differ in one thing each, measures them, and writes a table.

    python -m rasure_training.eraser.ablations RASURE --config training/configs/ablations.toml --model MODEL --data DATA --out docs

Runs and measurements go on where they were stopped, in folders of the cache. The validation split is used.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import torch

from ..gguf_model import ModelError
from ..text import DataError
from .__main__ import default_out, override, with_steps
from .adapter_file import AdapterError
from .config import ConfigError, TrainingConfig, parse_config
from .report import GROUPS, ReportError, cell, difference, load, mean_of
from .train import Trainer, TrainingError, say
from .world import World

METHODS = {"bridge": "bridge:16", "steer": "steer"}
BASELINES = ("exact", "drop", "repair:16")


def slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def config_of(variant: dict[str, Any], folder: Path, steps: int) -> TrainingConfig:
    data = tomllib.loads((folder / variant["config"]).read_text(encoding="utf-8"))
    override(data, variant.get("set", []))
    if "without_stage" in variant:
        del data["stages"][variant["without_stage"] - 1]
    data["name"] = slug(variant["name"])
    data["output"]["validate"] = 0
    return with_steps(parse_config(data), steps)


def train(config: TrainingConfig, args: argparse.Namespace, out: Path) -> Path:
    out.mkdir(parents=True, exist_ok=True)
    trainer = Trainer(config, args.model, args.data, out, World())
    trainer.run()
    return trainer.adapter_path


def measure(adapter: Path, method: str, args: argparse.Namespace, out: Path) -> None:
    command = [sys.executable, "-m", "rasure_training.eraser.measure", args.rasure, args.model, "--adapter", adapter]
    command += ["--data", args.data, "--out", out, "--lengths", str(args.tokens), "--n", str(args.n)]
    command += ["--methods", ",".join([*BASELINES, method])]
    subprocess.run([str(part) for part in command], check=True)


def table(results: list[tuple[str, str, Path]]) -> list[str]:
    """Variants down, kinds of cases across: KL, and below it the difference to the first variant of its kind."""
    lines = ["| trained as | " + " | ".join(GROUPS) + " |", "|---" * (len(GROUPS) + 1) + "|"]
    baselines = load(results[0][2])
    for method in BASELINES[1:]:
        cells = [cell(mean_of(baselines.select(tasks, method), "kl"), 4) for tasks in GROUPS.values()]
        lines.append(f"| (`{method}`) | " + " | ".join(cells) + " |")
    first = {}
    for name, method, folder in results:
        measured = load(folder)
        cells = []
        for tasks in GROUPS.values():
            rows = measured.select(tasks, method)
            text = cell(mean_of(rows, "kl"), 4)
            if method in first:
                text += f"; {cell(difference(rows, first[method].select(tasks, method), 'kl'), 4)}"
            cells.append(text)
        first.setdefault(method, measured)
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return lines


def run(args: argparse.Namespace) -> None:
    plan = tomllib.loads(args.config.read_text(encoding="utf-8"))
    results = []
    for variant in plan["variants"]:
        config = config_of(variant, args.config.parent, plan["steps"])
        folder = default_out("ablations") / config.name
        say(variant["name"])
        adapter = train(config, args, folder)
        method = METHODS[config.adapter.kind]
        measure(adapter, method, args, folder / "measured")
        results.append((variant["name"], method, folder / "measured"))
    lines = [
        "# What of the training matters",
        "",
        f"Made by `python -m rasure_training.eraser.ablations`: {plan['steps']} steps each, one seed, measured in the runtime on "
        f"{args.n} validation contexts of about {args.tokens} tokens a task. KL(exact || method) in nats, in brackets 95 % intervals; "
        "behind the semicolon the difference to the first run of the kind, case by case.",
        "",
        *table(results),
    ]
    (args.out / "erase_ablations.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(f"wrote erase_ablations.md to {args.out}")


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="rasure_training.eraser.ablations", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("rasure", type=Path, metavar="RASURE", help="the command-line tool, as build/release has it")
    parser.add_argument("--config", type=Path, required=True, help="TOML file of the variants")
    parser.add_argument("--model", type=Path, required=True, help="the base model, as GGUF")
    parser.add_argument("--data", type=Path, required=True, help="folder of wiki_paragraphs.jsonl.gz and nq_passages.jsonl.gz")
    parser.add_argument("--out", type=Path, required=True, help="folder of the table")
    parser.add_argument("--tokens", type=int, default=512, help="length of a context (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="of PyTorch (default: %(default)s)")
    parser.add_argument("--n", type=int, default=40, help="contexts a task (default: %(default)s)")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    try:
        run(args)
    except (ConfigError, DataError, ModelError, AdapterError, TrainingError, ReportError, OSError, KeyError) as error:
        print(f"ablations: {error}", file=sys.stderr)
        return 1
    except subprocess.CalledProcessError as error:
        return error.returncode
    return 0


if __name__ == "__main__":
    sys.exit(main())
