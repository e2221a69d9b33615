"""Writes the card of heads or gates: what they are, how they came about, what was measured, and what they do not do.

    python -m rasure_training.budgets.card SIDECAR.gguf --figures docs/kv_budgets.json --arm heads-prulong --out CARD.md

All numbers come from the file's own training record and from what `rasure_training.budgets.report` wrote for this very file.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..files import sha256
from ..gguf_model import GgufFile, ModelError
from ..pages.cells import NO_WIDTH, cell, head, line, table
from ..runs import duration
from .measured import TEXT

WHAT = {
    "heads": """\
Which KV heads need the whole context: a number for each head of each layer, the larger, the more it does. With
`rasure run --policy heads --heads FILE --local SHARE` the heads with the smallest numbers keep the first {sinks} tokens and the last
{window}, the others everything.""",
    "gates": """\
Retention gates of the form **{form}** (DBTrimKV, arXiv 2605.09649; TRIM-KV, arXiv 2512.03324): small networks that say of each
entry of the KV cache, when it is made, how fast it loses its worth. `rasure run --policy gates --gates FILE --budget B` keeps what is
worth most.""",
    "constant": """\
Retention gates of the form **constant**: a number for each KV head of each layer, which says how fast all of its entries lose their
worth, and no network. With `rasure run --policy gates --gates FILE --budget B` every head has a window, the lengths in the same
proportion to each other whatever the text and the budget are.""",
}
HOW = {"prulong": "PruLong's objective (arXiv 2506.17121)", "duo": "DuoAttention's objective (arXiv 2410.10819)"}

LIMITS = """\
- For one model file, whose fingerprint is in the sidecar.
- English text: {origin}.
- What is evicted is gone for later questions; nothing here promises that a value which is asked for is still there.
- {seeds}The figures above are for the cases named there and have the intervals that stand beside them."""


class CardError(Exception):
    """The card cannot be written; the message says why."""


def training_rows(record: dict[str, Any]) -> list[str]:
    config = record.get("config")
    if config is None or "steps" not in record:
        return [f"Not trained: {record.get('made', 'the file does not say how it came about')}.", "", f"`{json.dumps(record)}`"]
    lengths = config.get("stage_tokens") or [config["tokens"]]
    rows = [
        ("steps", f"{record['steps']}, of {config['sequences']} sequences of {', '.join(map(str, lengths))} tokens"),
        ("data", ", ".join(f"`{name}` (SHA-256 `{digest}`)" for name, digest in record["data"].items())),
        ("tasks, by weight", ", ".join(f"{name} {weight:g}" for name, weight in config["tasks"].items())),
        ("objective", HOW.get(config.get("objective"), "KL to the whole model, next-token loss, capacity")),
        ("optimizer", f"AdamW, learning rate {config['lr']}, betas {config['betas']}, weight decay {config['weight_decay']}"),
        ("seed", str(record["seed"])),
        ("time", f"{duration(record['seconds'])}, {record['processes']} process(es) of {record['threads']} thread(s)"),
        ("versions", ", ".join(f"{name} {number}" for name, number in record["versions"].items())),
    ]
    return table(["", ""], rows)


def figure_rows(figures: dict[str, Any], arm: str, digest: str) -> list[str]:
    """Budgets down, tasks and lengths across, with how many items there are: right answers, and the NLL of text."""
    files = {value for part in figures["parts"] if part["arm"] == arm for value in part["files"].values()}
    if digest not in files:
        raise CardError(f"the figures of {arm} were made with another file than this one")
    mine = [row for row in figures["figures"] if row["arm"] == arm]
    columns = {(row["task"], row["tokens"]): f"{'NLL' if row['task'] == TEXT else row['task']}, {row['n_context']:,.0f} tokens, "
               f"n = {row['score']['n']}" for row in mine}  # fmt: skip
    by = {(row["budget"], row["task"], row["tokens"]): row["score"] for row in mine}
    lines = head(["bytes", *columns.values()])
    for budget in dict.fromkeys(row["budget"] for row in mine):
        lines.append(line([budget, *(_score(by.get((budget, *column)), column[0]) for column in columns)]))
    return lines


def _score(score: dict[str, Any] | None, task: str) -> str:
    if score is None or task != TEXT:
        return cell(score, 2)
    return cell({"mean": -score["mean"], "low": -score["high"], "high": -score["low"]}, 3)


def limits(file: GgufFile, record: dict[str, Any]) -> str:
    config = record.get("config")
    if config is None:
        length = file.value("rasure.gates.length", 0)
        origin = f"the lengths are averages over {record.get('cases', 0)} contexts of up to {length:,} tokens"
        return LIMITS.format(origin=origin, seeds="")
    tokens = max(config.get("stage_tokens", [config.get("tokens", 0)]))
    origin = f"Wikipedia paragraphs and made-up facts in training, up to {tokens:,} tokens of context"
    return LIMITS.format(origin=origin, seeds="One seed. ")


def card(path: Path, arm: str, figures: dict[str, Any] | None) -> str:
    file = GgufFile(path)
    kind = file.value("adapter.type")
    if kind not in WHAT:
        raise CardError(f"{path}: a sidecar of {kind}, neither heads nor gates")
    record = json.loads(file.value("rasure.adapter.training"))
    values = {key: file.value(f"rasure.heads.{key}", 0) for key in ("sinks", "window")} | {
        "form": file.value("rasure.gates.form", "-")
    }
    what = WHAT["constant" if values["form"] == "constant" else kind]
    lines = [
        f"# {file.value('general.name')}",
        "",
        what.format(**values),
        "",
        "## File",
        "",
        f"`{path.name}`, {path.stat().st_size} bytes, SHA-256 `{sha256(path)}`. Base model: fingerprint "
        f"`{file.value('rasure.adapter.fingerprint')}`"
        + (f", SHA-256 `{record['model_sha256']}`." if "model_sha256" in record else "."),
        "",
        "## Training",
        "",
        *training_rows(record),
        "",
        "## Figures",
        "",
    ]
    if figures:
        lines += [
            f"In the runtime, int8 KV cache, kernels: {figures['isa']}, the {figures['split']} split, arm `{arm}` of "
            "`docs/kv-budgets.md`, which has the others beside it: shares of right answers, and the negative log-likelihood of held-out "
            f"text, means with 95 % intervals from a bootstrap over contexts. {NO_WIDTH} Items whose answer stands at the end of the "
            "context are left out; tokens are those of a context on average. Bytes are shares of a full cache with room for the longest "
            "context of a task.",
            "",
            *figure_rows(figures, arm, sha256(path)),
        ]  # fmt: skip
    else:
        lines.append("None were given when this card was written.")
    lines += ["", "## Limits", "", limits(file, record), "", "## Licence", ""]
    lines.append("Weights: apache-2.0. The training texts are from Wikipedia (CC BY-SA); none of their text is in the file.")
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="rasure_training.budgets.card", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("sidecar", type=Path, metavar="SIDECAR.gguf")
    parser.add_argument("--figures", type=Path, help="what `report` wrote, with this sidecar in one of its arms")
    parser.add_argument("--arm", default="", help="that arm")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args(arguments)
    try:
        figures = json.loads(args.figures.read_text(encoding="utf-8")) if args.figures else None
        args.out.write_text(card(args.sidecar, args.arm, figures), encoding="utf-8")
    except (CardError, ModelError, OSError, ValueError, KeyError) as error:
        print(f"card: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
