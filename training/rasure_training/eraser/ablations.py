"""What matters: short trainings that differ in one thing each, and the trained adapters under other settings than their own.

    python -m rasure_training.eraser.ablations RASURE --config training/configs/ablations.toml --model MODEL --data DATA \\
        --adapter bridge.gguf --adapter steer.gguf --out docs

Trainings and measurements go on where they were stopped, in folders of the cache. The validation split is used.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

import torch

from ..arguments import parse_runtime
from ..files import sha256
from ..gguf_model import ModelError
from ..pages import page
from ..pages.erase_ablations import TRAININGS
from ..runs import ConfigError, TrainingError, default_out, override, say
from ..text import DataError
from ..world import World
from .__main__ import with_steps
from .adapter_file import AdapterError, read_header
from .config import TrainingConfig, parse_config
from .measured import GROUPS, Figure, Measured, MeasuredError, Row, difference, load, mean_of, rounded
from .tables import by_span
from .tasks import TASKS
from .train import Trainer

METHODS = {"bridge": "bridge:16", "steer": "steer"}
BASELINES = ("drop", "repair:16")


def slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def config_of(variant: dict[str, Any], folder: Path, plan: dict[str, Any]) -> TrainingConfig:
    data = tomllib.loads((folder / variant["config"]).read_text(encoding="utf-8"))
    override(data, [*plan.get("set", []), *variant.get("set", [])])
    if "without_stage" in variant:
        del data["stages"][variant["without_stage"] - 1]
    data["name"] = slug(variant["name"])
    data["output"]["validate"] = 0
    return with_steps(parse_config(data), variant.get("steps", plan["steps"]))


def train(config: TrainingConfig, args: argparse.Namespace, out: Path) -> Path:
    out.mkdir(parents=True, exist_ok=True)
    trainer = Trainer(config, args.model, args.data, out, World())
    trainer.run()
    return trainer.adapter_path


def measure(
    adapters: Sequence[Path],
    methods: Sequence[str],
    args: argparse.Namespace,
    out: Path,
    tasks: Sequence[str] = TASKS,
    tokens: int | None = None,
    options: Sequence[object] = (),
) -> Measured:
    """Of the methods on the tasks, and of nothing else that lies in the folder from before. tokens: None: those of args."""
    tokens = tokens or args.tokens
    command = [sys.executable, "-m", "rasure_training.eraser.measure", args.rasure, args.model, "--data", args.data, "--out", out]
    for adapter in adapters:
        command += ["--adapter", adapter]
    command += ["--isa", args.isa, "--tasks", ",".join(tasks), "--lengths", tokens, "--n", args.n, "--methods", ",".join(methods)]
    command += options
    subprocess.run([str(part) for part in command], check=True)
    found = load(out, planned=lambda record: record["tokens"] == tokens and record["task"] in tasks)
    return Measured(found.records, [row for row in found.rows if row["method"] in methods])


# --------------------------------------------------------------------------------------------------- figures


def entry(section: str, row: str, column: str, figure: Figure | None, digits: int = 4, **more: Figure | None) -> Row:
    """A cell of the page: its figure, and perhaps the difference to another row's."""
    known = {name: rounded(value) for name, value in {"figure": figure, **more}.items() if value}
    return {"section": section, "row": row, "column": column, "digits": digits} | known


def by_kind(section: str, row: str, measured: Measured, method: str, first: Measured | None = None) -> list[Row]:
    """KL on each kind of case; first: what it is held against, case by case."""
    found = []
    for kind, tasks in GROUPS.items():
        rows = measured.select(tasks, method)
        gap = difference(rows, first.select(tasks, method), "kl") if first else None
        found.append(entry(section, row, kind, mean_of(rows, "kl"), difference=gap))
    return found


def method_of(adapter: Path) -> str:
    return METHODS[read_header(adapter).settings.kind]


def train_all(plan: dict[str, Any], args: argparse.Namespace) -> dict[str, list[tuple[str, Path]]]:
    """What was trained, with its name, by the kind of the adapter."""
    found: dict[str, list[tuple[str, Path]]] = {}
    for variant in plan["variants"]:
        config = config_of(variant, args.config.parent, plan)
        say(variant["name"])
        name = f"{variant['name']}, {config.total_steps} steps"
        found.setdefault(config.adapter.kind, []).append((name, train(config, args, default_out("ablations") / config.name)))
    return found


def measure_shipped(plan: dict[str, Any], args: argparse.Namespace) -> Measured:
    """Of the adapters as shipped all that is asked for on all tasks, so that a context is read once for all methods."""
    methods = [*BASELINES, *map(method_of, args.adapter)]
    methods += [method for setting in plan["settings"] if "tasks" not in setting for method in setting["methods"]]
    say("as shipped")
    return measure(args.adapter, list(dict.fromkeys(methods)), args, default_out("ablations") / "shipped")


def compare_trainings(plan: dict[str, Any], args: argparse.Namespace, shipped: Measured) -> list[Row]:
    """Others are held against the first of their kind. Two kinds share a measurement, in which contexts are read once."""
    trained = train_all(plan, args)
    figures = [entry for method in BASELINES for entry in by_kind(TRAININGS, f"(`{method}`)", shipped, method)]
    measured: dict[str, Measured] = {}
    for together in zip_longest(*trained.values()):
        here = [named for named in together if named]
        names = [name for name, _ in here]
        say(" and ".join(names))
        folder = default_out("ablations") / "-and-".join(map(slug, names))
        paths = [path for _, path in here]
        measured |= dict.fromkeys(names, measure(paths, list(map(method_of, paths)), args, folder))
    first: dict[str, Measured] = {}
    for kind, method in METHODS.items():
        for name, _ in trained.get(kind, []):
            figures += by_kind(TRAININGS, name, measured[name], method, first.get(kind))
            first.setdefault(kind, measured[name])
    for path in args.adapter:
        header = read_header(path)
        kind = header.settings.kind
        name = f"{kind} as shipped, {header.training['steps']:,} steps"
        figures += by_kind(TRAININGS, name, shipped, METHODS[kind], first.get(kind))
    return figures


def compare_settings(setting: dict[str, Any], args: argparse.Namespace, shipped: Measured) -> list[Row]:
    title, methods = setting["title"], setting["methods"]
    if "tasks" not in setting:
        return [row for method in methods for row in by_kind(title, f"`{method}`", shipped, method)]
    say(title)

    def run(name: str, *options: object, tokens: int | None = None) -> Measured:
        folder = default_out("ablations") / slug(title) / name
        return measure(args.adapter, methods, args, folder, setting["tasks"], tokens, options)

    if "erases" in setting:
        found = {n: run(str(n), "--erases", n) for n in setting["erases"]}
        return [entry(title, f"`{method}`", f"{n}, {what}", mean_of(measured.select(["several"], method), metric), digits)
                for method in methods for n, measured in found.items()
                for what, metric, digits in (("KL", "kl", 4), ("exact match", "exact_match", 2))]  # fmt: skip
    measured = run("spans", "--span-words", *setting["span_words"], tokens=setting["tokens"])
    return [entry(title, f"`{method}`", span, kl) for method in methods for span, kl in by_span(measured, method).items()]


# -------------------------------------------------------------------------------------------------- document


def write(args: argparse.Namespace) -> None:
    plan = tomllib.loads(args.config.read_text(encoding="utf-8"))
    shipped = measure_shipped(plan, args)
    figures = compare_trainings(plan, args, shipped)
    for setting in plan["settings"]:
        figures += compare_settings(setting, args, shipped)
    adapters = ", ".join(f"`{path.name}` (SHA-256 `{sha256(path)[:16]}...`)" for path in args.adapter)
    measured = {"n": args.n, "tokens": args.tokens, "isa": args.isa, "adapters": adapters}
    page.write(args.out, "erase_ablations", "erase_ablations", measured, figures)
    print(f"wrote erase_ablations.md, .json and .svg to {args.out}")


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="rasure_training.eraser.ablations", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("rasure", type=Path, metavar="RASURE", help="the command-line tool, as build/release has it")
    parser.add_argument("--config", type=Path, required=True, help="TOML file of the trainings and settings")
    parser.add_argument("--model", type=Path, required=True, help="the base model, as GGUF")
    parser.add_argument("--data", type=Path, required=True, help="folder of wiki_paragraphs.jsonl.gz and nq_passages.jsonl.gz")
    parser.add_argument(
        "--adapter", type=Path, action="append", required=True, help="whose settings are changed; one of each kind"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of the document")
    parser.add_argument("--tokens", type=int, default=512, help="length of a context (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="of PyTorch (default: %(default)s)")
    parser.add_argument("--n", type=int, default=40, help="contexts a task (default: %(default)s)")
    parser.add_argument("--isa", default="auto", help="instruction set, as `rasure run --isa` takes it (default: %(default)s)")
    args = parse_runtime(parser)
    torch.set_num_threads(args.threads)
    try:
        write(args)
    except (ConfigError, DataError, ModelError, AdapterError, TrainingError, MeasuredError, OSError, KeyError) as error:
        print(f"ablations: {error}", file=sys.stderr)
        return 1
    except subprocess.CalledProcessError as error:
        return error.returncode
    return 0


if __name__ == "__main__":
    sys.exit(main())
