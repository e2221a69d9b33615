"""Low-rank adapters (LoRA, arXiv 2106.09685) beside the frozen weights of a GGUF model.

An adapted matrix computes y = W x + alpha / rank * B (A x). W is never touched: the adapter is a side path that can be switched
on for one pass and off for the next. It sits on all seven matrices of a layer, in the last layer on k and v alone: an erase pass
ends with the last layer's keys and values, so nothing else of that layer could learn.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..gguf_model import Config, GgufModel
from ..reference import Reference

MODULES = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")
LAST_LAYER_MODULES = ("attn_k", "attn_v")


def module_names(n_layer: int) -> list[str]:
    """Names of the matrices that an adapter may sit on, without ".weight"."""
    return [
        f"blk.{layer}.{module}" for layer in range(n_layer) for module in (MODULES if layer < n_layer - 1 else LAST_LAYER_MODULES)
    ]


class Lora:
    """Matrices A [rank, inputs] and B [outputs, rank] by the name of the matrix that they sit on, float32."""

    def __init__(self, rank: int, alpha: float, a: dict[str, Tensor], b: dict[str, Tensor]) -> None:
        self.rank = rank
        self.alpha = alpha
        self.a = a
        self.b = b

    @classmethod
    def fresh(cls, shapes: dict[str, tuple[int, int]], rank: int, alpha: float, seed: int) -> Lora:
        """To be trained. shapes: (outputs, inputs) by name. B = 0, so that it changes nothing yet; A is uniform within
        1 / sqrt(inputs), as in the published implementation."""
        generator = torch.Generator().manual_seed(seed)
        a, b = {}, {}
        for name, (n_out, n_in) in shapes.items():
            bound = 1.0 / math.sqrt(n_in)
            a[name] = nn.Parameter(torch.empty(rank, n_in).uniform_(-bound, bound, generator=generator))
            b[name] = nn.Parameter(torch.zeros(n_out, rank))
        return cls(rank, alpha, a, b)

    def __contains__(self, name: str) -> bool:
        return name in self.a

    def side(self, name: str, x: Tensor) -> Tensor:
        """alpha / rank * B (A x) for x [n, inputs]."""
        return F.linear(F.linear(x, self.a[name]), self.b[name]) * (self.alpha / self.rank)

    def parameters(self) -> list[Tensor]:
        return [tensor for name in self.a for tensor in (self.a[name], self.b[name])]

    def state(self) -> dict[str, Tensor]:
        """All matrices, under the names that they have in an adapter file."""
        return {
            f"{name}.weight.lora_{part}": tensor.detach().clone()
            for name in self.a
            for part, tensor in (("a", self.a[name]), ("b", self.b[name]))
        }

    def load_state(self, state: dict[str, Tensor]) -> None:
        with torch.no_grad():
            for name in self.a:
                self.a[name].copy_(state[f"{name}.weight.lora_a"])
                self.b[name].copy_(state[f"{name}.weight.lora_b"])


def sees_everything(mask: Tensor) -> bool:
    """Whether every token of a whole sequence sees all before it: not so in a layer that has a window of its own."""
    return torch.equal(mask, torch.ones_like(mask).tril())


class EraserModel(Reference):
    """The frozen model, fast enough to train beside it.

    Matrices of the layers are kept in `dtype` and multiplied in it; everything else (residual stream, norms, attention, the
    head) is float32, as in the reference. With float32 it computes what `Reference` does.
    """

    def __init__(self, model: GgufModel, dtype: torch.dtype = torch.float32) -> None:
        super().__init__(model)
        self._dtype = dtype
        self._lora: Lora | None = None
        layer_matrices = {f"blk.{layer}.{module}.weight" for layer in range(self.config.n_layer) for module in MODULES}
        self.weights = {name: tensor.to(dtype) if name in layer_matrices else tensor for name, tensor in model.tensors.items()}

    @contextmanager
    def adapted(self, lora: Lora | None) -> Iterator[None]:
        """Within the block, passes go through `lora`. None: through the frozen model."""
        outer, self._lora = self._lora, lora
        try:
            yield
        finally:
            self._lora = outer

    def linear(self, x: Tensor, name: str) -> Tensor:
        weight = self.weights[f"{name}.weight"]
        y = F.linear(x.to(weight.dtype), weight).float()
        bias = self.weights.get(f"{name}.bias")
        if bias is not None:
            y = y + bias
        if self._lora is not None and name in self._lora:
            y = y + self._lora.side(name, x)
        return y

    def rotate_keys(self, layer: int, k: Tensor, by: Tensor) -> Tensor:
        """Keys k [n_kv_head, m, h] as if their tokens stood `by` [m] positions further on (back, where negative)."""
        inv_freq = self._inv_freq_local if self.config.is_local(layer) else self._inv_freq
        return self._rotate(k.transpose(0, 1), self._rotation(by, inv_freq)).transpose(0, 1)

    def fresh_lora(self, rank: int, alpha: float, seed: int) -> Lora:
        shapes = adapter_shapes(self.config, {name: tuple(w.shape) for name, w in self.weights.items()})
        return Lora.fresh(shapes, rank, alpha, seed)


def adapter_shapes(config: Config, shapes: dict[str, tuple[int, ...]]) -> dict[str, tuple[int, int]]:
    """(outputs, inputs) of every matrix that an adapter may sit on; shapes: of the base's tensors by name."""
    return {name: shapes[f"{name}.weight"] for name in module_names(config.n_layer)}
