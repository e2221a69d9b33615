"""Times policies of the KV cache against the full cache; started by bench/budgets.sh. Needs the standard library only."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tomllib
from pathlib import Path
from statistics import median
from typing import Any

from pages import fill

ARMS = Path("training/configs/budgets.toml")
PREFILL, DECODE = 512, 64
BEGIN, END = "<!-- speed:begin -->", "<!-- speed:end -->"
MOST_PREFILL_SHARE, MOST_DECODE_SHARE = 0.05, 0.02
HEADS, HEADS_BUDGET = "heads-prulong", "36%"  # at 70 % local heads
HEADS_MOST_BYTES, HEADS_LEAST_SPEEDUP = 0.36, 1.5

Row = dict[str, Any]


class BudgetsError(Exception):
    """Something that stops the measurement; the message says what."""


def arms_of(path: Path, budget: str, only: list[str]) -> list[tuple[str, list[str]]]:
    """Names and options of the arms (only: of those) that have this budget, and of that which has a goal at another."""
    found = []
    for arm in tomllib.loads(path.read_text(encoding="utf-8"))["arm"]:
        if only and arm["name"] not in only:
            continue
        for at in (budget, HEADS_BUDGET) if arm["name"] == HEADS else (budget,):
            if at in arm["budgets"]:
                options = [*arm["options"], *arm.get("at", {}).get(at, []), "--budget", at]
                found.append((f"{arm['name']} at {at}" if at != budget else arm["name"], options))
    return found


def sample(program: Path, model: Path, options: list[str], args: argparse.Namespace) -> Row | None:
    """One run; None where the budget is refused."""
    command = [str(program), "bench", "--json", "-m", str(model), "--threads", str(args.threads), "--repeat", "1", "--span", "0",
               "--prefill", str(PREFILL), "--decode", str(DECODE), "--depth", str(args.depth), *options]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        said = done.stderr.strip().splitlines()[-1] if done.stderr.strip() else str(done.returncode)
        if "is too small" in said:
            return None
        raise BudgetsError(f"{' '.join(options)}: {said}")
    return json.loads(done.stdout)


def measure(args: argparse.Namespace) -> dict[str, list[Row]]:
    """Samples of each arm. Every sample of an arm is followed by one of the full cache, which it is compared with."""
    arms = arms_of(args.arms, args.budget, args.only)
    found: dict[str, list[Row]] = {name: [] for name, _ in arms}
    for number in range(args.rounds):
        for name, options in arms:
            mine = sample(args.program, args.model, options, args)
            if mine is None:
                continue
            full = sample(args.program, args.model, [], args)
            assert full is not None
            found[name].append({key: mine[key] for key in ("prefill_tok_s", "decode_tok_s", "prefill_policy_share",
                                                           "decode_policy_share", "cache_bytes", "arena_bytes", "isa")}
                               | {f"full_{key}": full[key] for key in ("prefill_tok_s", "decode_tok_s", "cache_bytes")})  # fmt: skip
            row = found[name][-1]
            print(f"round {number + 1} of {args.rounds}: {name}: decode {row['decode_tok_s'] / row['full_decode_tok_s']:.2f}x",
                  file=sys.stderr)  # fmt: skip
    return found


def spread(values: list[float], digits: int) -> str:
    return f"{median(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def ratios(rows: list[Row], key: str) -> list[float]:
    return [row[key] / row[f"full_{key}"] for row in rows]


def document(found: dict[str, list[Row]], args: argparse.Namespace) -> list[str]:
    known = {name: rows for name, rows in found.items() if rows}
    lines = [
        f"Made by `bench/budgets.sh`: {args.threads} threads, `{next(iter(known.values()))[0]['isa']}`, {PREFILL} tokens read in one "
        f"call and {DECODE} written one by one behind {args.depth:,}, arms with a choice of budgets at {args.budget} of the full "
        f"cache's bytes. Medians of {args.rounds} rounds in turns, in brackets the least and the most; each run is followed by one of "
        "the full cache, which it is compared with.",
        "",
        "| arm | bytes of the cache | prefill against full | decode against full | policy, of prefill | policy, of decode |",
        "|---|---|---|---|---|---|",
    ]  # fmt: skip
    for name, rows in known.items():
        shares = [spread([100 * row[f"{kind}_policy_share"] for row in rows], 2) + " %" for kind in ("prefill", "decode")]
        lines.append(f"| `{name}` | {rows[0]['cache_bytes'] / 1e6:.1f} MB, {100 * ratios(rows, 'cache_bytes')[0]:.0f} % | "
                     f"{spread(ratios(rows, 'prefill_tok_s'), 2)} | {spread(ratios(rows, 'decode_tok_s'), 2)} | "
                     f"{' | '.join(shares)} |")  # fmt: skip
    refused = [f"`{name}`" for name, rows in found.items() if not rows]
    if refused:
        lines += ["", f"Refused at this budget: {', '.join(refused)}."]
    return [*lines, "", "| what | goal | measured | |", "|---|---|---|---|", *goals(known)]


def goals(known: dict[str, list[Row]]) -> list[str]:
    lines = []

    def add(what: str, goal: str, measured: str, met: bool) -> None:
        lines.append(f"| {what} | {goal} | {measured} | {'met' if met else 'missed'} |")

    for kind, most in (("prefill", MOST_PREFILL_SHARE), ("decode", MOST_DECODE_SHARE)):
        shares = {name: median(row[f"{kind}_policy_share"] for row in rows) for name, rows in known.items()}
        worst = max(shares, key=lambda name: shares[name])
        add(f"policy's share of {kind}, the worst arm (`{worst}`)", f"<= {most:.0%}", f"{shares[worst]:.2%}", shares[worst] <= most)
    rows = known.get(f"{HEADS} at {HEADS_BUDGET}")
    if rows:
        share, speedup = ratios(rows, "cache_bytes")[0], median(ratios(rows, "decode_tok_s"))
        add(f"`{HEADS}` at 70 % local heads: bytes of the full cache's", f"<= {HEADS_MOST_BYTES:.0%}", f"{share:.1%}", share <= HEADS_MOST_BYTES)
        add(f"`{HEADS}` at 70 % local heads: decode against full", f">= {HEADS_LEAST_SPEEDUP}x", f"{speedup:.2f}x", speedup >= HEADS_LEAST_SPEEDUP)
    return lines


def write(found: dict[str, list[Row]], args: argparse.Namespace) -> None:
    page = args.out / "kv-budgets.md"
    if not fill(page, page.read_text(encoding="utf-8"), BEGIN, END, "\n".join(document(found, args))):
        raise BudgetsError(f"{page} lacks the markers {BEGIN} and {END}")
    facts = {"depth": args.depth, "budget": args.budget, "threads": args.threads, "rounds": args.rounds, "arms": found}
    (args.out / "kv_budgets_speed.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    print(f"wrote {args.out.name}/{page.name} and kv_budgets_speed.json")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("program", type=Path)
    parser.add_argument("model", type=Path)
    parser.add_argument("--arms", type=Path, default=ARMS)
    parser.add_argument("--depth", type=int, default=7936)
    parser.add_argument("--budget", default="25%")
    parser.add_argument("--only", type=lambda text: text.split(","), default=[])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("docs"))
    args = parser.parse_args()
    try:
        write(measure(args), args)
    except (BudgetsError, OSError, ValueError, KeyError) as error:
        print(f"budgets: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
