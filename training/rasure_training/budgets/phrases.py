"""Wordings of the tasks that are not made of facts, split between training, validation and test.

The default model is a small one. It follows an equals sign better than a sentence, and a cue that is said as in the text better than
one that is not; so these are like that.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Wording:
    """What stands in the context, what is asked, and how the answer begins. The name tells families apart."""

    name: str
    statement: str
    question: str
    cue: str


# {k} has the number {v}.
CODES: dict[str, tuple[Wording, ...]] = {
    "train": (
        Wording("number", "The secret number of {k} = {v}.", "What is the secret number of {k}?", "The secret number of {k} ="),
        Wording("phone", "The telephone of {k} = {v}.", "What is the telephone number of {k}?", "The telephone of {k} ="),
    ),
    "validation": (Wording("code", "The code of {k} = {v}.", "What is the code of {k}?", "The code of {k} ="),),
    "test": (
        Wording("password", "The password of {k} = {v}.", "Which password does {k} have?", "The password of {k} ="),
        Wording("locker", "The locker of {k} = {v}.", "Which locker belongs to {k}?", "The locker of {k} ="),
    ),
}

# {a} is given {b}, which is a number or the name of another variable.
VARIABLES: dict[str, tuple[Wording, ...]] = {
    "train": (
        Wording("let", "Let {a} = {b}.", "What is {a} equal to?", "Let {a} ="),
        Wording("name", "The name {a} = {b}.", "What does the name {a} stand for?", "The name {a} ="),
    ),
    "validation": (Wording("variable", "The variable {a} = {b}.", "What is the value of {a}?", "The variable {a} ="),),
    "test": (
        Wording("value", "The value {a} = {b}.", "What value does {a} have?", "The value {a} ="),
        Wording("symbol", "The symbol {a} = {b}.", "What does {a} stand for?", "The symbol {a} ="),
    ),
}

# A vote for {w}.
VOTES: dict[str, tuple[Wording, ...]] = {
    "train": (Wording("ballot", "The ballot = {w}.", "Which word is on most of the ballots?", "The ballot ="),),
    "validation": (Wording("vote", "The vote = {w}.", "Which word has most of the votes?", "The vote ="),),
    "test": (
        Wording("choice", "The choice = {w}.", "Which word was chosen most often?", "The choice ="),
        Wording("wish", "The wish = {w}.", "Which word was wished for most often?", "The wish ="),
    ),
}

# {list}: words with commas between.
LISTS: dict[str, tuple[Wording, ...]] = {
    "train": (Wording("box", "The things in the box are {list}.", "What is in the box?", "The things in the box are"),),
    "validation": (Wording("words", "The password consists of the words {list}.", "Of which words does the password consist?",
                           "The password consists of the words"),),
    "test": (
        Wording("order", "In this order they bought {list}.", "What did they buy, in this order?", "In this order they bought"),
        Wording("shelf", "On the shelf there are {list}.", "What is on the shelf?", "On the shelf there are"),
    ),
}  # fmt: skip

# A sentence of the prose is asked for. Its beginning follows as the cue; in the question it would be found first.
SENTENCES: dict[str, tuple[str, ...]] = {
    "train": ("Copy the sentence of the text that begins with the following words.",),
    "validation": ("Which sentence of the text has this beginning?",),
    "test": ("Repeat word for word the sentence of the text that begins like this.", "How does this sentence of the text go on?"),
}
