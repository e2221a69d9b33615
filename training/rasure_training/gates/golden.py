"""Goldens of the gates, for the C runtime's tests: decisions on recorded numbers, and what gates say on a tiny model.

    python -m rasure_training.gates.golden --model tests/golden/data/tiny-qwen3.gguf --out tests/golden/data

Writes `gates_kept.tsv` (cases of what goes and what stays) and, for every form, `MODEL.gates-FORM.gguf` with random weights and
`MODEL.gates-FORM.tsv`: a line of token ids, then a line of lambdas for each KV head of each layer.
"""

from __future__ import annotations

import argparse
import random
import sys
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..eraser.lora import EraserModel
from ..gguf_model import load_model
from ..reference import Cache
from .evict import Rule, keep
from .forms import FORMS, Gates
from .sidecar import load_weights, write_sidecar

CASES, TOKENS, SEED = 30, 48, 5


class Listener(EraserModel):
    """Lets gates hear what comes into every layer's attention."""

    def __init__(self, model: Path, gates: Gates) -> None:
        super().__init__(load_model(model))
        self.gates = gates
        self.heard: list[Tensor] = []

    def _attention(self, layer: int, x: Tensor, rotation: tuple[Tensor, Tensor], cache: Cache, mask: Tensor) -> Tensor:
        self.heard.append(self.gates(layer, x))
        return super()._attention(layer, x, rotation, cache, mask)


def decisions() -> str:
    """A line a case: scope (0 global, 1 head), streams, budget, floor, sinks, window, newest position; then a line a stream: how many
    entries, and of each its position, its lambda (hexadecimal) and whether it stays."""
    lines = []
    random_ = random.Random(SEED)
    for case in range(CASES):
        n_streams, now = random_.randint(1, 6), random_.randint(20, 90)
        sinks, window = random_.randint(0, 5), random_.randint(1, 8)
        least = sinks + window
        budget = random_.randint(least, least + 30)
        floor = random_.randint(0, min(budget, least + 6))
        rule = Rule("head" if case % 2 else "global", budget, floor, sinks, window)
        ties = random_.random() < 0.5
        lambdas, positions = [], []
        for _ in range(n_streams):
            share = random_.uniform(0.5, 1.0)
            places = [p for p in range(now + 1) if p < sinks or p > now - window or random_.random() < share]
            values = [-random_.choice((0.0, 0.25, 0.5)) if ties else -(10 ** random_.uniform(-6, 1)) for _ in places]
            positions.append(np.array(places))
            lambdas.append(np.array(values, dtype=np.float32))
        lines.append(f"{int(rule.scope == 'head')} {n_streams} {rule.budget} {rule.floor} {sinks} {window} {now}")
        for values, places, kept in zip(lambdas, positions, keep(lambdas, positions, now, rule), strict=True):
            entries = [f"{p} {float(v).hex()} {int(k)}" for p, v, k in zip(places, values, kept, strict=True)]
            lines.append(" ".join([str(len(places)), *entries]))
    return "\n".join(lines) + "\n"


def random_gates(form: str, model: Path) -> Gates:
    config = load_model(model).config
    gates = Gates(form, config.n_layer, config.n_kv_head, config.d_model, 64, 32, 2.0, SEED)
    with torch.no_grad():
        generator = torch.Generator().manual_seed(SEED)
        for parameter in gates.parameters():
            parameter.add_(torch.empty_like(parameter).normal_(0.0, 0.2, generator=generator))
    return gates


@torch.no_grad()
def write_form(form: str, model: Path, out: Path) -> None:
    gates = random_gates(form, model)
    stem = f"{model.stem}.gates-{form}"
    scope = "head" if form == "untied" else "global"
    write_sidecar(out / f"{stem}.gguf", load_model(model).file, stem, gates, scope, 16, TOKENS, {"seed": SEED})
    load_weights(out / f"{stem}.gguf", gates)
    listener = Listener(model, gates)
    tokens = torch.randint(256, (TOKENS,), generator=torch.Generator().manual_seed(SEED))
    listener.forward(tokens)
    lines = [" ".join(str(t) for t in tokens.tolist())]
    lines += [" ".join(f"{v:.9g}" for v in head) for layer in listener.heard for head in layer.tolist()]
    (out / f"{stem}.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="rasure_training.gates.golden", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", required=True, type=Path, help="a tiny model")
    parser.add_argument("--out", required=True, type=Path, help="folder to write to")
    args = parser.parse_args()
    (args.out / "gates_kept.tsv").write_text(decisions(), encoding="utf-8")
    for form in FORMS:
        write_form(form, args.model, args.out)
    print(f"{args.out}: gates_kept.tsv, and gates of {len(FORMS)} forms for {args.model.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
