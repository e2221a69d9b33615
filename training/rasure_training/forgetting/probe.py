"""Whether the rows that stay still hold what was erased, and whether they show that something was.

    python -m rasure_training.forgetting.probe RASURE MODEL.gguf --adapter bridge.gguf --adapter steer.gguf --data DATA --work FOLDER \\
        --out docs

A sentence says in which of eight cities somebody lives; it is erased, or its value alone. The runtime reads, erases and saves the
context; what is looked at is the file, which is what somebody has who has the device.

- Linear probes, one a layer: from keys and values, averaged over the first rows behind the erased span, the next ones and the rest,
  a ridge classifier says which city it was. Trained on texts, names and phrasings of the training split, tested on those of another.
  The context after an exact erase never held the city: what a probe finds there is chance, and what the text itself gives away.
- Membership: somebody who knows the model reads the tokens in the file again, on another machine (other kernels, other rounding),
  and compares row by row. The largest difference says whether something was erased, and where it is says where.

Batches of contexts are files of FOLDER; those that are there are not made again. Writes NAME.md, .json and .svg.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

from ..archive import MeasuredError
from ..arguments import add_adapters, add_runtime, parse_runtime, positive
from ..evaluated import made_with
from ..figures import clustered
from ..files import Row
from ..gguf_model import ModelError
from ..pages import page
from ..runs import say
from ..text import SPLITS, DataError
from . import saved
from .contexts import CITIES, ERASED, MADE, METHODS, NEAR, NEXT, OTHER_ISA, Reader, collect

STRENGTHS = (1e1, 1e2, 1e3, 1e4, 1e5)  # of the ridge
HELD_OUT = 5  # one in so many training contexts chooses among them
WHERE = 16  # tokens: so near counts as found


# -------------------------------------------------------------------------------------------------------- probes


def scores(train: np.ndarray, labels: np.ndarray, test: np.ndarray) -> tuple[np.ndarray, float]:
    """What a ridge classifier says of each test row for each class [m, classes], and how often it was right on those training rows
    that chose its strength. train: [n, features]."""
    mean, deviation = train.mean(0), train.std(0) + 1e-6
    train, test = (train - mean) / deviation, (test - mean) / deviation
    held = np.arange(len(train)) // len(CITIES) % HELD_OUT == 0
    targets = np.eye(len(CITIES))[labels] - 1 / len(CITIES)

    def fitted(rows: np.ndarray, wanted: np.ndarray, others: np.ndarray, strength: float) -> np.ndarray:
        return others @ rows.T @ np.linalg.solve(rows @ rows.T + strength * np.eye(len(rows)), wanted)

    right = {
        strength: float((fitted(train[~held], targets[~held], train[held], strength).argmax(1) == labels[held]).mean())
        for strength in STRENGTHS
    }
    best = max(right, key=lambda strength: right[strength])
    return fitted(train, targets, test, best), right[best]


def probe_figures(train: dict[str, np.ndarray], test: dict[str, np.ndarray], erased: str) -> list[Row]:
    found = []
    contexts = [str(i) for i in range(len(test["city"]))]
    for m, method in enumerate(METHODS):
        by_layer, all_scores, chosen = [], 0.0, (-1.0, 0)
        for layer in range(train["features"].shape[2]):
            said, held = scores(train["features"][:, m, layer].astype(np.float64), train["city"],
                                test["features"][:, m, layer].astype(np.float64))  # fmt: skip
            by_layer.append(clustered((said.argmax(1) == test["city"]).astype(float), contexts))
            all_scores = all_scores + said
            chosen = max(chosen, (held, layer))
        together = (np.asarray(all_scores).argmax(1) == test["city"]).astype(float)
        found.append({"erased": erased, "method": method, "layers": by_layer, "layer": chosen[1], "best": by_layer[chosen[1]],
                      "together": clustered(together, contexts)})  # fmt: skip
    return found


def auc(positive_: np.ndarray, negative: np.ndarray) -> float:
    """How often a positive is above a negative; a draw is half."""
    above = (positive_[:, None] > negative[None, :]).mean() + 0.5 * (positive_[:, None] == negative[None, :]).mean()
    return float(above)


def auc_figure(positive_: np.ndarray, negative: np.ndarray, draws: int = 2000) -> Row:
    """With a bootstrap over contexts, each of which gives one of both."""
    rng = np.random.default_rng(7)
    n = len(positive_)
    drawn = [auc(positive_[some], negative[some]) for some in (rng.integers(0, n, n) for _ in range(draws))]
    low, high = np.percentile(drawn, [2.5, 97.5])
    return {"mean": auc(positive_, negative), "low": float(low), "high": float(high), "n": n}


def membership_figures(test: dict[str, np.ndarray], erased: str) -> list[Row]:
    found = []
    contexts = [str(i) for i in range(len(test["city"]))]
    kept = ("exact", *MADE)  # as `Reader.compare` has them
    for method in (*MADE, "exact"):
        m = kept.index(method)
        where, first = test["where"][:, m], test["first"][:, m]
        found.append({
            "erased": erased, "method": method,
            "auc": auc_figure(test["largest"][:, m], test["largest"][:, 0]),
            "found": clustered(((where >= 0) & (where < WHERE)).astype(float), contexts),
            "differs": clustered((test["bytes"][:, m] > 0).astype(float), contexts),
            "first": clustered((first == 0).astype(float), contexts),
        })  # fmt: skip
    return found


def run(args: argparse.Namespace) -> None:
    reader = Reader(args)
    probes, members = [], []
    for erased in ERASED:
        train = collect(args, erased, "train", args.train, reader)
        test = collect(args, erased, args.split, args.n, reader)
        probes += probe_figures(train, test, erased)
        members += membership_figures(test, erased)
        say(f"{erased}: probes are trained")
    how = {"train": args.train, "near": NEAR, "next": NEXT, "where": WHERE, "other_isa": OTHER_ISA}
    page.write(args.out, args.name, "probes", made_with(args, args.adapter) | how, [*probes, *members])


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="rasure_training.forgetting.probe", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_runtime(parser, [split for split in SPLITS if split != "train"])
    add_adapters(parser, required=True)
    parser.add_argument("--work", type=Path, required=True, help="the folder of batches")
    parser.add_argument("--out", type=Path, required=True, help="where the three files go")
    parser.add_argument("--name", default="probes", help="of the three files (default: %(default)s)")
    parser.add_argument("--train", type=positive, default=800, help="training contexts (default: %(default)s)")
    parser.add_argument("--n", type=positive, default=400, help="contexts of the split (default: %(default)s)")
    parser.add_argument("--tokens", type=positive, default=200, help="length of a context, roughly (default: %(default)s)")
    args = parse_runtime(parser)
    try:
        run(args)
    except (DataError, MeasuredError, ModelError, saved.SavedError, OSError) as error:
        print(f"probe: {error}", file=sys.stderr)
        return 1
    print(f"wrote {args.name}.md, .json and .svg to {args.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
