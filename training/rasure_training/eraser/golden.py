"""Golden of the erase passes: two random adapters of a small model, and the rows that they and adaptive repair write.

    python -m rasure_training.eraser.golden --model tests/golden/data/tiny-qwen3.gguf --out tests/golden/data

Writes NAME.steer.gguf, NAME.bridge.gguf (adapters) and NAME.erase.golden.gguf; `tests/golden/README.md` describes the last.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch

from ..gguf_model import ModelError, load_model
from ..golden_file import GoldenFile
from .adapter_file import Adapter, read_adapter, write_adapter
from .engine import Engine, Rows, Settings, echoes, words_of
from .lora import EraserModel

SEED = 20260915
RANK, ALPHA = 8, 16.0
WINDOW, SINKS, BRIDGE_TOKENS = 24, 4, 12
N_TOKENS, SPAN = 96, (41, 58)  # more before the span than sinks and window show
NEAR = 4  # of "adaptive"
ECHO = (60, 66, 43)  # the tokens there are again those from here on: of the span
B_SIZE = 0.3  # of B's weights, normally distributed: large enough that the adapter's part is not lost in rounding


def write_rows(golden: GoldenFile, method: str, rows: Rows, written: torch.Tensor) -> None:
    golden.integers(f"{method}.positions", rows.cache.positions[written])
    for layer, (k, v) in enumerate(zip(rows.cache.k, rows.cache.v, strict=True)):
        golden.tensor(f"{method}.k.{layer}", k[:, written].flatten(0, 1))
        golden.tensor(f"{method}.v.{layer}", v[:, written].flatten(0, 1))


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="rasure_training.eraser.golden", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, required=True, help="a small GGUF model")
    parser.add_argument("--out", type=Path, required=True, help="folder for the files")
    args = parser.parse_args()
    torch.set_num_threads(1)
    try:
        loaded = load_model(args.model)
    except ModelError as error:
        print(f"golden: {error}", file=sys.stderr)
        return 1
    model = EraserModel(loaded)
    name = args.model.stem
    generator = torch.Generator().manual_seed(SEED)
    tokens = torch.randint(0, model.config.n_vocab, (N_TOKENS,), generator=generator)
    begin, end, source = ECHO
    tokens[begin:end] = tokens[source : source + end - begin]
    with torch.no_grad(), GoldenFile(args.out / f"{name}.erase.golden.gguf") as golden:
        golden.integers("tokens", tokens)
        golden.integers("span", torch.tensor(SPAN))
        for i, (kind, methods) in enumerate((("steer", ["steer"]), ("bridge", ["bridge", "bridge+shift"]))):
            lora = model.fresh_lora(RANK, ALPHA, SEED + i)
            for b in lora.b.values():
                b.copy_(torch.randn(b.shape, generator=generator) * B_SIZE)
            settings = Settings(kind, WINDOW, SINKS, BRIDGE_TOKENS if kind == "bridge" else 0)
            path = args.out / f"{name}.{kind}.gguf"
            # What the runtime reads is what the golden is computed with.
            write_adapter(path, loaded.file, Adapter(settings, lora, "", f"random {kind}", "apache-2.0"), b_type="f16")
            engine = Engine(model, settings, read_adapter(path, loaded.file).lora)
            context = engine.read(tokens)
            n = SPAN[1] - SPAN[0] if kind == "steer" else BRIDGE_TOKENS
            for method in methods:
                write_rows(golden, method, engine.erase(context, [SPAN], method), torch.arange(SPAN[0], SPAN[0] + n))
        engine = Engine(model)
        rows = engine.erase(engine.read(tokens), [SPAN], f"adaptive:{NEAR}")
        write_rows(golden, "adaptive", rows, echoes(rows.tokens, words_of(tokens, [SPAN]), rows.holes, NEAR))
    print(f"wrote {name}.steer.gguf, {name}.bridge.gguf and {name}.erase.golden.gguf")
    return 0


if __name__ == "__main__":
    sys.exit(main())
