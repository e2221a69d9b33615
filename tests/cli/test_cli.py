#!/usr/bin/env python3
"""Tests of the rasure tool from outside: every command, its help, what it refuses and how, and real runs.

    python3 tests/cli/test_cli.py RASURE [unittest arguments]

RASURE is the program. The real runs use the model that the tool itself finds ($RASURE_MODEL or the default). Standard library
only.
"""

from __future__ import annotations

import functools
import gzip
import json
import math
import os
import pty
import re
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]
COMMANDS = ("info", "run", "chat", "bench", "tokenize", "demo", "eval")
RASURE = Path("rasure")

HEAD = "<|im_start|>user\nRead the text and answer.\n\n"
CASE: dict[str, object] = {
    "id": "one",
    "prefix": HEAD + "Ann lives in Oslo.",
    "span": " Ann lives in Rome.",
    "suffix": " Bob cooks on Fridays.",
    "question": " Where does Ann live?<|im_end|>\n<|im_start|>assistant\n",
    "cue": "Ann lives in",
    "answers": ["Oslo"],
    "leaks": ["Rome"],
}


def rasure(*arguments: object, stdin: str | bytes = b"", **environment: str) -> subprocess.CompletedProcess[bytes]:
    """Runs the tool and takes down all that it says."""
    data = stdin.encode() if isinstance(stdin, str) else stdin
    return subprocess.run(
        [RASURE, *map(str, arguments)],
        input=data,
        capture_output=True,
        timeout=600,
        env={**os.environ, **environment},
        check=False,
    )


class Case(unittest.TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def file(self, name: str, data: str | bytes) -> Path:
        path = self.folder / name
        path.write_bytes(data.encode() if isinstance(data, str) else data)
        return path

    def good(self, *arguments: object, **more: str | bytes) -> str:
        result = rasure(*arguments, **more)  # type: ignore[arg-type]
        self.assertEqual(result.returncode, 0, f"{arguments}: {result.stderr.decode()}")
        return result.stdout.decode()

    def refuses(self, code: int, phrase: str, *arguments: object, **more: str | bytes) -> None:
        """The exit code, nothing on stdout, and one sentence on stderr that has the phrase."""
        result = rasure(*arguments, **more)  # type: ignore[arg-type]
        said = result.stderr.decode()
        self.assertEqual(result.returncode, code, f"{arguments}: {said}")
        self.assertEqual(result.stdout, b"", f"{arguments}")
        self.assertRegex(said, r"\Arasure: [^\n]+\n\Z", f"{arguments}")
        self.assertIn(phrase, said, f"{arguments}")


class Help(Case):
    def test_program(self) -> None:
        text = self.good("--help")
        for command in COMMANDS:
            self.assertRegex(text, rf"(?m)^  {command} +\w")
        self.assertEqual(self.good("help"), text)
        self.assertRegex(self.good("--version"), r"\Arasure \d+\.\d+\.\d+\n\Z")

    def test_every_command(self) -> None:
        for command in COMMANDS:
            text = self.good(command, "--help")
            self.assertTrue(text.startswith(f"usage: rasure {command} "), command)
            for option in ("--model", "--threads", "--linear", "--isa", "--ctx", "--batch", "--help"):
                self.assertIn(option, text, command)
            self.assertEqual(self.good(command, "-h"), text)
            self.assertLessEqual(max(map(len, text.splitlines())), 120, command)

    def test_no_command(self) -> None:
        result = rasure()
        self.assertEqual((result.returncode, result.stdout), (2, b""))
        self.assertIn(b"usage: rasure", result.stderr)
        self.refuses(2, "is no command", "erase")


class CommandLine(Case):
    def test_options(self) -> None:
        for command in COMMANDS:
            self.refuses(2, "--wrong: no such option", command, "--wrong")
            self.refuses(2, "-Z: no such option", command, "-Z")
            self.refuses(2, "--model: a value is missing", command, "--model")
            self.refuses(2, "not one of auto native xnnpack", command, "--linear", "fast")
            self.refuses(2, "not one of auto ref avx2", command, "--isa", "sse9")

    def test_environment(self) -> None:
        self.refuses(2, "RASURE_ISA=sse9 names no instruction set level", "info", RASURE_ISA="sse9")

    def test_numbers(self) -> None:
        for text in ("", "0", "257", "-1", "+1", " 1", "1 ", "1x", "0x1", "1.0", "1e0", "99999999999999999999"):
            self.refuses(2, "not a whole number from 1 to 256", "info", "--threads", text)
        for option, text in (("--ctx", "15"), ("--ctx", "1048577"), ("--batch", "0"), ("--batch", "4097")):
            self.refuses(2, "not a whole number", "info", option, text)
        for text in ("", "-1", "inf", "nan", "0x1", "1,5", "1e999", "101", "1 "):
            self.refuses(2, "not a number from 0 to 100", "run", "-p", "x", "--temp", text)
        for option in ("--top-p", "--min-p"):
            self.refuses(2, "not a number from 0 to 1", "run", "-p", "x", option, "1.5")
        self.refuses(2, "2^64", "run", "-p", "x", "--seed", "18446744073709551616")

    def test_sampler(self) -> None:
        for options in (("--top-p", "0"), ("--min-p", "1"), ("--repeat-penalty", "0")):
            self.refuses(2, "", "run", "-p", "x", *options)
        self.refuses(2, "--stop: 0 bytes", "run", "-p", "x", "--stop", "")
        self.refuses(2, "--stop: 129 bytes", "run", "-p", "x", "--stop", "y" * 129)
        self.refuses(2, "at most 16", "run", "-p", "x", *["--stop=y"] * 17)

    def test_arguments(self) -> None:
        for command in ("info", "run", "chat", "bench", "demo"):
            self.refuses(2, 'unexpected argument "more"', command, "more")
        self.refuses(2, 'unexpected argument "more"', "eval", "some", "more")
        self.refuses(2, "which file?", "eval")

    def test_combinations(self) -> None:
        self.refuses(2, "one of them", "run", "-p", "x", "-f", "y")
        self.refuses(2, "the prompt is empty", "run")
        self.refuses(2, "the prompt is empty", "run", "-p", "")
        self.refuses(2, "--raw", "run", "-p", "x", "--raw", "--system", "y")
        self.refuses(2, "--method without --erase-text", "run", "-p", "x", "--method", "drop")
        self.refuses(2, "--eraser without --erase-text", "run", "-p", "x", "--eraser", "y")
        self.refuses(2, "--erase-text is empty", "run", "-p", "x", "--erase-text", "")
        self.refuses(2, "--erase-text is empty", "run", "-p", "x", "--erase-text", "x", "--erase-text", "")
        self.refuses(2, "--eraser is of no use with --method drop", "run", "-p", "x", "--erase-text", "x", "--method", "drop",
                     "--eraser", "y")  # fmt: skip
        self.refuses(2, "in idle time", "run", "-p", "x", "--erase-text", "x", "--method", "progressive")
        self.refuses(2, "one of them", "tokenize", "x", "-f", "y")
        self.refuses(2, "one of them", "tokenize", "x", "--ids", "--json")
        self.refuses(2, "--special only", "tokenize", "--decode", "1", "--json")
        self.refuses(2, "has 512 tokens only", "bench", "--span", "512")
        self.refuses(2, "has 20 tokens only", "bench", "--depth", "20", "--span", "32")
        self.refuses(2, "this needs 1024 tokens", "bench", "--ctx", "100", "--prefill", "1024")

    def test_policies(self) -> None:
        self.refuses(2, "not one of full window heads random keynorm snapkv", "run", "-p", "x", "--policy", "sliding")
        self.refuses(2, "--heads PATH", "chat", "--policy", "heads")
        self.refuses(2, "missing.tsv", "bench", "--policy", "heads", "--heads", self.folder / "missing.tsv")
        self.refuses(2, "three.tsv: line 1 has more", "bench", "--policy", "heads", "--heads",
                     self.file("three.tsv", "1\t0\t1\t1\n"))  # fmt: skip
        self.refuses(2, "--gates PATH", "chat", "--policy", "gates")
        self.refuses(2, "missing.gguf", "bench", "--policy", "head-gates", "--gates", self.folder / "missing.gguf")
        self.refuses(2, "no.gguf: ", "bench", "--policy", "gates", "--gates", self.file("no.gguf", "GGUF"))
        self.refuses(2, "--window", "run", "-p", "x", "--policy", "window", "--window", 0)
        self.refuses(2, "--local", "run", "-p", "x", "--local", 1.5)
        self.refuses(2, "budget is 9, must be 384", "run", "-p", "x", "--policy", "keynorm", "--budget", 9)
        self.refuses(2, "keep is 0", "run", "-p", "x", "--policy", "snapkv", "--keep", 0)

    def test_options_without_a_use(self) -> None:
        """What would change nothing is refused, not passed over."""
        heads = REPOSITORY / "models/smollm2-135m-instruct.heads.gguf"
        for policy, *option in (("full", "--keep", 0.3), ("full", "--window", 9), ("window", "--patched"), ("window", "--floor", 9),
                                ("window", "--heads", heads), ("window", "--local", 0.5), ("snapkv", "--floor", 9), ("snapkv", "--window", 9)):  # fmt: skip
            self.refuses(2, f"{option[0]} is of no use with --policy {policy}", "info", "--policy", policy, *option)
        self.refuses(2, "--keep is of no use with --policy full", "info", "--keep", 0.3)
        self.refuses(2, "--heads PATH names it", "info", "--policy", "snapkv", "--local", 0.5)
        self.refuses(2, "--window is what --budget is enough for", "info", "--budget", "8MB", "--window", 100)
        self.refuses(2, "--keep is what --budget is enough for", "info", "--policy", "snapkv", "--budget", "8MB", "--keep", 0.3)

    def test_budgets(self) -> None:
        for budget in ("", "x", "1e3B", "8 MB", "8mb", "-1", "5%%", "0B", "1e30GB", "1.2.3MB", "9" * 40):
            self.refuses(2, "--budget", "run", "-p", "x", "--policy", "window", "--budget", budget)
        self.refuses(2, "not above 0", "run", "-p", "x", "--policy", "window", "--budget", "0%")
        self.refuses(2, "not above 0", "run", "-p", "x", "--policy", "window", "--budget", "101%")
        self.refuses(2, "is too small: a window of one token takes", "run", "-p", "x", "--policy", "window", "--budget", "1MB")
        self.refuses(2, "is too small: a full cache takes", "run", "-p", "x", "--policy", "full", "--budget", "99%")
        self.refuses(2, "entries are for", "run", "-p", "x", "--policy", "window", "--budget", 400)
        self.refuses(2, "entries are for", "run", "-p", "x", "--budget", 400)

    def test_implied_policy(self) -> None:
        """Without --policy it is what the files and the budget are for."""

        def refused(*options: object) -> str:
            return rasure("run", "-p", "x", "--ctx", 1024, "--budget", "1MB", *options).stderr.decode()

        heads = REPOSITORY / "models/smollm2-135m-instruct.heads.gguf"
        gates = REPOSITORY / "models/smollm2-135m-instruct.gates.gguf"
        self.assertIn("a window of one token", refused())
        for option in ("--window", "--sinks"):
            self.assertRegex(self.good("info", option, 100), r"(?m)^policy +window: the first \d+ tokens and the last \d+$")
        self.assertIn("a stream of sinks and window", refused("--gates", gates))
        with_heads, without = refused("--heads", heads, "--local", 0.5), refused()
        needed = [int(re.search(r"takes (\d+),", text).group(1)) for text in (with_heads, without)]
        self.assertGreater(needed[0], 2 * needed[1])

    def test_methods(self) -> None:
        for method in ("", "none", "exakt", "drop:3", "repair:", "repair:0", "repair:-1", "repair:0%", "repair:101%",
                       "repair:x", "repair:16x", "repair:%", "Exact", "x" * 100, "steer:16", "bridge:15%", "drop+", "drop+x",
                       "repair:full", "bridge:windowed", "drop+repair:3", "steer+repair", "+shift", "refill:3",
                       "drop:window=5", "bridge:window=", "bridge:window=0", "steer:window=x",
                       "adaptive:15%", "adaptive:0", "adaptive:echo=", "adaptive:echo=0", "adaptive:most=0", "drop:echo=1", "auto:16", "auto:kl=0", "auto:kl=x", "auto:ms=", "adaptive:ms=3"):  # fmt: skip
            self.refuses(2, "not one of exact, drop", "run", "-p", "x", "--erase-text", "x", "--method", method)
            self.refuses(2, "not one of exact, drop", "chat", "--method", method)
        for methods in ("", "exact,", ",exact", "exact,,drop", "exact drop", "none:1"):
            self.refuses(2, "not one of exact, drop", "eval", "x", "--methods", methods)


class Files(Case):
    """Wrong model files and prompt files."""

    @unittest.skipUnless(Path("/dev/full").exists(), "needs /dev/full")
    def test_full_disk(self) -> None:
        for command in (("info",), ("run", "-p", "Hello", "-n", "2"), ("--help",)):
            with open("/dev/full", "wb") as full:
                result = subprocess.run([RASURE, *command], stdout=full, stderr=subprocess.PIPE, check=False)
            self.assertEqual((result.returncode, result.stderr), (1, b"rasure: could not write the result\n"), command)

    def test_model(self) -> None:
        missing = self.folder / "missing.gguf"
        wrong = {
            "empty": self.file("empty.gguf", b""),
            "text": self.file("text.gguf", "This is no model.\n" * 100),
            "head": self.file("head.gguf", b"GGUF\x03\x00\x00\x00" + b"\xff" * 64),
            "folder": self.folder,
            "missing": missing,
        }
        for path in wrong.values():
            for command in (("info",), ("run", "-p", "x"), ("chat",), ("bench",), ("tokenize", "x"), ("demo",)):
                self.refuses(2, path.name, *command, "-m", path)
            self.refuses(2, path.name, "info", RASURE_MODEL=str(path))
        self.refuses(2, "missing", "eval", self.file("a.jsonl", json.dumps(CASE)), "-m", missing)

    def test_no_default_model(self) -> None:
        """No model where setup.sh puts it is no fault of the command line."""
        environment = {"RASURE_MODEL": "", "XDG_CACHE_HOME": str(self.folder)}
        self.refuses(1, "scripts/setup.sh", "demo", **environment)
        self.refuses(1, str(self.folder), "info", **environment)

    def test_prompt(self) -> None:
        self.refuses(2, "missing.txt: No such file", "run", "-f", self.folder / "missing.txt")
        self.refuses(2, "Is a directory", "run", "-f", self.folder)
        self.refuses(2, "missing.txt: No such file", "tokenize", "-f", self.folder / "missing.txt")


class Info(Case):
    def test_text(self) -> None:
        text = self.good("info", "--ctx", "512")
        self.assertIn("architecture", text)
        self.assertIn("512 tokens", text)

    def test_bytes_add_up(self) -> None:
        for ctx in (16, 512, 2048):
            facts = json.loads(self.good("info", "--json", "--ctx", ctx))
            self.assertEqual(facts["context"]["n_ctx"], ctx)
            self.assertEqual(facts["context"]["policy"], {"name": "full"})
            self.assertEqual(sum(item["bytes"] for item in facts["context"]["memory"]), facts["context"]["arena_bytes"])
        self.assertEqual(facts["model"]["threads"], min(8, os.cpu_count() or 1))
        self.assertEqual(json.loads(self.good("info", "--json", "--threads", 3))["model"]["threads"], 3)


class Terminal(Case):
    @staticmethod
    def at_terminal(*arguments: str, **environment: str) -> str:
        """What the tool writes when stdout is a terminal."""
        ours, its = pty.openpty()
        with subprocess.Popen([RASURE, *arguments], stdout=its, env={**os.environ, "TERM": "xterm", **environment}) as tool:
            os.close(its)
            said = b""
            while True:
                try:
                    some = os.read(ours, 65536)
                except OSError:  # Linux: the other end was closed
                    break
                if not some:
                    break
                said += some
            os.close(ours)
            tool.wait()
        return said.decode()

    def test_colours(self) -> None:
        self.assertIn("\x1b[1m", self.at_terminal("info", NO_COLOR=""))
        self.assertNotIn("\x1b", self.at_terminal("info", NO_COLOR="1"))
        self.assertNotIn("\x1b", self.at_terminal("info", TERM="dumb", NO_COLOR=""))
        self.assertNotIn("\x1b", self.good("info", NO_COLOR=""))

    def test_control_characters(self) -> None:
        """A model's text cannot steer the terminal; a file gets every byte."""
        ids = ",".join(self.good("tokenize", "--ids", stdin="a\x1b[2Jb").split())
        self.assertEqual(self.good("tokenize", "--decode", ids), "a\x1b[2Jb")
        self.assertEqual(self.at_terminal("tokenize", "--decode", ids), "a?[2Jb")


class Tokenize(Case):
    TEXT = "Hello there,\n\tw\u00f6rld \U0001f642 <|im_end|> 12345\n"

    def test_round_trip(self) -> None:
        path = self.file("text.txt", self.TEXT)
        for flags in ((), ("--special",)):
            ids = self.good("tokenize", "--ids", "-f", path, *flags).split()
            self.assertEqual(self.good("tokenize", "--decode", ",".join(ids), "--special"), self.TEXT)
            found = json.loads(self.good("tokenize", "--json", *flags, stdin=self.TEXT))
            self.assertEqual(found["count"], len(ids))
            self.assertEqual([str(token["id"]) for token in found["tokens"]], ids)
            self.assertEqual(len(self.good("tokenize", "-f", path, *flags).splitlines()), len(ids))
        self.assertEqual(self.good("tokenize", "--ids", "Hello", "there"), self.good("tokenize", "--ids", "Hello there"))

    def test_any_bytes(self) -> None:
        # all but those that the default model's vocabulary has no token for
        data = bytes(b for b in range(256) if b not in b"\x04\x06\x13\x14\x16\x1d" and not 0xBF < b < 0xC2 and b < 0xF1)
        ids = self.good("tokenize", "--ids", stdin=data)
        result = rasure("tokenize", "--special", "--decode", ids)
        self.assertEqual((result.returncode, result.stdout), (0, data))
        pieces = json.loads(self.good("tokenize", "--json", stdin=b"\x80"))["tokens"]
        self.assertEqual([piece["hex"] for piece in pieces], ["80"])

    def test_nothing(self) -> None:
        self.assertEqual(self.good("tokenize", "--ids"), "\n")
        self.assertEqual(self.good("tokenize", "--decode", ""), "")

    def test_wrong_ids(self) -> None:
        for text in ("x", "1,x", "-1", "1.5", "99999999999", "0x10"):
            self.refuses(2, "is no token id", "tokenize", "--decode", text)
        self.refuses(2, "", "tokenize", "--decode", "2000000000")


class Run(Case):
    PROMPT = "Ann lives in Oslo. Ann lives in Rome. Where does Ann live?"

    def test_answers(self) -> None:
        first = self.good("run", "-p", self.PROMPT, "-n", 12)
        self.assertGreater(len(first.strip()), 0)
        self.assertEqual(self.good("run", "-f", self.file("p.txt", self.PROMPT), "-n", 12), first)
        self.assertEqual(self.good("run", "-n", 12, stdin=self.PROMPT), first)

    def test_seed(self) -> None:
        options = ("run", "-p", "Tell me a story.", "-n", 12, "--temp", 1.5, "--top-k", 50, "--top-p", 0.95, "--min-p",
                   0.01, "--repeat-penalty", 1.1, "--repeat-window", 32)  # fmt: skip
        self.assertEqual(self.good(*options, "--seed", 7), self.good(*options, "--seed", 7))
        self.assertNotEqual(self.good(*options, "--seed", 7), self.good(*options, "--seed", 8))

    def test_stop(self) -> None:
        whole = self.good("run", "--raw", "-p", "One, two, three,", "-n", 12)
        self.assertIn(",", whole)
        self.assertEqual(self.good("run", "--raw", "-p", "One, two, three,", "-n", 12, "--stop", ","),
                         whole[: whole.index(",")] + "\n")  # fmt: skip

    def test_erase(self) -> None:
        prompt = "Ann lives in Oslo. Ann lives in Rome. Ann lives in"
        clean = self.good("run", "--raw", "-p", "Ann lives in Oslo. Ann lives in", "-n", 1)
        erased = self.good("run", "--raw", "-p", prompt, "-n", 1, "--erase-text", " Ann lives in Rome.")
        self.assertEqual(erased, clean)
        for method in (
            "drop",
            "shift",
            "repair",
            "repair:2",
            "repair:50%",
            "repair:2:windowed+shift",
            "drop+shift",
            "repair:2:window=3",
            "refill",
            "adaptive",
            "adaptive:2:echo=0.1:most=3",
        ):
            result = rasure("run", "-p", self.PROMPT, "-n", 4, "--erase-text", " Ann lives in Rome.", "--method", method,
                            "--stats")  # fmt: skip
            self.assertEqual(result.returncode, 0, result.stderr.decode())
            self.assertRegex(result.stderr.decode(), r"erased   5 tokens by " + re.split("[:+]", method)[0])
        for limit, taken in (("kl=100", "shift"), ("kl=0.000001", "exact"), ("kl=100:ms=60000", "shift"), ("ms=60000", "exact")):
            result = rasure("run", "-p", self.PROMPT, "-n", 4, "--erase-text", " Ann lives in Rome.", "--method", f"auto:{limit}",
                            "--stats")  # fmt: skip
            self.assertIn(f"erased   5 tokens by {taken} ", result.stderr.decode())
            self.assertEqual("expected KL to exact" in result.stderr.decode(), taken != "exact")
        self.refuses(2, "max_kl or max_ms", "run", "-p", self.PROMPT, "--erase-text", "Rome", "--method", "auto")
        # at the very end, so that no token comes after it
        self.good("run", "--raw", "-p", prompt, "-n", 1, "--erase-text", " Ann lives in", "--method", "drop")
        self.refuses(2, "the erase left nothing", "run", "--raw", "-p", "Ann", "--erase-text", "Ann")
        self.refuses(2, "the prompt has no", "run", "-p", self.PROMPT, "--erase-text", "Paris")
        for method in ("steer", "bridge", "learned"):
            self.refuses(2, f"{method} needs a trained eraser, and none is given", "run", "-p", self.PROMPT, "--erase-text",
                         "Rome", "--method", method)  # fmt: skip

    def test_erase_all(self) -> None:
        """Every text that is named goes, wherever the prompt has it."""
        prompt = "Ann lives in Rome. Bob has a cat. Ann lives in Rome. Ann lives in Oslo. Ann lives in"
        clean = self.good("run", "--raw", "-p", " Ann lives in Oslo. Ann lives in", "-n", 4)
        result = rasure("run", "--raw", "-p", prompt, "-n", 4, "--stats", "--erase-text", "Ann lives in Rome.",
                        "--erase-text", " Bob has a cat.")  # fmt: skip
        self.assertEqual(result.stdout.decode(), clean)
        self.assertIn("erased   15 tokens by exact", result.stderr.decode())
        result = rasure("run", "--raw", "-p", prompt, "-n", 4, "--stats", "--erase-text", "Ann lives in Rome.")
        self.assertIn("erased   10 tokens of 2 spans by exact", result.stderr.decode())

    def test_long_prompt(self) -> None:
        """The context is as large as prompt and answer need."""
        for most in (0, 1, 1048576):
            self.good("run", "-p", "word " * 2100, "-n", most, "--policy", "window", "--stop", " ")

    def test_window(self) -> None:
        """What does not fit the window is answered without, and what is evicted can be erased by every method."""
        window = ("--policy", "window", "--sinks", 4, "--window", 8, "--rewind", 2, "--batch", 16)
        prompt = ("run", "-p", self.PROMPT + " Filler." * 10, "-n", 4, "--erase-text", "Rome")
        for method in ("exact", "drop", "repair", "repair:16+shift", "refill", "adaptive"):
            self.good(*prompt, *window, "--method", method)

    def test_too_long(self) -> None:
        self.refuses(1, "--ctx makes it larger", "run", "--ctx", 16, "-p", "word " * 100)

    def test_stats(self) -> None:
        result = rasure("run", "-p", "Hello", "-n", 3, "--stats")
        self.assertRegex(result.stderr.decode(), r"(?s)\Aread .* tok/s\nwrote +\d+ tokens in \d+ ms.*\npolicy +full.*\nheld +100\.0 % of .* MB")


Span = tuple[int, int, int, int, str]  # number, begin, end, tokens, text: a line of /context


@functools.cache
def context_after(*commands: str) -> list[Span]:
    """What /context lists after one exchange and these commands."""
    lines = ("My name is Ann. I live in Oslo! Do you know it?", *commands, "/context", "/quit")
    result = rasure("chat", "-n", 6, stdin="".join(line + "\n" for line in lines))
    result.check_returncode()
    found = re.findall(r"(?m)^ *(\d+) +(\d+)-(\d+) +(\d+) tokens +(.*?)$", result.stdout.decode())
    return [(int(n), int(b), int(e), int(t), what) for n, b, e, t, what in found]


class Chat(Case):
    def chat(self, *lines: str, options: tuple[str, ...] = (), code: int = 0) -> tuple[str, str]:
        result = rasure("chat", "-n", 6, *options, stdin="".join(line + "\n" for line in lines))
        self.assertEqual(result.returncode, code, result.stderr.decode())
        return result.stdout.decode(errors="replace"), result.stderr.decode()

    def test_context(self) -> None:
        spans = context_after()
        turns = [s for s in spans if s[4] in ("system", "user", "assistant")]
        self.assertEqual([t[4] for t in turns], ["system", "user", "assistant"])
        self.assertEqual(turns[0][1], 0)
        for before, after in zip(turns, turns[1:]):
            self.assertEqual(before[2], after[1], "turns lie side by side")
        sentences = [s[4] for s in spans if turns[1][1] <= s[1] and s[2] <= turns[1][2] and s not in turns]
        self.assertEqual(sentences, ["My name is Ann.", "I live in Oslo!", "Do you know it?"])
        self.assertTrue(all(end - begin == tokens for _, begin, end, tokens, _ in spans))

    def test_erase_moves_positions(self) -> None:
        before = context_after()
        number, begin, end, tokens, _ = next(s for s in before if s[4] == "I live in Oslo!")
        for method in ("exact", "shift", "drop", "repair:4"):
            after = context_after(f"/erase {number} {method}")
            moved = tokens if method in ("exact", "shift") else 0
            for n, b, e, t, what in after:
                old = next(s for s in before if s[0] == n)
                shift = moved if old[1] >= end else 0
                lost = tokens if old[1] <= begin and end <= old[2] else 0
                self.assertEqual((b, e, t), (old[1] - shift, old[2] - shift - (lost if moved else 0), old[3] - lost))
                self.assertEqual(what, old[4])
            self.assertEqual({s[0] for s in before} - {s[0] for s in after}, {number})

    def test_erase_positions(self) -> None:
        number, begin, end, _, _ = next(s for s in context_after() if s[4] == "My name is Ann.")
        self.assertNotIn(number, [s[0] for s in context_after(f"/erase {begin}-{end} drop")])
        self.assertEqual(context_after(f"/erase {begin}-{end}"), context_after(f"/erase {number}"))

    def test_goes_on(self) -> None:
        """A conversation survives an erase, a reset and wrong commands."""
        text, said = self.chat("Hi.", "/erase 3,5 drop", "Hello again.", "/stats", "/reset", "/context", "Hi.", "/help",
                               "/undo", code=1)  # fmt: skip
        self.assertIn("next position", text)
        self.assertIn("/erase N[,M...]", text)
        self.assertIn("without an undo area", said)

    def test_saves(self) -> None:
        """A conversation goes on from its file as it would have without, its spans and holes included."""
        first = ("My name is Ann. I live in Oslo! Do you know it?", "/erase 6 drop")
        then = ("/context", "Where do I live?", "/context")
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "talk"
            kept, _ = self.chat(*first, f"/save {path}", *then)
            self.assertEqual(path.stat().st_mode & 0o777, 0o600)
            self.assertEqual([f.name for f in Path(folder).iterdir()], ["talk"])
            loaded, _ = self.chat("Something else.", f"/load {path}", *then, options=("--threads", "1"))
            tail = kept[kept.index("saved") :].splitlines()[1:]
            self.assertEqual(loaded[loaded.index("loaded") :].splitlines()[1:], tail)
            self.assertGreater(len(tail), 10)
            self.assertNotIn(b"I live in Oslo", path.read_bytes())

            line, state = path.read_bytes().split(b"\n", 1)
            self.assertEqual((len(line) + 1) % 8, 0)
            head = json.loads(line)
            head["spans"][0]["end"] = 9999

            def padded(text: str) -> bytes:
                return (text + " " * (-(len(text) + 1) % 8) + "\n").encode()

            for content, sentence in (
                (b"", "is no conversation"),
                (line[:8] + b"\n" + state, "no conversation"),
                (padded(json.dumps(head | {"rasure_chat": 2})) + state, "no conversation"),
                (padded(json.dumps(head | {"spans": [7]})) + state, "no conversation"),
                (line + b"\n" + state[:-1], "damaged: it is cut off"),
                (line + b"\n" + state[:-1] + bytes([state[-1] ^ 1]), "damaged: its checksum"),
                (padded(json.dumps(head)) + state, "not those of its tokens"),
            ):
                path.write_bytes(content)
                code = 1 if "damaged" in sentence else 2
                text, said = self.chat("Hi.", f"/load {path}", "/context", "/reset", "Hi.", code=code)
                self.assertIn(sentence, said)
                self.assertEqual("assistant" in text, "not those" not in sentence)
        _, said = self.chat("/save", "/load", "/load /nowhere/talk", "/save /nowhere/talk", code=2)
        self.assertIn("/save: where?", said)
        self.assertIn("/load: which file?", said)
        self.assertEqual(said.count("No such file"), 2)

    def test_echoes(self) -> None:
        """What says the erased thing again is found among what does not, and the erased span's own turn goes on."""
        said = ("Ann moved to Rome last year. Bob has two dogs. The library closes at nine. In Rome she is learning Italian. "
                "Bob likes to cook fish.")  # fmt: skip
        listed = self.chat(said, "/context", "/quit")[0]
        number = re.search(r"(?m)^ *(\d+) .* Ann moved", listed).group(1)
        text, _ = self.chat(said, f"/echoes {number}", "And Bob?", "/context", options=("--refine",))
        found = re.findall(r"(?m)^ *(\d+) +(-?[\d.]+) nats +(.*)$", text)
        self.assertIn("In Rome she is learning Italian.", found[0][2])
        self.assertGreaterEqual(len(found), 4)
        self.assertNotIn("Ann moved", " ".join(row[2] for row in found))
        _, complaints = self.chat(said, "/echoes 99", f"/echoes {number}", code=2)
        self.assertIn('there is no span "99"', complaints)
        self.assertIn("spare pages", complaints)

    def test_replaces(self) -> None:
        """The sentence keeps its number, what is behind it moves, and the rest stays."""
        before = context_after()
        number, begin, end, tokens, _ = next(s for s in before if s[4] == "I live in Oslo!")
        for text in ("No.", "I live in a small house by the sea in the north!"):
            after = context_after(f"/replace {number} {text}")
            n, b, e, t, what = next(s for s in after if s[0] == number)
            self.assertEqual((b, e - b, what), (begin, t, text))
            self.assertEqual([s[0] for s in after], [s[0] for s in before])
            for (_, b0, e0, t0, what0), (_, b1, e1, t1, what1) in zip(before, after):
                if what0 == "I live in Oslo!":
                    continue
                moved = t - tokens
                self.assertEqual((b1, e1), (b0 + (moved if b0 >= end else 0), e0 + (moved if e0 >= end else 0)))
                self.assertEqual(what1, what0)
        for command, phrase in (("/replace", "what by what"), ("/replace 4", "what by what"), ("/replace 99 x", "no sentence"),
                                ("/replace 1 x", "no sentence")):  # fmt: skip
            _, said = self.chat(command, code=2)
            self.assertIn(phrase, said)

    def test_undoes(self) -> None:
        """The list of spans is what it was, whatever was said since; and only one step back."""
        lines = ("Ann lives in Oslo. She likes tea.", "/context", "/erase 4", "Where?", "/undo", "/context", "/undo")
        text, said = self.chat(*lines, options=("--undo", "64"), code=1)
        before, after = text.split("undone")
        spans = re.findall(r"(?m)^ *\d+ +\d+-\d+ +\d+ tokens .*$", before)
        self.assertGreater(len(spans), 4)
        self.assertEqual(re.findall(r"(?m)^ *\d+ +\d+-\d+ +\d+ tokens .*$", after), spans)
        self.assertIn("nothing to take back", said)

    def test_refines(self) -> None:
        lines = ("Ann lives in Oslo. She likes tea.", "/erase 4 progressive", "/stats", "/refine", "/refine", "/stats")
        text, _ = self.chat(*lines, options=("--refine",))
        self.assertEqual(text.count("by progressive"), 3)
        self.assertEqual(len(re.findall(r"cheap +the last \d+ tokens", text)), 1)
        self.assertRegex(text, r"refined +\d+ tokens in \d+ ms; exact now\nrefined +nothing")
        _, said = self.chat(*lines[:2], "/refine", code=1)
        self.assertEqual(said.count("spare pages"), 2)

    def chat_at_leisure(self, last: str, *options: str) -> str:
        """At a terminal, whose person erases something, looks at it for two seconds, and says `last`."""
        terminal, end = pty.openpty()
        command = [str(RASURE), "chat", "-n", "6", *options]
        with subprocess.Popen(command, stdin=end, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
            os.close(end)
            os.write(terminal, b"Ann lives in Oslo. She likes tea.\n/erase 4 progressive\n")
            for _ in range(10):
                time.sleep(0.2)
                os.write(terminal, b"/stats\n")
            os.write(terminal, f"{last}\n/quit\n".encode())
            text = process.stdout.read().decode()
        os.close(terminal)
        self.assertIn("by progressive", text)
        return text

    def test_refines_while_it_waits(self) -> None:
        """Sooner or later nothing is cheap any more, though nobody asks for it."""
        *_, last = self.chat_at_leisure("/stats", "--refine").split("context  ")
        self.assertIn("next position", last)
        self.assertNotIn("cheap", last)

    def test_does_not_refine_what_can_be_taken_back(self) -> None:
        text = self.chat_at_leisure("/undo", "--refine", "--undo", "64")
        self.assertIn("undone", text)
        self.assertIn("cheap", text.split("context  ")[-1])

    def test_refuses(self) -> None:
        for command, phrase in (("/nothing", "is no command"), ("/erase", "which?"), ("/erase 99", 'no span "99"'),
                                ("/erase 1,x", 'no span "x"'), ("/erase 9-5", "no positions"),
                                ("/erase 1-", "no positions"), ("/erase 0-99999", "no positions"),
                                ("/erase 1 wipe", "not one of")):  # fmt: skip
            _, said = self.chat(command, "/quit", code=2)
            self.assertIn(phrase, said)
            self.assertRegex(said, r"\Arasure: [^\n]+\n\Z")

    def test_full(self) -> None:
        result = rasure("chat", "--ctx", 64, stdin="word " * 100 + "\n/quit\n")
        self.assertEqual(result.returncode, 1)
        self.assertIn(b"--ctx", result.stderr)


class Bench(Case):
    def test_json(self) -> None:
        found = json.loads(self.good("bench", "--prefill", 32, "--decode", 4, "--depth", 48, "--repeat", 2, "--span", 8,
                                     "--threads", 1, "--json"))  # fmt: skip
        for name in ("prefill_tok_s", "decode_tok_s", "load_ms", "peak_rss_bytes", "arena_bytes", "cache_bytes"):
            self.assertGreater(found[name], 0, name)
        self.assertLess(found["decode_policy_share"], 0.01)  # a full cache asks nothing of its policy
        self.assertEqual(found["kv_footprint"]["held"], 1.0)
        self.assertGreater(found["kv_footprint"]["held_at_once"], 1.0)  # 48 tokens came in one chunk
        self.assertGreater(found["kv_footprint"]["peak_bytes"], 0)
        self.assertEqual(found["threads"], 1)
        self.assertIn(found["linear"], ("native", "xnnpack"))
        self.assertTrue(found["isa"] and found["model"])
        self.assertEqual(set(found["erase_ms"]), {"exact", "drop", "shift", "repair:15%", "adaptive"})
        adaptive = found["erase_recomputed"].pop("adaptive")
        self.assertTrue(16 <= adaptive <= 20, adaptive)
        self.assertEqual(found["erase_recomputed"], {"exact": 20, "drop": 0, "shift": 0, "repair:15%": 3})

    def test_policies(self) -> None:
        """Of 30 layers with three heads each; a third keeps everything."""
        heads = self.file("heads.tsv", "0.1\t0.9\t0.2\r\n" * 30)
        found = json.loads(self.good("bench", "--policy", "keynorm", "--budget", 400, "--prefill", 600, "--decode", 0, "--span", 0,
                                     "--repeat", 1, "--json"))  # fmt: skip
        self.assertLess(found["kv_footprint"]["held"], 0.95)
        self.assertTrue(0 < found["prefill_policy_share"] < 1)
        self.assertIsNone(found["decode_policy_share"])
        for policy in ("snapkv", "pyramidkv"):
            found = json.loads(self.good("bench", "--policy", policy, "--keep", 0.4, "--prefill", 512, "--decode", 0, "--span", 0,
                                         "--repeat", 1, "--json"))  # fmt: skip
            self.assertTrue(0.4 < found["kv_footprint"]["held"] < 0.65, found["kv_footprint"])
        sizes, shares = {}, {}
        window = ("--sinks", 4, "--window", 28, "--rewind", 0)
        for name, options in {"full": (), "window": window, "heads": (*window, "--heads", heads),
                              "none": (*window, "--heads", heads, "--local", 1)}.items():  # fmt: skip
            found = json.loads(self.good("bench", "--prefill", 0, "--decode", 4, "--depth", 400, "--repeat", 1, "--span", 0,
                                         "--batch", 32, *options, "--json"))  # fmt: skip
            self.assertEqual(found["policy"]["name"], "heads" if name == "none" else name)
            sizes[name] = found["arena_bytes"]
            shares[name] = found["kv_footprint"]["held"]
        self.assertEqual(shares["full"], 1)
        self.assertAlmostEqual(shares["heads"], (1 + 2 * shares["window"]) / 3, places=6)
        self.assertEqual(shares["none"], shares["window"])
        self.assertLess(shares["window"], 0.25)
        self.assertLess(sizes["window"], sizes["heads"])
        self.assertLess(sizes["heads"], sizes["full"])

    def test_parts(self) -> None:
        found = json.loads(self.good("bench", "--prefill", 0, "--decode", 0, "--span", 0, "--json"))
        self.assertIsNone(found["prefill_tok_s"])
        self.assertEqual(found["erase_ms"], {})
        self.assertNotIn("kv_footprint", found)

    def test_erasers(self) -> None:
        golden = REPOSITORY / "tests/golden/data"
        erasers = [part for kind in ("steer", "bridge") for part in ("--eraser", golden / f"tiny-qwen3.{kind}.gguf")]
        found = json.loads(self.good("bench", "-m", golden / "tiny-qwen3.gguf", *erasers, "--prefill", 0, "--decode", 0,
                                     "--span", 8, "--repeat", 1, "--json"))  # fmt: skip
        self.assertEqual(list(found["erase_ms"]), ["exact", "drop", "shift", "repair:15%", "adaptive", "steer", "bridge"])
        self.assertEqual((found["erase_recomputed"]["steer"], found["erase_recomputed"]["drop"]), (8, 0))
        self.assertGreater(found["erase_recomputed"]["bridge"], 0)
        self.refuses(2, "general.architecture is qwen3", "bench", "--eraser", golden / "tiny-qwen3.bridge.gguf")


class Demo(Case):
    def test_json(self) -> None:
        """The story holds with the default model; the verdicts follow from the answers with any."""
        found = json.loads(self.good("demo", "--json"))
        self.assertGreaterEqual(found["text_tokens"], 400)
        self.assertEqual([r["method"] for r in found["results"]], ["none", "drop", "shift", "repair:16", "adaptive", "exact",
                                                                "progressive", "progressive, refined"])  # fmt: skip
        self.assertGreater(found["n_refined"], 50)
        for result in found["results"]:
            right, wrong = found["right"] in result["answer"], found["wrong"] in result["answer"]
            self.assertEqual(result["verdict"], "wrong" if wrong else "right" if right else "neither")
        if "RASURE_MODEL" not in os.environ:
            self.assertEqual([r["verdict"] for r in found["results"]], ["wrong"] + ["right"] * 7)


class Keep(Case):
    """The second job of eval: what the cache still knows that a policy keeps."""

    ASKED = {
        "id": "asked",
        "task": "needle",
        "context": "all",
        "pieces": [HEAD + "The weather was fine. ", "Anna's code is 417. ", "It rained for days in the hills. " * 60],
        "questions": [
            {"question": "\nWhat is Anna's code?<|im_end|>\n<|im_start|>assistant\n", "cue": "Anna's code is",
             "answers": [" 417"], "evidence": [1]},
            {"question": "<|im_end|>\n<|im_start|>user\nHow was the weather?<|im_end|>\n<|im_start|>assistant\n",
             "cue": "The weather was", "answers": [" fine", " good"], "evidence": [0]},
        ],
    }  # fmt: skip
    TEXT = {"id": "text", "task": "text", "text": "It rained for days in the hills, and the river rose. " * 60}

    def cases(self, *cases: object) -> Path:
        return self.file("cases.jsonl", "".join(json.dumps(case) + "\n" for case in cases))

    def rows(self, path: Path, *options: object) -> list[dict[str, Any]]:
        rows = self.folder / "rows.jsonl"
        self.good("eval", path, "--per-case", rows, "--max-tokens", 4, *options)
        return [json.loads(line) for line in rows.read_text().splitlines()]

    def test_bad_lines(self) -> None:
        def changed(**fields: object) -> dict[str, object]:
            return {name: value for name, value in {**self.ASKED, **fields}.items() if value is not Ellipsis}

        first = self.ASKED["questions"][0]
        for line, phrase in (
            (changed(task=...), '"task" is missing'), (changed(pieces=...), '"pieces" is missing'),
            (changed(pieces=[]), '"pieces" is empty'), (changed(pieces=["x", 1]), '"pieces" has an item'),
            (changed(questions=[]), '"questions" is missing, empty'), (changed(questions=...), '"questions" is missing'),
            (changed(questions=[3]), "a question is not an object"),
            (changed(questions=[{**first, "answers": []}]), '"answers" is empty'),
            (changed(questions=[{**first, "question": ""}]), '"question" is empty'),
            (changed(questions=[{**first, "evidence": 1}]), '"evidence" is not an array'),
            (changed(questions=[{**first, "evidence": [3]}]), '"evidence" has an item'),
            (changed(questions=[{**first, "evidence": [-1]}]), '"evidence" has an item'),
            (changed(markers=1), '"markers"'), ({**self.TEXT, "text": ""}, '"text" is empty'),
        ):  # fmt: skip
            path = self.cases(self.ASKED, line)
            self.refuses(2, phrase, "eval", path)
            self.refuses(2, f"{path}:2: ", "eval", path)

    def test_full_cache(self) -> None:
        path = self.cases(self.ASKED, self.TEXT)
        rows = self.rows(path)
        self.assertEqual([(r["id"], r.get("question")) for r in rows], [("asked", 0), ("asked", 1), ("text", None)])
        for row in rows:
            self.assertEqual(row["footprint"], 1)
            self.assertEqual(row["held_entries"], row["full_entries"])
            self.assertEqual(set(row["streams"]), {row["n_context"]})
        first, second, text = rows
        self.assertTrue(first["exact_match"])
        self.assertGreater(first["answer_logprob"], -3)
        begin, end = first["evidence"][0]
        self.assertTrue(0 < begin < end < first["n_context"])
        self.assertEqual(second["evidence"], [[0, begin]])
        self.assertEqual(first["context"], "all")
        # A bucket ends at every 512th position; the first token is not predicted.
        edges = [0, *range(512, text["n_context"], 512), text["n_context"]]
        self.assertEqual([b[:2] for b in text["nll"]], [[max(a, 1), b] for a, b in zip(edges, edges[1:], strict=False)])
        self.assertEqual([b[2] for b in text["nll"]], [b[1] - b[0] for b in text["nll"]])
        self.assertLess(text["nll"][-1][3], 1)  # the text repeats itself

        found = [json.loads(line) for line in self.good("eval", path, "--json", "--max-tokens", 4).splitlines()]
        self.assertEqual([f.get("task") for f in found], ["needle", "text", None])
        self.assertEqual(found[0]["n"], 2)
        self.assertEqual(found[0]["exact_match"], (first["exact_match"] + second["exact_match"]) / 2)
        mean = sum(b[2] * b[3] for b in text["nll"]) / (text["n_context"] - 1)
        self.assertAlmostEqual(found[1]["nll"], mean, places=5)
        self.assertEqual(found[2]["cache_bytes"], first["kv_bytes"])
        self.assertIn("footprint 100.0 %", self.good("eval", path))

    def test_policies(self) -> None:
        """What a window has lost is not answered, and bytes and footprint say what was kept."""
        path = self.cases(self.ASKED)
        full = self.rows(path)[0]
        window = self.rows(path, "--policy", "window", "--sinks", 4, "--window", 64, "--rewind", 0, "--batch", 32)[0]
        self.assertEqual(set(window["streams"]), {68})
        self.assertLess(window["footprint"], 0.5)
        self.assertLess(window["answer_logprob"], full["answer_logprob"] - 1)
        self.assertLess(window["kv_bytes"], full["kv_bytes"] / 2)
        half = self.rows(path, "--policy", "window", "--sinks", 4, "--rewind", 0, "--budget", "50%", "--batch", 32)[0]
        self.assertTrue(0.4 < half["kv_bytes"] / full["kv_bytes"] <= 0.5)


class Eval(Case):
    def cases(self, *cases: object) -> Path:
        lines = [case if isinstance(case, str) else json.dumps(case) for case in cases]
        return self.file("cases.jsonl", "\n".join(lines) + "\n")

    def test_bad_lines(self) -> None:
        def changed(**fields: object) -> dict[str, object]:
            return {name: value for name, value in {**CASE, **fields}.items() if value is not Ellipsis}

        wrong: list[tuple[object, str]] = [
            ("{", "no JSON"), ("[]", "not a JSON object"), ("3", "no"), ('{"id": 1} x', "no JSON"),
            ('{"id": 1, "id": 2}', "no JSON"),
            (changed(id=...), '"id" is missing'), (changed(id=None), '"id"'), (changed(id=1.5), '"id"'),
            (changed(prefix=...), '"prefix" is missing'), (changed(span=...), '"span" is missing'),
            (changed(span=""), '"span" is empty'), (changed(suffix=7), '"suffix" is not a string'),
            (changed(question=""), '"question" is empty'), (changed(question=...), '"question" is missing'),
            (changed(cue=[]), '"cue" is not a string'), (changed(answers=...), '"answers" is missing'),
            (changed(answers="Oslo"), '"answers" is not an array'), (changed(answers=[1]), '"answers" has an item'),
            (changed(leaks=[""]), '"leaks" has an item'), (changed(leaks=...), '"leaks" is missing'),
        ]  # fmt: skip
        for line, phrase in wrong:
            path = self.cases(CASE, "", line)
            result_file = self.folder / "out.jsonl"
            self.refuses(2, phrase, "eval", path, "--per-case", result_file)
            self.refuses(2, f"{path}:3: ", "eval", path)
            self.assertEqual([p.name for p in self.folder.iterdir()], ["cases.jsonl"], "nothing is left behind")

        self.refuses(2, "cases.jsonl:1: no JSON", "eval", self.file("cases.jsonl", b'{"id": "\xff"}'))

    def test_files(self) -> None:
        self.refuses(2, "there are no cases in it", "eval", self.cases(""))
        self.refuses(2, "No such file", "eval", self.folder / "missing.jsonl")
        self.refuses(2, "No such file", "eval", self.cases(CASE), "--per-case", self.folder / "no" / "out.jsonl")
        self.refuses(2, "cases.jsonl:1: the case needs a context of", "eval", self.cases(CASE), "--ctx", 32)

    def test_echoes(self) -> None:
        texts = ["Some notes on people and places.", " Ann Walsh lives in Oslo.", " It rained all day.", " Walsh likes it in Oslo.", " We ate."]
        fact = {"id": 1, "pieces": texts, "depends_on": 1, "dependent": [3]}
        path, rows_path = self.cases(fact, {**fact, "id": 2, "depends_on": 2, "dependent": []}), self.folder / "rows.jsonl"
        (found,) = [json.loads(line) for line in self.good("eval", path, "--json", "--per-case", rows_path).splitlines()]
        self.assertEqual((found["n"], found["known"], found["first"], found["order"]), (2, 1, 1.0, 1.0))
        rows = [json.loads(line) for line in rows_path.read_text().splitlines()]
        self.assertEqual([value is None for value in rows[0]["nats"]], [True, True, False, False, False])
        self.assertEqual([value is None for value in rows[1]["nats"]], [True, True, True, False, False])
        self.assertGreater(rows[0]["nats"][3], 2 + max(rows[0]["nats"][2], rows[0]["nats"][4]))
        self.assertIn("known", self.good("eval", path))
        for fields, phrase in (
            ({"depends_on": 4}, "one behind it"), ({"depends_on": -1}, "one behind it"), ({"depends_on": "0"}, "one behind it"),
            ({"pieces": ["a"]}, "one behind it"), ({"pieces": "a"}, '"pieces" is not an array'), ({"pieces": ["a", ""]}, "item"),
            ({"dependent": 2}, '"dependent" is not'), ({"dependent": [0]}, '"dependent" has'), ({"dependent": [5]}, '"dependent" has'),
        ):  # fmt: skip
            self.refuses(2, phrase, "eval", self.cases(fact, {**fact, **fields}))

    def test_save(self) -> None:
        folder, path = self.folder / "saved", self.cases(CASE, "", {**CASE, "id": 2, "span": "nothing else"})
        self.refuses(1, "1.exact.context: No such file", "eval", path, "--methods", "drop", "--save", folder)
        folder.mkdir()
        self.good("eval", path, "--methods", "none,drop,repair:2+shift", "--save", folder)
        names = [f"{line}.{method}.context" for line in (1, 3) for method in ("drop", "exact", "none", "repair:2+shift")]
        self.assertEqual(sorted(found.name for found in folder.iterdir()), names)
        saved = {name: (folder / name).read_bytes() for name in names}
        self.assertTrue(all(data.startswith(b"rasureKV") for data in saved.values()))
        self.assertEqual(len({saved[f"1.{method}.context"] for method in ("none", "drop", "exact")}), 3)
        again = self.folder / "again"
        again.mkdir()
        self.good("eval", path, "--methods", "none", "--save", again)
        self.assertEqual((again / "3.none.context").read_bytes(), saved["3.none.context"])

    def test_refused_methods(self) -> None:
        for method in ("learned", "steer", "bridge"):
            self.refuses(2, method, "eval", self.cases(CASE), "--methods", f"none,{method}")
        self.refuses(2, "x.gguf: No such file", "eval", self.cases(CASE), "--eraser", "x.gguf")
        model = REPOSITORY / "tests/golden/data/tiny-qwen3.gguf"
        self.refuses(2, "tiny-qwen3.gguf: key general.type is missing", "eval", self.cases(CASE), "--eraser", model)
        self.refuses(2, "exact leaves no gap", "eval", self.cases(CASE), "--methods", "exact+shift")

    def test_runs(self) -> None:
        path, rows_path = self.cases(CASE, {**CASE, "id": 2, "answers": [], "leaks": []}), self.folder / "rows.jsonl"
        methods = ["none", "exact", "drop", "shift", "repair:15%", "repair:2", "repair"]
        text = self.good("eval", path, "--methods", ",".join(methods), "--per-case", rows_path, "--json", "--max-tokens", 4)
        found = [json.loads(line) for line in text.splitlines()]
        rows = [json.loads(line) for line in rows_path.read_text().splitlines()]
        self.assertEqual([f["method"] for f in found], methods)
        self.assertEqual([(r["method"], r["id"]) for r in rows], [(m, i) for m in methods for i in ("one", 2)])
        for f in found:
            mine = [r for r in rows if r["method"] == f["method"]]
            self.assertEqual(f["n"], 2)
            self.assertEqual(f["exact_match"], mine[0]["exact_match"])
            self.assertEqual(f["leak_rate"], mine[0]["leak"])
            self.assertAlmostEqual(f["kl_to_exact"], sum(r["kl_to_exact"] for r in mine) / 2, places=6)
            self.assertEqual(f["agree_with_exact"], sum(r["agree_with_exact"] for r in mine) / 2)
            self.assertEqual(mine[0]["leak"], "rome" in re.findall(r"\w+", mine[0]["answer"].lower()))
            self.assertIsNone(mine[1]["exact_match"])
            if f["method"] == "none":
                self.assertIsNone(f["erase_ms_p50"])
                self.assertGreater(f["kl_to_exact"], 0)
            else:
                self.assertLessEqual(0, f["erase_ms_p50"])
                self.assertLessEqual(f["erase_ms_p50"], f["erase_ms_p95"])
        exact = found[1]
        self.assertEqual((exact["kl_to_exact"], exact["agree_with_exact"]), (0, 1))
        self.assertEqual(len(self.good("eval", path, "--limit", 1, "--methods", "drop").splitlines()), 2)

    def test_cases_of_one_context(self) -> None:
        """What is read and erased once for several cases gives what each of them gives alone."""
        cases = [CASE, {**CASE, "question": CASE["question"].replace("?", "? Answer in one word."), "target": " Rome"},
                 {**CASE, "span": CASE["span"] + " It rains."}, {**CASE, "leak_target": " Rome"}]  # fmt: skip
        cases = [{**case, "id": str(i)} for i, case in enumerate([*cases, *[CASE] * 9])]
        rows_path = self.folder / "rows.jsonl"

        def run(*some: dict[str, object]) -> dict[tuple[str, str], dict[str, object]]:
            self.good("eval", self.cases(*some), "--methods", "none,exact,shift,repair:2", "--per-case", rows_path,
                      "--max-tokens", 3)  # fmt: skip
            rows = [json.loads(line) for line in rows_path.read_text().splitlines()]
            return {(row["id"], row["method"]): {k: v for k, v in row.items() if not k.endswith("_ms")} for row in rows}

        alone = [row for case in cases for row in run(case).items()]
        self.assertEqual(len(alone), 4 * len(cases))
        self.assertEqual(run(*cases), dict(alone))

    def test_probes(self) -> None:
        """Rank, forced choice and drawn answers: the choice against each value's own log-probability."""
        rows_path = self.folder / "rows.jsonl"
        values = [" Rome", " Oslo", " Lima", " Berne, the capital", " Bob"]

        def run(*options: object, **fields: object) -> dict[str, dict[str, float]]:
            self.good("eval", self.cases({**CASE, **fields}), "--methods", "none,drop", "--per-case", rows_path,
                      "--max-tokens", 4, *options)  # fmt: skip
            return {row["method"]: row for row in map(json.loads, rows_path.read_text().splitlines())}

        plain = run()
        for row in plain.values():
            self.assertEqual([row[name] for name in ("leak_rank", "leak_choice", "leak_sampled")], [None] * 3)
        alone = [run(leak_target=value) for value in values]
        asked = run("--samples", 6, "--seed", 3, leak_target=values[0], rivals=values[1:])
        for method, row in asked.items():
            others = [found[method]["leak_logprob"] for found in alone]
            self.assertEqual(row["leak_choice"], 1 + sum(other > others[0] for other in others[1:]))
            self.assertEqual(row["leak_rank"], alone[0][method]["leak_rank"])
            self.assertAlmostEqual(row["leak_sampled"] * 6, round(row["leak_sampled"] * 6), places=6)
            self.assertEqual(
                [row[name] for name in ("answer", "kl_to_exact")], [plain[method][name] for name in ("answer", "kl_to_exact")]
            )
        said = run(leak_target=" " + plain["none"]["answer"].split()[0])["none"]
        self.assertEqual(said["leak_rank"], 1)
        self.assertGreaterEqual(asked["none"]["leak_sampled"], asked["drop"]["leak_sampled"])
        self.assertEqual(run("--samples", 6, "--seed", 3, leak_target=values[0], rivals=values[1:])["none"]["leak_sampled"],
                         asked["none"]["leak_sampled"])  # fmt: skip
        drawn = run("--samples", 1000, "--max-tokens", 1, leak_target=" Rome")  # a single token
        for row in drawn.values():
            p = math.exp(row["leak_logprob"])
            self.assertLess(abs(row["leak_sampled"] - p), 5 * math.sqrt(p * (1 - p) / 1000) + 0.002)
        self.assertGreater(drawn["none"]["leak_sampled"], 0.1)
        self.refuses(2, '"rivals" is not an array', "eval", self.cases({**CASE, "rivals": "Rome"}))

    def test_texts_to_follow(self) -> None:
        """Divergence along a given text, the probability of the erased value, and pieces in place of one span."""
        rows_path = self.folder / "rows.jsonl"

        def run(case: dict[str, object], *methods: str) -> list[dict[str, float]]:
            self.good("eval", self.cases(case), "--methods", ",".join(methods), "--per-case", rows_path, "--max-tokens", 3)
            return [json.loads(line) for line in rows_path.read_text().splitlines()]

        (exact,) = run(CASE, "exact")
        self.assertIsNone(exact["kl_target"])
        self.assertIsNone(exact["leak_logprob"])
        case = {**CASE, "target": exact["answer"], "leak_target": " Rome", "context": "a", "task": "conflict"}
        none, exact, drop = run(case, "none", "exact", "drop")
        self.assertEqual((none["context"], none["task"]), ("a", "conflict"))
        self.assertEqual((exact["kl_target"], exact["leak_minus_clean"]), (0, 0))
        for row in (none, drop):
            self.assertAlmostEqual(row["kl_target"], row["kl_to_exact"], places=6)
            self.assertAlmostEqual(row["leak_minus_clean"], row["leak_logprob"] - exact["leak_logprob"], places=6)
        self.assertGreater(none["leak_minus_clean"], drop["leak_minus_clean"])

        parts = [case.pop(name) for name in ("prefix", "span", "suffix")]
        (same,) = run({**case, "pieces": parts}, "drop")
        self.assertEqual(same["kl_to_exact"], drop["kl_to_exact"])
        (two,) = run({**case, "pieces": [*parts, " It rains.", " It is late."], "markers": True}, "drop")
        self.assertGreater(two["n_erased"], same["n_erased"])
        self.refuses(2, "kept, erased, kept", "eval", self.cases({**case, "pieces": parts[:2]}))
        self.refuses(2, "neither true nor false", "eval", self.cases({**case, "pieces": parts, "markers": 1}))

    def test_new_text(self) -> None:
        """What is put in the span's place is read there: exactly, as a text that had it from the start."""
        rows_path = self.folder / "rows.jsonl"

        def run(case: dict[str, object], *methods: str) -> dict[str, dict[str, object]]:
            self.good("eval", self.cases(case), "--methods", ",".join(methods), "--per-case", rows_path, "--max-tokens", 4)
            return {row["method"]: row for row in map(json.loads, rows_path.read_text().splitlines())}

        new = CASE["span"].replace("Rome", "Lima, but only in summer")
        asked = {"target": " Lima.", "leak_target": " Rome"}
        found = run({**CASE, **asked, "replacement": new}, "none", "exact", "drop", "repair:4+shift", "adaptive")
        (read,) = run({**CASE, **asked, "span": "x", "prefix": CASE["prefix"] + new}, "exact").values()
        for name in ("answer", "leak_logprob"):
            self.assertEqual(found["exact"][name], read[name])
        self.assertGreater(found["drop"]["kl_target"], found["adaptive"]["kl_target"])
        self.assertGreater(found["none"]["leak_logprob"], found["exact"]["leak_logprob"] + 1)
        self.assertGreater(found["repair:4+shift"]["n_recomputed"], found["drop"]["n_recomputed"])
        self.assertGreater(found["drop"]["n_recomputed"], 0, "the new tokens are read")
        case = {**CASE, "replacement": new}
        self.refuses(2, "shift does not go with new tokens", "eval", self.cases(case), "--methods", "none,shift")
        self.refuses(2, '"replacement" is empty', "eval", self.cases({**case, "replacement": ""}))
        pieces = [case.pop(name) for name in ("prefix", "span", "suffix")]
        self.refuses(2, '"replacement" is for one span', "eval", self.cases({**case, "pieces": [*pieces, " a", " b"]}))

    def test_one_by_one(self) -> None:
        """Several spans in calls of their own, positions closed up or not, are as gone as in one."""
        rows_path = self.folder / "rows.jsonl"
        case = {**CASE, "leak_target": " Rome"}
        parts = [case.pop(name) for name in ("prefix", "span", "suffix")]
        case["pieces"] = [*parts, " It rains.", " It is late.", " It is cold.", " Good night."]
        found = []
        for options in ([], ["--one-by-one"]):
            self.good("eval", self.cases(case), "--methods", "exact,drop,shift,repair:100%+shift", "--per-case", rows_path,
                      "--max-tokens", 3, *options)  # fmt: skip
            found.append({row["method"]: row for row in map(json.loads, rows_path.read_text().splitlines())})
        once, each = found
        for method, row in each.items():
            self.assertEqual(row["n_erased"], once[method]["n_erased"])
        for method in ("exact", "drop"):  # which read nothing anew behind a span, or all of it in one
            self.assertEqual(each[method]["leak_logprob"], once[method]["leak_logprob"])
        self.assertGreater(each["repair:100%+shift"]["n_recomputed"], once["repair:100%+shift"]["n_recomputed"])
        self.assertLess(each["repair:100%+shift"]["kl_to_exact"], 0.05)

    def test_generated_cases(self) -> None:
        """What rasure_training.eraser.make_cases writes can be read, is the same each time, and is split by article."""
        subjects = ("river", "mountain", "castle", "railway", "library", "orchestra", "harbour", "museum")
        paragraphs = [
            {"title": f"The {subject} {i}", "text": " ".join(
                f"The {subject} was described by visitor {i * 10 + k} as large and old." for k in range(8))}
            for i, subject in enumerate(subjects * 20)
        ]  # fmt: skip
        for name, rows in (("wiki_paragraphs", paragraphs), ("nq_passages", [])):
            with gzip.open(self.folder / f"{name}.jsonl.gz", "wt") as file:
                file.writelines(json.dumps(row) + "\n" for row in rows)

        def generate(task: str, *more: str) -> list[dict[str, str]]:
            out = self.folder / f"{task}.jsonl"
            subprocess.run(
                [sys.executable, "-m", "rasure_training.eraser.make_cases", "--tasks", task, "--n", "6", "--tokens", "120",
                 "--data", str(self.folder), "--out", str(out), *more],
                cwd=REPOSITORY / "training", check=True, env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"})  # fmt: skip
            return [json.loads(line) for line in out.read_text().splitlines()]

        for task in ("conflict", "ask", "redact", "bystander"):
            cases = generate(task)
            self.assertEqual(len(cases), 6)
            self.assertNotEqual(cases, generate(task, "--seed", "2"))
            self.assertEqual(cases, generate(task))
            for case in cases:
                kept = case["prefix"] + case["suffix"]
                for answer in case["answers"]:
                    self.assertIn(answer, kept)
                for leak in case["leaks"]:
                    self.assertIn(leak, case["span"])
                    self.assertNotIn(leak, re.findall(r"\w+", kept))
        text = self.good("eval", self.folder / "redact.jsonl", "--limit", 1, "--methods", "drop", "--json", "--max-tokens", 2)
        self.assertEqual(json.loads(text)["n"], 1)
        articles = {split: {name for case in generate("conflict", "--split", split)
                            for name in re.findall(r"visitor \d+", case["prefix"] + case["suffix"])}
                    for split in ("train", "validation", "test")}  # fmt: skip
        self.assertTrue(all(articles.values()))
        self.assertEqual(sum(map(len, articles.values())), len(set().union(*articles.values())), "splits share no article")


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit("usage: test_cli.py RASURE [unittest arguments]")
    RASURE = Path(sys.argv.pop(1)).resolve()
    unittest.main(verbosity=2)
