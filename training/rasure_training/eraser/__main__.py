"""Trains an eraser adapter.

    python -m rasure_training.eraser --config configs/smollm2_bridge.toml --model MODEL.gguf --data DATA

Writes into a folder: checkpoint.pt (every so many steps; a run that finds one goes on from it), NAME.gguf (the adapter, with
every checkpoint), log.csv, tasks.csv, validation.csv, loss.png and loss.svg. Under `torchrun --nproc-per-node N -m
rasure_training.eraser ...` N processes share the documents of each step.
"""

from __future__ import annotations

import argparse
import os
import sys
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from ..gguf_model import ModelError
from ..text import DataError
from .adapter_file import AdapterError
from .config import ConfigError, TrainingConfig, parse_config
from .train import Trainer, TrainingError
from .world import World


def default_out(name: str) -> Path:
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "rasure" / "training" / name


def override(data: dict[str, Any], settings: list[str]) -> None:
    """Applies `section.key=value` to the parsed file; values are written as in TOML."""
    for setting in settings:
        path, equals, text = setting.partition("=")
        *sections, key = path.split(".")
        table: Any = data
        for section in sections:
            table = table.get(section) if isinstance(table, dict) else None
        if not equals or not isinstance(table, dict) or key not in table:
            raise ConfigError(f"--set {setting}: there is no parameter {path}")
        try:
            table[key] = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError as error:
            raise ConfigError(f"--set {setting}: {error}") from error


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
    parser = argparse.ArgumentParser(
        prog="rasure_training.eraser", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", required=True, type=Path, help="TOML file with every hyper-parameter")
    parser.add_argument("--model", required=True, type=Path, help="the base model, as GGUF")
    parser.add_argument("--data", required=True, type=Path, help="folder of wiki_paragraphs.jsonl.gz and nq_passages.jsonl.gz")
    parser.add_argument("--out", type=Path, help="folder to write to (default: the run's name in the cache folder)")
    parser.add_argument("--steps", type=int, help="number of steps in all, instead of the file's; stages keep their shares")
    parser.add_argument("--threads", type=int, default=1, help="threads of PyTorch in each process (default: %(default)s)")
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE",
                        help="another value of a hyper-parameter; may be repeated")  # fmt: skip
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    try:
        data = tomllib.loads(args.config.read_text(encoding="utf-8"))
        override(data, args.set)
        config = parse_config(data)
        if args.steps:
            config = with_steps(config, args.steps)
        out = args.out or default_out(config.name)
        out.mkdir(parents=True, exist_ok=True)
        world = World()
        try:
            Trainer(config, args.model, args.data, out, world).run()
            world.wait()
        finally:
            world.close()
    except (ConfigError, tomllib.TOMLDecodeError, OSError) as error:
        print(f"eraser: {args.config}: {error}", file=sys.stderr)
        return 2
    except (ModelError, DataError, AdapterError, TrainingError) as error:
        print(f"eraser: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("eraser: stopped; the same command goes on from the last checkpoint", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
