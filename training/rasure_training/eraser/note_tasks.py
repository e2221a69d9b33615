"""Notes that a user leaves in a conversation and takes back."""

from __future__ import annotations

import random

from .corpus import Corpus
from .documents import Document, Piece, Plan, Probe, compose, tagged
from .draft import Draft, Group, Style, order, with_bystanders
from .fact_tasks import two_facts
from .facts import NOTE_OPENINGS, NOTE_REPLIES
from .prompts import ASSISTANT, END, SYSTEM, USER, question, turn_question
from .prose import WORDS_PER_TOKEN, draw_prose

READ_TURNS = {
    "train": ("I have just read this: ", "Thank you for sharing this."),
    "validation": ("This is from an article. ", "That is interesting."),
    "test": ("Have a look at this text. ", "I have read it."),
}


def notes_document(random_: random.Random, corpus: Corpus, n_tokens: int, n_units: int, style: Style) -> Document:
    """A conversation in which a user leaves notes; each unit erases a note's sentence, its value, or its turn."""
    draft = Draft(random_, corpus, style)
    split = corpus.split
    for _ in range(n_units):
        mode, tag = random_.choice(("conflict", "ask", "redact")), draft.tag()
        if mode == "conflict":
            erased, kept, tag, which = two_facts(draft)
            span, details = random_.choice((tag, f"{tag} turn")), {"erased": which}
        else:
            erased = kept = draft.fact()
            draft.insert_fact(erased, tag)
            draft.bystanders.append((len(draft.plans), erased))
            span, details = f"{tag} value" if mode == "redact" else random_.choice((tag, f"{tag} turn")), {}
        draft.plan("notes", kept.family.name, [span], [draft.probe(kept, erased)], mode=mode, **details)
    if style.bystander:
        other = draft.fact()
        draft.insert_fact(other, "bystander")
        draft.bystanders.append((None, other))

    turns = [_note_turn(random_, split, group) for group in order(random_, draft.groups)]
    missing = n_tokens * WORDS_PER_TOKEN - sum(len(piece.text.split()) for turn in turns for piece in turn)
    opening, reply = READ_TURNS[split]
    while missing > 0 or len(turns) <= len(draft.groups):
        text = draw_prose(random_, corpus.paragraphs, random_.randint(20, 80), 1, draft.known)
        turn = f"{USER}{opening}{''.join(text)}{END}{ASSISTANT}{reply}{END}"
        missing -= len(turn.split())
        turns.insert(random_.randint(0, len(turns)), [tagged(turn)])
    plans = [
        Plan(plan.task, plan.family, plan.tags, tuple(_as_turn(probe) for probe in plan.probes), plan.details)
        for plan in with_bystanders(draft)
    ]
    return compose(SYSTEM, [piece for turn in turns for piece in turn], plans, markers=True)


def _note_turn(random_: random.Random, split: str, group: Group) -> list[Piece]:
    """A user's turn with the sentences of `group` and the reply to it, all under the fact's tag + " turn"."""
    opening, closing = random_.choice(NOTE_OPENINGS[split]).split("{s}")
    pieces = group.pieces
    if opening.endswith(" "):
        opening = opening[:-1]
    else:
        pieces = [Piece(pieces[0].text[1:], pieces[0].tags), *pieces[1:]]
    tag = min(pieces[0].tags) + " turn"
    end = f"{closing}{END}{ASSISTANT}{random_.choice(NOTE_REPLIES[split])}{END}"
    turn = [tagged(USER + opening), *pieces, tagged(end)]
    return [Piece(piece.text, piece.tags | {tag}) for piece in turn]


def _as_turn(probe: Probe) -> Probe:
    asked = probe.question.removeprefix("\n\nQuestion: ").removesuffix(question("").removeprefix("\n\nQuestion: "))
    return Probe(probe.name, turn_question(asked), probe.cue, probe.target, probe.answers, probe.leaks, probe.leak_target)
