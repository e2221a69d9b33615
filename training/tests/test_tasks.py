"""Documents: what is in them, that the splits share nothing, and that token ranges are right."""

from __future__ import annotations

import random
import re
from pathlib import Path

import pytest

from rasure_training.eraser import facts
from rasure_training.eraser.bm25 import Bm25
from rasure_training.eraser.cases import document_cases, encode_case
from rasure_training.eraser.corpus import Corpus
from rasure_training.eraser.documents import Document, Encoder, encode_document
from rasure_training.eraser.draft import Style
from rasure_training.eraser.facts import FAMILIES, draw_fact
from rasure_training.eraser.passages import load_passages, other_answer, parse_passage
from rasure_training.eraser.tasks import TASKS, evaluation_document, training_document
from rasure_training.gguf_model import GgufModel
from rasure_training.text import SPLITS, load_split

WEIGHTS = {task: 1.0 for task in TASKS}


@pytest.fixture(scope="module")
def corpora(data: Path) -> dict[str, Corpus]:
    return {split: Corpus.load(data, split) for split in SPLITS}


@pytest.fixture(scope="module")
def encoder(llama: GgufModel) -> Encoder:
    return Encoder(llama.file)


def documents(corpus: Corpus, task: str, n: int = 12, n_tokens: int = 300) -> list[Document]:
    return [evaluation_document(random.Random(f"{corpus.split} {task} {i}"), corpus, task, n_tokens, Style()) for i in range(n)]


def test_titles_are_split(data: Path) -> None:
    titles = {split: {p.title for p in load_split(data, split)} for split in SPLITS}
    topics = {split: {p.title for p in load_passages(data, split)} for split in SPLITS}
    for found, whole in ((titles, 400), (topics, 300)):
        assert sum(len(part) for part in found.values()) == whole  # nothing twice, nothing lost
        assert all(len(part) > 10 for part in found.values())


def test_keys_and_values_are_split() -> None:
    """Of thousands of facts, no key and no value of a family that several splits have is in two of them."""
    keys: dict[str, set[str]] = {split: set() for split in SPLITS}
    values: dict[str, set[tuple[str, str]]] = {split: set() for split in SPLITS}
    sentences: dict[str, set[str]] = {split: set() for split in SPLITS}
    for split in SPLITS:
        random_ = random.Random(split)
        for _ in range(3000):
            fact = draw_fact(random_, split)
            keys[split].add(fact.key)
            values[split].add((fact.family.value, fact.value))
            sentences[split].add(fact.statement.replace(fact.key, "K").replace(fact.value, "V"))
    for a, b in (("train", "validation"), ("train", "test"), ("validation", "test")):
        assert not keys[a] & keys[b]
        assert not values[a] & values[b]
        assert not sentences[a] & sentences[b]


def test_phrasings_are_split() -> None:
    for family in FAMILIES:
        for by_split in (family.statements, family.echoes, family.questions):
            everything = [text for texts in by_split.values() for text in texts]
            assert len(everything) == len(set(everything)), family.name
            assert all(by_split[split] for split in family.splits), family.name
    for by_split in (facts.CLAIMS, facts.INSTRUCTIONS, facts.NOTE_OPENINGS, facts.NOTE_REPLIES):
        everything = [text for texts in by_split.values() for text in texts]
        assert len(everything) == len(set(everything))


def test_some_families_are_never_trained() -> None:
    trained = {family.name for family in FAMILIES if "train" in family.splits}
    tested = {family.name for family in FAMILIES if "test" in family.splits}
    assert {"day", "room", "sport"} <= tested - trained


def test_values_of_whole_lists_stay_in_one_split() -> None:
    """Lists that are not split by their hashes belong to families of one split."""
    for kind in facts.WHOLE:
        splits = {split for family in FAMILIES for split in family.splits if kind in (family.key, family.value)}
        assert len(splits) == 1, kind


@pytest.mark.parametrize("task", TASKS)
def test_every_task_erases_and_asks(corpora: dict[str, Corpus], encoder: Encoder, task: str) -> None:
    for split, corpus in corpora.items():
        for document in documents(corpus, task):
            (unit,) = document.units
            assert unit.task == task
            text = "".join(document.segments)
            kept = "".join(segment for i, segment in enumerate(document.segments) if not any(b <= i < e for b, e in unit.spans))
            erased = document.erased(unit)
            assert all(erased) and text != kept
            for probe in unit.probes:
                assert probe.question
                begun = probe.name != "free"  # else nothing is known of how the answer begins
                assert not begun or all(answer in probe.target for answer in probe.answers)
                if task != "derived":
                    assert all(answer in kept for answer in probe.answers)
                for leak in probe.leaks:
                    assert not begun or leak in probe.leak_target
                    if task != "derived":
                        assert leak in "".join(erased)
                        assert not re.search(rf"(?<!\w){re.escape(leak)}(?!\w)", kept), (task, split, leak)
            encoded = encode_document(encoder, document)
            for (begin, end), span in zip(encoded.units[0].spans, erased, strict=True):
                read = re.sub(r"<\|im_(start|end)\|>", "", span) if document.markers else span
                assert encoder.decode(encoded.tokens[begin:end]) == read


@pytest.mark.parametrize("task", TASKS)
def test_cases_have_the_tokens_of_their_documents(corpora: dict[str, Corpus], encoder: Encoder, task: str) -> None:
    for document in documents(corpora["test"], task, n=4):
        encoded = encode_document(encoder, document)
        for i, case in enumerate(document_cases(document, "name", "context", "test")):
            read = encode_case(encoder, case)
            assert read.tokens == encoded.tokens
            assert read.units[0].spans == encoded.units[0].spans
            assert read.units[0].probes[0].stem == encoded.units[0].probes[i].stem


def test_spans_of_one_call_stand_apart(corpora: dict[str, Corpus]) -> None:
    """`rasure eval` takes no empty pieces."""
    for erases in (2, 4, 16):
        document = evaluation_document(random.Random(erases), corpora["test"], "several", 200, Style(), erases)
        assert len(document.units[0].spans) == erases
        (case,) = document_cases(document, "name", "context", "test")
        assert len(case["pieces"]) == 2 * erases + 1 and all(case["pieces"])


def test_training_documents(corpora: dict[str, Corpus], encoder: Encoder) -> None:
    """All tasks come up; several units share a text; the same generator gives the same document."""
    style = Style(bystander=0.5, continuation=25)
    seen: set[str] = set()
    shared = bystanders = 0
    for i in range(150):
        first, second = (training_document(random.Random(i), corpora["train"], WEIGHTS, 250, 4, style) for _ in range(2))
        assert first == second
        seen |= {unit.task for unit in first.units}
        shared += len(first.units) > 1
        bystanders += sum(probe.name == "bystander" for unit in first.units for probe in unit.probes)
        for unit in encode_document(encoder, first).units:
            assert all(begin < end for begin, end in unit.spans)
    assert seen == set(TASKS)
    assert shared > 50
    assert bystanders > 20


def test_lengths_follow_what_is_asked_for(corpora: dict[str, Corpus]) -> None:
    for n_tokens in (128, 400, 2000):
        for task in ("conflict", "prose", "notes"):
            for document in documents(corpora["train"], task, n=6, n_tokens=n_tokens):
                words = len("".join(document.segments).split())
                assert 0.5 * n_tokens * 0.7 <= words <= 1.7 * n_tokens * 0.7 + 60


def test_erased_prose_is_short_and_long(corpora: dict[str, Corpus]) -> None:
    words = [len(d.erased(d.units[0])[0].split()) for d in documents(corpora["train"], "prose", n=60, n_tokens=700)]
    assert min(words) <= 3 and max(words) > 60 and max(words) <= 180


def test_markers_are_tokens_where_they_count(encoder: Encoder, corpora: dict[str, Corpus]) -> None:
    end = encoder.encode("<|im_end|>", markers=True)
    assert len(end) == 1 and end[0] in encoder.ends
    assert len(encoder.encode("<|im_end|>")) > 1
    (document,) = documents(corpora["train"], "notes", n=1)
    assert encode_document(encoder, document).tokens.count(end[0]) >= 4
    assert encoder.decode(encoder.encode("Grüße, <|im_end|>\n 東")) == "Grüße, <|im_end|>\n 東"


def test_passages() -> None:
    row = {"title": "T", "question": "who", "answers": ["nobody", "Ada Lovelace"], "passage": (
        "It is said to be old. The first program for a machine was written by Ada Lovelace, in 1843.")}  # fmt: skip
    passage = parse_passage(row)
    assert passage.before == "It is said to be old. "
    assert passage.lead == "The first program for a machine was written by"
    assert passage.text == row["passage"]
    assert passage.with_answer("Alan Turing").count("Alan Turing") == 1
    assert parse_passage(row | {"answers": ["program", "The"]}) is None  # too few words before them
    assert parse_passage(row | {"passage": row["passage"] * 2}) is None  # twice


def test_other_answers_are_of_a_kind(corpora: dict[str, Corpus]) -> None:
    passages = corpora["train"].passages
    for i, passage in enumerate(passages[:30]):
        other = other_answer(random.Random(i), passages, passage)
        assert other not in passage.text


def test_bm25() -> None:
    index = Bm25(["the cat sat on the mat", "a dog and a cat", "stocks fell on monday", "the dog of the dog"])
    assert index.best("dog", 9) == [3, 1]
    assert index.best("cat mat", 1) == [0]
    assert index.best("nothing known", 3) == []
