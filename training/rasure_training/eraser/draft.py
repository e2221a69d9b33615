"""A document of real prose and inserted sentences in the making, with what is erased of it and what is asked."""

from __future__ import annotations

import math
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass

from .corpus import Corpus
from .documents import Document, Piece, Plan, Probe, compose, tagged
from .facts import Fact, draw_fact
from .prompts import HEAD, question
from .prose import WORDS_PER_TOKEN, draw_prose

ERASED_WORDS = (1, 180)  # of prose: 1 to about 256 tokens
CONTINUED_WORDS = 4  # of a continuation, as its question
CONTINUATION_WORDS = 49  # behind those four, in evaluation: about 64 tokens
FILLER = "filler"  # the tag of prose that no task has put there


@dataclass(frozen=True)
class Style:
    """How documents are made, apart from their tasks."""

    echo: float = 0.7  # share of the facts that a sentence right behind them refers back to
    bystander: float = 0.0  # share of units that are also asked for a fact they leave alone
    continuation: int = CONTINUATION_WORDS
    span_words: tuple[int, int] = ERASED_WORDS  # of erased prose


@dataclass
class Group:
    """Sentences that are inserted at one place."""

    pieces: list[Piece]
    after: int | None = None  # the group that comes earlier in the text


class Draft:
    """A document of prose and inserted sentences in the making."""

    def __init__(self, random_: random.Random, corpus: Corpus, style: Style) -> None:
        self.random = random_
        self.corpus = corpus
        self.split = corpus.split
        self.style = style
        self.groups: list[Group] = []
        self.plans: list[Plan] = []
        self.known: list[str] = []  # keys and values, which the prose must not have
        self.bystanders: list[tuple[int | None, Fact]] = []  # facts with one value, and the unit that erases them
        self.n_prose = 0

    def fact(self, like: Fact | None = None, derivable: bool = False) -> Fact:
        fact = draw_fact(self.random, self.split, like, derivable, frozenset(self.known))
        self.known += [fact.key, fact.value]
        return fact

    def tag(self) -> str:
        return f"unit {len(self.plans)}"

    def insert(self, pieces: list[Piece], after: int | None = None) -> int:
        self.groups.append(Group(pieces, after))
        return len(self.groups) - 1

    def fact_pieces(self, fact: Fact, tag: str, echo: bool) -> list[Piece]:
        """The sentence of a fact under `tag`, its value also under `tag` + " value", and maybe an echo of it."""
        begin, end = fact.value_at
        pieces = [
            tagged(" " + fact.statement[:begin], tag),
            tagged(fact.statement[begin:end], tag, f"{tag} value"),
            tagged(fact.statement[end:], tag),
        ]
        if echo:
            pieces.append(tagged(" " + fact.echo(self.random, self.split)))
        return pieces

    def insert_fact(self, fact: Fact, tag: str, after: int | None = None) -> int:
        return self.insert(self.fact_pieces(fact, tag, self.random.random() < self.style.echo), after)

    def probe(self, asked: Fact, erased: Fact | None, name: str = "answer") -> Probe:
        """Asks for a fact; what must not be said is the value of the erased one."""
        return Probe(
            name,
            question(asked.question(self.random, self.split)),
            asked.cue,
            target="" if asked is erased else f" {asked.value}.",
            answers=() if asked is erased else (asked.value,),
            leaks=(erased.value,) if erased else (),
            leak_target=f" {erased.value}" if erased else "",
        )

    def plan(self, task: str, family: str, tags: Sequence[str], probes: Sequence[Probe], **details: object) -> None:
        self.plans.append(Plan(task, family, tuple(tags), tuple(probes), details))


def order(random_: random.Random, groups: list[Group]) -> list[Group]:
    """A random order in which every group comes after the one that it must come after."""
    left = list(range(len(groups)))
    placed: list[int] = []
    while left:
        i = random_.choice([i for i in left if groups[i].after is None or groups[i].after in placed])
        left.remove(i)
        placed.append(i)
    return [groups[i] for i in placed]


def _erase_prose(random_: random.Random, pieces: list[Piece], tag: str, span_words: tuple[int, int]) -> list[Piece]:
    """Puts `tag` on a run of words of the prose, log-uniformly long, between insertions."""
    low, high = span_words
    n_words = round(math.exp(random_.uniform(math.log(low), math.log(high))))
    runs: list[tuple[int, int]] = []
    begin = 0
    for end in range(1, len(pieces) + 1):
        if end == len(pieces) or pieces[end].tags != pieces[begin].tags:
            if FILLER in pieces[begin].tags and len(pieces[begin].tags) == 1:
                runs.append((begin, end))
            begin = end
    # The very first word stays: a document begins with text.
    words_of = [re.findall(r"\s*\S+", "".join(piece.text for piece in pieces[b:e])) for b, e in runs]
    longest = max(len(words) for words in words_of)
    enough = [i for i, words in enumerate(words_of) if len(words) >= min(n_words + 1, longest)]
    chosen = random_.choice(enough)
    words = words_of[chosen]
    n_words = min(n_words, len(words) - 1)
    start = random_.randint(1, len(words) - n_words)
    cut = ["".join(words[:start]), "".join(words[start : start + n_words]), "".join(words[start + n_words :])]
    new = [tagged(cut[0], FILLER), tagged(cut[1], FILLER, tag), tagged(cut[2], FILLER)]
    begin, end = runs[chosen]
    return pieces[:begin] + [piece for piece in new if piece.text] + pieces[end:]


def _continuation(prose: list[str], n_words: int) -> tuple[list[str], str]:
    """Splits about n_words off the end: the prose before, and the words by which the text goes on."""
    words = re.findall(r"\s*\S+", "".join(prose))
    kept = len(words) - n_words
    length = sum(len(word) for word in words[:kept])
    before: list[str] = []
    for sentence in prose:
        if length <= 0:
            break
        before.append(sentence[:length])
        length -= len(sentence)
    return before, "".join(words[kept:])


def _prose_probe(continuation: str) -> Probe:
    words = re.findall(r"\s*\S+", continuation)
    return Probe("prose", "".join(words[:CONTINUED_WORDS]), target="".join(words[CONTINUED_WORDS:]))


def finish(draft: Draft, n_tokens: int) -> Document:
    """Puts what the draft holds into real prose, about n_tokens long."""
    random_, style = draft.random, draft.style
    inserted = sum(len(piece.text.split()) for group in draft.groups for piece in group.pieces)
    continued = style.continuation + CONTINUED_WORDS if draft.n_prose else 0
    n_words = max(40, int(n_tokens * WORDS_PER_TOKEN) - inserted) + continued
    # Several spans of one call have text between them and behind them.
    apart = any(len(plan.tags) > 1 for plan in draft.plans)
    prose = draw_prose(random_, draft.corpus.paragraphs, n_words, len(draft.groups) + 2 if apart else 2, draft.known)
    continuation = ""
    if draft.n_prose:
        prose, continuation = _continuation(prose, continued)
    if apart:
        places = sorted(random_.sample(range(1, len(prose)), len(draft.groups)))
    else:
        places = sorted(random_.randint(1, len(prose)) for _ in draft.groups)
    pieces: list[Piece] = []
    groups = iter(order(random_, draft.groups))
    for i, sentence in enumerate(prose, start=1):
        pieces.append(tagged(sentence, FILLER))
        for _ in range(places.count(i)):
            pieces += next(groups).pieces
    for _ in range(draft.n_prose):
        tag = draft.tag()
        pieces = _erase_prose(random_, pieces, tag, style.span_words)
        draft.plan("prose", "prose", [tag], [_prose_probe(continuation)])
    return compose(HEAD, pieces, with_bystanders(draft))


def with_bystanders(draft: Draft) -> list[Plan]:
    """The plans, some of them with a question for a fact that they leave alone."""
    plans = []
    for i, plan in enumerate(draft.plans):
        others = [fact for unit, fact in draft.bystanders if unit != i]
        if others and plan.task != "bystander" and draft.random.random() < draft.style.bystander:
            probe = draft.probe(draft.random.choice(others), None, "bystander")
            plan = Plan(plan.task, plan.family, plan.tags, (*plan.probes, probe), plan.details)
        plans.append(plan)
    return plans
