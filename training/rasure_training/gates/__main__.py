"""Learns retention gates.

    python -m rasure_training.gates --config training/configs/smollm2_gates.toml --model MODEL.gguf --data DATA

Writes into a folder: checkpoint.pt (a run that finds one goes on from it), NAME.gguf (`rasure run --policy gates --gates` and
rs_gates_load read it), log.csv, validation.csv and gates.svg. Under `torchrun --nproc-per-node N -m rasure_training.gates ...` N
processes share the sequences of each step.
"""

from __future__ import annotations

import sys

from ..runs import run_command, run_parser
from .config import parse_config
from .train import Trainer


def main() -> int:
    args = run_parser("rasure_training.gates", __doc__, "wiki_paragraphs.jsonl.gz").parse_args()
    return run_command("gates", args, parse_config, Trainer)


if __name__ == "__main__":
    sys.exit(main())
