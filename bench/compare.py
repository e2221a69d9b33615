"""Runs rasure and llama.cpp on one model file, interleaved, and writes what was measured to docs/performance.*.

Started by bench/compare.sh, which builds both. Needs the standard library only. What was measured is a dict of raw samples
(`Measurements`); everything in the documents is computed from it, so that `--render docs/performance.json` writes them again.
"""

from __future__ import annotations

import argparse
import datetime
import json
import math
import os
import platform
import re
import statistics
import struct
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Callable

from pages import fill

REPOSITORY = Path(__file__).resolve().parent.parent
PARTIAL = REPOSITORY / "build" / "compare.json"
BEGIN, END = "<!-- compare:begin -->", "<!-- compare:end -->"
PEER_NAME = "llama.cpp as in llama-cpp-python 0.3.36"
RSS_CONTEXT, RSS_PREFILL, LOADS = 2048, 512, 3
QUIET = 0.03  # share of the machine that may be busy with something else
RECOMPUTED = 4096  # tokens of an exact erase's suffix, and as many before it
LOAD_LIMIT_MS, RSS_SLACK, BANDWIDTH_SHARE = 80.0, 8_000_000, 80.0
PREFILL_GOALS = {"amx": 5.0, "avx512vnni": 3.0, "avx2": 1.5}  # reading 512 tokens
DECODE_GOALS = {0: 1.4, 4096: 2.0}  # by depth; at 4096 against 8-bit KV
PEER_CONFIGS = {"q8": ["-ctk", "q8_0", "-ctv", "q8_0", "-fa", "1"], "default": []}

# Everything measured: {"rasure": [...], "q8": [...], "default": [...]} for each work, and facts beside them.
Measurements = dict[str, Any]


class CompareError(Exception):
    """Something that stops the comparison; the message says what."""


# ------------------------------------------------------------------------------------------------ the model --

# GGUF's type ids: elements and bytes of a block.
BLOCKS = {0: (1, 4), 1: (1, 2), 2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34), 12: (256, 144),
          13: (256, 176), 14: (256, 210), 30: (1, 2)}  # fmt: skip
SCALARS = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
STRING, ARRAY = 8, 9


def read_tensors(path: Path) -> dict[str, tuple[list[int], int]]:
    """Dimensions and size in bytes of every tensor in a GGUF file."""
    with path.open("rb") as file:

        def number(code: str) -> int:
            return struct.unpack("<" + code, file.read(struct.calcsize(code)))[0]

        if file.read(4) != b"GGUF" or number("I") < 2:
            raise CompareError(f"{path.name} is no GGUF file of version 2 or later")
        n_tensors, n_keys = number("Q"), number("Q")
        for _ in range(n_keys):
            file.seek(number("Q"), os.SEEK_CUR)
            skip_value(file, number)
        tensors = {}
        for _ in range(n_tensors):
            name = file.read(number("Q")).decode()
            dimensions = [number("Q") for _ in range(number("I"))]
            kind, _ = number("I"), number("Q")
            if kind not in BLOCKS:
                raise CompareError(f"{path.name}: tensor {name} has the unknown type {kind}")
            elements, size = BLOCKS[kind]
            tensors[name] = dimensions, math.prod(dimensions) // elements * size
        return tensors


def skip_value(file: BinaryIO, number: Callable[[str], int]) -> None:
    kind = number("I")
    count = 1
    if kind == ARRAY:
        kind, count = number("I"), number("Q")
    if kind == STRING:
        for _ in range(count):
            file.seek(number("Q"), os.SEEK_CUR)
    else:
        file.seek(SCALARS[kind] * count, os.SEEK_CUR)


def model_facts(path: Path, info: dict) -> dict:
    """What a token costs: bytes of weights that it reads, products that it needs."""
    tensors, model, context = read_tensors(path), info["model"], info["context"]
    tied = "output.weight" not in tensors
    touched = sum(size for name, (_, size) in tensors.items() if tied or name != "token_embd.weight")
    layers = sum(math.prod(d) for name, (d, _) in tensors.items() if name.startswith("blk.") and len(d) > 1)
    head = math.prod(tensors["token_embd.weight" if tied else "output.weight"][0])
    return {
        "file": path.name,
        "name": model["name"],
        "file_bytes": path.stat().st_size,
        "weight_bytes_per_token": touched,
        "layer_macs_per_token": layers,
        "head_macs": head,
        "attention_macs_per_pair": 2 * model["n_layers"] * model["n_heads"] * model["head_dim"],
        "kv_bytes_per_token": context["kv_capacity"] / context["n_ctx"],
        "sliding_window": model["sliding_window"],
    }


# ---------------------------------------------------------------------------------------------- the machine --


def cpu_flags() -> set[str]:
    found = re.search(r"^(?:flags|Features)\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.M)
    return set(found.group(1).split()) if found else set()


def machine_facts(compiler: str) -> dict:
    text = Path("/proc/cpuinfo").read_text()
    model = re.search(r"^model name\s*: (.*)$", text, re.M)
    caches = []
    for folder in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        level, kind, size = ((folder / name).read_text().strip() for name in ("level", "type", "size"))
        caches.append(f"L{level}{'' if kind == 'Unified' else kind[0].lower()} {size}")
    return {
        "cpu": model.group(1).strip() if model else platform.machine(),
        "virtual": "hypervisor" in cpu_flags(),
        "processors": len(os.sched_getaffinity(0)),
        "caches": caches,
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "compiler": compiler,
        "system": f"{platform.system()} {re.match(r'[0-9.]*[0-9]', platform.release()).group()}",
    }


def cpu_ticks() -> tuple[int, int]:
    """Time that all processors worked, and that a hypervisor kept them from working, in clock ticks."""
    user, nice, system, _, _, irq, soft, steal = map(int, Path("/proc/stat").read_text().split()[1:9])
    return user + nice + system + irq + soft, steal


# --------------------------------------------------------------------------------------------- running it --


@dataclass
class Outcome:
    output: str
    ms: float
    peak_rss: int


class Runner:
    """Runs one program at a time and keeps account of what else the machine did meanwhile."""

    def __init__(self) -> None:
        self.others: list[float] = []
        self.stolen: list[float] = []

    def other_load(self) -> dict | None:
        if not self.others:
            return None
        return {"median": statistics.median(self.others), "most": max(self.others),
                "stolen_median": statistics.median(self.stolen), "stolen_most": max(self.stolen)}  # fmt: skip

    def run(self, command: list[str], isa: str | None = None) -> Outcome:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("RASURE_")}
        if isa is not None:
            environment["RASURE_ISA"] = isa
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            actions = [(os.POSIX_SPAWN_DUP2, out.fileno(), 1), (os.POSIX_SPAWN_DUP2, err.fileno(), 2)]
            (busy, stolen), started = cpu_ticks(), time.perf_counter()
            process = os.posix_spawn(command[0], command, environment, file_actions=actions)
            try:
                _, status, usage = os.wait4(process, 0)
            except BaseException:
                os.kill(process, 15)
                os.waitpid(process, 0)
                raise
            seconds = time.perf_counter() - started
            busy_after, stolen_after = cpu_ticks()
            out.seek(0)
            err.seek(0)
            code = os.waitstatus_to_exitcode(status)
            if code != 0:
                said = err.read().decode(errors="replace").strip().splitlines()[-5:]
                raise CompareError("\n".join([f"{' '.join([Path(command[0]).name, *command[1:]])}: ended with {code}", *said]))
            if seconds > 1:  # below that, clock ticks are too coarse
                ticks = seconds * os.sysconf("SC_CLK_TCK") * (os.cpu_count() or 1)
                own = (usage.ru_utime + usage.ru_stime) * os.sysconf("SC_CLK_TCK")
                self.others.append(max(0.0, busy_after - busy - own) / ticks)
                self.stolen.append((stolen_after - stolen) / ticks)
            return Outcome(out.read().decode(), seconds * 1000.0, usage.ru_maxrss * 1024)


@dataclass(frozen=True)
class Level:
    """An instruction set level: what it is called, how rasure is held to it, the peer's build."""

    name: str
    isa: str | None
    variant: str


def levels_of(variants: list[str], flags: set[str]) -> list[Level]:
    best = "amx" if {"amx_tile", "amx_int8"} <= flags else "avx512vnni" if "avx512_vnni" in flags else "avx2"
    if "avx2" not in flags:
        best = "best"
    levels = [Level(best, "amx" if best == "amx" else None, "native")]  # rasure uses AMX on request only
    if "no-amx" in variants:
        levels.append(Level("avx512vnni", "avx512vnni", "no-amx"))
    if "avx2" in variants:
        levels.append(Level("avx2", "avx2", "avx2") if best != "avx2" else Level("avx2 alone", "avx2", "avx2"))
    return levels


class Comparison:
    def __init__(self, arguments: argparse.Namespace) -> None:
        self.rasure = str(arguments.rasure)
        self.peers: Path = arguments.peers
        self.model: Path = arguments.model
        self.levels = levels_of(arguments.variants.split(","), cpu_flags())
        self.threads: list[int] = arguments.threads
        self.batch = ["--batch", str(arguments.batch)] if arguments.batch else []
        self.rounds: int = arguments.rounds
        self.compiler: str = arguments.compiler
        self.quick: bool = arguments.quick
        self.shallow: bool = arguments.quick or arguments.shallow
        self.runner = Runner()
        if self.quick:
            self.rounds, self.threads = 1, self.threads[-1:]
            self.works = [("prefill", 128, 0), ("decode", 32, 0)]
        else:
            self.works = [("prefill", n, 0) for n in (128, 512, 2048)] + [("decode", 128, d) for d in (0, 1024, 4096)]
        if self.shallow:
            self.works = [work for work in self.works if work[2] == 0]
        # The same model in formats for which the peer has kernels of its own kind.
        self.formats: list[Path] = [] if self.shallow else arguments.formats
        self.format_rows: dict[tuple, dict] = {}
        self.recompute: dict[int, dict] = {}
        self.rows: dict[tuple, dict] = {}
        self.bandwidth: dict[int, list[float]] = {}

    # Each of these gives one sample.

    def rasure_bench(self, level: Level, threads: int, *options: str, model: Path | None = None) -> tuple[dict, Outcome]:
        command = [self.rasure, "bench", "--json", "-m", str(model or self.model), "--threads", str(threads), "--repeat", "1",
                   "--span", "0", *self.batch, *options]  # fmt: skip
        outcome = self.runner.run(command, level.isa)
        return json.loads(outcome.output), outcome

    def peer(
        self, level: Level, program: str, threads: int, config: str, *options: str, model: Path | None = None
    ) -> Outcome:
        return self.runner.run([str(self.peers / level.variant / "bin" / program), "-m", str(model or self.model),
                                "-t", str(threads), *PEER_CONFIGS[config], *options])  # fmt: skip

    def speed(self, row: dict, who: str, level: Level, model: Path | None = None) -> float:
        kind, tokens, depth, threads = row["kind"], row["tokens"], row["depth"], row["threads"]
        prefill, decode = (tokens, 0) if kind == "prefill" else (0, tokens)
        if who == "rasure":
            result, _ = self.rasure_bench(level, threads, "--prefill", str(prefill), "--decode", str(decode),
                                          "--depth", str(depth), model=model)  # fmt: skip
            row["isa"], row["batch"], row["linear"] = result["isa"], result["batch"], result["linear"]
            return result[f"{kind}_tok_s"]
        outcome = self.peer(level, "llama-bench", threads, who, "-p", str(prefill), "-n", str(decode), "-d", str(depth),
                            "-r", "1", "-o", "json", model=model)  # fmt: skip
        (result,) = json.loads(outcome.output)
        return result["avg_ts"]

    def load(self, row: dict, who: str, level: Level) -> float:
        if who == "rasure":
            command = [self.rasure, "run", "-m", str(self.model), "--threads", str(row["threads"]), "--ctx", "256", "--raw",
                       "-p", "The", "-n", "1"]  # fmt: skip
            return self.runner.run(command, level.isa).ms
        return self.peer(level, "llama-bench", row["threads"], who, "-p", "0", "-n", "1", "-r", "1", "--no-warmup").ms

    def memory(self, row: dict, who: str, level: Level) -> int:
        if who == "rasure":
            result, outcome = self.rasure_bench(level, row["threads"], "--prefill", str(RSS_PREFILL), "--decode", "0",
                                                "--ctx", str(RSS_CONTEXT))  # fmt: skip
            row["arena_bytes"] = result["arena_bytes"]
            return outcome.peak_rss
        return self.peer(level, "llama-batched-bench", row["threads"], who, "-c", str(RSS_CONTEXT), "-npp", str(RSS_PREFILL),
                         "-ntg", "1", "-npl", "1").peak_rss  # fmt: skip

    def formats_round(self, number: int) -> None:
        """Prefill and decode in the other formats, at the best level."""
        level = self.levels[0]
        for model in self.formats:
            for kind, tokens in (("prefill", 512), ("decode", 128)):
                for threads in self.threads:
                    key = (model.stem, kind, threads)
                    row = self.format_rows.setdefault(key, {"format": model.stem, "file_bytes": model.stat().st_size,
                                                            "threads": threads, "kind": kind, "tokens": tokens, "depth": 0,
                                                            "rasure": [], "q8": [], "default": []})  # fmt: skip
                    for who in ("rasure", "q8", "default"):
                        row[who].append(self.speed(row, who, level, model))
                    say(number, self.rounds, row | {"level": model.stem})

    def recompute_round(self) -> None:
        """An exact erase whose suffix has about RECOMPUTED tokens, beside reading as many at the same depth."""
        for threads in self.threads[-1:]:
            row = self.recompute.setdefault(threads, {"threads": threads, "prefill": [], "exact": []})
            result, _ = self.rasure_bench(self.levels[0], threads, "--prefill", "0", "--decode", "0", "--depth",
                                          str(2 * RECOMPUTED), "--span", "32")  # fmt: skip
            row["tokens"] = result["erase_recomputed"]["exact"]
            row["exact"].append(row["tokens"] / result["erase_ms"]["exact"] * 1000.0)
            result, _ = self.rasure_bench(self.levels[0], threads, "--prefill", str(row["tokens"]), "--decode", "0",
                                          "--depth", str(2 * RECOMPUTED - row["tokens"] - 32))  # fmt: skip
            row["prefill"].append(result["prefill_tok_s"])

    def row(self, level: Level, threads: int, kind: str, tokens: int, depth: int) -> dict:
        key = (level.name, threads, kind, tokens, depth)
        return self.rows.setdefault(key, {"level": level.name, "peer_build": level.variant, "threads": threads, "kind": kind,
                                          "tokens": tokens, "depth": depth, "rasure": [], "q8": [], "default": []})  # fmt: skip

    def round(self, number: int) -> None:
        for kind, tokens, depth in [*self.works, ("load", 1, 0), ("memory", RSS_PREFILL, 0)]:
            sample = {"load": self.load, "memory": self.memory}.get(kind, self.speed)
            for threads in self.threads if kind != "memory" else self.threads[-1:]:
                for level in self.levels:
                    row = self.row(level, threads, kind, tokens, depth)
                    for _ in range(LOADS if kind == "load" else 1):
                        for who in ("rasure", "q8", "default"):
                            row[who].append(sample(row, who, level))
                    say(number, self.rounds, row)
        program = Path(self.rasure).parents[2] / "bench" / "bench_bandwidth"
        if program.exists():
            command = [str(program), "--json", "--threads", str(max(self.threads))]
            for result in json.loads(self.runner.run(command).output):
                self.bandwidth.setdefault(result["threads"], []).append(result["median"])

    def kernels(self) -> list[dict]:
        program = Path(self.rasure).parents[2] / "bench" / "bench_kernels"
        if not program.exists():
            return []
        rows = json.loads(self.runner.run([str(program), "--json"]).output)
        return [row for row in rows if row["kernel"] == "multiply"]

    def wait_until_quiet(self) -> None:
        """A second of idling must be idle; a full run insists on it."""
        for _ in range(1 if self.quick else 60):
            before = cpu_ticks()[0]
            time.sleep(1.0)
            share = (cpu_ticks()[0] - before) / os.sysconf("SC_CLK_TCK") / (os.cpu_count() or 1)
            if share <= QUIET:
                return
        said = f"something else takes {share:.0%} of the machine"
        if not self.quick:
            raise CompareError(f"{said}; measure when nothing else runs")
        print(f"compare: {said}; the figures are worth little", file=sys.stderr)

    def measure(self) -> Measurements:
        with self.model.open("rb") as file:
            while file.read(1 << 24):  # from here on, the file is in the page cache
                pass
        self.wait_until_quiet()
        info = json.loads(self.runner.run([self.rasure, "info", "--json", "-m", str(self.model), "--ctx", "4096"]).output)
        facts = {
            "date": datetime.date.today().isoformat(),
            "rasure": self.runner.run([self.rasure, "--version"]).output.strip(),
            "peer": PEER_NAME,
            "machine": machine_facts(self.compiler),
            "model": model_facts(self.model, info),
            "load_samples_per_round": LOADS,
            "multiply_kernels": self.kernels(),
        }
        for number in range(self.rounds):
            self.round(number)
            self.formats_round(number)
            if not self.shallow:
                self.recompute_round()
            data = facts | {
                "rounds": number + 1,
                "other_load": self.runner.other_load(),
                "bandwidth_gb_s": {str(threads): values for threads, values in self.bandwidth.items()},
                "formats": list(self.format_rows.values()),
                "recompute": list(self.recompute.values()),
                "rows": list(self.rows.values()),
            }
            if not self.quick:  # what is measured is not lost when a later round fails
                write_json(data, PARTIAL)
        return data


def say(number: int, rounds: int, row: dict) -> None:
    depth = f" at depth {row['depth']}" if row["depth"] else ""
    values = "  ".join(f"{who} {scaled(row['kind'], row[who][-1])}" for who in ("rasure", "q8", "default"))
    print(f"round {number + 1} of {rounds}: {row['kind']} {row['tokens']}{depth}, {row['level']}, threads {row['threads']}: {values}",
          flush=True)  # fmt: skip


# ------------------------------------------------------------------------------------------------ computing --


def scaled(kind: str, value: float) -> str:
    return f"{value / 1e6:.1f} MB" if kind == "memory" else f"{value:.1f} {'ms' if kind == 'load' else 'tok/s'}"


def ratio(row: dict, against: str) -> dict:
    """How many times better rasure is: of medians, with the least and the most of the pairs of one round."""
    better = lambda mine, other: mine / other if row["kind"] in ("prefill", "decode") else other / mine  # noqa: E731
    pairs = [better(mine, other) for mine, other in zip(row["rasure"], row[against])]
    return {"median": better(statistics.median(row["rasure"]), statistics.median(row[against])),
            "least": min(pairs), "most": max(pairs)}  # fmt: skip


def verdict(met: bool) -> str:
    return "met" if met else "missed"


def bandwidth(data: Measurements, threads: int) -> float | None:
    values = data["bandwidth_gb_s"].get(str(threads))
    return statistics.median(values) if values else None


def judge_speed(row: dict) -> dict | None:
    """The goal of a row and whether it is met. Goals that name no KV type count against the faster peer."""
    peers = ["q8", "default"]
    if row["kind"] == "prefill" and row["tokens"] == 512:
        goal = PREFILL_GOALS.get(row["level"])
    elif row["kind"] == "decode":
        goal = DECODE_GOALS.get(row["depth"])
        peers = ["q8"] if row["depth"] > 0 else peers
    else:
        goal = None
    if goal is None:
        return None
    return {"goal": f">= {goal:g}x", "verdict": verdict(min(row["ratio"][peer]["median"] for peer in peers) >= goal)}


def judge_load(row: dict) -> dict:
    median = row["median"]
    met = median["rasure"] <= LOAD_LIMIT_MS and median["rasure"] <= min(median["q8"], median["default"])
    return {"goal": f"<= {LOAD_LIMIT_MS:.0f} ms, not slower", "verdict": verdict(met)}


def judge_memory(data: Measurements, row: dict) -> dict:
    limit = data["model"]["file_bytes"] + row["arena_bytes"] + RSS_SLACK
    return {"goal": f"<= {limit / 1e6:.1f} MB", "verdict": verdict(row["median"]["rasure"] <= limit)}


def decode_roofline(data: Measurements, row: dict) -> dict | None:
    model, limit = data["model"], bandwidth(data, row["threads"])
    # How much of the cache a sliding layer reads is not known here.
    if limit is None or (model["sliding_window"] and row["depth"] > 0):
        return None
    tokens = row["depth"] + (row["tokens"] + 1) / 2
    touched = model["weight_bytes_per_token"] + model["kv_bytes_per_token"] * tokens
    achieved = touched * row["median"]["rasure"] / 1e9
    roofline = {"bytes_per_token": touched, "gb_s": achieved, "limit_gb_s": limit, "per_cent": 100 * achieved / limit,
                "limit_tok_s": limit * 1e9 / touched}  # fmt: skip
    if row["depth"] == 0:
        roofline |= {"goal": f">= {BANDWIDTH_SHARE:.0f} %", "verdict": verdict(roofline["per_cent"] >= BANDWIDTH_SHARE)}
    return roofline


def prefill_roofline(data: Measurements, row: dict) -> dict:
    model, tokens = data["model"], row["tokens"]
    pairs = tokens * (tokens + 1) / 2
    macs = model["layer_macs_per_token"] * tokens + model["head_macs"] + model["attention_macs_per_pair"] * pairs
    achieved = macs / tokens * row["median"]["rasure"] / 1e9
    roofline = {"mmac_per_token": macs / tokens / 1e6, "gmac_s": achieved}
    # The kernel that has the most rows to share an unpacked weight row with; the median of its best type. With AMX tiles multiply,
    # which bench/kernels does not time.
    kernels = [k for k in data["multiply_kernels"] if k["isa"] == row["isa"] != "amx" and k["unit"].lower().startswith("gmac")]
    if kernels:
        rows = max(k["rows"] for k in kernels)
        limit = max(k["median"] for k in kernels if k["rows"] == rows) * row["threads"]
        roofline |= {"limit_gmac_s": limit, "per_cent": 100 * achieved / limit}
    return roofline


def compute(data: Measurements) -> None:
    """Adds to each row its medians, spreads, ratios, goal and roofline."""
    for row in data["formats"]:
        row["ratio"] = {against: ratio(row, against) for against in ("q8", "default")}
    for row in data["rows"]:
        row["median"] = {who: statistics.median(row[who]) for who in ("rasure", "q8", "default")}
        row["ratio"] = {against: ratio(row, against) for against in ("q8", "default")}
        if row["kind"] == "load":
            row["goal"] = judge_load(row)
        elif row["kind"] == "memory":
            row["goal"] = judge_memory(data, row)
        else:
            row["goal"] = judge_speed(row)
            row["roofline"] = (decode_roofline if row["kind"] == "decode" else prefill_roofline)(data, row)


# ------------------------------------------------------------------------------------------------- writing --


def cell(values: list[float], scale: float = 1.0, digits: int = 1) -> str:
    middle, low, high = (value * scale for value in (statistics.median(values), min(values), max(values)))
    return f"{middle:,.{digits}f} ({low:,.{digits}f} to {high:,.{digits}f})"


def ratio_cell(values: dict) -> str:
    return f"{values['median']:.2f} ({values['least']:.2f} to {values['most']:.2f})"


def table(head: list[str], rows: list[list[str]]) -> str:
    return "\n".join("| " + " | ".join(row) + " |" for row in [head, ["---"] * len(head), *rows])


def goal_cells(goal: dict | None) -> list[str]:
    return [goal["goal"], goal["verdict"]] if goal and "goal" in goal else ["", ""]


def work_name(row: dict) -> str:
    return f"{row['kind']} {row['tokens']:,}" + (f" at depth {row['depth']:,}" if row["kind"] == "decode" else "")


def of_kind(data: Measurements, *kinds: str) -> list[dict]:
    return [row for row in data["rows"] if row["kind"] in kinds]


def level_heading(row: dict) -> str:
    return f"{row['level']}: rasure `{row['isa']}`, llama.cpp built `{row['peer_build']}`"


def speed_sections(data: Measurements) -> list[str]:
    lines = []
    for level in dict.fromkeys(row["level"] for row in data["rows"]):
        rows = [row for row in of_kind(data, "prefill", "decode") if row["level"] == level]
        rows.sort(key=lambda row: row["threads"])
        lines += [f"#### {level_heading(rows[0])}", "", table(
            ["work", "threads", "rasure, tok/s", "llama.cpp, 8-bit KV", "llama.cpp, its defaults", "ratio, 8-bit KV",
             "ratio, defaults", "goal", "verdict"],
            [[work_name(row), str(row["threads"]), cell(row["rasure"]), cell(row["q8"]), cell(row["default"]),
              ratio_cell(row["ratio"]["q8"]), ratio_cell(row["ratio"]["default"]), *goal_cells(row["goal"])]
             for row in rows]), ""]  # fmt: skip
    return lines


def decode_limits(data: Measurements) -> list[str]:
    rows = [row for row in of_kind(data, "decode") if row["roofline"]]
    if not rows:
        return []
    text = (
        "Decode reads memory. Bytes a token: all weights as they lie in the file (layers, norms, head; the embedding table "
        "only where it is the head) and the int8 keys and values of the mean context. Limit: what `bench/bandwidth` reads "
        "with as many threads. Above 100 % it is that which read too slowly, and nothing is said of the goal."
    )
    return [text, "", table(
        ["work", "level", "threads", "MB a token", "limit, GB/s", "achieved, GB/s", "per cent", "limit, tok/s", "goal", "verdict"],
        [[work_name(row), row["level"], str(row["threads"]), f"{r['bytes_per_token'] / 1e6:.1f}", f"{r['limit_gb_s']:.1f}",
          f"{r['gb_s']:.1f}", f"{r['per_cent']:.0f}", f"{r['limit_tok_s']:.0f}", *goal_cells(r if r["per_cent"] <= 100 else None)]
         for row in rows for r in [row["roofline"]]]), ""]  # fmt: skip


def prefill_limits(data: Measurements) -> list[str]:
    known = any("limit_gmac_s" in row["roofline"] for row in of_kind(data, "prefill"))
    text = (
        "Prefill multiplies. Products (multiply-accumulates) a token: one for each weight of the layers, those of attention, "
        "and the head's once; a kernel that takes activations in two terms does more. "
        + (
            "Limit: the `multiply` kernel of `bench/kernels` with its operands in cache, times the threads."
            if known
            else "`bench/kernels` did not give the limit of the multiply kernel."
        )
    )
    return [text, "", table(
        ["work", "level", "threads", "million products a token", "limit, GMAC/s", "achieved, GMAC/s", "per cent"],
        [[work_name(row), row["level"], str(row["threads"]), f"{r['mmac_per_token']:.1f}",
          f"{r['limit_gmac_s']:.0f}" if "limit_gmac_s" in r else "-", f"{r['gmac_s']:.1f}",
          f"{r['per_cent']:.0f}" if "per_cent" in r else "-"]
         for row in of_kind(data, "prefill") for r in [row["roofline"]]]), ""]  # fmt: skip


def load_section(data: Measurements) -> list[str]:
    text = (
        "From start to end of a process that writes one token, the file in the page cache. rasure: `rasure run --raw -p The -n 1 "
        "--ctx 256` (tokenizes, reads, samples, prints). llama.cpp: `llama-bench -p 0 -n 1 -r 1 --no-warmup` (context of 256; "
        "computes the logits of one token and neither tokenizes nor samples)."
    )
    return ["### Load to first token", "", text, "", table(
        ["level", "threads", "rasure, ms", "llama.cpp, 8-bit KV", "llama.cpp, its defaults", "ratio, 8-bit KV",
         "ratio, defaults", "goal", "verdict"],
        [[row["level"], str(row["threads"]), cell(row["rasure"]), cell(row["q8"]), cell(row["default"]),
          ratio_cell(row["ratio"]["q8"]), ratio_cell(row["ratio"]["default"]), *goal_cells(row["goal"])]
         for row in of_kind(data, "load")]), ""]  # fmt: skip


def memory_section(data: Measurements) -> list[str]:
    text = (
        f"Peak resident set, as the system counts it, of a process that reads {RSS_PREFILL} tokens in a context of "
        f"{RSS_CONTEXT:,}: `rasure bench` and `llama-batched-bench`. The mapped file counts as far as it was touched; the goal "
        "is the file, the context's arena and 8 MB."
    )
    return ["### Memory", "", text, "", table(
        ["level", "threads", "file, MB", "arena, MB", "rasure, MB", "llama.cpp, 8-bit KV", "llama.cpp, its defaults", "goal", "verdict"],
        [[row["level"], str(row["threads"]), f"{data['model']['file_bytes'] / 1e6:.1f}", f"{row['arena_bytes'] / 1e6:.1f}",
          cell(row["rasure"], 1e-6), cell(row["q8"], 1e-6), cell(row["default"], 1e-6), *goal_cells(row["goal"])]
         for row in of_kind(data, "memory")]), ""]  # fmt: skip


def formats_section(data: Measurements) -> list[str]:
    if not data["formats"]:
        return []
    text = (
        "The default model is Q4_1, a format that llama.cpp multiplies by its general kernels, without repacking and without "
        "llamafile's. These files, made of it by llama.cpp's own `llama-quantize` (which costs accuracy and serves this comparison "
        "only), are in formats for which it has those."
    )
    return ["### In other formats", "", text, "", table(
        ["format", "file, MB", "work", "threads", "rasure, tok/s", "llama.cpp, 8-bit KV", "llama.cpp, its defaults",
         "ratio, 8-bit KV", "ratio, defaults"],
        [[row["format"], f"{row['file_bytes'] / 1e6:.1f}", work_name(row), str(row["threads"]), cell(row["rasure"]),
          cell(row["q8"]), cell(row["default"]), ratio_cell(row["ratio"]["q8"]), ratio_cell(row["ratio"]["default"])]
         for row in data["formats"]]), ""]  # fmt: skip


def recompute_section(data: Measurements) -> list[str]:
    if not data["recompute"]:
        return []
    text = (
        "An exact erase in the middle of a context reads the suffix again: that must cost what reading costs. Prefill is of as many "
        "tokens behind as many."
    )
    return ["### Exact recompute", "", text, "", table(
        ["suffix, tokens", "threads", "exact erase, tok/s", "prefill, tok/s", "ratio"],
        [[f"{row['tokens']:,}", str(row["threads"]), cell(row["exact"]), cell(row["prefill"]),
          f"{statistics.median(row['exact']) / statistics.median(row['prefill']):.2f}"] for row in data["recompute"]]), ""]  # fmt: skip


def preamble(data: Measurements) -> list[str]:
    machine, model, other = data["machine"], data["model"], data["other_load"]
    lines = [
        f"{data['date']}; {machine['cpu']}{' (virtual machine)' if machine['virtual'] else ''}, {machine['processors']} processors, "
        f"{', '.join(machine['caches'])}, {machine['memory_bytes'] / 2**30:.0f} GiB; {machine['system']}; {machine['compiler']}. "
        f"{data['rasure']} against {data['peer']} (Release; a compiler barrier put before its `_tile_loadconfig`, without "
        "which its AMX path crashes as GCC 12 builds it). "
        f"Model: `{model['file']}`, {model['file_bytes'] / 1e6:.1f} MB, the same file for both.",
        "",
        f"Medians of {data['rounds']} interleaved round{'s' if data['rounds'] != 1 else ''} ({data['load_samples_per_round']} "
        "samples a round for the load time), in brackets the least and the most; ratios above 1 are in rasure's favour, of "
        "medians, in brackets the least and the most of the pairs run one after the other. rasure's KV cache is always 8-bit; "
        "llama.cpp ran with 8-bit KV (`-ctk q8_0 -ctv q8_0 -fa 1`) and with its defaults (16-bit). A goal that names no KV "
        "type counts against the faster of the two. Both warm up first and read arbitrary tokens, rasure "
        f"{of_kind(data, 'prefill')[0]['batch']} at a time, llama.cpp 512 (its default).",
    ]
    if other:
        lines += ["", f"Other load on the machine while a program ran: {other['median']:.1%} in the median, {other['most']:.1%} "
                  f"at most; taken by the hypervisor: {other['stolen_median']:.1%}, {other['stolen_most']:.1%}."]  # fmt: skip
    return lines


def render_markdown(data: Measurements, plot: str | None) -> str:
    lines = [*preamble(data), ""]
    if plot:
        lines += [f"![Ratios of the tables below]({plot})", ""]
    lines += ["### Speed", "", *speed_sections(data), "### How near the limits", "", *decode_limits(data)]
    lines += [*prefill_limits(data), *formats_section(data), *recompute_section(data)]
    lines += [*load_section(data), *memory_section(data)]
    return "\n".join(lines).rstrip()


def render_svg(data: Measurements) -> str:
    """Bars of the ratios with the most threads, one group a level; a line where both are even."""
    threads = max(row["threads"] for row in data["rows"])
    rows = [row for row in of_kind(data, "prefill", "decode") if row["threads"] == threads]
    levels = list(dict.fromkeys(row["level"] for row in rows))
    rows.sort(key=lambda row: levels.index(row["level"]))
    most = max(1.0, *(row["ratio"][peer]["median"] for row in rows for peer in ("q8", "default")))
    left, width, step = 190, 470, 28
    unit = width / most
    body, y, level = [], 54, None
    for row in rows:
        if row["level"] != level:
            level = row["level"]
            body.append(f'<text x="8" y="{y + 12}" font-weight="bold">{level_heading(row).replace("`", "")}</text>')
            y += 22
        body.append(f'<text x="{left - 8}" y="{y + 14}" text-anchor="end">{work_name(row)}</text>')
        for i, (peer, colour) in enumerate((("q8", "#2f6f9f"), ("default", "#9dbdd3"))):
            value, top = row["ratio"][peer]["median"], y + 10 * i
            body.append(f'<rect x="{left}" y="{top}" width="{value * unit:.1f}" height="9" fill="{colour}"/>')
            body.append(f'<text x="{left + value * unit + 4:.1f}" y="{top + 8}" font-size="9">{value:.2f}</text>')
        y += step
    even = left + unit
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 720 {y + 8}" font-family="sans-serif" font-size="12">',
        f'<rect width="720" height="{y + 8}" fill="#ffffff"/>',
        f'<text x="8" y="18">rasure\'s speed over llama.cpp\'s, same file, {threads} thread{"s" if threads > 1 else ""}</text>',
        '<rect x="8" y="29" width="10" height="9" fill="#2f6f9f"/><text x="22" y="38">llama.cpp with 8-bit KV</text>',
        '<rect x="190" y="29" width="10" height="9" fill="#9dbdd3"/><text x="204" y="38">llama.cpp with its defaults</text>',
        *body,
        f'<line x1="{even:.1f}" y1="46" x2="{even:.1f}" y2="{y}" stroke="#b03030" stroke-dasharray="3 3"/>',
        "</svg>", ""])  # fmt: skip


def write_json(data: Measurements, path: Path) -> None:
    """A line for each fact and each row."""
    path.parent.mkdir(exist_ok=True)
    facts = [f'"{key}": {json.dumps(value)}' for key, value in data.items() if key != "rows"]
    rows = ",\n".join(json.dumps(row) for row in data["rows"])
    path.write_text("{\n" + ",\n".join([*facts, f'"rows": [\n{rows}\n]']) + "\n}\n", encoding="utf-8")


def write_documents(data: Measurements, folder: Path, name: str) -> None:
    page = folder / f"{name}.md"
    text = page.read_text(encoding="utf-8") if page.exists() else f"# Performance\n\n## Against llama.cpp\n\n{BEGIN}\n{END}\n"
    if not fill(page, text, BEGIN, END, render_markdown(data, f"{name}.svg")):
        raise CompareError(f"docs/{page.name} lacks the markers {BEGIN} and {END}")
    write_json(data, folder / f"{name}.json")
    (folder / f"{name}.svg").write_text(render_svg(data), encoding="utf-8")


def thread_list(text: str) -> list[int]:
    values = sorted({int(value) for value in text.split(",")})
    if not values or values[0] < 1:
        raise ValueError
    return values


def positive(text: str) -> int:
    if int(text) < 1:
        raise ValueError
    return int(text)


def parse_arguments() -> argparse.Namespace:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "rasure"
    parser = argparse.ArgumentParser(description="Compares rasure with llama.cpp; started by bench/compare.sh.")
    parser.add_argument("--rasure", type=Path, help="the rasure program")
    parser.add_argument("--peers", type=Path, default=cache / "peers", help="folder of the peer's builds")
    parser.add_argument("--variants", default="native", help="builds in it: native,no-amx,avx2")
    parser.add_argument("--compiler", default="", help="what built both")
    parser.add_argument("--model", type=Path, default=cache / "models" / "SmolLM2-135M-Instruct.Q4_1.gguf", help="GGUF file")
    parser.add_argument("--formats", type=Path, nargs="*", default=[], help="the same model in other formats")
    parser.add_argument("--rounds", type=positive, default=5)
    parser.add_argument("--threads", type=thread_list, default=[1, 2], help="such as 1,2")
    parser.add_argument("--batch", type=positive, help="tokens that rasure reads at a time")
    parser.add_argument("--quick", action="store_true", help="one round of little work, printed and written nowhere")
    parser.add_argument("--shallow", action="store_true", help="nothing behind other tokens, no other formats")
    parser.add_argument("--render", type=Path, metavar="FILE", help="write the documents again from this JSON file")
    parser.add_argument("--out", type=Path, default=REPOSITORY / "docs", help="folder of the documents (default: docs)")
    parser.add_argument("--name", default="performance", help="of the documents (default: performance)")
    arguments = parser.parse_args()
    if arguments.render is None and arguments.rasure is None:
        parser.error("--rasure is needed")
    return arguments


def main() -> int:
    arguments = parse_arguments()
    try:
        data = json.loads(arguments.render.read_text()) if arguments.render else Comparison(arguments).measure()
        compute(data)
        if arguments.quick:
            print(f"\n{render_markdown(data, plot=None)}")
        else:
            write_documents(data, arguments.out, arguments.name)
            if data["other_load"] and data["other_load"]["median"] > QUIET:
                print("compare: the machine had other work to do, see 'Other load'; measure again", file=sys.stderr)
            print(f"wrote {arguments.out.name}/{arguments.name}.md, .json and .svg")
    except (CompareError, OSError, ValueError, KeyError) as error:
        print(f"compare: {error if isinstance(error, (CompareError, OSError)) else repr(error)}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
