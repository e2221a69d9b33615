"""Learns which KV heads need everything.

    python -m rasure_training.heads --config training/configs/smollm2_heads.toml --model MODEL.gguf --data DATA

Writes into a folder: checkpoint.pt (a run that finds one goes on from it), NAME.tsv (a line a layer, a number a KV head; what
`rasure --heads` and rs_heads_load read), log.csv, validation.csv and masks.svg. Under `torchrun --nproc-per-node N -m
rasure_training.heads ...` N processes share the sequences of each step.
"""

from __future__ import annotations

import argparse
import sys
import tomllib
from pathlib import Path

import torch

from ..eraser.__main__ import default_out, override
from ..eraser.config import ConfigError as OverrideError
from ..eraser.train import TrainingError
from ..eraser.world import World
from ..gguf_model import ModelError
from ..text import DataError
from .config import ConfigError, parse_config
from .train import Trainer


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="rasure_training.heads", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", required=True, type=Path, help="TOML file with every hyper-parameter")
    parser.add_argument("--model", required=True, type=Path, help="the model, as GGUF")
    parser.add_argument("--data", required=True, type=Path, help="folder of wiki_paragraphs.jsonl.gz")
    parser.add_argument("--out", type=Path, help="folder to write to (default: the run's name in the cache folder)")
    parser.add_argument("--threads", type=int, default=1, help="threads of PyTorch in each process (default: %(default)s)")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE",
                        help="another value of a hyper-parameter; may be repeated")  # fmt: skip
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    try:
        data = tomllib.loads(args.config.read_text(encoding="utf-8"))
        override(data, args.set)
        config = parse_config(data)
        out = args.out or default_out(config.name)
        out.mkdir(parents=True, exist_ok=True)
        world = World()
        try:
            Trainer(config, args.model, args.data, out, world).run()
            world.wait()
        finally:
            world.close()
    except (ConfigError, OverrideError, tomllib.TOMLDecodeError, OSError) as error:
        print(f"heads: {args.config}: {error}", file=sys.stderr)
        return 2
    except (ModelError, DataError, TrainingError) as error:
        print(f"heads: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("heads: stopped; the same command goes on from the last checkpoint", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
