"""What many erases, one after another, add up to.

    python -m rasure_training.forgetting.many RASURE MODEL.gguf --adapter bridge.gguf --adapter steer.gguf --data DATA \\
        --work FOLDER --out docs

A context is a list of made-up facts with a sentence of real prose between any two. 1, 4, 16 or 64 of its facts are erased, each by a
call of its own, the first one first. The same erased fact is asked for each time, and a fact that always stays. Exact, which the
others are held against, takes all of them in one call; for comparison, so do some of the others where most are erased. Writes
NAME.md, .json and .svg.
"""

from __future__ import annotations

import argparse
import random
import sys
from dataclasses import dataclass

from ..archive import MeasuredError
from ..arguments import add_adapters, add_page, add_runtime, parse_runtime
from ..eraser.corpus import Corpus
from ..eraser.facts import Fact, draw_fact
from ..eraser.prompts import HEAD, question
from ..eraser.prose import sentences
from ..evaluated import evaluated, made_with
from ..figures import median_ms, over
from ..files import Row
from ..pages import page
from ..parts import PartError
from ..text import DataError
from .dependents import pieces_without

COUNTS = (1, 4, 16, 64)
METHODS = ("none", "exact", "drop", "shift", "repair:16+shift", "adaptive", "steer", "bridge:16+shift")
AT_ONCE = ("exact", "drop", "shift", "adaptive")  # in one call, too
ECHO = 0.7  # share of the contexts in which a later sentence refers back to the fact that is asked for
WORDS = (4, 10)  # of a sentence of prose
MAX_TOKENS = 8


@dataclass(frozen=True)
class Text:
    """Sentences, and where those stand that may be erased: that of `erased` first, the others in the order in which they join."""

    name: str
    sentences: tuple[str, ...]  # the first begins with the head of the chat template
    erased: Fact
    kept: Fact
    order: tuple[int, ...]


def draw_sentences(random_: random.Random, corpus: Corpus, n: int, barred: set[str]) -> list[str]:
    """Short sentences of different paragraphs without any of these words."""
    found: list[str] = []
    for paragraph in random_.sample(corpus.paragraphs, len(corpus.paragraphs)):
        short = [text for text in sentences(paragraph.text) if WORDS[0] <= len(text.split()) <= WORDS[1]]
        short = [text for text in short if text.endswith(".") and not barred & set(text.lower().rstrip(".").split())]
        if short:
            found.append(random_.choice(short))
        if len(found) == n:
            return found
    raise DataError(f"the data has too few short sentences for a text of {n}")


def make_text(random_: random.Random, corpus: Corpus, name: str) -> Text:
    split = corpus.split
    erased = draw_fact(random_, split)
    keys, facts = {erased.key}, [erased]
    while len(facts) < COUNTS[-1] + 1:
        fact = draw_fact(random_, split)
        if fact.key in keys or fact.value == erased.value or erased.value in fact.statement.split():
            continue  # what must not be said is nowhere else
        keys.add(fact.key)
        facts.append(fact)
    kept = facts.pop()
    barred = {word for fact in (erased, kept) for word in f"{fact.key} {fact.value}".lower().split()}
    stated = {i: f" {fact.statement}" for i, fact in enumerate([*facts, kept])}
    places = random_.sample(sorted(stated), len(stated))
    prose = draw_sentences(random_, corpus, len(places) + 1, barred)
    text, order = [HEAD + prose[0]], [0] * len(facts)
    for place, more in zip(places, prose[1:], strict=True):
        if place < len(facts):
            order[place] = len(text)
        text += [stated[place], f" {more}"]
    if random_.random() < ECHO:
        at = random_.randint(order[0] + 2, len(text))
        text.insert(at, f" {erased.echo(random_, split)}")
        order = [i + (i >= at) for i in order]
    return Text(name, tuple(text), erased, kept, tuple(order))


def make_texts(corpus: Corpus, n: int, seed: int) -> list[Text]:
    names = [f"many-{corpus.split}-{seed}-{index}" for index in range(n)]
    return [make_text(random.Random(name), corpus, name) for name in names]


def ask_cases(text: Text, count: int, split: str) -> list[Row]:
    pieces = pieces_without(text, set(text.order[:count]))
    cases = []
    for task, fact in (("erased", text.erased), ("kept", text.kept)):
        case = {"id": f"{text.name}-{count}-{task}", "context": text.name, "task": task, "family": fact.family.name, "split": split,
                "pieces": pieces, "question": question(fact.family.questions[split][0].format(k=fact.key)), "cue": fact.cue,
                "answers": [], "leaks": []}  # fmt: skip
        if task == "erased":
            case |= {"leaks": [fact.value], "leak_target": f" {fact.value}"}
        else:
            case |= {"answers": [fact.value], "target": f" {fact.value}."}
        cases.append(case)
    return cases


def figures_of(rows: dict[tuple[int, int], list[Row]]) -> list[Row]:
    """By number of erases, of calls for them, and method."""
    found = []
    for (count, calls), outcomes in rows.items():
        for method in METHODS if calls == count else AT_ONCE:
            mine = [row for row in outcomes if row["method"] == method]
            erased, kept = ([row for row in mine if row["task"] == task] for task in ("erased", "kept"))
            found.append({
                "erases": count, "calls": calls, "method": method,
                "n_context": sum(row["n_context"] for row in erased) / len(erased),
                "kl_erased": over(erased, "kl_to_exact"), "kl_kept": over(kept, "kl_target"),
                "right": over(kept, "exact_match"), "said": over(erased, "leak"), "above": over(erased, "leak_minus_clean"),
                "recomputed": over(erased, "n_recomputed"), "ms": median_ms(erased),
            })  # fmt: skip
    return found


def run(args: argparse.Namespace) -> None:
    corpus = Corpus.load(args.data, args.split)
    texts = make_texts(corpus, args.n, args.seed)
    cases = {f"{count} erases": [case for text in texts for case in ask_cases(text, count, args.split)] for count in COUNTS}
    options = ["--one-by-one", "--methods", ",".join(METHODS), "--max-tokens", MAX_TOKENS]
    outcomes = evaluated(args, cases, *options, adapters=args.adapter)
    rows = {(count, count): outcomes[f"{count} erases"] for count in COUNTS}
    most, together = COUNTS[-1], f"{COUNTS[-1]} at once"
    options = ["--methods", ",".join(AT_ONCE), "--max-tokens", MAX_TOKENS]
    rows[most, 1] = evaluated(args, {together: cases[f"{most} erases"]}, *options)[together]
    page.write(args.out, args.name, "many_erases", made_with(args, args.adapter), figures_of(rows))


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="rasure_training.forgetting.many", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_runtime(parser)
    add_adapters(parser, required=True)
    add_page(parser, "many_erases", tokens=None)
    args = parse_runtime(parser)
    try:
        run(args)
    except (DataError, MeasuredError, PartError, OSError) as error:
        print(f"many: {error}", file=sys.stderr)
        return 1
    print(f"wrote {args.name}.md, .json and .svg to {args.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
