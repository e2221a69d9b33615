"""Tasks on real passages, one of them stale."""

from __future__ import annotations

import random
from collections.abc import Sequence

from .corpus import Corpus
from .documents import Document, Piece, Plan, Probe, compose, tagged
from .passages import Passage, other_answer
from .prompts import HEAD, question
from .prose import WORDS_PER_TOKEN

RECITED_WORDS = 9  # about twelve tokens


def _passage_probes(passage: Passage, wrong: str | None, name: str = "answer") -> list[Probe]:
    """Asks for the answer behind the beginning of its own sentence, and for the words before it."""
    asked = question(passage.question[:1].upper() + passage.question[1:] + "?")
    lead = passage.lead.split(" ")
    n = min(RECITED_WORDS, len(lead) - 3)
    answer = Probe(
        name,
        asked,
        passage.lead,
        f" {passage.answer}",
        (passage.answer,),
        (wrong,) if wrong else (),
        f" {wrong}" if wrong else "",
    )
    return [answer, Probe("recite", asked, " ".join(lead[:-n]), " " + " ".join(lead[-n:]))]


def passages_document(
    random_: random.Random, corpus: Corpus, n_tokens: int, tasks: Sequence[str], free: bool = False
) -> Document:
    """Passages, one of them twice with different answers. The first task says which stands first; a second one, "bystander",
    erases a passage that has nothing to do with the question. free: the question is also asked without a begun answer."""
    fresh = random_.choice(corpus.passages)
    wrong = other_answer(random_, corpus.passages, fresh)
    stale = Piece(fresh.with_answer(wrong), frozenset({"stale"}))
    others: list[Passage] = []
    missing = n_tokens * WORDS_PER_TOKEN - 2 * len(fresh.text.split())
    for passage in random_.sample(corpus.passages, len(corpus.passages)):
        if missing <= 0 and len(others) >= 2:
            break
        if passage.title != fresh.title and fresh.answer not in passage.text and wrong not in passage.text:
            others.append(passage)
            missing -= len(passage.text.split())
    pieces = [tagged(passage.text, f"other {i}") for i, passage in enumerate(others)]
    pair = [stale, tagged(fresh.text)] if tasks[0] == "stale-before" else [tagged(fresh.text), stale]
    first = random_.randint(0, len(pieces))
    second = random_.randint(first, len(pieces))
    pieces = [*pieces[:first], pair[0], *pieces[first:second], pair[1], *pieces[second:]]
    probes = _passage_probes(fresh, wrong)
    if free:
        probes.append(Probe("free", probes[0].question, answers=(fresh.answer,), leaks=(wrong,)))
    plans = [Plan(tasks[0], "passage", ("stale",), tuple(probes), {"title": fresh.title})]
    if "bystander" in tasks:
        erased, asked = random_.sample(range(len(others)), 2)
        probe = _passage_probes(others[asked], None, "bystander")[0]
        plans.append(Plan("bystander", "passage", (f"other {erased}",), (probe,), {"title": others[asked].title}))
    # Every passage is a paragraph; an erased one goes with the empty line before it.
    texts = [Piece(("\n\n" if i else "") + piece.text, piece.tags) for i, piece in enumerate(pieces)]
    return compose(HEAD, texts, plans)
