"""Tables of heads by chance, for a model's shape: what trained masks are to be better than.

python -m rasure_training.heads.chance MODEL.gguf --seeds 1,2,3,4,5 --out FOLDER

Writes heads_chance_SEED.tsv for each seed.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch

from ..arguments import numbers
from ..gguf_model import GgufFile, ModelError, read_config
from .masks import table


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="rasure_training.heads.chance", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path, metavar="MODEL.gguf")
    parser.add_argument("--seeds", type=numbers, default=[1, 2, 3, 4, 5], metavar="LIST", help="with commas (default: 1 to 5)")
    parser.add_argument("--out", type=Path, required=True, help="the folder to write to")
    args = parser.parse_args()
    try:
        config = read_config(GgufFile(args.model))
        args.out.mkdir(parents=True, exist_ok=True)
        for seed in args.seeds:
            values = torch.rand(config.n_layer, config.n_kv_head, generator=torch.Generator().manual_seed(seed))
            (args.out / f"heads_chance_{seed}.tsv").write_text(table(values), encoding="utf-8")
    except (ModelError, OSError) as error:
        print(f"chance: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
