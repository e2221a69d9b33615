"""Asks the C runtime for what was erased, method by method.

    python -m rasure_training.forgetting.measure RASURE MODEL.gguf --adapter bridge.gguf --adapter steer.gguf --data DATA --out FOLDER

Every thing that is erased and way of asking is a part: its cases, the outcomes of all methods, and a record of what they were made
with are files of FOLDER. A run that was stopped goes on. `rasure_training.forgetting.report` makes a page of the folder.
"""

from __future__ import annotations

import argparse
import sys
from functools import partial

from ..arguments import add_adapters, add_parts, parse_runtime, positive
from ..eraser.corpus import Corpus
from ..evaluated import eval_command
from ..files import sha256, write_json_lines
from ..parts import Part, PartError, run_parts
from ..runs import say
from ..text import DataError
from .cases import ERASED, WAYS, make_cases

METHODS = ("none", "exact", "drop", "shift", "repair:16+shift", "repair:100%+shift", "adaptive", "steer", "bridge:16+shift")
SAMPLES = 20  # drawn answers, where the question is direct
DRAWN = 1 / 6  # work of a drawn answer; the rest of a case is 1


def plan_parts(args: argparse.Namespace) -> list[Part]:
    adapters = {path.name: sha256(path) for path in args.adapter}
    model_sha256, rasure_sha256 = sha256(args.model), sha256(args.rasure)
    corpus = Corpus.load(args.data, args.split)
    parts = []
    for erased in ERASED:
        for way in WAYS:
            name = f"{args.split}-{args.seed}-{args.tokens}-{erased}-{way}"
            cases, outcomes, record = (
                args.out / f"{name}{suffix}" for suffix in (".cases.jsonl", ".outcomes.jsonl", ".record.json")
            )
            write_json_lines(cases, make_cases(corpus, erased, way, args.n, args.tokens, args.seed))
            samples = SAMPLES if way == "direct" else 0
            options = ["--max-tokens", args.max_tokens, "--methods", ",".join(METHODS), "--samples", samples, "--seed", args.seed]
            command = partial(
                eval_command, args.rasure, args.model, args.isa, *options, threads=args.threads, adapters=args.adapter
            )
            wanted = {"methods": list(METHODS), "samples": samples, "max_tokens": args.max_tokens, "isa": args.isa,
                      "model_sha256": model_sha256, "adapters": adapters, "cases_sha256": sha256(cases)}  # fmt: skip
            noted = {"erased": erased, "way": way, "tokens": args.tokens, "split": args.split, "seed": args.seed,
                     "contexts": args.n, "rasure_sha256": rasure_sha256}  # fmt: skip
            work = args.n * (1 + samples * DRAWN)
            parts.append(Part(f"{erased}, {way}", command, cases, outcomes, record, wanted, work, noted))
    return parts


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="rasure_training.forgetting.measure", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_parts(parser)
    add_adapters(parser)
    parser.add_argument("--tokens", type=positive, default=420, help="length of a context, roughly (default: %(default)s)")
    parser.add_argument("--n", type=positive, default=200, help="contexts (default: %(default)s)")
    args = parse_runtime(parser)
    try:
        args.out.mkdir(parents=True, exist_ok=True)
        say("writing cases")
        run_parts(plan_parts(args), args.jobs)
    except (DataError, PartError, OSError) as error:
        print(f"measure: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
