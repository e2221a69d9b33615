"""Golden files: what the reference computed, in a GGUF that the C tests open with the runtime's own reader.

A golden holds only integers, strings, int32 arrays and tensors. Shapes are numpy's, outermost dimension first (GGUF's own
order is the reverse). The keys are listed in tests/golden/README.md.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from gguf import GGUFWriter
from torch import Tensor

from .reference import EMBEDDING_TAP, Reference

TOP_K = 128


class GoldenFile:
    """Collects values and writes them to `path` when the `with` block ends without an error."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._writer = GGUFWriter(path, "rasure-golden")

    def __enter__(self) -> GoldenFile:
        return self

    def __exit__(self, error_type: type[BaseException] | None, *_: object) -> None:
        if error_type is None:
            self._writer.write_header_to_file()
            self._writer.write_kv_data_to_file()
            self._writer.write_tensors_to_file()
            self._writer.close()

    def text(self, key: str, value: str) -> None:
        self._writer.add_string(key, value)

    def integer(self, key: str, value: int) -> None:
        self._writer.add_int32(key, value)

    def integers(self, key: str, values: Tensor) -> None:
        """An int32 array; `values` is flattened row by row."""
        self._writer.add_array(key, values.flatten().tolist())

    def tensor(self, name: str, values: Tensor, dtype: torch.dtype = torch.float32) -> None:
        self._writer.add_tensor(name, np.ascontiguousarray(values.to(dtype).numpy()))


def log_probabilities(logits: Tensor) -> Tensor:
    """Log-softmax in float64, [n, n_vocab], nats."""
    return logits.double().log_softmax(-1)


def top_and_tail(logprob: Tensor, k: int) -> tuple[Tensor, Tensor, Tensor]:
    """The k likeliest tokens of each row, descending, and what is left of the mass.

    logprob: [n, n_vocab] -> ids int64 [n, k], log-probabilities [n, k], log of the mass outside the top k [n].
    """
    top, ids = logprob.topk(k, dim=-1)
    tail = logprob.scatter(-1, ids, -torch.inf).logsumexp(-1)
    return ids, top, tail


def write_layers(golden: GoldenFile, reference: Reference, tokens: Tensor) -> None:
    """`layers.*`: the residual stream after the embedding and after each block, and the last token's logits."""
    taps: dict[int, Tensor] = {}
    hidden = reference.forward(tokens, tap=taps.__setitem__)
    golden.integers("layers.tokens", tokens)
    golden.tensor("layers.embed", taps.pop(EMBEDDING_TAP))
    for layer, x in taps.items():
        golden.tensor(f"layers.{layer}.out", x)
    golden.tensor("layers.logits", reference.logits(hidden[-1]))


def write_case(
    golden: GoldenFile,
    case: int,
    tokens: Tensor,
    logprob: Tensor,
    full_positions: Tensor | None = None,
    full_dtype: torch.dtype = torch.float32,
) -> None:
    """`case.<case>.*`: next-token distributions at every position of one text.

    tokens: int64 [n]; logprob: float64 [n, n_vocab] after each of them. full_positions: where the whole vocabulary is kept.
    """
    ids, top, tail = top_and_tail(logprob, TOP_K)
    label = torch.zeros(len(tokens), dtype=torch.float64)
    label[:-1] = logprob[:-1].gather(-1, tokens[1:, None])[:, 0]
    prefix = f"case.{case}"
    golden.integers(f"{prefix}.tokens", tokens)
    golden.integers(f"{prefix}.top_ids", ids)
    golden.tensor(f"{prefix}.top_logprob", top)
    golden.tensor(f"{prefix}.tail_logprob", tail)
    golden.tensor(f"{prefix}.label_logprob", label)
    if full_positions is not None:
        golden.integers(f"{prefix}.full_pos", full_positions)
        golden.tensor(f"{prefix}.full_logprob", logprob[full_positions], full_dtype)
