"""Options that several programs have."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest
from rasure_training.arguments import add_runtime, parse_runtime


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """What a tool that knows `isa` makes of options."""

    def parse(isa: str, *options: str, end: str = "") -> argparse.Namespace:
        tool = tmp_path / "rasure"
        answer = json.dumps({"model": {"isa": isa}})
        tool.write_text(f"""#!/bin/sh\n[ "$*" = "info --json --model m.gguf" ] || exit 1\necho '{answer}'\n{end}\n""")
        tool.chmod(0o755)
        parser = argparse.ArgumentParser()
        add_runtime(parser)
        monkeypatch.setattr("sys.argv", ["measure", str(tool), "m.gguf", "--data", ".", *options])
        return parse_runtime(parser)

    return parse


def test_kernels_have_a_name(told) -> None:
    assert told("avx2").isa == "avx2"
    assert told("avx2", "--isa", "ref").isa == "ref"


def test_a_tool_that_fails_is_refused(told, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        told("avx2", end="exit 3")
    assert "exit status 3" in capsys.readouterr().err
