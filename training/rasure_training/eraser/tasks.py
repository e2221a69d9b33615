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

import random

from .corpus import Corpus
from .documents import Document
from .draft import Style
from .fact_tasks import facts_document, several_document
from .neighbour_tasks import neighbours_document
from .note_tasks import notes_document
from .passage_tasks import passages_document

FACT_TASKS = ("conflict", "distractor", "bystander", "ask", "echo", "redact", "redact-two", "derived", "prose", "allusion")
STALE_TASKS = ("stale-before", "stale-after")
TASKS = (*FACT_TASKS, "instruction", *STALE_TASKS, "notes", "several", "neighbours")


def _weighted(random_: random.Random, weights: dict[str, float]) -> str:
    return random_.choices(list(weights), list(weights.values()))[0]


def training_document(
    random_: random.Random, corpus: Corpus, weights: dict[str, float], n_tokens: int, n_units: int, style: Style
) -> Document:
    """A document with about n_units units whose tasks are drawn by `weights` (task to weight)."""
    first = _weighted(random_, weights)
    if first == "neighbours":
        return neighbours_document(random_, corpus, n_tokens)
    if first in STALE_TASKS:
        return passages_document(random_, corpus, n_tokens, [first, "bystander"])
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
        return neighbours_document(random_, corpus, n_tokens)
    if task in STALE_TASKS:
        return passages_document(random_, corpus, n_tokens, [task], free=True)
    if task == "notes":
        return notes_document(random_, corpus, n_tokens, 1, style)
    if task == "several":
        return several_document(random_, corpus, n_tokens, erases, style)
    return facts_document(random_, corpus, n_tokens, [task], style)
