"""Learns which KV heads need everything.

    python -m rasure_training.heads --config training/configs/smollm2_heads.toml --model MODEL.gguf --data DATA

Writes into a folder: checkpoint.pt (a run that finds one goes on from it), NAME.gguf and NAME.tsv (a line a layer, a number a
KV head; `rasure run --heads` and rs_heads_load read either), log.csv, validation.csv and masks.svg. Under `torchrun
--nproc-per-node N -m rasure_training.heads ...` N processes share the sequences of each step.
"""

from __future__ import annotations

import sys

from ..runs import run_command, run_parser
from .config import parse_config
from .train import Trainer


def main() -> int:
    args = run_parser("rasure_training.heads", __doc__, "wiki_paragraphs.jsonl.gz").parse_args()
    return run_command("heads", args, parse_config, Trainer)


if __name__ == "__main__":
    sys.exit(main())
