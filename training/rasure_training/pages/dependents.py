"""Sentences that say or imply what was erased (`rasure_training.forgetting.dependents`)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from .. import pictures
from ..files import Row
from .cells import NO_WIDTH, cell, head, line

WHAT = {"derived": "states what follows from it", "echo": "refers back to it"}


def finding_of(figures: Sequence[Row]) -> list[Row]:
    return [row for row in figures if "bounds" in row]


def asking_of(figures: Sequence[Row]) -> dict[tuple[str, str, str], Row]:
    """By what is erased, method, and what is asked for."""
    return {(row["variant"], row["method"], row["task"]): row for row in figures if "variant" in row}


def draw(figures: Sequence[Row], path: Path) -> None:
    picture, axis = pictures.pyplot().subplots(figsize=(5.5, 4), layout="constrained")
    for figure in finding_of(figures):
        axis.plot([row["others"]["mean"] for row in figure["bounds"]], [row["found"]["mean"] for row in figure["bounds"]],
                  marker="o", markersize=4, label=WHAT[figure["kind"]])  # fmt: skip
        for row in figure["bounds"]:
            axis.annotate(f"{row['nats']:g}", (row["others"]["mean"], row["found"]["mean"]), fontsize=7, xytext=(3, -8),
                          textcoords="offset points")  # fmt: skip
    axis.set(xlabel="other sentences proposed, a context", ylabel="the dependent one proposed", ylim=(0, 1.03))
    axis.set_title("By the bound on what a sentence loses, nats", fontsize=10)
    axis.legend(fontsize=8)
    axis.grid(alpha=0.3)
    pictures.save(picture, path)


def finding_table(finding: Sequence[Row]) -> list[str]:
    bounds = [f"found / others, from {row['nats']:g} nats" for row in finding[0]["bounds"]]
    lines = head(["the later sentence", "others behind the fact", "first", "order", *bounds])
    for figure in finding:
        found = [f"{row['found']['mean']:.2f} / {row['others']['mean']:.2f}" for row in figure["bounds"]]
        lines.append(
            line([WHAT[figure["kind"]], f"{figure['others']:.1f}", cell(figure["first"], 3), cell(figure["order"], 3), *found])
        )
    return lines


def asking_table(asking: dict[tuple[str, str, str], Row]) -> list[str]:
    lines = head(["erased", "method", "the fact: log P - clean", "says it", "what follows: log P - clean", "says it"])
    for variant, method in dict.fromkeys(key[:2] for key in asking):
        rows = [asking[variant, method, task] for task in ("fact", "what follows")]
        lines.append(
            line([variant, f"`{method}`", *(text for row in rows for text in (cell(row["above"], 2), cell(row["said"], 3)))])
        )
    return lines


def lines(name: str, measured: Row, figures: Sequence[Row]) -> list[str]:
    finding = finding_of(figures)
    return [
        "# What else says it", "",
        f"Made by `python -m rasure_training.forgetting.dependents`; figures in `{name}.json`. The {measured['split']} split, "
        f"{measured['contexts']} contexts of each kind, of about {finding[0]['n_context']:.0f} tokens, seed {measured['seed']}; int8 KV "
        f"cache, kernels: {measured['isa']}. Brackets are 95 % intervals from a bootstrap over contexts; not corrected for "
        f"comparisons. {NO_WIDTH}",
        "", "## Is it found?", "",
        "What a later sentence loses in likelihood when the fact was never read (`rs_find_echoes`), of the one that depends on it and of "
        "all others behind the fact. First: it loses most. Order: the share of others that lose less.",
        "", *finding_table(finding),
        "", f"![Found against others proposed]({name}.svg)", "",
        "## Does it help to erase it too?", "",
        "Contexts in which the later sentence states what follows. Log-probability of the erased value, and of what follows from it, "
        "above that in a context that never held either sentence (nats), and how often the answer says it.",
        "", *asking_table(asking_of(figures)),
    ]  # fmt: skip
