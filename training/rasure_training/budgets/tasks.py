"""Contexts and questions that a KV cache is tried on, task by task.

  needle     a fact among prose is asked for
  needles    four numbers of people, two of whom share a name; that of one of these two is asked for
  variables  variables are given numbers or the names of other variables, in chains; a step of a chain is asked for, and the
             answer is begun with the steps before it
  words      votes for words; the word that has most of them is asked for. Neither the first nor the last vote is for it
  turns      two facts in the first half of the text, asked for in two turns of a conversation
  copies     a sentence of the prose, or a list in it, is begun and is to be continued

Where something stands is drawn uniformly from 5 to 95 % of the text (turns: to 50 %; the votes take a stretch of 30 %).
Everything follows from the random generator that a function is given and from the texts of one split. Nothing is filtered by what
a model says about it.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

from ..eraser.facts import Fact, draw, draw_fact, split_of
from ..eraser.prompts import END, HEAD, question, turn_question
from ..eraser.prose import draw_prose
from ..eraser.words import INSTRUMENTS, ITEMS, JOBS, WORDS
from ..text import DataError, Paragraph
from .phrases import CODES, LISTS, SENTENCES, VARIABLES, VOTES

WORDS_PER_TOKEN = 0.63  # of Wikipedia's paragraphs in SmolLM2's vocabulary: they are full of names
HEAD_TOKENS = 45
SHALLOWEST, DEEPEST, HALF = 0.05, 0.95, 0.5

N_NEEDLES = 4
N_CHAINS, CHAIN = 2, 3  # chains, and variables of each
LEAST_NUMBER, MOST_NUMBER = 20, 999  # that variables have
N_VOTES, N_WON, STRETCH = 12, 8, 0.3  # votes, those for the asked word, and the share of the text that has them all
LIST_LENGTH, LIST_GIVEN, LIST_ASKED = 8, 3, 2  # words
SENTENCE_LENGTH, SENTENCE_GIVEN, SENTENCE_ASKED = 14, 9, 2  # words; the first: at least


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


def _place(depth: float, lengths: Sequence[int]) -> int:
    """Of texts of these lengths, the number after which the depth is nearest; at least 1."""
    ends = list(accumulate(lengths))
    return 1 + min(range(len(ends)), key=lambda i: abs(ends[i] - depth * ends[-1]))


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

    def names(self, n: int, source: Sequence[str]) -> list[str]:
        """Words of the split, which the prose does not have then."""
        words = self.random.sample([word for word in dict.fromkeys(source) if split_of(word) == self.split], n)
        self.known += words
        return words

    def prose(self) -> list[str]:
        n_words = int((self.n_tokens - HEAD_TOKENS) * WORDS_PER_TOKEN) - sum(len(text.split()) for _, text in self.inserted)
        return draw_prose(self.random, self.texts.paragraphs, max(40, n_words), 2, self.known)

    def finish(self) -> tuple[tuple[str, ...], list[int]]:
        """The pieces, and which of them each insertion is."""
        prose = self.prose()
        lengths = [len(sentence.split()) for sentence in prose]
        pieces, piece_of, done = [HEAD], [0] * len(self.inserted), 0
        for i in sorted(range(len(self.inserted)), key=lambda i: self.inserted[i][0]):
            depth, sentence = self.inserted[i]
            before = _place(depth, lengths)
            pieces[-1] += "".join(prose[done:before])
            done = before
            piece_of[i] = len(pieces)
            pieces += [sentence, ""]
        pieces[-1] += "".join(prose[done:])
        # Where sentences stand at one place, or at the end, there is nothing between or behind them.
        kept = [i for i, piece in enumerate(pieces) if piece]
        return tuple(pieces[i] for i in kept), [kept.index(i) for i in piece_of]

    def fact_question(self, fact: Fact) -> str:
        return fact.question(self.random, self.split)


def needle(draft: Draft) -> Item:
    fact = draw_fact(draft.random, draft.split)
    at = draft.insert_fact(fact)
    pieces, piece_of = draft.finish()
    asked = Question(question(draft.fact_question(fact)), fact.cue, (f" {fact.value}",), (piece_of[at],))
    return Item(fact.family.name, pieces, (asked,))


def _people(random_: random.Random, split: str) -> list[str]:
    """The second has the first or the last name of the first one, the others neither."""
    names = [draw(random_, "name", split)]
    while len(names) < N_NEEDLES:
        name = draw(random_, "name", split)
        alike = any(a == b for a, b in zip(name.split(), names[0].split(), strict=True))
        if name not in names and alike == (len(names) == 1):
            names.append(name)
    return names


def needles(draft: Draft) -> Item:
    random_, split = draft.random, draft.split
    wording = random_.choice(CODES[split])
    people = _people(random_, split)
    codes: list[str] = []
    while len(codes) < N_NEEDLES:
        code = draw(random_, "number", split)
        if code not in codes:
            codes.append(code)
    draft.known += people + codes
    at = [draft.insert(draft.depth(), wording.statement.format(k=k, v=v)) for k, v in zip(people, codes, strict=True)]
    pieces, piece_of = draft.finish()
    text, cue = wording.question.format(k=people[0]), wording.cue.format(k=people[0])
    return Item(wording.name, pieces, (Question(question(text), cue, (f" {codes[0]}",), (piece_of[at[0]],)),))


def variables(draft: Draft) -> Item:
    random_, split = draft.random, draft.split
    wording = random_.choice(VARIABLES[split])
    names = draft.names(N_CHAINS * CHAIN, WORDS)
    numbers = draft.names(N_CHAINS, [str(n) for n in range(LEAST_NUMBER, MOST_NUMBER + 1)])
    chains, places = [], []
    for i, number in enumerate(numbers):
        chain = [*names[i * CHAIN : (i + 1) * CHAIN], number]
        # What a variable is given is known before it.
        depths = sorted((draft.depth() for _ in range(CHAIN)), reverse=True)
        texts = (wording.statement.format(a=a, b=b) for a, b in pairwise(chain))
        chains.append(chain)
        places.append([draft.insert(depth, text) for depth, text in zip(depths, texts, strict=True)])
    pieces, piece_of = draft.finish()
    which, step = random_.randrange(N_CHAINS), random_.randrange(CHAIN)
    chain = chains[which]
    steps = [f"{wording.cue.format(a=a)} {b}. " for a, b in pairwise(chain[: step + 1])]
    cue = "".join(steps) + wording.cue.format(a=chain[step])
    evidence = (piece_of[places[which][step]],)
    return Item(wording.name, pieces, (
        Question(question(wording.question.format(a=chain[0])), cue, (f" {chain[step + 1]}",), evidence),
    ))  # fmt: skip


def words(draft: Draft) -> Item:
    wording = draft.random.choice(VOTES[draft.split])
    winner, *others = draft.names(1 + N_VOTES - N_WON, WORDS + ITEMS)
    first, last, *between = others
    votes = [winner] * N_WON + between
    draft.random.shuffle(votes)
    votes = [first, *votes, last]
    begin = draft.depth(DEEPEST - STRETCH)
    depths = sorted(draft.random.uniform(begin, begin + STRETCH) for _ in votes)
    at = [draft.insert(depth, wording.statement.format(w=vote)) for depth, vote in zip(depths, votes, strict=True)]
    pieces, piece_of = draft.finish()
    evidence = tuple(piece_of[i] for i, vote in zip(at, votes, strict=True) if vote == winner)
    return Item(wording.name, pieces, (Question(question(wording.question), wording.cue, (f" {winner}",), evidence),))


def turns(draft: Draft) -> Item:
    first = second = draw_fact(draft.random, draft.split)
    while second.family is first.family or second.key == first.key:
        second = draw_fact(draft.random, draft.split)
    at = [draft.insert_fact(fact, HALF) for fact in (first, second)]
    pieces, piece_of = draft.finish()
    texts = question(draft.fact_question(first)), END + turn_question(draft.fact_question(second))
    return Item(f"{first.family.name}, {second.family.name}", pieces, tuple(
        Question(text, fact.cue, (f" {fact.value}",), (piece_of[i],))
        for text, fact, i in zip(texts, (first, second), at, strict=True)
    ))  # fmt: skip


def _copied_list(draft: Draft) -> Item:
    wording = draft.random.choice(LISTS[draft.split])
    listed = draft.names(LIST_LENGTH, WORDS + ITEMS + JOBS + INSTRUMENTS)
    at = draft.insert(draft.depth(), wording.statement.format(list=", ".join(listed)))
    pieces, piece_of = draft.finish()
    cue = f"{wording.cue} {', '.join(listed[:LIST_GIVEN])},"
    answer = " " + ", ".join(listed[LIST_GIVEN : LIST_GIVEN + LIST_ASKED])
    return Item("list", pieces, (Question(question(wording.question), cue, (answer,), (piece_of[at],)),))


def _copied_sentence(draft: Draft) -> Item:
    prose = draft.prose()
    long = [i for i, sentence in enumerate(prose) if i > 0 and len(sentence.split()) >= SENTENCE_LENGTH]
    if not long:
        raise DataError("no sentence of the prose is long enough to be continued")
    wanted = _place(draft.depth(), [len(sentence.split()) for sentence in prose]) - 1
    at = min(long, key=lambda i: abs(i - wanted))
    spoken = prose[at].split()
    cue = " ".join(spoken[:SENTENCE_GIVEN])
    answer = " " + " ".join(spoken[SENTENCE_GIVEN : SENTENCE_GIVEN + SENTENCE_ASKED])
    pieces = (HEAD + "".join(prose[:at]), prose[at], "".join(prose[at + 1 :]))
    text = draft.random.choice(SENTENCES[draft.split])
    return Item("sentence", tuple(piece for piece in pieces if piece), (Question(question(text), cue, (answer,), (1,)),))


def copies(draft: Draft) -> Item:
    return draft.random.choice((_copied_list, _copied_sentence))(draft)


TASKS: dict[str, Callable[[Draft], Item]] = {
    "needle": needle, "needles": needles, "variables": variables, "words": words, "turns": turns, "copies": copies,
}  # fmt: skip
