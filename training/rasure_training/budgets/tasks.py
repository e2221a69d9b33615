"""Contexts and questions that a KV cache is tried on, task by task.

  needle     a fact among prose is asked for
  needles    four facts of one kind about people whose names are alike; one is asked for
  variables  variables are given numbers, or the names of other variables; one is followed to its number
  words      a list of words; the one that occurs most often is asked for
  turns      two facts in the first half of the text, asked for in two turns of a conversation
  copies     a sentence of the prose or a list in it is begun, and is to be continued

Where a fact stands is drawn uniformly from 5 to 95 % of the text (turns: to 50 %). Everything follows from the random generator
that a function is given and from the texts of one split. Nothing is filtered by what a model says about it.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate

from ..eraser.facts import FAMILIES, Fact, Family, draw, draw_fact, split_of
from ..eraser.prompts import END, HEAD, question, turn_question
from ..eraser.prose import draw_prose
from ..eraser.words import INSTRUMENTS, ITEMS, JOBS, SOURCES, WORDS
from ..text import DataError, Paragraph
from .phrases import LISTS, NUMBERS, SENTENCES, VARIABLES, WORD_LISTS

WORDS_PER_TOKEN = 0.63  # of Wikipedia's paragraphs in SmolLM2's vocabulary: they are full of names
HEAD_TOKENS = 45
SHALLOWEST, DEEPEST, HALF = 0.05, 0.95, 0.5

N_NEEDLES = 4
N_CHAINS, CHAIN = 2, 2  # chains, and variables of each
N_WORDS, N_FREQUENT, N_OTHERS = 30, 15, 5  # of a list, of the asked word in it, and how many other words there are
LIST_LENGTH, LIST_GIVEN, LIST_ASKED = 8, 3, 2
SENTENCE_LENGTH, SENTENCE_GIVEN, SENTENCE_ASKED = 14, 7, 3  # words


@dataclass(frozen=True)
class Texts:
    """The prose of one split."""

    split: str
    paragraphs: list[Paragraph]


@dataclass(frozen=True)
class Question:
    question: str  # ends where the answer begins; markers of the chat template count in it
    cue: str
    answers: tuple[str, ...]  # with the space before them: what the model would say
    evidence: tuple[int, ...]  # pieces that hold what must be known


@dataclass(frozen=True)
class Item:
    family: str
    pieces: tuple[str, ...]  # the first one begins with the head of the chat template
    questions: tuple[Question, ...]


class Draft:
    """A context in the making: prose, and sentences that are put into it."""

    def __init__(self, random_: random.Random, texts: Texts, n_tokens: int) -> None:
        self.random = random_
        self.texts = texts
        self.split = texts.split
        self.n_tokens = n_tokens
        self.inserted: list[tuple[float, str]] = []  # depth and sentence
        self.known: list[str] = []  # keys and values, which the prose must not have

    def depth(self, deepest: float = DEEPEST) -> float:
        return self.random.uniform(SHALLOWEST, deepest)

    def insert(self, depth: float, sentence: str) -> int:
        """The number by which `finish` says where the sentence is."""
        self.inserted.append((depth, " " + sentence))
        return len(self.inserted) - 1

    def insert_fact(self, fact: Fact, deepest: float = DEEPEST) -> int:
        self.known += [fact.key, fact.value]
        return self.insert(self.depth(deepest), fact.statement)

    def prose(self) -> list[str]:
        n_words = int((self.n_tokens - HEAD_TOKENS) * WORDS_PER_TOKEN) - sum(len(text.split()) for _, text in self.inserted)
        return draw_prose(self.random, self.texts.paragraphs, max(40, n_words), 2, self.known)

    def finish(self) -> tuple[tuple[str, ...], list[int]]:
        """The pieces, and which of them each insertion is."""
        prose = self.prose()
        ends = list(accumulate(len(sentence.split()) for sentence in prose))
        pieces, piece_of, done = [HEAD], [0] * len(self.inserted), 0
        for i in sorted(range(len(self.inserted)), key=lambda i: self.inserted[i][0]):
            depth, sentence = self.inserted[i]
            before = 1 + min(range(len(ends)), key=lambda k: abs(ends[k] - depth * ends[-1]))
            pieces[-1] += "".join(prose[done:before])
            done = before
            piece_of[i] = len(pieces)
            pieces += [sentence, ""]
        pieces[-1] += "".join(prose[done:])
        # Sentences at one place have nothing between them.
        kept = [i for i, piece in enumerate(pieces) if piece]
        return tuple(pieces[i] for i in kept), [kept.index(i) for i in piece_of]

    def ask(self, fact: Fact, evidence: int) -> Question:
        text = question(fact.question(self.random, self.split))
        return Question(text, fact.cue, (f" {fact.value}",), (evidence,))


def needle(draft: Draft) -> Item:
    fact = draw_fact(draft.random, draft.split)
    at = draft.insert_fact(fact)
    pieces, piece_of = draft.finish()
    return Item(fact.family.name, pieces, (draft.ask(fact, piece_of[at]),))


def _n_values(family: Family, split: str) -> int:
    source = SOURCES[family.value]
    return 1000 if isinstance(source, tuple) else sum(split_of(value) == split for value in source)


def _alike(random_: random.Random, split: str, n: int) -> list[str]:
    """Names of people: the second has the first name of the first one, the third its last name, and so on in turns."""
    names = [draw(random_, "name", split)]
    while len(names) < n:
        name = draw(random_, "name", split)
        part = (len(names) - 1) % 2
        if name not in names and name.split()[part] == names[0].split()[part]:
            names.append(name)
    return names


def needles(draft: Draft) -> Item:
    random_, split = draft.random, draft.split
    families = [f for f in FAMILIES if split in f.splits and f.key == "name" and _n_values(f, split) > N_NEEDLES]
    family = random_.choice(families)
    facts: list[Fact] = []
    for name in _alike(random_, split, N_NEEDLES):
        value = draw(random_, family.value, split)
        while any(value in fact.value or fact.value in value for fact in facts):
            value = draw(random_, family.value, split)
        facts.append(Fact(family, name, value, random_.choice(family.statements[split]).format(k=name, v=value)))
    at = [draft.insert_fact(fact) for fact in facts]
    pieces, piece_of = draft.finish()
    return Item(family.name, pieces, (draft.ask(facts[0], piece_of[at[0]]),))


def _names(random_: random.Random, split: str, n: int, source: Sequence[str]) -> list[str]:
    return random_.sample([word for word in source if split_of(word) == split], n)


def variables(draft: Draft) -> Item:
    random_, split = draft.random, draft.split
    wording = random_.choice(VARIABLES[split])
    names = _names(random_, split, N_CHAINS * CHAIN, WORDS)
    numbers = random_.sample([str(n) for n in NUMBERS if split_of(str(n)) == split], N_CHAINS)
    draft.known += names + numbers
    chains = []
    for i, number in enumerate(numbers):
        chain = [*names[i * CHAIN : (i + 1) * CHAIN], number]
        # What a variable is given is known before.
        depths = sorted((draft.depth() for _ in range(CHAIN)), reverse=True)
        at = [draft.insert(depth, wording.statement.format(a=a, b=b)) for depth, a, b in zip(depths, chain, chain[1:])]
        chains.append((chain, at))
    pieces, piece_of = draft.finish()
    chain, at = random_.choice(chains)
    asked = question(wording.question.format(a=chain[0]))
    evidence = tuple(sorted(piece_of[i] for i in at))
    return Item(
        wording.name, pieces, (Question(asked, wording.cue.format(a=chain[0]), (" " + " = ".join(chain[1:]),), evidence),)
    )


def words(draft: Draft) -> Item:
    random_, split = draft.random, draft.split
    wording = random_.choice(WORD_LISTS[split])
    frequent, *others = _names(random_, split, 1 + N_OTHERS, WORDS + ITEMS)
    listed = [frequent] * N_FREQUENT + [others[i % N_OTHERS] for i in range(N_WORDS - N_FREQUENT)]
    random_.shuffle(listed)
    draft.known += [frequent, *others]
    at = draft.insert(draft.depth(), wording.statement.format(list=", ".join(listed)))
    pieces, piece_of = draft.finish()
    asked = Question(question(wording.question), wording.cue, (f" {frequent}",), (piece_of[at],))
    return Item(wording.name, pieces, (asked,))


def turns(draft: Draft) -> Item:
    first = draw_fact(draft.random, draft.split)
    second = draw_fact(draft.random, draft.split, taken=frozenset([first.key]))
    while second.family is first.family:
        second = draw_fact(draft.random, draft.split, taken=frozenset([first.key]))
    at = [draft.insert_fact(fact, HALF) for fact in (first, second)]
    pieces, piece_of = draft.finish()
    asked = turn_question(second.question(draft.random, draft.split))
    again = Question(END + asked, second.cue, (f" {second.value}",), (piece_of[at[1]],))
    return Item(f"{first.family.name}, {second.family.name}", pieces, (draft.ask(first, piece_of[at[0]]), again))


def _copied_list(draft: Draft) -> Item:
    random_, split = draft.random, draft.split
    wording = random_.choice(LISTS[split])
    listed = _names(random_, split, LIST_LENGTH, WORDS + ITEMS + JOBS + INSTRUMENTS)
    draft.known += listed
    at = draft.insert(draft.depth(), wording.statement.format(list=", ".join(listed)))
    pieces, piece_of = draft.finish()
    given, asked = ", ".join(listed[:LIST_GIVEN]) + ",", ", ".join(listed[LIST_GIVEN : LIST_GIVEN + LIST_ASKED])
    return Item(
        "list", pieces, (Question(question(wording.question), f"{wording.cue} {given}", (f" {asked}",), (piece_of[at],)),)
    )


def _copied_sentence(draft: Draft) -> Item:
    prose = draft.prose()
    depth = draft.depth()
    total = sum(len(sentence) for sentence in prose)
    ends = list(accumulate(len(sentence) for sentence in prose))
    long = [i for i, sentence in enumerate(prose) if len(sentence.split()) >= SENTENCE_LENGTH and i > 0]
    if not long:
        raise DataError("no sentence is long enough")
    at = min(long, key=lambda i: abs(ends[i] - len(prose[i]) / 2 - depth * total))
    spoken = prose[at].split()
    given, asked = " ".join(spoken[:SENTENCE_GIVEN]), " ".join(spoken[SENTENCE_GIVEN : SENTENCE_GIVEN + SENTENCE_ASKED])
    pieces = tuple(piece for piece in (HEAD + "".join(prose[:at]), prose[at], "".join(prose[at + 1 :])) if piece)
    wanted = draft.random.choice(SENTENCES[draft.split]).format(begin=given)
    return Item("sentence", pieces, (Question(question(wanted), given, (f" {asked}",), (1,)),))


def copies(draft: Draft) -> Item:
    return draft.random.choice((_copied_list, _copied_sentence))(draft)


TASKS: dict[str, Callable[[Draft], Item]] = {
    "needle": needle, "needles": needles, "variables": variables, "words": words, "turns": turns, "copies": copies,
}  # fmt: skip
