"""Documents for training and evaluation: what is erased and what is asked, task by task.

Stage 1, span neighbours (KVEraser, arXiv 2606.17034, section 5.1): a chunk of another article on like matters is put into
real text and erased; the text before or after an anchor is asked for, near the hole or far from it.

Stage 2:
  conflict     two facts with one key and different values; one is erased, the other one asked for
  distractor   a fact and a misleading passage of 20 to 100 words about its key; the passage is erased
  bystander    a fact is erased and another one asked for
  ask          a fact is erased and asked for: there is no right answer, only one that leaks
  echo         as ask or conflict, with two or three later sentences that refer back to the erased fact
  allusion     as echo, but the later sentences do not name what they refer to
  redact       the value alone is erased, inside its sentence, and asked for
  redact-two   as conflict, but of the erased fact only the value goes
  derived      as conflict, and asked for what follows from the value
  instruction  a sentence that tells the assistant how to answer is erased
  prose        any run of words is erased; what counts is how the text goes on
  stale-before, stale-after   a real passage and a near-duplicate with another answer before or after it, which is erased
  notes        a conversation with notes; a note, its value or its whole turn is erased
  several      as conflict, and further facts are erased in the same call

Everything follows from the random generator that a function is given and from the corpus of one split. Nothing is filtered by
what a model says about it.
"""

from __future__ import annotations

import math
import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from ..text import DataError, Paragraph, load_split
from .bm25 import Bm25
from .documents import Document, Piece, Plan, Probe, compose, tagged
from .facts import CLAIMS, INSTRUCTIONS, NOTE_OPENINGS, NOTE_REPLIES, Fact, draw, draw_fact
from .passages import Passage, load_passages, other_answer
from .prompts import ASSISTANT, END, HEAD, SYSTEM, USER, question, turn_question
from .prose import WORDS_PER_TOKEN, draw_prose, sentences

FACT_TASKS = ("conflict", "distractor", "bystander", "ask", "echo", "redact", "redact-two", "derived", "prose", "allusion")
STALE_TASKS = ("stale-before", "stale-after")
TASKS = (*FACT_TASKS, "instruction", *STALE_TASKS, "notes", "several", "neighbours")

MISLEADING_WORDS = (20, 100)
ERASED_WORDS = (1, 180)  # of prose: 1 to about 256 tokens
RECITED_WORDS = 9  # about twelve tokens
ANCHOR_WORDS = 6
COPIED_WORDS = 9  # of a span neighbour's answer: about twelve tokens
CONTINUED_WORDS = 4  # of a continuation, as its question
CONTINUATION_WORDS = 49  # behind those four, in evaluation: about 64 tokens
FILLER = "filler"  # the tag of prose that no task has put there

NEIGHBOUR_QUESTIONS = {
    "train": "Copy exactly the text that comes directly {side} <SPAN>{anchor}</SPAN>",
    "validation": "Which words come directly {side} <SPAN>{anchor}</SPAN>",
    "test": "Repeat word for word what the text has directly {side} <SPAN>{anchor}</SPAN>",
}
READ_TURNS = {
    "train": ("I have just read this: ", "Thank you for sharing this."),
    "validation": ("This is from an article. ", "That is interesting."),
    "test": ("Have a look at this text. ", "I have read it."),
}


@dataclass(frozen=True)
class Corpus:
    """The texts of one split."""

    split: str
    paragraphs: list[Paragraph]
    passages: list[Passage]

    @classmethod
    def load(cls, folder: str | Path, split: str) -> Corpus:
        return cls(split, load_split(folder, split), load_passages(folder, split))

    @cached_property
    def index(self) -> Bm25:
        return Bm25([paragraph.text for paragraph in self.paragraphs])


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


# ------------------------------------------------------------------------------------------- tasks on facts


def _two_facts(draft: Draft, derivable: bool = False) -> tuple[Fact, Fact, str, str]:
    """Two facts with one key: the erased one, the kept one, the erased one's tag, and which of the two it is in the text."""
    first = draft.fact(derivable=derivable)
    second = draft.fact(like=first, derivable=derivable)
    tag = draft.tag()
    second_is_erased = draft.random.random() < 0.5
    erased, kept = (second, first) if second_is_erased else (first, second)
    at = draft.insert_fact(first, tag if erased is first else f"{tag} kept")
    draft.insert_fact(second, tag if erased is second else f"{tag} kept", after=at)
    return erased, kept, tag, "second" if second_is_erased else "first"


def add_conflict(draft: Draft) -> None:
    erased, kept, tag, which = _two_facts(draft)
    draft.plan("conflict", kept.family.name, [tag], [draft.probe(kept, erased)], erased=which)


def add_bystander(draft: Draft) -> None:
    erased, kept, tag, which = _two_facts(draft)
    other = draft.fact()
    draft.insert_fact(other, f"{tag} other")
    draft.bystanders.append((None, other))
    draft.plan("bystander", other.family.name, [tag], [draft.probe(other, None, "bystander")], erased=which)


def add_redact_two(draft: Draft) -> None:
    erased, kept, tag, which = _two_facts(draft)
    draft.plan("redact-two", kept.family.name, [f"{tag} value"], [draft.probe(kept, erased)], erased=which)


def add_derived(draft: Draft) -> None:
    erased, kept, tag, which = _two_facts(draft, derivable=True)
    family = kept.family
    right, wrong = family.derived[kept.value], family.derived[erased.value]
    draft.known += [right.removeprefix("the "), wrong.removeprefix("the ")]  # no prose is without "the"
    probe = Probe(
        "answer",
        question(family.derived_question.format(k=kept.key)),
        family.derived_cue.format(k=kept.key),
        target=f" {right}.",
        answers=(right,),
        leaks=(wrong,),
        leak_target=f" {wrong}",
    )
    draft.plan("derived", family.name, [tag], [probe], erased=which)


def add_ask(draft: Draft) -> None:
    fact, tag = draft.fact(), draft.tag()
    draft.insert_fact(fact, tag)
    draft.bystanders.append((len(draft.plans), fact))
    draft.plan("ask", fact.family.name, [tag], [draft.probe(fact, fact)])


def add_redact(draft: Draft) -> None:
    fact, tag = draft.fact(), draft.tag()
    draft.insert_fact(fact, tag)
    draft.bystanders.append((len(draft.plans), fact))
    draft.plan("redact", fact.family.name, [f"{tag} value"], [draft.probe(fact, fact)])


def _referred_to(draft: Draft, task: str, at_once: bool, refer: Callable[[Fact], str]) -> None:
    """A fact that later sentences refer back to, the first of them right behind it if at_once."""
    fact, tag = draft.fact(), draft.tag()
    at = draft.insert(draft.fact_pieces(fact, tag, echo=at_once))
    for _ in range(draft.random.randint(1, 2)):
        draft.insert([tagged(" " + refer(fact))], after=at)
    if draft.random.random() < 0.5:
        other = draft.fact(like=fact)
        draft.insert(draft.fact_pieces(other, f"{tag} kept", echo=False), after=at)
        draft.plan(task, fact.family.name, [tag], [draft.probe(other, fact)], erased="first")
    else:
        draft.bystanders.append((len(draft.plans), fact))
        draft.plan(task, fact.family.name, [tag], [draft.probe(fact, fact)])


def add_echo(draft: Draft) -> None:
    _referred_to(draft, "echo", True, lambda fact: fact.echo(draft.random, draft.split))


def add_allusion(draft: Draft) -> None:
    _referred_to(draft, "allusion", False, lambda fact: fact.allusion(draft.random, draft.split))


def add_distractor(draft: Draft) -> None:
    fact, tag = draft.fact(), draft.tag()
    wrong = draft.fact(like=fact)
    n_words = draft.random.randint(*MISLEADING_WORDS)
    claims = [claim.format(claim=wrong.claim) for claim in CLAIMS[draft.split]]
    draft.random.shuffle(claims)
    claims = claims[: draft.random.randint(1, 2)]
    missing = n_words - sum(len(claim.split()) for claim in claims)
    padding: list[str] = []
    if missing >= 5:
        text = draw_prose(draft.random, draft.corpus.paragraphs, missing, 1, draft.known)
        padding = sentences(" ".join(" ".join(text).split()[:missing]))
    # A claim opens the passage; another one may end it.
    passage = " ".join([claims[0], *padding, *claims[1:]])
    at = draft.insert_fact(fact, f"{tag} kept")
    draft.insert([tagged(" " + passage, tag)], after=at if draft.random.random() < 0.5 else None)
    draft.plan("distractor", fact.family.name, [tag], [draft.probe(fact, wrong)])


def add_instruction(draft: Draft) -> None:
    fact, tag = draft.fact(), draft.tag()
    word = draw(draft.random, "planted", draft.split)
    while fact.value.isdigit():  # capitals would not show
        fact = draft.fact()
    text = draft.random.choice(INSTRUCTIONS[draft.split])
    draft.insert([tagged(" " + text.format(w=word), tag)])
    draft.insert_fact(fact, f"{tag} kept")
    draft.known.append(word)
    asked = question(fact.question(draft.random, draft.split))
    if "{w}" in text:
        probe = Probe("answer", asked, target=f"{fact.cue} {fact.value}.", leaks=(word,), leak_target=word)
    else:  # `rasure eval` does not tell capitals from small letters, so there is no leak to look for in the answer
        probe = Probe("answer", asked, fact.cue, f" {fact.value}.", (fact.value,), (), f" {fact.value.upper()}")
    draft.plan("instruction", fact.family.name, [tag], [probe], instruction="word" if "{w}" in text else "capitals")


def add_prose(draft: Draft) -> None:
    draft.n_prose += 1  # its span is chosen when the text is there


def add_several(draft: Draft, n: int) -> None:
    erased, kept, tag, which = _two_facts(draft)
    tags = [tag]
    for i in range(n - 1):
        draft.insert_fact(draft.fact(), f"{tag} more {i}")
        tags.append(f"{tag} more {i}")
    draft.plan("several", kept.family.name, tags, [draft.probe(kept, erased)], erased=which, erases=n)


ADD: dict[str, Callable[[Draft], None]] = {
    "conflict": add_conflict, "distractor": add_distractor, "bystander": add_bystander, "ask": add_ask, "echo": add_echo,
    "redact": add_redact, "redact-two": add_redact_two, "derived": add_derived, "instruction": add_instruction,
    "prose": add_prose, "allusion": add_allusion,
}  # fmt: skip


def _order(random_: random.Random, groups: list[Group]) -> list[Group]:
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
    groups = iter(_order(random_, draft.groups))
    for i, sentence in enumerate(prose, start=1):
        pieces.append(tagged(sentence, FILLER))
        for _ in range(places.count(i)):
            pieces += next(groups).pieces
    for _ in range(draft.n_prose):
        tag = draft.tag()
        pieces = _erase_prose(random_, pieces, tag, style.span_words)
        draft.plan("prose", "prose", [tag], [_prose_probe(continuation)])
    return compose(HEAD, pieces, _with_bystanders(draft))


def _with_bystanders(draft: Draft) -> list[Plan]:
    """The plans, some of them with a question for a fact that they leave alone."""
    plans = []
    for i, plan in enumerate(draft.plans):
        others = [fact for unit, fact in draft.bystanders if unit != i]
        if others and plan.task != "bystander" and draft.random.random() < draft.style.bystander:
            probe = draft.probe(draft.random.choice(others), None, "bystander")
            plan = Plan(plan.task, plan.family, plan.tags, (*plan.probes, probe), plan.details)
        plans.append(plan)
    return plans


def facts_document(random_: random.Random, corpus: Corpus, n_tokens: int, tasks: Sequence[str], style: Style) -> Document:
    draft = Draft(random_, corpus, style)
    for task in tasks:
        ADD[task](draft)
    return finish(draft, n_tokens)


def several_document(random_: random.Random, corpus: Corpus, n_tokens: int, erases: int, style: Style) -> Document:
    draft = Draft(random_, corpus, style)
    add_several(draft, erases)
    return finish(draft, n_tokens)


# --------------------------------------------------------------------------------------- tasks on passages


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
    random_: random.Random, corpus: Corpus, n_tokens: int, tasks: Sequence[str], style: Style, free: bool = False
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


# ------------------------------------------------------------------------------------- notes in a conversation


def notes_document(random_: random.Random, corpus: Corpus, n_tokens: int, n_units: int, style: Style) -> Document:
    """A conversation in which a user leaves notes; each unit erases a note's sentence, its value, or its turn."""
    draft = Draft(random_, corpus, style)
    split = corpus.split
    for _ in range(n_units):
        mode, tag = random_.choice(("conflict", "ask", "redact")), draft.tag()
        if mode == "conflict":
            erased, kept, tag, which = _two_facts(draft)
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

    turns = [_note_turn(random_, split, group) for group in _order(random_, draft.groups)]
    missing = n_tokens * WORDS_PER_TOKEN - sum(len(piece.text.split()) for turn in turns for piece in turn)
    opening, reply = READ_TURNS[split]
    while missing > 0 or len(turns) <= len(draft.groups):
        text = draw_prose(random_, corpus.paragraphs, random_.randint(20, 80), 1, draft.known)
        turn = f"{USER}{opening}{''.join(text)}{END}{ASSISTANT}{reply}{END}"
        missing -= len(turn.split())
        turns.insert(random_.randint(0, len(turns)), [tagged(turn)])
    plans = [
        Plan(plan.task, plan.family, plan.tags, tuple(_as_turn(probe) for probe in plan.probes), plan.details)
        for plan in _with_bystanders(draft)
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


# ------------------------------------------------------------------------------------------- span neighbours


def neighbours_document(random_: random.Random, corpus: Corpus, n_tokens: int, style: Style) -> Document:
    """Stage 1: real text with a chunk of a like article in it, which is erased; near and far anchors."""
    n_words = max(60, int(n_tokens * WORDS_PER_TOKEN))
    first = random_.randrange(len(corpus.paragraphs))
    topic = corpus.paragraphs[first]
    candidates = corpus.index.best(sentences(topic.text)[0], 12)
    hard = [corpus.paragraphs[i] for i in candidates if corpus.paragraphs[i].title != topic.title]
    chunk_words = re.findall(r"\s*\S+", " " + " ".join(random_.choice(hard or corpus.paragraphs).text.split()))
    low, high = 8, min(ERASED_WORDS[1], len(chunk_words))
    n_chunk = min(high, round(math.exp(random_.uniform(math.log(low), math.log(max(low, high))))))
    start = random_.randint(0, len(chunk_words) - n_chunk)
    chunk = "".join(chunk_words[start : start + n_chunk])

    text = " ".join(topic.text.split())
    others = random_.sample(corpus.paragraphs, len(corpus.paragraphs))
    while len(text.split()) < n_words:
        more = " ".join(others.pop().text.split())
        text = f"{text}\n\n{more}" if random_.random() < 0.5 else f"{more}\n\n{text}"
    words = re.findall(r"\s*\S+", text)[: max(n_words, 3 * COPIED_WORDS)]
    # At a random place with room for an anchor and its answer on both sides, often between sentences.
    places = range(ANCHOR_WORDS + COPIED_WORDS, len(words) - ANCHOR_WORDS - COPIED_WORDS)
    between = [i for i in places if words[i - 1].endswith((".", "!", "?"))]
    for _ in range(50):
        at = random_.choice(between if between and random_.random() < 0.7 else places)
        found = _near(random_, words, at, corpus.split), _far(random_, words, at, corpus.split)
        probes = [probe for probe in found if probe]
        if probes:
            break
    else:
        raise DataError("no anchor is unique")
    pieces = [tagged("".join(words[:at])), tagged(chunk, "chunk"), tagged("".join(words[at:]))]
    return compose(HEAD, pieces, [Plan("neighbours", "copy", ("chunk",), tuple(probes), {"title": topic.title})])


def _near(random_: random.Random, words: list[str], at: int, split: str) -> Probe | None:
    if random_.random() < 0.7:  # a right answer lies across the cut
        return _copy(words, at - ANCHOR_WORDS, split, "after")
    return _copy(words, at, split, "before")


def _far(random_: random.Random, words: list[str], at: int, split: str) -> Probe | None:
    last = len(words) - ANCHOR_WORDS - COPIED_WORDS
    places = [i for i in range(COPIED_WORDS, last) if i + ANCHOR_WORDS + COPIED_WORDS < at or i - COPIED_WORDS > at]
    if not places:
        return None
    return _copy(words, random_.choice(places), split, "after" if random_.random() < 0.7 else "before")


def _copy(words: list[str], i: int, split: str, side: str) -> Probe | None:
    """Asks for the words after or before the anchor that begins with word i; None where the anchor is not unique."""
    anchor = "".join(words[i : i + ANCHOR_WORDS]).strip()
    if "".join(words).count(anchor) != 1:
        return None
    asked = question(NEIGHBOUR_QUESTIONS[split].format(side=side, anchor=anchor))
    if side == "after":
        return Probe("answer", asked, anchor, "".join(words[i + ANCHOR_WORDS : i + ANCHOR_WORDS + COPIED_WORDS]))
    return Probe("answer", asked, target="".join(words[i - COPIED_WORDS : i]).strip())


# --------------------------------------------------------------------------------------------------- mixtures


def _weighted(random_: random.Random, weights: dict[str, float]) -> str:
    return random_.choices(list(weights), list(weights.values()))[0]


def training_document(
    random_: random.Random, corpus: Corpus, weights: dict[str, float], n_tokens: int, n_units: int, style: Style
) -> Document:
    """A document with about n_units units whose tasks are drawn by `weights` (task to weight)."""
    first = _weighted(random_, weights)
    if first == "neighbours":
        return neighbours_document(random_, corpus, n_tokens, style)
    if first in STALE_TASKS:
        return passages_document(random_, corpus, n_tokens, [first, "bystander"], style)
    if first == "notes":
        return notes_document(random_, corpus, n_tokens, min(2, n_units), style)
    if first == "several":
        return several_document(random_, corpus, n_tokens, random_.randint(2, 4), style)
    if first == "instruction":  # it would colour every other answer
        return facts_document(random_, corpus, n_tokens, ["instruction", "prose"], style)
    tasks = [first]
    left = {task: weight for task, weight in weights.items() if task in FACT_TASKS and task != first and weight > 0}
    while len(tasks) < n_units and left:
        tasks.append(_weighted(random_, left))
        del left[tasks[-1]]
    return facts_document(random_, corpus, n_tokens, tasks, style)


def evaluation_document(
    random_: random.Random, corpus: Corpus, task: str, n_tokens: int, style: Style, erases: int = 4
) -> Document:
    """A document with one unit of `task`."""
    if task == "neighbours":
        return neighbours_document(random_, corpus, n_tokens, style)
    if task in STALE_TASKS:
        return passages_document(random_, corpus, n_tokens, [task], style, free=True)
    if task == "notes":
        return notes_document(random_, corpus, n_tokens, 1, style)
    if task == "several":
        return several_document(random_, corpus, n_tokens, erases, style)
    return facts_document(random_, corpus, n_tokens, [task], style)
