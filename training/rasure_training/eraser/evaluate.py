"""What each erase method does to the answers of prepared cases, in PyTorch.

    python -m rasure_training.eraser.evaluate MODEL.gguf --cases cases.jsonl --adapter bridge.gguf --out figures.json

Reads the cases that `rasure eval` reads and measures what it measures, plus KL along the given continuation (`kl_target`) and
the log-probability of the erased value. Answers are greedy. Figures come with n and a 95 % interval from a bootstrap that draws
contexts, not cases; every method is also compared with `drop` case by case.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import string
import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from ..figures import RESAMPLES, clustered
from ..files import sha256
from ..gguf_model import ModelError, load_model
from ..pages.cells import cell, head, line
from ..runs import duration, say
from ..text import DataError
from .adapter_file import AdapterError, read_adapter
from .cases import encode_case, read_cases, task_of
from .documents import Encoder
from .engine import METHODS, Engine, MethodError, Rows, Settings, needs_adapter, parse_method
from .lora import EraserModel
from .loss import kl_by_token, log_likelihood
from .tails import greedy, make_tail, score

FILLER = " There is nothing to be read here."
WINDOW, SINKS = 64, 4  # of "repair:K:windowed" when there is no adapter
ARTICLES = ("a", "an", "the")
METRICS = ("exact_match", "leak", "agree", "kl", "kl_target", "leak_logprob", "leak_minus_clean")


# ------------------------------------------------------------------------------------------------- answers


def normalise(text: str) -> str:
    """Small letters, no punctuation (ASCII and U+2000 to U+206F), no articles, single spaces; as `rasure eval`."""
    kept = "".join(c for c in text if c not in string.punctuation and not "\u2000" <= c <= "\u206f")
    lower = "".join(c.lower() if c.isascii() else c for c in kept)
    return " ".join(word for word in lower.split() if word not in ARTICLES)


def _is_word(character: str) -> bool:
    return character.isascii() and character.isalnum()


def holds(answer: str, wanted: str, at: int) -> bool:
    """Whether `wanted` stands at `at` in `answer`, and not in the middle of a word. Both are normalised."""
    end = at + len(wanted)
    if not wanted or answer[at:end] != wanted:
        return False
    begins_inside = at > 0 and _is_word(answer[at - 1]) and _is_word(wanted[0])
    ends_inside = end < len(answer) and _is_word(answer[end]) and _is_word(answer[end - 1])
    return not begins_inside and not ends_inside


def begins(answer: str, wanted: Iterable[str]) -> bool:
    return any(holds(normalise(answer), normalise(text), 0) for text in wanted)


def contains(answer: str, wanted: Iterable[str]) -> bool:
    answer = normalise(answer)
    return any(holds(answer, normalise(text), at) for text in wanted for at in range(len(answer)))


# ------------------------------------------------------------------------------------------------ measuring


class Evaluator:
    """Runs cases. engines: by the kind of adapter that they have; "" for the methods that need none."""

    def __init__(self, encoder: Encoder, engines: dict[str, Engine], max_tokens: int) -> None:
        self.encoder = encoder
        self.engines = engines
        self.max_tokens = max_tokens

    def engine_for(self, method: str) -> Engine:
        kind = needs_adapter(method) or ""
        if kind not in self.engines:
            raise MethodError(f"{method} needs an adapter of the kind {kind}")
        return self.engines[kind]

    @torch.no_grad()
    def run(self, case: dict[str, Any], methods: Sequence[str]) -> list[dict[str, Any]]:
        """The outcomes of one case, one for each method."""
        document = encode_case(self.encoder, case)
        (unit,) = document.units
        (probe,) = unit.probes
        frozen = self.engines[""]
        context = frozen.read(document.tokens)
        exact = frozen.erase(context, unit.spans, "exact")
        # Free continuation says nothing about prose, whose text is given.
        answered = bool(case["answers"] or case["leaks"] or not probe.target)
        said = greedy(frozen, exact, probe.stem, self.max_tokens, self.encoder.ends) if answered else []
        answers = [answer for answer in (said, probe.target, probe.leak_target) if answer]
        tail = make_tail([(probe.stem, answers)])
        names = [name for name, answer in (("said", said), ("target", probe.target), ("leak", probe.leak_target)) if answer]
        clean = dict(zip(names, score(frozen, exact, tail)[0], strict=True))
        tokens = dict(zip(names, (answer for _, answer in tail.branches[0]), strict=True))

        outcomes = []
        for method in methods:
            is_exact = method in ("exact", "clean")
            engine = self.engine_for(method)
            rows = exact if is_exact else engine.erase(context, unit.spans, method)
            scored = clean if is_exact else dict(zip(names, score(engine, rows, tail)[0], strict=True))
            outcome: dict[str, Any] = {
                "id": case["id"], "context": case.get("context", case["id"]), "task": task_of(case), "method": method,
                "n_context": len(document.tokens), "n_erased": sum(end - begin for begin, end in unit.spans),
                "n_reencoded": rows.reencoded,
            }  # fmt: skip
            if said:
                outcome |= self._answer(case, engine, rows, probe.stem, said, scored["said"])
                outcome["kl"] = kl_by_token(clean["said"], scored["said"]).mean().item()
            if "target" in scored:
                outcome["kl_target"] = kl_by_token(clean["target"], scored["target"]).mean().item()
            if "leak" in scored:
                outcome["leak_logprob"] = log_likelihood(scored["leak"], tokens["leak"]).item()
                outcome["leak_minus_clean"] = outcome["leak_logprob"] - log_likelihood(clean["leak"], tokens["leak"]).item()
            outcomes.append(outcome)
        return outcomes

    def _answer(
        self, case: dict[str, Any], engine: Engine, rows: Rows, stem: list[int], said: list[int], scored: torch.Tensor
    ) -> dict[str, Any]:
        """The greedy answer and what is right and wrong with it. A method that would choose every token of the exact answer
        gives that answer; only the others have to be decoded."""
        same = scored.argmax(-1).tolist() == said
        answer = said if same else greedy(engine, rows, stem, self.max_tokens, self.encoder.ends)
        text = self.encoder.decode(answer)
        outcome: dict[str, Any] = {"answer": text, "agree": same or answer == said}
        if case["answers"]:
            outcome["exact_match"] = begins(text, case["answers"])
        if case["leaks"]:
            outcome["leak"] = contains(text, case["leaks"])
        return outcome


# ------------------------------------------------------------------------------------------------- figures


def summarise(outcomes: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """By task and method, the figures of every metric that some of the cases have, and KL minus that of `drop`."""
    groups: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for outcome in outcomes:
        groups[outcome["task"], outcome["method"]].append(outcome)
    figures = []
    for (task, method), rows in groups.items():
        figure: dict[str, Any] = {"task": task, "method": method, "n": len(rows)}
        for metric in METRICS:
            known = [row for row in rows if metric in row]
            if known:
                figure[metric] = clustered([row[metric] for row in known], [row["context"] for row in known])
        dropped = {row["id"]: row for row in groups.get((task, "drop"), [])}
        for metric in ("kl", "kl_target"):
            known = [row for row in rows if metric in row and metric in dropped.get(row["id"], {})]
            if known and method != "drop":
                differences = [row[metric] - dropped[row["id"]][metric] for row in known]
                figure[f"{metric}_minus_drop"] = clustered(differences, [row["context"] for row in known])
        figures.append(figure)
    return figures


def markdown(figures: Sequence[dict[str, Any]]) -> str:
    """A table of all figures. KL is along the exact answer, or along the given text where there is no answer."""
    lines = head(["task", "method", "n", "exact match", "leak", "KL to exact", "KL along the text", "log P(erased) - clean"])
    for figure in figures:
        columns = [
            figure["task"], f"`{figure['method']}`", str(figure["n"]), cell(figure.get("exact_match"), 2),
            cell(figure.get("leak"), 2), cell(figure.get("kl"), 4), cell(figure.get("kl_target"), 4),
            cell(figure.get("leak_minus_clean"), 2),
        ]  # fmt: skip
        lines.append(line(columns))
    return "\n".join(lines)


def method_list(text: str) -> list[str]:
    methods = text.split(",")
    try:
        for method in methods:
            parse_method(method)
    except MethodError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return methods


def evaluate(args: argparse.Namespace) -> dict[str, Any]:
    loaded = load_model(args.model)
    encoder = Encoder(loaded.file)
    model = EraserModel(loaded, getattr(torch, args.dtype))
    filler = encoder.encode(FILLER)
    engines = {"": Engine(model, Settings("none", WINDOW, SINKS, 0), filler=filler)}
    adapters = {}
    for path in args.adapter:
        adapter = read_adapter(path, loaded.file)
        engines[adapter.settings.kind] = Engine(model, adapter.settings, adapter.lora, filler)
        adapters[path.name] = {"kind": adapter.settings.kind, "sha256": sha256(path)}
    methods = args.methods or [method for method in METHODS if (needs_adapter(method) or "") in engines]
    evaluator = Evaluator(encoder, engines, args.max_tokens)
    for method in methods:
        evaluator.engine_for(method)
    cases = [case for path in args.cases for case in read_cases(path)][: args.limit]

    begin = time.monotonic()
    outcomes: list[dict[str, Any]] = []
    partial = args.per_case.with_name(args.per_case.name + ".partial") if args.per_case else Path(os.devnull)
    with partial.open("w", encoding="utf-8") as file:
        for i, case in enumerate(cases, start=1):
            found = evaluator.run(case, methods)
            outcomes += found
            file.writelines(json.dumps(outcome, ensure_ascii=False) + "\n" for outcome in found)
            if i % 10 == 0:
                left = (time.monotonic() - begin) / i * (len(cases) - i)
                say(f"{i} of {len(cases)} cases, {duration(left)} left")
    if args.per_case:
        os.replace(partial, args.per_case)
    return {
        "model_sha256": loaded.file.sha256(),
        "adapters": adapters,
        "cases": {path.name: sha256(path) for path in args.cases},
        "n_cases": len(cases),
        "methods": methods,
        "max_tokens": args.max_tokens,
        "dtype": args.dtype,
        "resamples": RESAMPLES,
        "seconds": round(time.monotonic() - begin),
        "versions": {"python": platform.python_version(), "torch": version("torch")},
        "figures": summarise(outcomes),
    }


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="rasure_training.eraser.evaluate", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path, metavar="MODEL.gguf")
    parser.add_argument("--cases", type=Path, required=True, action="append", help="may be repeated")
    parser.add_argument("--adapter", type=Path, action="append", default=[], help="one of each kind, at most")
    parser.add_argument("--methods", type=method_list,
                        help="with commas (default: all that the adapters allow; see rasure_training.eraser.engine)")  # fmt: skip
    parser.add_argument("--max-tokens", type=int, default=16, help="longest answer (default: %(default)s)")
    parser.add_argument("--limit", type=int, help="only so many cases")
    parser.add_argument("--dtype", choices=("bfloat16", "float32"), default="bfloat16", help="(default: %(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="threads of PyTorch (default: %(default)s)")
    parser.add_argument("--per-case", type=Path, help="write one JSON object a case and method to this file")
    parser.add_argument("--out", type=Path, help="write all figures to this JSON file")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    try:
        result = evaluate(args)
        if args.out:
            args.out.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        print(markdown(result["figures"]))
    except (ModelError, DataError, AdapterError, MethodError, OSError) as error:
        print(f"evaluate: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
