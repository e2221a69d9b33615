"""How near to exact a suffix comes by how much of it is encoded again, for different ways to choose what: table and picture.

    python -m rasure_training.eraser.curve MODEL.gguf --data DATA --work FOLDER --out docs

In PyTorch, bfloat16 weights and float32 keys and values, so that no rounding of the cache hides the differences. Cases are made
for every task and evaluated into FOLDER; those that are there, made with the same arguments, are not evaluated again. Writes
NAME.md, .json and .svg.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from ..arguments import positive
from ..figures import clustered
from ..files import Row, sha256, write_json_lines
from ..gguf_model import ModelError, load_model
from ..pages import page
from ..runs import say
from ..text import SPLITS, DataError
from .corpus import Corpus
from .documents import Encoder
from .draft import ERASED_WORDS, Style
from .engine import Engine, MethodError, Settings
from .evaluate import SINKS, WINDOW, Evaluator
from .lora import EraserModel
from .make_cases import make_cases, task_list
from .measured import FAR, kl_of

SHARES = (2, 5, 10, 15, 30, 50)
# The ways to choose, by what the methods of each are called, from little work to much.
WAYS = {
    "the first behind the hole": [f"repair:{share}%+shift" for share in SHARES],
    "until it is quiet": [f"quiet:{bound}" for bound in (0.5, 0.3, 0.2, 0.1, 0.05)],
    "second layer (CacheBlend)": [f"blend:{share}%" for share in SHARES],
    "change in all layers": [f"most:{share}%" for share in SHARES],
    "echoes": [f"adaptive:echo={bound}" for bound in (2, 1, 0.5, 0.3, 0.1, 0.03)],
}
BASELINES = ("exact", "drop", "shift")


def evaluate(args: argparse.Namespace) -> list[Row]:
    """The outcomes of all tasks, of the folder or new."""
    args.work.mkdir(parents=True, exist_ok=True)
    corpus, style = Corpus.load(args.data, args.split), Style(span_words=ERASED_WORDS)
    methods = [*BASELINES, *(method for way in WAYS.values() for method in way)]
    loaded = load_model(args.model)
    evaluator: Evaluator | None = None
    rows: list[Row] = []
    for task in args.tasks:
        cases = list(make_cases(corpus, [task], args.n, args.tokens, args.seed, style, 4))
        path, outcomes = args.work / f"{task}.cases.jsonl", args.work / f"{task}.outcomes.json"
        write_json_lines(path, cases)
        inputs = {"cases": sha256(path), "model": loaded.file.sha256(), "methods": methods}
        if outcomes.exists() and (old := json.loads(outcomes.read_text(encoding="utf-8")))["inputs"] == inputs:
            rows += old["rows"]
            continue
        if evaluator is None:
            model = EraserModel(loaded, torch.bfloat16)
            evaluator = Evaluator(Encoder(loaded.file), {"": Engine(model, Settings("none", WINDOW, SINKS, 0))}, max_tokens=8)
        found = []
        for i, case in enumerate(cases, start=1):
            found += evaluator.run(case, methods)
            if i % 10 == 0:
                say(f"{task}: {i} of {len(cases)} cases")
        outcomes.write_text(json.dumps({"inputs": inputs, "rows": found}) + "\n", encoding="utf-8")
        rows += found
    return rows


def figures_of(rows: Sequence[Row]) -> list[Row]:
    """By way and method: KL and share of the suffix, over all cases and over those of the tasks that dropping does not do for."""
    suffix = {row["id"]: row["n_reencoded"] for row in rows if row["method"] == "exact"}
    dropped: dict[str, list[float]] = {}
    for row in rows:
        if row["method"] == "drop" and kl_of(row) is not None:
            dropped.setdefault(row["task"], []).append(kl_of(row) or 0.0)
    far = {task for task, values in dropped.items() if sum(values) / len(values) >= FAR}
    figures = []
    ways = {"": [method for method in BASELINES if method != "exact"]} | WAYS
    for kind, tasks in (("all", set(dropped)), ("far", far)):
        for way, methods in ways.items():
            for method in methods:
                known = [row for row in rows if row["method"] == method and row["task"] in tasks and kl_of(row) is not None
                         and suffix[row["id"]] > 0]  # fmt: skip
                if not known:
                    continue
                contexts = [row["context"] for row in known]
                figures.append({
                    "kind": kind, "tasks": sorted(tasks), "way": way, "method": method,
                    "kl": clustered([kl_of(row) for row in known], contexts),
                    "share": clustered([row["n_reencoded"] / suffix[row["id"]] for row in known], contexts),
                })  # fmt: skip
    return figures


def made_with(args: argparse.Namespace) -> Row:
    """What the page says of how its figures were measured."""
    return {"split": args.split, "seed": args.seed, "tasks": args.tasks, "contexts": args.n, "tokens": args.tokens, "far": FAR,
            "model_sha256": sha256(args.model)}  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="rasure_training.eraser.curve", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path, metavar="MODEL.gguf")
    parser.add_argument("--data", type=Path, required=True, help="folder of wiki_paragraphs.jsonl.gz and nq_passages.jsonl.gz")
    parser.add_argument("--work", type=Path, required=True, help="where cases and outcomes are kept")
    parser.add_argument("--out", type=Path, required=True, help="where the three files go")
    parser.add_argument("--name", default="erase_curve", help="of the three files (default: %(default)s)")
    parser.add_argument("--split", choices=SPLITS, default="validation", help="(default: %(default)s)")
    parser.add_argument("--tasks", type=task_list, default="conflict,redact,stale-before,derived,notes,echo,allusion,bystander",
                        help="with commas (default: %(default)s)")  # fmt: skip
    parser.add_argument("--n", type=positive, default=24, help="contexts a task (default: %(default)s)")
    parser.add_argument("--tokens", type=positive, default=420, help="length of a context, roughly (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=3, help="(default: %(default)s)")
    args = parser.parse_args()
    try:
        figures = figures_of(evaluate(args))
        page.write(args.out, args.name, "erase_curve", made_with(args), figures)
    except (ModelError, DataError, MethodError, OSError, ValueError, KeyError) as error:
        print(f"curve: {error}", file=sys.stderr)
        return 1
    print(f"wrote {args.name}.md, .json and .svg to {args.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
