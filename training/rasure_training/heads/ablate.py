"""Ranks KV heads without training: how much worse the model gets when one head alone is held to sinks and a window.

    python -m rasure_training.heads.ablate --config training/configs/smollm2_heads.toml --model MODEL.gguf --data DATA --out heads.gguf

A head's value is the mean increase of the next-token loss on training sequences, weighted as in training; the file is one of
`rasure run --policy heads --heads`. To compare with what training finds: single heads say nothing of what heads do for each other.
"""

from __future__ import annotations

import argparse
import sys
import tomllib
from pathlib import Path

import torch
from torch import Tensor

from ..arguments import positive
from ..gguf_model import ModelError
from ..runs import ConfigError, override, say
from ..text import DataError
from ..world import World
from .config import parse_config
from .sidecar import write_sidecar
from .train import Trainer


def increases(trainer: Trainer, n_sequences: int) -> Tensor:
    """[n_layer, n_kv_head]: loss with only that head local, minus that of the whole model, over the first sequences of step 0, 1, ..."""
    shape = trainer.values.shape
    total = torch.zeros(shape)
    for i in range(n_sequences):
        sample = trainer.draw_sample("train", f"train {i} 0")
        whole = trainer.loss_with(torch.ones(shape), sample)
        for layer in range(shape[0]):
            for head in range(shape[1]):
                z = torch.ones(shape)
                z[layer, head] = 0.0
                total[layer, head] += trainer.loss_with(z, sample) - whole
        say(f"sequence {i + 1} of {n_sequences}")
    return total / n_sequences


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="rasure_training.heads.ablate", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", type=Path, required=True, help="TOML file of a training: sinks, window, tasks, seed")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="change a value of it, such as tokens=512"
    )
    parser.add_argument("--model", type=Path, required=True, help="the model, as GGUF")
    parser.add_argument("--data", type=Path, required=True, help="folder of wiki_paragraphs.jsonl.gz")
    parser.add_argument("--sequences", type=positive, default=8, help="(default: %(default)s)")
    parser.add_argument("--threads", type=positive, default=1, help="of PyTorch (default: %(default)s)")
    parser.add_argument("--out", type=Path, required=True, help="the sidecar to write")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    try:
        data = tomllib.loads(args.config.read_text(encoding="utf-8"))
        override(data, args.set)
        trainer = Trainer(parse_config(data), args.model, args.data, args.out.parent, World())
        config = trainer.config
        found = increases(trainer, args.sequences)
        made = {"made": "single-head ablation", "sequences": args.sequences, "config": config.as_dict()}
        write_sidecar(args.out, trainer.base, "single-head ablation", found, config.sinks, config.window, made)
    except (ConfigError, DataError, ModelError, OSError) as error:
        print(f"ablate: {error}", file=sys.stderr)
        return 1
    print(f"wrote {args.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
