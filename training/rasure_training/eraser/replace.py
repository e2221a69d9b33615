"""New text in place of old: how near to reading the edited text anew each method comes.

    python -m rasure_training.eraser.replace RASURE MODEL.gguf --adapter bridge.gguf --data DATA --work FOLDER --out docs

A made-up fact stands in real prose, mostly with a sentence behind it that refers back to it. Its value is replaced by another one,
or its sentence by a longer or a shorter text with another value; then the new value is asked for, and another fact. Writes NAME.md,
.json and .svg.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Iterator

from ..archive import MeasuredError
from ..arguments import add_adapters, add_page, add_runtime, parse_runtime
from ..evaluated import evaluated, made_with
from ..figures import median_ms, over
from ..files import Row
from ..pages import page
from ..parts import PartError
from ..text import DataError
from .cases import document_cases
from .corpus import Corpus
from .documents import Document, tagged
from .draft import Draft, Style, finish
from .facts import CLAIMS

KINDS = ("value", "longer", "shorter")
METHODS = (
    "none",
    "exact",
    "drop",
    "drop+shift",
    "repair:16",
    "repair:16+shift",
    "bridge:16+shift",
    "adaptive",
    "repair:100%+shift",
)
MAX_TOKENS = 8


# --------------------------------------------------------------------------------------------------------- cases


def document(random_: random.Random, corpus: Corpus, kind: str, n_tokens: int) -> tuple[Document, str]:
    """The document, and what stands in place of its span afterwards."""
    draft = Draft(random_, corpus, Style())
    old = draft.fact()
    new, other, tag = draft.fact(like=old), draft.fact(), draft.tag()
    claim = random_.choice(CLAIMS[corpus.split])
    if kind == "value":
        draft.insert_fact(old, tag)
        tag, replacement = f"{tag} value", f" {new.value}"
    else:
        more = claim.format(claim=(old if kind == "shorter" else new).claim)
        said, replacement = (text.statement if kind == which else f"{text.statement} {more}"
                             for text, which in ((old, "longer"), (new, "shorter")))  # fmt: skip
        echo = [tagged(" " + old.echo(random_, corpus.split))] if random_.random() < draft.style.echo else []
        draft.insert([tagged(f" {said}", tag), *echo])
        replacement = f" {replacement}"
    draft.insert_fact(other, f"{tag} other")
    draft.plan(kind, old.family.name, [tag], [draft.probe(new, old), draft.probe(other, None, "bystander")])
    return finish(draft, n_tokens), replacement


def make_cases(corpus: Corpus, kind: str, n: int, n_tokens: int, seed: int) -> Iterator[Row]:
    for index in range(n):
        name = f"replace-{kind}-{corpus.split}-{n_tokens}-{seed}-{index}"
        made, replacement = document(random.Random(name), corpus, kind, n_tokens)
        for case in document_cases(made, name, name, corpus.split):
            yield case | {"replacement": replacement}


# ------------------------------------------------------------------------------------------------------- figures


def figures_of(outcomes: dict[str, list[Row]]) -> list[Row]:
    """By kind and method."""
    found = []
    for kind, rows in outcomes.items():
        for method in METHODS:
            mine = [row for row in rows if row["method"] == method]
            answers, others = ([row for row in mine if row["probe"] == probe] for probe in ("answer", "bystander"))
            found.append({
                "kind": kind, "method": method, "n_context": sum(row["n_context"] for row in mine) / len(mine),
                "kl": over(answers, "kl_target"), "kl_bystander": over(others, "kl_target"),
                "right": over(answers, "exact_match"), "said": over(answers, "leak"),
                "above": over(answers, "leak_minus_clean"), "recomputed": over(answers, "n_recomputed"),
                "ms": median_ms(answers),
            })  # fmt: skip
    return found


def run(args: argparse.Namespace) -> None:
    corpus = Corpus.load(args.data, args.split)
    cases = {f"new {kind}": list(make_cases(corpus, kind, args.n, args.tokens, args.seed)) for kind in KINDS}
    options = ["--methods", ",".join(METHODS), "--max-tokens", MAX_TOKENS]
    outcomes = evaluated(args, cases, *options, adapters=args.adapter)
    figures = figures_of({kind: outcomes[f"new {kind}"] for kind in KINDS})
    page.write(args.out, args.name, "replace", made_with(args, args.adapter), figures)


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="rasure_training.eraser.replace", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_runtime(parser)
    add_adapters(parser, required=True)
    add_page(parser, "replace")
    args = parse_runtime(parser)
    try:
        run(args)
    except (DataError, MeasuredError, PartError, OSError) as error:
        print(f"replace: {error}", file=sys.stderr)
        return 1
    print(f"wrote {args.name}.md, .json and .svg to {args.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
