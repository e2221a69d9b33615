"""Writes the card of an adapter: what it is, how it was trained, what was measured, and what it does not do.

    python -m rasure_training.eraser.card ADAPTER.gguf --figures docs/erase_adaptive.json --out CARD.md

All numbers come from the adapter's own training record and from what `rasure_training.eraser.report` wrote for this very file.
The card's source is there to be read: nothing else is filled in.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from gguf import GGUFReader

from ..files import sha256
from ..pages.cells import NO_WIDTH, SHARED_TEXT, cell, table
from ..runs import duration
from .adapter_file import AdapterError, Header, read_header
from .tables import group_table

WHAT = {
    "bridge": """\
An eraser adapter for rasure, of the kind **bridge**. To take a span back, the rows of the span are freed and the
{bridge_tokens} tokens after the hole are encoded again through this adapter. They see the first {sinks} rows of the
context, the last {window} before the hole and each other, never the span: nothing that is written is computed from the
erased text.""",
    "steer": """\
An eraser adapter for rasure, of the kind **steer** (KVEraser, arXiv 2606.17034). To take a span back, its rows are
written anew from its own tokens through this adapter. They see the first {sinks} rows of the context and the last
{window} before the span. What is written is computed from the erased text: this is functional forgetting, not deletion.""",
}

LIMITS = {
    "bridge": """\
- The text after the re-encoded tokens keeps the keys and values that it got while it saw the span. Only an exact erase
  recomputes them.""",
    "steer": """\
- The new rows are computed from the erased text, and the text after the span keeps the keys and values that it got while
  it saw the span. Only an exact erase recomputes them.""",
}

COMMON_LIMITS = """\
- Trained and measured for one model file, whose fingerprint is in the adapter; other files of the same model differ.
- English prose with made-up facts and Wikipedia passages, short greedy answers, spans of 1 to about 256 tokens, contexts
  of about {shortest} to {longest} tokens in training.
- One seed. The figures above are for the cases named there and have the intervals that stand beside them."""


def training_section(record: dict[str, Any]) -> list[str]:
    config = record.get("config")
    if config is None:
        return ["The adapter was converted; its file does not say how it was trained.", "", f"`{json.dumps(record)}`"]
    stages = "; ".join(f"{stage['steps']} steps of {stage['name']}" for stage in config["stages"])
    optimizer, step = config["optimizer"], config["step"]
    loss = record["loss_of_last_100_steps"]
    rows = [
        ("steps", f"{record['steps']}: {stages}"),
        ("data", ", ".join(f"`{name}` (SHA-256 `{digest}`)" for name, digest in record["data"].items())),
        ("a step", f"{step['documents']} documents with up to {step['units']} erased spans each"),
        ("loss", ", ".join(f"{key} x {value}" for key, value in config["loss"].items())),
        ("optimizer", f"AdamW, learning rate {optimizer['lr']}, betas {optimizer['betas']}, clip {optimizer['clip']}"),
        ("seed", str(record["seed"])),
        ("time", f"{duration(record['seconds'])}, {record['processes']} process(es) of {record['threads']} thread(s)"),
        ("mean loss of the last 100 steps", "-" if loss is None else f"{loss:.4f}"),
        ("versions", ", ".join(f"{name} {number}" for name, number in record["versions"].items())),
    ]
    return table(["", ""], rows)


def answers_table(groups: list[dict[str, Any]], methods: list[str]) -> list[str]:
    """Methods down; of each kind of case with answers that are right or wrong, or values that may be said, both figures across."""
    by = {(row["group"], row["method"]): row for row in groups}
    metrics = {"exact_match": "exact match", "leak_minus_clean": "log P(erased) - clean"}
    columns = [(name, metric) for name in dict.fromkeys(row["group"] for row in groups) for metric in metrics
               if any(metric in row for row in groups if row["group"] == name)]  # fmt: skip
    titles = ["method", *(f"{name}: {metrics[metric]}" for name, metric in columns)]
    return table(titles, ([f"`{method}`", *(cell(by.get((name, method), {}).get(metric), 2)
                                             for name, metric in columns)] for method in methods))  # fmt: skip


def figures_section(figures: dict[str, Any], page: str, kind: str, digest: str) -> list[str]:
    """page: the name of what the figures are from."""
    if digest not in figures["adapters"].values():
        raise AdapterError("the figures were made with other adapters than this one")
    methods = [method for method in figures["methods"] if kind in method or not ("steer" in method or "bridge" in method)]
    contexts = sum(part["contexts"] for part in figures["parts"])
    sizes = " to ".join(dict.fromkeys((figures["sizes"][0], figures["sizes"][-1])))
    return [
        f"In the runtime, int8 KV cache, kernels: {figures['isa']}, the {figures['split']} split: {contexts:,} contexts of about {sizes} tokens. KL(exact || "
        "method) in nats, means with 95 % intervals from a bootstrap over contexts; `exact` is a context that never held the span. "
        f"{SHARED_TEXT} {NO_WIDTH} "
        f"`docs/{page}.md` has every task by itself.",
        "",
        *group_table(figures["groups"], methods),
        "",
        "Right answers (exact match), and log P(erased value) minus that of a context that never held it: above 0 it is remembered, "
        "below 0 it is pushed under what was never read, which tells of it, too.",
        "",
        *answers_table(figures["groups"], methods),
    ]


def card(path: Path, header: Header, figures: dict[str, Any] | None, page: str) -> str:
    settings = header.settings
    values = {"window": settings.window, "sinks": settings.sinks, "bridge_tokens": settings.bridge_tokens}
    reader = GGUFReader(path)
    n_pairs = len(reader.tensors) // 2
    rank = min(int(n) for n in reader.tensors[0].shape)
    config = header.training.get("config")
    lengths = config["step"]["lengths"] if config else []
    lines = [f"# {header.name}", "", WHAT[settings.kind].format(**values), "", "## File", ""]
    lines += [
        f"`{path.name}`, {path.stat().st_size} bytes, SHA-256 `{sha256(path)}`: LoRA of rank {rank}, alpha {header.alpha:g}, on "
        f"{n_pairs} matrices. Base model: fingerprint `{header.fingerprint}`"
        + (f", SHA-256 `{header.training['model_sha256']}`." if "model_sha256" in header.training else "."),
        "", "## Training", "", *training_section(header.training), "", "## Figures", "",
    ]  # fmt: skip
    lines += (
        figures_section(figures, page, settings.kind, sha256(path))
        if figures
        else ["None were given when this card was written."]
    )
    lines += ["", "## Limits", "", LIMITS[settings.kind]]
    if lengths:
        lines.append(
            COMMON_LIMITS.format(
                shortest=round(min(low for low, *_ in lengths)), longest=round(max(high for _, high, _ in lengths))
            )
        )
    lines += [
        "", "## Licence", "",
        f"Weights: {header.license}. The training texts are from Wikipedia (CC BY-SA) and from Natural Questions (CC BY-SA 3.0); "
        "none of their text is in the file.",
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="rasure_training.eraser.card", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("adapter", type=Path, metavar="ADAPTER.gguf")
    parser.add_argument("--figures", type=Path, help="what `report` wrote, with this adapter among those measured")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    try:
        figures = json.loads(args.figures.read_text(encoding="utf-8")) if args.figures else None
        args.out.write_text(
            card(args.adapter, read_header(args.adapter), figures, args.figures.stem if args.figures else ""), encoding="utf-8"
        )
    except (AdapterError, OSError, ValueError) as error:
        print(f"card: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
