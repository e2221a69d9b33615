"""Trains an eraser adapter.

    python -m rasure_training.eraser --config configs/smollm2_bridge.toml --model MODEL.gguf --data DATA

Writes into a folder: checkpoint.pt (every so many steps; a run that finds one goes on from it), NAME.gguf (the adapter, with
every checkpoint), log.csv, tasks.csv, validation.csv, loss.png and loss.svg. Under `torchrun --nproc-per-node N -m
rasure_training.eraser ...` N processes share the documents of each step.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Any

from ..runs import run_command, run_parser
from .adapter_file import AdapterError
from .config import TrainingConfig, parse_config
from .train import Trainer


def with_steps(config: TrainingConfig, steps: int) -> TrainingConfig:
    """The run with another number of steps, shared between its stages as before."""
    total, done, stages = config.total_steps, 0, []
    for stage in config.stages:
        end = round((done + stage.steps) * steps / total)
        begin = round(done * steps / total)
        stages.append(replace(stage, steps=end - begin))
        done += stage.steps
    return replace(config, stages=stages)


def main() -> int:
    parser = run_parser("rasure_training.eraser", __doc__, "wiki_paragraphs.jsonl.gz and nq_passages.jsonl.gz")
    parser.add_argument("--steps", type=int, help="number of steps in all, instead of the file's; stages keep their shares")
    args = parser.parse_args()

    def parse(data: dict[str, Any]) -> TrainingConfig:
        config = parse_config(data)
        return with_steps(config, args.steps) if args.steps else config

    return run_command("eraser", args, parse, Trainer, (AdapterError,))


if __name__ == "__main__":
    sys.exit(main())
