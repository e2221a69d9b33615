"""Makes cases for `rasure eval`: Wikipedia prose with inserted facts, one of which is to be erased.

    python -m rasure_training.cases --task conflict --n 100 --seed 1 --tokens 512 --data DIR --out cases.jsonl

Needs the standard library only. Each line of the result has the fields that `rasure eval` reads (id, prefix, span, suffix,
question, cue, answers, leaks) and says how it was made (task, family, erased, split). The same arguments give the same file.
Prose, keys and values of the two splits have nothing in common, so that what is trained on one can be tested on the other.
The prose is Wikipedia's (CC BY-SA), and so is the result.

Tasks:
  conflict   two facts with one key and different values, far apart; one of them, by the toss of a coin, is erased and the
             other one is asked for
  ask        one fact, which is erased and then asked for: there is no right answer, only the erased one that leaks
  redact     one fact of which the value alone is erased, inside its sentence, which is then asked for
  bystander  as conflict, but another fact that nobody touched is asked for
"""

from __future__ import annotations

import argparse
import hashlib
import random
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from .files import write_json_lines
from .text import PARAGRAPHS_FILE, DataError, Paragraph, load_paragraphs

TASKS = ("conflict", "ask", "redact", "bystander")
WORDS_PER_TOKEN = 0.7  # of Wikipedia prose in SmolLM2's vocabulary

HEAD = (
    "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
    "<|im_start|>user\nRead the following text and answer the question.\n\n"
)
TAIL = "<|im_end|>\n<|im_start|>assistant\n"

FIRST_NAMES = """Adam Agnes Albert Alice Amir Andrea Anita Anton Astrid Bella Boris Bruno Carla Cecil Chloe Clara Daniel Diana
Dora Edgar Elena Elias Emil Erika Esther Felix Fiona Gerda Grace Gustav Hanna Hector Helen Hugo Ingrid Irene Isabel Ivan Jana
Jonas Judith Julia Karin Kevin Klara Laura Leo Lydia Marco Maria Martin Mila Nadia Nora Oliver Oscar Paula Petra Rachel Robert
Rosa Samuel Simon Sofia Stefan Teresa Thomas Ursula Vera Victor Walter""".split()
LAST_NAMES = """Abbott Arnold Bailey Baker Becker Berger Bishop Brandt Carter Castro Clarke Conrad Cooper Dalton Dietrich Dixon
Ellis Farrell Fischer Fletcher Foster Garcia Gibson Graham Harper Hoffman Holt Hunter Jensen Keller Kramer Lambert Lawson
Lindgren Maier Marsh Mercer Moreau Morris Norris Novak Palmer Parker Pearson Quinn Ramsey Reed Romero Sanders Schmidt Shaw
Silva Stone Turner Vance Wagner Walsh Weaver Webb Winter Young""".split()
CITIES = """Amsterdam Ankara Athens Baghdad Barcelona Beijing Belgrade Berlin Bogota Boston Brussels Budapest Cairo Calcutta
Chicago Copenhagen Dallas Delhi Denver Dublin Edinburgh Florence Geneva Glasgow Hamburg Hanoi Havana Helsinki Houston Istanbul
Jakarta Jerusalem Kiev Lima Lisbon London Madrid Manila Melbourne Miami Milan Montreal Moscow Mumbai Munich Nairobi Naples
Oslo Paris Prague Rome Santiago Seattle Seoul Singapore Stockholm Sydney Tehran Tokyo Toronto Venice Vienna Warsaw
Zurich""".split()
COLORS = """black blue brown crimson gold gray green indigo ivory orange pink purple red silver turquoise violet white
yellow""".split()
JOBS = """baker barber butcher carpenter chemist cook dentist doctor driver farmer fisherman florist gardener jeweler judge
lawyer librarian mechanic miner musician nurse painter photographer pilot plumber policeman priest sailor sculptor singer
soldier surgeon tailor teacher translator waiter""".split()
WORDS = """anchor basket candle castle cherry cotton desert dragon falcon feather forest garden hammer harbor helmet island
jacket kettle ladder lantern marble meadow mirror needle orchid pepper pillow planet rabbit ribbon rocket saddle shadow
shelter silver spider summer temple thunder tunnel velvet violin walnut window winter wizard""".split()
TOPICS = """accounting advertising architecture banking catering cleaning construction farming fishing gardening heating
housing insurance lighting logistics marketing parking publishing recycling safety security shipping staffing teaching
tourism training transport""".split()
DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()


@dataclass(frozen=True)
class Family:
    """Facts of one form. `{k}` is the key, `{v}` the value."""

    name: str
    key: str  # "name", or one of the word lists below
    value: str
    statement: str
    other_statement: str  # the phrasing that only the test split has
    echo: str  # refers back to the fact without saying the value
    question: str
    cue: str
    test_only: bool = False


FAMILIES = (
    Family("city", "name", "city", "{k} lives in {v}.", "These days {k} lives in {v}.",
           "The place where {k} lives is well known for its old houses.", "Where does {k} live?", "{k} lives in"),
    Family("color", "name", "color", "The favorite color of {k} is {v}.", "For as long as anyone remembers, the favorite "
           "color of {k} is {v}.", "Most of the things that {k} owns are of that color.",
           "What is the favorite color of {k}?", "The favorite color of {k} is"),
    Family("number", "word", "number", "The special magic number for {k} is {v}.", "One more thing: the special magic number "
           "for {k} is {v}.", "The special magic number for {k} was chosen long ago.",
           "What is the special magic number for {k}?", "The special magic number for {k} is"),
    Family("job", "name", "job", "{k} works as a {v}.", "For many years now, {k} works as a {v}.",
           "That is how {k} earns a living.", "What does {k} work as?", "{k} works as a"),
    Family("age", "name", "age", "{k} is {v} years old.", "At the moment, {k} is {v} years old.",
           "The birthday of {k} is celebrated every year.", "How old is {k}?", "{k} is"),
    Family("day", "topic", "day", "The meeting about {k} will be held on {v}.", "As planned, the meeting about {k} will be "
           "held on {v}.", "Everybody who works in {k} should come to it.",
           "On which day will the meeting about {k} be held?", "The meeting about {k} will be held on", test_only=True),
    Family("room", "name", "room", "{k} is staying in room {v}.", "For the time being, {k} is staying in room {v}.",
           "Letters for {k} can be left at the door of that room.", "In which room is {k} staying?",
           "{k} is staying in room", test_only=True),
)  # fmt: skip


def in_split(text: str, test: bool) -> bool:
    """Whether a key or value belongs to this split: a third of them to the test split, by SHA-256."""
    return (hashlib.sha256(text.encode()).digest()[0] < 86) == test


Source = Sequence[str] | tuple[int, int]  # texts to choose from, or the least and the largest number

SOURCES: dict[str, Source] = {
    "number": (1000, 9999), "age": (19, 89), "room": (101, 899), "city": CITIES, "color": COLORS, "job": JOBS, "word": WORDS,
    "topic": TOPICS, "day": DAYS,
}  # fmt: skip


def draw_of(random_: random.Random, kind: str, sources: Mapping[str, Source], accepts: Callable[[str], bool]) -> str:
    """A key or value of this kind that is accepted. Names are put together; the other kinds are those of `sources`."""
    while True:
        if kind == "name":
            text = f"{random_.choice(FIRST_NAMES)} {random_.choice(LAST_NAMES)}"
        elif isinstance(sources[kind], tuple):
            text = str(random_.randint(*sources[kind]))
        else:
            text = random_.choice(sources[kind])
        if accepts(text):
            return text


def draw(random_: random.Random, kind: str, test: bool) -> str:
    """A key or value of this kind, and of the split unless there are too few of them to split."""
    whole = kind in ("day", "color", "age")
    return draw_of(random_, kind, SOURCES, lambda text: whole or in_split(text, test))


@dataclass(frozen=True)
class Fact:
    family: Family
    key: str
    value: str
    statement: str

    @property
    def echo(self) -> str:
        return self.family.echo.format(k=self.key)


def draw_fact(random_: random.Random, test: bool, family: Family | None = None, like: Fact | None = None) -> Fact:
    """A fact, or one with the key of `like` and another value."""
    if like is not None:
        family, key = like.family, like.key
    else:
        family = family or random_.choice([f for f in FAMILIES if test or not f.test_only])
        key = draw(random_, family.key, test)
    value = draw(random_, family.value, test)
    while like is not None and value == like.value:
        value = draw(random_, family.value, test)
    phrasing = random_.choice((family.statement, family.other_statement)) if test else family.statement
    return Fact(family, key, value, phrasing.format(k=key, v=value))


def sentences(paragraph: str) -> list[str]:
    return re.split(r"(?<=[.!?])\s+(?=[A-Z])", " ".join(paragraph.split()))


def draw_prose(
    random_: random.Random, paragraphs: list[Paragraph], words: int, at_least: int, forbidden: list[str]
) -> list[str]:
    """At least `at_least` sentences of about `words` words in all, each with the white space before it. No paragraph contains
    a word of `forbidden`, so that the facts are the only ones of their kind."""
    pieces: list[str] = []
    count = 0
    barred = {word for text in forbidden for word in text.lower().split()}
    for paragraph in random_.sample(paragraphs, len(paragraphs)):
        if barred & set(re.findall(r"\w+", paragraph.text.lower())):
            continue
        for i, sentence in enumerate(sentences(paragraph.text)):
            pieces.append(sentence if not pieces else ("\n\n" if i == 0 else " ") + sentence)
            count += len(sentence.split())
            if count >= words and len(pieces) >= at_least:
                return pieces
    raise DataError("the data has too little text for one case of this length")


def insert(random_: random.Random, prose: list[str], insertions: list[list[str]]) -> list[tuple[str, str | None]]:
    """The sentences of the prose and, at random places between them, the insertions in the given order. Every piece comes
    with the inserted sentence that it is, or None. Needs two sentences an insertion, and one more."""
    while True:  # never two insertions side by side
        places = sorted(random_.sample(range(1, len(prose)), len(insertions)))
        if all(b - a > 1 for a, b in zip(places, places[1:])):
            break
    pieces: list[tuple[str, str | None]] = []
    for i, sentence in enumerate(prose):
        for inserted in insertions[places.index(i)] if i in places else ():
            pieces.append((" " + inserted, inserted))
        pieces.append((sentence, None))
    return pieces


def make_case(task: str, index: int, args: argparse.Namespace, paragraphs: list[Paragraph]) -> dict[str, object]:
    random_ = random.Random(f"{task} {args.seed} {args.split} {index}")
    test = args.split == "test"
    first = draw_fact(random_, test)
    facts = [first]
    erased = first
    asked = first
    if task in ("conflict", "bystander"):
        second = draw_fact(random_, test, like=first)
        facts.append(second)
        erased, asked = (first, second) if random_.random() < 0.5 else (second, first)
    if task == "bystander":
        while asked.family is first.family or asked.key == first.key:
            asked = draw_fact(random_, test)
        facts.insert(random_.randint(0, 2), asked)

    def with_echo(fact: Fact) -> list[str]:
        return [fact.statement, fact.echo] if random_.random() < args.echo else [fact.statement]

    known = [text for fact in facts for text in (fact.key, fact.value)]
    inserted = [with_echo(fact) for fact in facts]
    words = int(args.tokens * WORDS_PER_TOKEN) - sum(len(text.split()) for group in inserted for text in group)
    pieces = insert(random_, draw_prose(random_, paragraphs, words, 2 * len(inserted) + 1, known), inserted)

    at = next(i for i, (_, sentence) in enumerate(pieces) if sentence == erased.statement)
    before = "".join(piece for piece, _ in pieces[:at])
    span = pieces[at][0]
    after = "".join(piece for piece, _ in pieces[at + 1 :])
    if task == "redact":
        start = span.rindex(" " + erased.value)
        end = start + 1 + len(erased.value)
        before, span, after = before + span[:start], span[start:end], span[end:] + after
    return {
        "id": f"{task}-{args.split}-{args.seed}-{index}",
        "task": task,
        "family": asked.family.name,
        "erased": "first" if erased is next(f for f in facts if f.key == erased.key) else "second",
        "split": args.split,
        "prefix": HEAD + before,
        "span": span,
        "suffix": after,
        "question": f"\n\nQuestion: {asked.family.question.format(k=asked.key)}{TAIL}",
        "cue": asked.family.cue.format(k=asked.key),
        "answers": [] if asked is erased else [asked.value],
        "leaks": [] if task == "bystander" else [erased.value],
    }


def make_cases(args: argparse.Namespace) -> Iterator[dict[str, object]]:
    folder = args.data.parent if args.data.name == PARAGRAPHS_FILE else args.data
    if not (folder / PARAGRAPHS_FILE).is_file():
        raise DataError(f"{folder / PARAGRAPHS_FILE}: no such file; --data names the folder that holds it")
    paragraphs = load_paragraphs(folder, test=args.split == "test")
    for index in range(args.n):
        yield make_case(args.task, index, args, paragraphs)


def positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text}: not a number above 0")
    return value


def share(text: str) -> float:
    value = float(text)
    if not 0.0 <= value <= 1.0:
        raise argparse.ArgumentTypeError(f"{text}: not a number from 0 to 1")
    return value


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", choices=TASKS, default="conflict")
    parser.add_argument("--n", type=positive, default=100, help="cases (default 100)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--tokens", type=positive, default=512, help="length of the text, roughly (default 512)")
    parser.add_argument("--echo", type=share, default=0.7, metavar="SHARE",
                        help="share of the facts that a later sentence refers back to (default 0.7)")  # fmt: skip
    parser.add_argument("--split", choices=("train", "test"), default="test")
    parser.add_argument("--data", type=Path, required=True, help=f"the folder with {PARAGRAPHS_FILE}, or that file")
    parser.add_argument("--out", type=Path, required=True, help="the file to write, one JSON object a line")
    args = parser.parse_args()
    try:
        write_json_lines(args.out, make_cases(args))
    except (DataError, OSError) as error:
        print(f"cases: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
