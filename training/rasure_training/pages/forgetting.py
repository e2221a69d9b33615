"""What is forgotten, of the pages that look for it from several sides."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ..files import Row
from . import dependents, leaks, many_erases, probes
from .cells import cell, head, line

PARTS = ("leaks", "probes", "dependents", "many_erases")  # the figures that it is made of, as their files are named
METHODS = ("none", "exact", "shift", "repair:16+shift", "adaptive", "bridge:16+shift", "steer")
REPAIRED = ("repair:16+shift", "adaptive")
BOUND = 2.0  # nats that a sentence loses to be proposed

BEGINNING = """\
# What is forgotten

Erasing takes a span's tokens and entries out of memory at once. What later tokens absorbed from it while it was in sight is another
matter, and methods differ in it ([erasing.md](erasing.md)). Here is what somebody finds who looks for it: by asking, by reading the
cache, by reading the text that is left. Made by `python -m rasure_training.pages` of the figures of the pages that are named.

## What is gone at once

Whatever the method, the span's token ids and its own keys and values are overwritten, and so is the scratch that computed them:
`tests/unit/test_gone.c` takes down the bytes of a span's entries, erases, and looks for them and for the token ids in all of the
context's memory, after each method, with a window, a second cache and an undo area, too. `steer` alone writes something computed
from the erased text into its place. A context that can undo keeps the old bytes until `rs_forget_undo`, which zeroes them
(`test_undo.c`). A saved context holds what the cache holds and nothing else (`test_state.c`): holes of a page are zero, or the
file is not loaded."""


def between(figures: Iterable[Row], digits: int) -> str:
    """The least and the largest of the means, or the one that all are."""
    means = sorted(figure["mean"] for figure in figures)
    return " to ".join(dict.fromkeys(f"{mean:.{digits}f}" for mean in (means[0], means[-1])))


def farthest(figures: Iterable[Row], digits: int) -> str:
    """From 0, of the means."""
    return f"{max(abs(figure['mean']) for figure in figures):.{digits}f}"


def demand(is_so: bool, sentence: str) -> None:
    """A sentence of the page stands on figures, too, where it names none. Raises ValueError where they have become others."""
    if not is_so:
        raise ValueError(f"forgetting.md cannot say any more that {sentence}")


def said(measured: Row, figures: Sequence[Row]) -> list[str]:
    by = {
        (erased, method): leaks.by_way(figures, erased, method) for erased in leaks.WHAT for method in leaks.methods_of(figures)
    }
    direct = {key: ways["direct"] for key, ways in by.items()}
    table = head(["erased", "method", "says it, asked directly", f"share of {measured['samples']} drawn answers that say it",
                  f"most likely of {leaks.CANDIDATES} candidates", "median rank",
                  *(f"log P - clean: {asked}" for asked in leaks.ASKED.values())])  # fmt: skip
    for erased in leaks.WHAT:
        for method in METHODS:
            row = direct[erased, method]
            table.append(line([erased, f"`{method}`", cell(row["said"], 3), cell(row["drawn"], 3), cell(row["chosen"], 3),
                               f"{row['rank']:.0f}", *(cell(by[erased, method][way]["log_p"], 2) for way in leaks.ASKED)]))  # fmt: skip
    erasing = [method for method in leaks.methods_of(figures) if method not in ("none", "exact")]
    answers = [
        f"{between((direct[erased, method]['said'] for method in erasing), 3)} of the contexts where the {erased} is erased "
        f"(`exact`: {direct[erased, 'exact']['said']['mean']:.3f})"
        for erased in leaks.WHAT
    ]
    near = farthest((by[erased, method][way]["log_p"] for erased in leaks.WHAT for method in REPAIRED for way in leaks.ASKED), 2)
    all_again = farthest((by[erased, "repair:100%+shift"][way]["log_p"] for erased in leaks.WHAT for way in leaks.ASKED), 2)
    for way in leaks.ASKED:
        demand(by["value", "shift"][way]["log_p"]["low"] > 0, "dropping a value leaves it likelier than it should be")
    demand(direct["value", "steer"]["chosen"]["high"] < 1 / leaks.CANDIDATES, "after `steer` the value's absence tells")
    dropped = [f"{by['value', 'shift'][way]['log_p']['mean']:.2f}" for way in leaks.ASKED]
    return [
        "", "## What it still says", "",
        "[leaks.md](leaks.md): a made-up fact is in a text of Wikipedia paragraphs, its sentence is erased, or the value alone out of its "
        f"sentence, and somebody asks: directly, in other words, or by letting the text go on. {direct['value', 'exact']['n']} contexts "
        "of each, against the same context without it (`exact`), which says the value now and then by chance, for the text allows a "
        "guess.", "", *table, "",
        f"Asked directly, the methods say it in {', and in '.join(answers)}. Likelihoods show more. Dropping a value leaves it likelier "
        f"than it should be, by {dropped[0]} nats asked directly, {dropped[1]} in other words and {dropped[2]} where the text is let go "
        f"on behind the words that stood before it. After `adaptive` and `repair:16+shift` it is within {near} nats; encoding all of the "
        f"suffix again is within {all_again}. `steer` overshoots: a value comes first among the candidates in "
        f"{direct['value', 'steer']['chosen']['mean']:.3f} of the contexts, where pure chance would be {1 / leaks.CANDIDATES:.3f}, so "
        "that its absence tells.", "",
        "![Log-probability of the erased value, by method and way of asking](leaks.svg)",
    ]  # fmt: skip


def held(figures: Sequence[Row]) -> list[str]:
    found = {(row["erased"], row["method"]): row for row in probes.probes_of(figures)}
    table = head(["method", *probes.WHAT.values()])
    for method in dict.fromkeys(method for _, method in found):
        table.append(line([f"`{method}`", *(cell(found[erased, method]["best"], 3) for erased in probes.WHAT)]))
    steered = [row["together"] for (_, method), row in found.items() if method == "steer"]
    for erased in probes.WHAT:
        never = found[erased, "exact"]["best"]
        demand(found[erased, "shift"]["best"]["low"] > never["high"], "rows that are shifted over still say it")
        for method in REPAIRED:
            demand(found[erased, method]["best"]["mean"] <= never["high"],
                   f"a probe finds no more after `{method}` than where it never was")  # fmt: skip
    demand(all(figure["low"] > 1 / probes.CITIES for figure in steered), "`steer` deletes nothing")
    return [
        "", "## What the rows that stay hold", "",
        "[probes.md](probes.md): a sentence says in which of eight cities somebody lives; it is erased, or its value alone, and the "
        "context is saved. Linear probes, one a layer, read the city out of the keys and values that are left, trained on other texts, "
        f"names and phrasings. Right answers of the layer that was best in training (chance: {1 / probes.CITIES:.3f}):",
        "", *table, "",
        "Rows that are dropped and shifted over, which is what other runtimes do, still say it to who looks. Where the tokens behind the "
        "hole are encoded again a linear probe finds no more than where the city never was. `steer` writes the erased text into the "
        f"cache, in another form, out of which all layers together say it in {between(steered, 3)} of the contexts: it changes answers "
        "and deletes nothing.", "",
        "![Right answers of the probes by layer](probes.svg)", "",
        "A linear probe on averaged rows is one way to look, not all ways. What `adaptive` leaves alone was computed while the span was "
        "in sight, and holds traces below what this finds.",
    ]  # fmt: skip


def shown(figures: Sequence[Row]) -> list[str]:
    members = {(row["erased"], row["method"]): row for row in probes.members_of(figures)}
    exact = [row for (_, method), row in members.items() if method == "exact"]
    others = [row for (_, method), row in members.items() if method != "exact"]
    repaired = [row for (_, method), row in members.items() if method in REPAIRED]
    moved = [row for (_, method), row in members.items() if method in ("shift", "bridge:16+shift")]
    same = sum(round((1 - row["differs"]["mean"]) * row["differs"]["n"]) for row in exact)
    return [
        "", "## Whether it shows", "",
        "Somebody who has the saved context and the model can read its tokens again, and compare. On the same machine every byte of "
        f"`exact` is that of reading the tokens anew, in {same} of {sum(row['differs']['n'] for row in exact)} contexts; every other "
        f"method differs somewhere (in {between((row['differs'] for row in others), 3)} of the contexts), and the first row that does is "
        f"where the span was ({between((row['first'] for row in others), 3)}). On a machine that rounds otherwise, the farthest row "
        f"still tells an erased context from a clean one (AUC {between((row['auc'] for row in moved), 3)} after `shift` and "
        f"`bridge:16+shift`, {between((row['auc'] for row in repaired), 3)} after `repair:16+shift` and `adaptive`, whose farthest row "
        "then lies behind those that were encoded again). `drop` leaves a gap in the positions, and `steer` tokens that are none. So: "
        "that something was erased, and about where, is hidden by `exact` alone, and by `progressive` once it is done.",
    ]  # fmt: skip


def elsewhere(figures: Sequence[Row]) -> list[str]:
    finding = {row["kind"]: row for row in dependents.finding_of(figures)}
    asking = dependents.asking_of(figures)
    at_bound = {kind: next(bound for bound in row["bounds"] if bound["nats"] == BOUND) for kind, row in finding.items()}
    table = head(["the later sentence", "loses most of all", "loses more than another one", f"proposed from {BOUND:g} nats on"])
    examples = {"derived": '"The country in which Ann lives is Norway."', "echo": '"Ann has never regretted moving there."'}
    for kind, row in finding.items():
        table.append(line([f"{dependents.WHAT[kind]} ({examples[kind]})", f"{cell(row['first'], 3)} of the contexts",
                           f"{cell(row['order'], 3)} of the pairs", f"{cell(at_bound[kind]['found'], 3)} of the contexts"]))  # fmt: skip
    alone, first = ({task: asking[variant, "adaptive", task] for task in ("fact", "what follows")}
                    for variant in ("fact", "fact and first"))  # fmt: skip
    return [
        "", "## What else says it", "",
        "A later sentence may state what follows from an erased one, or refer back to it: erasing the one leaves the other. "
        "`rs_find_echoes` ranks what stands behind a span by the likelihood that it loses when the span was never read. "
        f"[dependents.md](dependents.md), {finding['derived']['first']['n']} contexts of each kind, "
        f"{finding['derived']['others']:.0f} other sentences behind the fact on average:",
        "", *table, "",
        f"From {BOUND:g} nats on, {between((bound['others'] for bound in at_bound.values()), 2)} other sentences a context are proposed, "
        "too. What it is worth: with the fact erased alone by `adaptive`, what follows from it is still answered in "
        f"{alone['what follows']['said']['mean']:.3f} of the contexts, for the sentence that says so is still there, and the fact itself "
        f"is {alone['fact']['above']['mean']:.2f} nats more likely than in a context that held neither. With the sentence that is ranked "
        f"first erased too, {first['what follows']['said']['mean']:.3f} say what follows, where "
        f"{asking['fact and dependent', 'exact', 'what follows']['said']['mean']:.3f} of those say it that never held either, and "
        f"log-probabilities are theirs to within {farthest((row['above'] for row in first.values()), 2)} nats.",
    ]  # fmt: skip


def added_up(figures: Sequence[Row]) -> list[str]:
    counts = many_erases.counts_of(figures)
    most = counts[-1]
    by = {(row["method"], row["erases"], row["calls"]): row for row in figures}
    table = head(["method", *(f"{count}" for count in counts), f"{most}, in one call"])
    for method in ("none", "drop", "shift", "repair:16+shift", "adaptive", "steer", "bridge:16+shift"):
        rows = [*many_erases.one_by_one(figures, method), by.get((method, most, 1))]
        table.append(line([f"`{method}`", *("" if row is None else cell(row["kl_kept"], 4) for row in rows)]))
    above = {
        method: [row["above"] for row in many_erases.one_by_one(figures, method)] for method in many_erases.methods_of(figures)
    }
    others = [figure for method, rows in above.items() if method not in ("none", "exact", "steer") for figure in rows]
    shifts = [by["shift", most, calls]["kl_kept"]["mean"] for calls in (most, 1)]
    return [
        "", "## After many erases", "",
        f"[many_erases.md](many_erases.md): of {most + 1} facts in a context of {figures[0]['n_context']:,.0f} tokens "
        f"{', '.join(map(str, counts[:-1]))} or {most} are erased, one after another, {figures[0]['kl_kept']['n']} contexts. The erased "
        "fact is about as likely as in a context that never held any of them, however many they are: log-probability within "
        f"{farthest(others, 2)} nats on average after all methods but `steer`, which makes it {farthest(above['steer'], 2)} nats less "
        f"likely, and within {farthest(above['adaptive'], 2)} after `adaptive`. What adds up is the rest, that which facts that stay have "
        "absorbed of those that go. KL to exact where one of them is asked for, by the number of erases:",
        "", *table, "",
        f"Erased in one call, the {most} leave `adaptive` at {by['adaptive', most, 1]['kl_kept']['mean']:.4f}, for what it encodes again "
        "no longer sees any of them; one after another, what is encoded again behind the first still sees the second. So: together "
        "where they are known together, and `rs_refine` now and then where much is erased.", "",
        "![KL to exact against the number of erases](many_erases.svg)", "",
        f"Rounding is no part of it: `shift` leaves {shifts[0]:.3f} one by one and {shifts[1]:.3f} in one call, since a key that moves is "
        "rounded three times at most, however often it moves ([architecture.md](architecture.md), \"Keys that move\").",
    ]  # fmt: skip


def text_of(known: dict[str, Row]) -> str:
    """Of the page. known: what the files of PARTS hold."""
    figures = {name: known[name]["figures"] for name in PARTS}
    lines = [
        BEGINNING, *said(known["leaks"]["measured"], figures["leaks"]), *held(figures["probes"]), *shown(figures["probes"]),
        *elsewhere(figures["dependents"]), *added_up(figures["many_erases"]),
    ]  # fmt: skip
    return "\n".join(lines) + "\n"
