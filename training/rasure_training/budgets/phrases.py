"""Wordings of the tasks that are not made of facts, split between training, validation and test."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Wording:
    """What stands in the context, what is asked, and how the answer begins."""

    name: str
    statement: str
    question: str
    cue: str


NUMBERS = range(20, 1000)  # that variables have

# {a} is given {b}, which is a number or the name of another variable. The cue wants the chain said to its end.
VARIABLES: dict[str, tuple[Wording, ...]] = {
    "train": (
        Wording("let", "Let {a} = {b}.", "What is {a} equal to? Say every step.", "Let {a} ="),
        Wording("set", "Set {a} = {b}.", "Which number is {a}, step by step?", "Set {a} ="),
    ),
    "validation": (Wording("value", "The value {a} = {b}.", "Which number does {a} have, step by step?", "The value {a} ="),),
    "test": (
        Wording("variable", "The variable {a} = {b}.", "What number is {a}? Show all steps.", "The variable {a} ="),
        Wording("assign", "We assign {a} = {b}.", "What is {a} in the end? Go step by step.", "We assign {a} ="),
    ),
}

# {list}: words with commas between.
WORD_LISTS: dict[str, tuple[Wording, ...]] = {
    "train": (Wording("frequent", "Here is a list of words: {list}.", "Which word is the most frequent one in the list of words?",
                      "The most frequent word in the list of words is"),),
    "validation": (Wording("votes", "These words were called out: {list}.", "Which word was called out most often?",
                           "The word that was called out most often is"),),
    "test": (Wording("written", "On the board these words are written: {list}.", "Which word is written on the board most often?",
                     "The word that is written on the board most often is"),),
}  # fmt: skip

# A list that is to be continued.
LISTS: dict[str, tuple[Wording, ...]] = {
    "train": (Wording("list", "The things in the box are: {list}.", "What is in the box?", "The things in the box are:"),),
    "validation": (Wording("list", "The password consists of the words {list}.", "Of which words does the password consist?",
                           "The password consists of the words"),),
    "test": (Wording("list", "In this order they bought {list}.", "What did they buy, in this order?",
                     "In this order they bought"),),
}  # fmt: skip

# A sentence of the prose that is to be continued.
SENTENCES: dict[str, tuple[str, ...]] = {
    "train": ("Copy the sentence of the text that begins with these words: {begin}",),
    "validation": ("Which sentence of the text has this beginning? {begin}",),
    "test": ("Repeat word for word the sentence of the text that begins like this: {begin}",),
}
