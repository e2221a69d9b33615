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
from pathlib import Path
from typing import Any

import torch

from ..gguf_model import ModelError
from ..pages.cells import NO_WIDTH, cell, head, line
from ..runs import ConfigError, TrainingError, default_out, override, say
from ..text import DataError
from ..world import World
from .__main__ import with_steps
from .adapter_file import AdapterError, read_header
from .config import TrainingConfig, parse_config
from .measured import GROUPS, Measured, MeasuredError, difference, groups_of, load, mean_of
from .tables import group_table, span_table
from .tasks import TASKS
from .train import Trainer

METHODS = {"bridge": "bridge:16", "steer": "steer"}
BASELINES = ("drop", "repair:16")


def slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def config_of(variant: dict[str, Any], folder: Path, steps: int) -> TrainingConfig:
    data = tomllib.loads((folder / variant["config"]).read_text(encoding="utf-8"))
    override(data, variant.get("set", []))
    if "without_stage" in variant:
        del data["stages"][variant["without_stage"] - 1]
    data["name"] = slug(variant["name"])
    data["output"]["validate"] = 0
    return with_steps(parse_config(data), variant.get("steps", steps))


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
    command += ["--tasks", ",".join(tasks), "--lengths", tokens, "--n", args.n, "--methods", ",".join(methods), *options]
    subprocess.run([str(part) for part in command], check=True)
    found = load(out, planned=lambda record: record["tokens"] == tokens and record["task"] in tasks)
    return Measured(found.records, [row for row in found.rows if row["method"] in methods])


# ------------------------------------------------------------------------------------------------- trainings


def variant_table(results: Sequence[tuple[str, str, Measured]]) -> list[str]:
    """Variants down, kinds of cases across: KL, and behind it the difference to the first variant of its kind. The baselines know
    no adapter and are the first variant's."""
    lines = head(["trained as", *GROUPS])
    baselines = results[0][2]
    for method in BASELINES:
        cells = [cell(mean_of(baselines.select(tasks, method), "kl"), 4) for tasks in GROUPS.values()]
        lines.append(line([f"(`{method}`)", *cells]))
    first: dict[str, Measured] = {}
    for name, method, measured in results:
        cells = []
        for tasks in GROUPS.values():
            rows = measured.select(tasks, method)
            text = cell(mean_of(rows, "kl"), 4)
            if method in first:
                text += f"; {cell(difference(rows, first[method].select(tasks, method), 'kl'), 4)}"
            cells.append(text)
        first.setdefault(method, measured)
        lines.append(line([name, *cells]))
    return lines


def compare_trainings(plan: dict[str, Any], args: argparse.Namespace) -> list[str]:
    results = []
    for variant in plan["variants"]:
        config = config_of(variant, args.config.parent, plan["steps"])
        folder = default_out("ablations") / config.name
        say(variant["name"])
        method = METHODS[config.adapter.kind]
        baselines = () if results else BASELINES
        measured = measure([train(config, args, folder)], [*baselines, method], args, folder / "measured")
        results.append((f"{variant['name']}, {config.total_steps} steps", method, measured))
    for path in args.adapter:
        header = read_header(path)
        kind, steps = header.settings.kind, header.training["steps"]
        say(f"{kind} as shipped")
        measured = measure([path], [METHODS[kind]], args, default_out("ablations") / f"shipped-{kind}")
        results.append((f"{kind} as shipped, {steps:,} steps", METHODS[kind], measured))
    return [
        "## Trained otherwise",
        "",
        "One seed each; behind the semicolon the difference to the first run of the kind, case by case.",
        "",
        *variant_table(results),
    ]


# -------------------------------------------------------------------------------------------------- settings


def erases_table(results: dict[int, Measured], methods: Sequence[str]) -> list[str]:
    """Methods down, spans erased at once across: KL along the right answer, and the share of right answers."""
    lines = head(["method", *(f"{n}, {what}" for n in results for what in ("KL", "exact match"))])
    for method in methods:
        cells = [cell(mean_of(measured.select(["several"], method), metric), digits)
                 for measured in results.values() for metric, digits in (("kl", 4), ("exact_match", 2))]  # fmt: skip
        lines.append(line([f"`{method}`", *cells]))
    return lines


def compare_settings(setting: dict[str, Any], args: argparse.Namespace) -> list[str]:
    title, methods = setting["title"], setting["methods"]
    say(title)
    folder = default_out("ablations") / slug(title)
    tasks = setting.get("tasks", TASKS)

    def run(name: str, *options: object, tokens: int | None = None) -> Measured:
        return measure(args.adapter, methods, args, folder / name, tasks, tokens, options)

    if "erases" in setting:
        lines = erases_table({n: run(str(n), "--erases", n) for n in setting["erases"]}, methods)
    elif "span_words" in setting:
        lines = span_table(run("spans", "--span-words", *setting["span_words"], tokens=setting["tokens"]))
    else:
        lines = group_table(groups_of(run("kinds")), methods)
    return ["", f"## {title}", "", *lines]


# -------------------------------------------------------------------------------------------------- document


def write(args: argparse.Namespace) -> None:
    plan = tomllib.loads(args.config.read_text(encoding="utf-8"))
    lines = [
        "# What matters",
        "",
        "Made by `python -m rasure_training.eraser.ablations` as `training/configs/ablations.toml` says, measured in the runtime "
        f"on {args.n} validation contexts a task, of about {args.tokens} tokens where nothing else is said. KL(exact || method) in "
        f"nats, in brackets 95 % intervals from a bootstrap over contexts. {NO_WIDTH}",
        "",
        *compare_trainings(plan, args),
    ]
    for setting in plan["settings"]:
        lines += compare_settings(setting, args)
    (args.out / "erase_ablations.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(f"wrote erase_ablations.md to {args.out}")


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
    args = parser.parse_args()
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
