"""Tasks on made-up facts in real prose; `tasks` says what they are."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from .corpus import Corpus
from .documents import Document, Probe, tagged
from .draft import Draft, Style, finish
from .facts import CLAIMS, INSTRUCTIONS, Fact, draw
from .prompts import question
from .prose import draw_prose, sentences

MISLEADING_WORDS = (20, 100)


def two_facts(draft: Draft, derivable: bool = False) -> tuple[Fact, Fact, str, str]:
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
    erased, kept, tag, which = two_facts(draft)
    draft.plan("conflict", kept.family.name, [tag], [draft.probe(kept, erased)], erased=which)


def add_bystander(draft: Draft) -> None:
    erased, kept, tag, which = two_facts(draft)
    other = draft.fact()
    draft.insert_fact(other, f"{tag} other")
    draft.bystanders.append((None, other))
    draft.plan("bystander", other.family.name, [tag], [draft.probe(other, None, "bystander")], erased=which)


def add_redact_two(draft: Draft) -> None:
    erased, kept, tag, which = two_facts(draft)
    draft.plan("redact-two", kept.family.name, [f"{tag} value"], [draft.probe(kept, erased)], erased=which)


def add_derived(draft: Draft) -> None:
    erased, kept, tag, which = two_facts(draft, derivable=True)
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
    erased, kept, tag, which = two_facts(draft)
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


def facts_document(random_: random.Random, corpus: Corpus, n_tokens: int, tasks: Sequence[str], style: Style) -> Document:
    draft = Draft(random_, corpus, style)
    for task in tasks:
        ADD[task](draft)
    return finish(draft, n_tokens)


def several_document(random_: random.Random, corpus: Corpus, n_tokens: int, erases: int, style: Style) -> Document:
    draft = Draft(random_, corpus, style)
    add_several(draft, erases)
    return finish(draft, n_tokens)
