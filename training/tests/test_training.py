"""The training command on a tiny model: learning, stopping and going on, two processes, files."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import model_path

from rasure_training.eraser.__main__ import with_steps
from rasure_training.eraser.adapter_file import read_adapter
from rasure_training.eraser.config import TrainingConfig, load_config, parse_config
from rasure_training.eraser.train import Trainer
from rasure_training.gguf_model import GgufFile
from rasure_training.runs import ConfigError, TrainingError, override
from rasure_training.world import World

CONFIG = Path(__file__).with_name("tiny.toml")
SHIPPED = Path(__file__).resolve().parents[1] / "configs"
MODEL = model_path("tiny-llama")


def trainer(config: TrainingConfig, data: Path, out: Path) -> Trainer:
    out.mkdir(exist_ok=True)
    return Trainer(config, MODEL, data, out, World())


def columns(path: Path, *names: str) -> list[tuple[str, ...]]:
    with path.open(newline="") as file:
        return [tuple(row[name] for name in names) for row in csv.DictReader(file)]


def test_a_run_writes_its_files(data: Path, tmp_path: Path) -> None:
    config = load_config(CONFIG)
    config = replace(config, output=replace(config.output, validate=3))
    run = trainer(config, data, tmp_path)
    run.run(show=False)
    rows = columns(tmp_path / "log.csv", "step", "stage", "loss")
    assert [row[:2] for row in rows] == [(str(i + 1), "first" if i < 2 else "second") for i in range(6)]
    assert all(float(row[2]) > 0 for row in rows)
    validation = columns(tmp_path / "validation.csv", "step", "method", "task")
    assert {("0", "drop", "all"), ("0", "bridge", "all"), ("3", "bridge", "all"), ("6", "bridge+shift", "all")} <= set(validation)
    assert (tmp_path / "loss.png").read_bytes()[:4] == b"\x89PNG"
    assert "<svg" in (tmp_path / "loss.svg").read_text()
    adapter = read_adapter(tmp_path / "tiny.bridge.gguf", GgufFile(MODEL))
    assert adapter.training["steps"] == 6
    assert set(adapter.training["data"]) == {"wiki_paragraphs.jsonl.gz", "nq_passages.jsonl.gz"}
    assert any(b.abs().max() > 0 for b in adapter.lora.b.values())


def test_a_resumed_run_goes_on_as_if_it_had_not_stopped(data: Path, tmp_path: Path) -> None:
    config = load_config(CONFIG)
    whole = trainer(config, data, tmp_path / "whole")
    whole.run(show=False)

    stopped = trainer(config, data, tmp_path / "parts")
    for _ in range(3):
        stopped.do_step()
    stopped.save()
    stopped.do_step()  # lost: it comes after the checkpoint

    resumed = trainer(config, data, tmp_path / "parts")
    resumed.run(show=False)
    assert resumed.losses == pytest.approx(whole.losses, rel=1e-6)
    for name, tensor in whole.lora.state().items():
        torch.testing.assert_close(resumed.lora.state()[name], tensor, atol=1e-7, rtol=1e-5)


def test_rows_after_the_checkpoint_are_written_again(data: Path, tmp_path: Path) -> None:
    config = load_config(CONFIG)
    run = trainer(config, data, tmp_path)
    run.run(show=False)
    before = columns(tmp_path / "log.csv", "step", "loss")
    state = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert state["step"] == 6
    again = trainer(config, data, tmp_path)
    again.run(show=False)  # nothing is left to do
    assert columns(tmp_path / "log.csv", "step", "loss") == before


def test_a_checkpoint_of_another_run_is_refused(data: Path, tmp_path: Path) -> None:
    config = load_config(CONFIG)
    trainer(config, data, tmp_path).save()
    with pytest.raises(TrainingError, match="another config"):
        trainer(replace(config, seed=6), data, tmp_path).run(show=False)


def test_steps_see_the_same_documents_whatever_came_before(data: Path, tmp_path: Path) -> None:
    config = load_config(CONFIG)
    a, b = trainer(config, data, tmp_path / "a"), trainer(config, data, tmp_path / "b")
    a.losses_of_step(0)
    assert a.losses_of_step(4) == b.losses_of_step(4)
    assert a.losses_of_step(4) != a.losses_of_step(5)


def command(out: Path, data: Path, *more: str) -> list[str]:
    return ["-m", "rasure_training.eraser", "--config", str(CONFIG), "--model", str(MODEL), "--data", str(data),
            "--out", str(out), *more]  # fmt: skip


def run(arguments: list[str]) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, env=environment, timeout=300)


def test_two_processes_do_what_one_does(data: Path, tmp_path: Path) -> None:
    """torchrun with two CPU processes: the same losses, as gradients are averaged over all documents of a step."""
    alone = run(command(tmp_path / "one", data))
    assert alone.returncode == 0, alone.stderr
    together = run(["-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", "0", "--standalone",
                    *command(tmp_path / "two", data)])  # fmt: skip
    assert together.returncode == 0, together.stderr
    one, two = (columns(tmp_path / name / "log.csv", "step", "probes", "loss", "grad_norm") for name in ("one", "two"))
    assert len(one) == len(two) == 6
    for a, b in zip(one, two, strict=True):
        assert a[:2] == b[:2]
        assert [float(x) for x in a[2:]] == pytest.approx([float(x) for x in b[2:]], rel=2e-3)
    assert "step 6 of 6" in alone.stderr and "left" in alone.stderr
    record = read_adapter(tmp_path / "two" / "tiny.bridge.gguf", GgufFile(MODEL)).training
    assert record["processes"] == 2


def test_the_command_names_what_is_wrong(data: Path, tmp_path: Path) -> None:
    wrong = run(command(tmp_path, data, "--set", "optimizer.rate=1"))
    assert wrong.returncode == 2
    assert "optimizer.rate" in wrong.stderr
    missing = run([argument if argument != str(data) else str(tmp_path) for argument in command(tmp_path, data)])
    assert missing.returncode == 1
    assert "wiki_paragraphs.jsonl.gz" in missing.stderr


@pytest.mark.parametrize("name", ["smollm2_bridge", "smollm2_steer"])
def test_shipped_configurations(name: str) -> None:
    config = load_config(SHIPPED / f"{name}.toml")
    assert config.adapter.kind == name.removeprefix("smollm2_")
    assert config.stage_of(0) is config.stages[0]
    assert config.stage_of(config.total_steps - 1) is config.stages[-1]
    shorter = with_steps(config, 100)
    assert shorter.total_steps == 100
    assert shorter.stages[0].steps / 100 == pytest.approx(config.stages[0].steps / config.total_steps, abs=0.01)


def test_the_learning_rate_rises_and_falls(data: Path, tmp_path: Path) -> None:
    run = trainer(load_config(CONFIG), data, tmp_path)
    rates = [run.learning_rate(step) for step in range(6)]
    assert rates[0] == pytest.approx(0.5e-3) and rates[1] == pytest.approx(1e-3)
    assert rates[1:] == sorted(rates[1:], reverse=True)
    assert run.learning_rate(6) == pytest.approx(1e-4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.pop("seed"), "seed is missing"),
        (lambda d: d["adapter"].pop("rank"), "rank is missing"),
        (lambda d: d["adapter"].update(kind="other"), "kind other"),
        (lambda d: d["adapter"].update(rank="12"), "rank is '12'"),
        (lambda d: d["adapter"].update(bridge_tokens=0), "bridge_tokens"),
        (lambda d: d["step"].update(speed=1), "no parameter speed"),
        (lambda d: d["erase"].update(dtype="int8"), "dtype int8"),
        (lambda d: d["stages"][0]["tasks"].update(unknown=1.0), "no task unknown"),
        (lambda d: d["stages"].clear(), "no stages"),
    ],
)
def test_bad_configurations_are_named(change, message: str) -> None:  # noqa: ANN001
    import tomllib

    data = tomllib.loads(CONFIG.read_text())
    change(data)
    with pytest.raises(ConfigError, match=message):
        parse_config(data)


def test_overrides() -> None:
    data = {"optimizer": {"lr": 1.0}, "name": "a"}
    override(data, ["optimizer.lr=4e-4", 'name="b"'])
    assert data == {"optimizer": {"lr": 4e-4}, "name": "b"}
    for wrong in ("optimizer.x=1", "optimizer=1", "optimizer.lr", "optimizer.lr=?"):
        with pytest.raises(ConfigError):
            override(data, [wrong])
            parse_config(data)
