"""Sentences that say or imply what was erased: whether rs_find_echoes finds them, and what it helps to erase them too.

    python -m rasure_training.forgetting.dependents RASURE MODEL.gguf --data DATA --work FOLDER --out docs

A made-up fact stands in real prose, and somewhere behind it a sentence that states what follows from it ("The country in which Ann
lives is Norway."), or one that refers back to it. Every later sentence is a candidate. Of the contexts with a derived sentence the
fact is then erased alone, with the sentence that is ranked first, or with the right one, and both the fact and what follows from it
are asked for; clean is the context that never held either. Writes NAME.md, .json and .svg.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from ..archive import MeasuredError
from ..arguments import add_page, add_runtime, parse_runtime
from ..eraser.corpus import Corpus
from ..eraser.facts import Fact, draw_fact
from ..eraser.prompts import HEAD, question
from ..eraser.prose import WORDS_PER_TOKEN, draw_prose
from ..evaluated import evaluated, made_with
from ..figures import clustered
from ..files import Row
from ..pages import page
from ..parts import PartError
from ..text import DataError

KINDS = ("derived", "echo")  # what the later sentence does
VARIANTS = ("fact", "fact and first", "fact and dependent")  # what is erased
METHODS = ("exact", "adaptive")
MAX_TOKENS = 8
BOUNDS = (0.5, 1.0, 2.0, 4.0, 8.0)  # nats from which on a sentence might be proposed


@dataclass(frozen=True)
class Text:
    """Sentences with a fact among them, and behind it one that depends on it."""

    name: str
    kind: str
    sentences: tuple[str, ...]  # the first begins with the head of the chat template
    fact: Fact
    erased: int
    dependent: int


# --------------------------------------------------------------------------------------------------------- texts


def make_text(random_: random.Random, corpus: Corpus, name: str, kind: str, n_tokens: int) -> Text:
    fact = draw_fact(random_, corpus.split, derivable=True)
    while fact.value in fact.family.derived[fact.value]:  # a butcher's butcher shop
        fact = draw_fact(random_, corpus.split, derivable=True)
    if kind == "derived":
        cue = fact.family.derived_cue.format(k=fact.key)
        later = f"{cue} {fact.family.derived[fact.value]}."
    else:
        later = fact.echo(random_, corpus.split)
    prose = draw_prose(random_, corpus.paragraphs, int(n_tokens * WORDS_PER_TOKEN), 8, [fact.key, fact.value])
    first = random_.randint(1, len(prose) - 4)
    second = random_.randint(first + 1, len(prose) - 1)  # with prose between, so that it stands apart
    sentences = [*prose[:first], f" {fact.statement}", *prose[first:second], f" {later}", *prose[second:]]
    return Text(name, kind, (HEAD + sentences[0], *sentences[1:]), fact, first, second + 1)


def make_texts(corpus: Corpus, kind: str, n: int, n_tokens: int, seed: int) -> list[Text]:
    found = []
    for index in range(n):
        name = f"{kind}-{corpus.split}-{n_tokens}-{seed}-{index}"
        found.append(make_text(random.Random(name), corpus, name, kind, n_tokens))
    return found


def find_case(text: Text, split: str) -> Row:
    return {"id": text.name, "context": text.name, "task": text.kind, "family": text.fact.family.name, "split": split,
            "pieces": list(text.sentences), "depends_on": text.erased, "dependent": [text.dependent]}  # fmt: skip


def pieces_without(text: Text, erased: set[int]) -> list[str]:
    """Kept, erased, kept, ...; neighbours together."""
    pieces = [""]
    for i, sentence in enumerate(text.sentences):
        if (i in erased) != (len(pieces) % 2 == 0):
            pieces.append("")
        pieces[-1] += sentence
    return pieces if len(pieces) % 2 else [*pieces, ""]


def ask_cases(text: Text, variant: str, erased: set[int], split: str) -> list[Row]:
    """The fact, and what follows from it, behind the text without some sentences."""
    fact, family = text.fact, text.fact.family
    follows = family.derived[fact.value]
    asked = {
        "fact": (question(family.questions[split][0].format(k=fact.key)), fact.cue, fact.value),
        "what follows": (question(family.derived_question.format(k=fact.key)), family.derived_cue.format(k=fact.key), follows),
    }
    return [{"id": f"{text.name}-{variant}-{name}", "context": text.name, "task": name, "probe": "answer", "family": family.name,
             "split": split, "pieces": pieces_without(text, erased), "question": question_, "cue": cue, "answers": [],
             "leaks": [value], "leak_target": f" {value}"} for name, (question_, cue, value) in asked.items()]  # fmt: skip


# ------------------------------------------------------------------------------------------------------- figures


def finding_figures(texts: Sequence[Text], rows: Sequence[Row]) -> Row:
    """How the dependent sentence stands among all later ones."""
    first, order, recall, extra = [], [], {bound: [] for bound in BOUNDS}, {bound: [] for bound in BOUNDS}
    for text, row in zip(texts, rows, strict=True):
        mine = row["nats"][text.dependent]
        others = [nats for i, nats in enumerate(row["nats"]) if nats is not None and i != text.dependent]
        first.append(float(mine > max(others)))
        order.append(sum((mine > other) + 0.5 * (mine == other) for other in others) / len(others))
        for bound in BOUNDS:
            recall[bound].append(float(mine >= bound))
            extra[bound].append(sum(other >= bound for other in others))
    names = [text.name for text in texts]
    later = [len(text.sentences) - text.erased - 2 for text in texts]
    return {
        "kind": texts[0].kind, "n_context": sum(row["n_context"] for row in rows) / len(rows), "others": sum(later) / len(later),
        "first": clustered(first, names), "order": clustered(order, names),
        "bounds": [{"nats": bound, "found": clustered(recall[bound], names), "others": clustered(extra[bound], names)}
                   for bound in BOUNDS],
    }  # fmt: skip


def asking_figures(rows: dict[str, list[Row]]) -> list[Row]:
    """By variant, method and question: log-probability of the value against that of the clean context, and how often it is said."""
    clean = {(row["context"], row["task"]): row["leak_logprob"] for row in rows["fact and dependent"] if row["method"] == "exact"}
    found = []
    for variant in VARIANTS:
        for method in METHODS:
            for task in ("fact", "what follows"):
                mine = [row for row in rows[variant] if row["method"] == method and row["task"] == task]
                contexts = [row["context"] for row in mine]
                found.append({
                    "variant": variant, "method": method, "task": task,
                    "above": clustered([row["leak_logprob"] - clean[row["context"], task] for row in mine], contexts),
                    "said": clustered([float(row["leak"]) for row in mine], contexts),
                })  # fmt: skip
    return found


def ranked_first(row: Row) -> int:
    """The sentence that loses most."""
    nats = {i: value for i, value in enumerate(row["nats"]) if value is not None}
    return max(nats, key=lambda i: nats[i])


def run(args: argparse.Namespace) -> None:
    corpus = Corpus.load(args.data, args.split)
    texts = {kind: make_texts(corpus, kind, args.n, args.tokens, args.seed) for kind in KINDS}
    ranked = evaluated(args, {kind: [find_case(text, args.split) for text in texts[kind]] for kind in KINDS})
    finding = [finding_figures(texts[kind], ranked[kind]) for kind in KINDS]
    asked: dict[str, list[Row]] = {variant: [] for variant in VARIANTS}
    for text, row in zip(texts["derived"], ranked["derived"], strict=True):
        for variant, more in zip(VARIANTS, (set(), {ranked_first(row)}, {text.dependent}), strict=True):
            asked[variant] += ask_cases(text, variant, {text.erased} | more, args.split)
    asking = asking_figures(evaluated(args, asked, "--methods", ",".join(METHODS), "--max-tokens", MAX_TOKENS))
    page.write(args.out, args.name, "dependents", made_with(args), [*finding, *asking])


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="rasure_training.forgetting.dependents", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_runtime(parser)
    add_page(parser, "dependents")
    args = parse_runtime(parser)
    try:
        run(args)
    except (DataError, MeasuredError, PartError, OSError) as error:
        print(f"dependents: {error}", file=sys.stderr)
        return 1
    print(f"wrote {args.name}.md, .json and .svg to {args.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
