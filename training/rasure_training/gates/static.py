"""A static allocation: every stream keeps a window whose length is its average under trained gates, and nothing depends on the text.

    python -m rasure_training.gates.static OUTCOMES.jsonl... --model MODEL.gguf --out static.gguf

OUTCOMES are what `rasure eval --policy gates --per-case` wrote. The result is a sidecar of constant gates: where an entry's rank is its
age times lambda, lambda = -1/L keeps windows in proportion to L, whatever the budget.
"""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path
from statistics import fmean

import torch

from ..files import read_json_lines
from ..gguf_model import GgufFile, ModelError
from ..text import DataError
from .forms import Gates
from .sidecar import write_sidecar

LEAST_LENGTH = 1.0  # a stream may have nothing but what is protected


def mean_lengths(paths: list[Path]) -> tuple[list[float], list[int]]:
    """Average entries of each stream, and the lengths of the contexts."""
    rows = [row for path in paths for row in read_json_lines(path)]
    if not rows:
        raise DataError("there are no outcomes")
    return [fmean(column) for column in zip(*(row["streams"] for row in rows), strict=True)], [row["n_context"] for row in rows]


def bias_of(length: float) -> float:
    """b with log sigmoid(b) = -1/length."""
    share = math.exp(-1.0 / max(length, LEAST_LENGTH))
    return math.log(share / (1.0 - share))


def static_gates(lengths: list[float], n_layer: int, n_kv_head: int, d_model: int) -> Gates:
    if len(lengths) != n_layer * n_kv_head:
        raise DataError(f"the outcomes have {len(lengths)} streams, the model {n_layer * n_kv_head}")
    gates = Gates("constant", n_layer, n_kv_head, d_model, 0, 0, 0.0, 0)
    biases = torch.tensor([bias_of(length) for length in lengths]).view(n_layer, n_kv_head)
    with torch.no_grad():
        for layer, bias in enumerate(gates.out_bias):
            bias.copy_(biases[layer])
    return gates


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="rasure_training.gates.static", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("outcomes", type=Path, nargs="+", metavar="OUTCOMES.jsonl")
    parser.add_argument("--model", type=Path, required=True, help="the model, as GGUF")
    parser.add_argument("--out", type=Path, required=True, help="the sidecar to write")
    args = parser.parse_args()
    try:
        base = GgufFile(args.model)
        lengths, n_contexts = mean_lengths(args.outcomes)
        arch = base.value("general.architecture")
        gates = static_gates(lengths, *(base.value(f"{arch}.{key}") for key in
                                        ("block_count", "attention.head_count_kv", "embedding_length")))  # fmt: skip
        write_sidecar(args.out, base, "static allocation", gates, "global", round(fmean(lengths)), max(n_contexts),
                      {"made": "average stream lengths under trained gates", "cases": len(n_contexts)})  # fmt: skip
    except (DataError, ModelError, OSError, ValueError, KeyError) as error:
        print(f"static: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
