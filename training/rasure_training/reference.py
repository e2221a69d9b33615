"""The float32 forward pass of a GGUF model: the truth that the C runtime is measured against.

Plain PyTorch, one sequence at a time, no batching. Formulas are those of llama.cpp's graphs for `llama`, `qwen2`, `qwen3`
and `gemma3` (which follow the papers: RMSNorm, arXiv 1910.07467; RoPE, 2104.09864; GQA, 2305.13245; GLU, 2002.05202;
Gemma 3, 2503.19786).

Shapes use n: new tokens, m: rows in the cache including the new ones, d: embedding length, h: head dimension.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from .gguf_model import Config, GgufModel

Tap = Callable[[int, Tensor], None]

EMBEDDING_TAP = -1


@dataclass
class Cache:
    """Keys (after RoPE) and values of every layer, row by row, and the position of each row.

    k[layer], v[layer]: [n_kv_head, m, h]; positions: int64 [m]. A cache may be edited between two calls of
    `Reference.forward`: rows may be dropped or rewritten as long as every layer keeps the same rows.
    """

    k: list[Tensor]
    v: list[Tensor]
    positions: Tensor

    @classmethod
    def empty(cls, config: Config) -> Cache:
        rows = torch.empty(config.n_kv_head, 0, config.head_dim)
        return cls([rows] * config.n_layer, [rows] * config.n_layer, torch.empty(0, dtype=torch.int64))

    def __len__(self) -> int:
        return len(self.positions)

    def append(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Adds rows k, v [n_kv_head, n, h] to `layer` and returns all of its rows."""
        self.k[layer] = torch.cat((self.k[layer], k), dim=1)
        self.v[layer] = torch.cat((self.v[layer], v), dim=1)
        return self.k[layer], self.v[layer]


class Reference:
    """A model's forward pass. Subclasses may override `linear` to change how weights meet activations."""

    def __init__(self, model: GgufModel) -> None:
        self.config = model.config
        self.weights = model.tensors
        self._inv_freq = self._inverse_frequencies(self.config.rope_base, self.config.rope_factor)
        self._inv_freq_local = self._inverse_frequencies(self.config.rope_base_local, 1.0)

    def forward(
        self,
        tokens: Tensor,
        positions: Tensor | None = None,
        cache: Cache | None = None,
        visible_mask: Tensor | None = None,
        tap: Tap | None = None,
        rows_only: bool = False,
    ) -> Tensor:
        """Hidden states after the last norm, float32 [n, d]; `logits` turns them into scores.

        tokens: int64 [n]. positions: int64 [n], by default those that follow the cache's last row. cache: gets n more rows;
        None is an empty one that is thrown away. visible_mask: bool [n, m], True where a new token sees a row; by default
        rows at its own or an earlier position. Layers with a sliding window look at the last `sliding_window` positions of
        what the mask shows. tap(layer, x): called with the residual stream [n, d] after each block, and before the first
        with layer EMBEDDING_TAP. rows_only: ends with the keys and values of the last layer, which is all that the cache
        needs; the result is then the residual stream before that layer.
        """
        config = self.config
        cache = Cache.empty(config) if cache is None else cache
        if positions is None:
            first = int(cache.positions[-1]) + 1 if len(cache) else 0
            positions = torch.arange(first, first + len(tokens))
        cache.positions = torch.cat((cache.positions, positions))
        distance = positions[:, None] - cache.positions[None, :]
        full_mask = distance >= 0 if visible_mask is None else visible_mask
        if full_mask.shape != distance.shape:
            raise ValueError(f"visible_mask is {tuple(full_mask.shape)} and should be {tuple(distance.shape)}")
        local_mask = full_mask & (distance < config.sliding_window)

        x = self.embed(tokens)
        if tap:
            tap(EMBEDDING_TAP, x)
        for layer in range(config.n_layer):
            local = config.is_local(layer)
            mask = local_mask if local else full_mask
            rotation = self._rotation(positions, self._inv_freq_local if local else self._inv_freq)
            attention_input = self._norm(x, f"blk.{layer}.attn_norm")
            if rows_only and layer == config.n_layer - 1:
                cache.append(layer, *self._keys_values(layer, attention_input, rotation))
                return x
            a = self._attention(layer, attention_input, rotation, cache, mask)
            x = x + (self._norm(a, f"blk.{layer}.post_attention_norm") if config.is_gemma else a)
            f = self._feed_forward(layer, self._norm(x, f"blk.{layer}.ffn_norm"))
            x = x + (self._norm(f, f"blk.{layer}.post_ffw_norm") if config.is_gemma else f)
            if tap:
                tap(layer, x)
        return self._norm(x, "output_norm")

    def logits(self, hidden: Tensor) -> Tensor:
        """Scores of the next token, float32 [n, n_vocab], of hidden states [n, d]."""
        return self.linear(hidden, self._head_name)

    @property
    def head(self) -> Tensor:
        """The matrix of `logits`, [n_vocab, d]."""
        return self.weights[f"{self._head_name}.weight"]

    @property
    def _head_name(self) -> str:
        return "output" if "output.weight" in self.weights else "token_embd"

    def embed(self, tokens: Tensor) -> Tensor:
        """The residual stream before the first block, float32 [n, d]. Gemma scales it by sqrt(d)."""
        x = F.embedding(tokens, self.weights["token_embd.weight"])
        return x * math.sqrt(self.config.d_model) if self.config.is_gemma else x

    def linear(self, x: Tensor, name: str) -> Tensor:
        """x [n, inputs] times the matrix `name` [outputs, inputs], plus its bias where the file has one."""
        return F.linear(x, self.weights[f"{name}.weight"], self.weights.get(f"{name}.bias"))

    def _attention(self, layer: int, x: Tensor, rotation: tuple[Tensor, Tensor], cache: Cache, mask: Tensor) -> Tensor:
        """Grouped query attention of x [n, d] over the cache's rows and its own, [n, d]."""
        q = self._queries(layer, x, rotation)
        k, v = cache.append(layer, *self._keys_values(layer, x, rotation))
        out = F.scaled_dot_product_attention(q[None], k[None], v[None], mask, scale=self.config.attention_scale, enable_gqa=True)[
            0
        ]
        return self.linear(out.transpose(0, 1).reshape(len(x), -1), f"blk.{layer}.attn_output")

    def _queries(self, layer: int, x: Tensor, rotation: tuple[Tensor, Tensor]) -> Tensor:
        """Queries after RoPE of x [n, d], [n_head, n, h]."""
        q = self.linear(x, f"blk.{layer}.attn_q").view(len(x), self.config.n_head, self.config.head_dim)
        if f"blk.{layer}.attn_q_norm.weight" in self.weights:
            q = self._norm(q, f"blk.{layer}.attn_q_norm")
        return self._rotate(q, rotation).transpose(0, 1)

    def _keys_values(self, layer: int, x: Tensor, rotation: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """Keys after RoPE and values of x [n, d], both [n_kv_head, n, h]: what the cache holds."""
        config, n = self.config, len(x)
        k = self.linear(x, f"blk.{layer}.attn_k").view(n, config.n_kv_head, config.head_dim)
        v = self.linear(x, f"blk.{layer}.attn_v").view(n, config.n_kv_head, config.head_dim)
        if f"blk.{layer}.attn_k_norm.weight" in self.weights:
            k = self._norm(k, f"blk.{layer}.attn_k_norm")
        return self._rotate(k, rotation).transpose(0, 1), v.transpose(0, 1)

    def _feed_forward(self, layer: int, x: Tensor) -> Tensor:
        """SwiGLU, or GeGLU with the tanh form of GELU for Gemma, [n, d]."""
        gate = self.linear(x, f"blk.{layer}.ffn_gate")
        gate = F.gelu(gate, approximate="tanh") if self.config.is_gemma else F.silu(gate)
        return self.linear(gate * self.linear(x, f"blk.{layer}.ffn_up"), f"blk.{layer}.ffn_down")

    def _norm(self, x: Tensor, name: str) -> Tensor:
        """RMSNorm over the last dimension. Gemma's files already hold 1 + weight."""
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.config.norm_eps) * self.weights[f"{name}.weight"]

    def _inverse_frequencies(self, base: float, factor: float) -> Tensor:
        """Radians a position of each pair, float64 [rope_dim / 2].

        `rope_freqs.weight` divides them where the file has it: that is how GGUF carries the scaling of Llama 3.
        """
        dim = self.config.rope_dim
        inv_freq = base ** -(torch.arange(0, dim, 2, dtype=torch.float64) / dim) / factor
        factors = self.weights.get("rope_freqs.weight")
        return inv_freq if factors is None else inv_freq / factors.double()

    @staticmethod
    def _rotation(positions: Tensor, inv_freq: Tensor) -> tuple[Tensor, Tensor]:
        """Cosine and sine, float32 [n, 1, rope_dim / 2], of the angles worked out in float64."""
        angles = positions.double()[:, None, None] * inv_freq
        return angles.cos().float(), angles.sin().float()

    def _rotate(self, x: Tensor, rotation: tuple[Tensor, Tensor]) -> Tensor:
        """RoPE of x [n, heads, h] in its first rope_dim elements."""
        (cos, sin), dim = rotation, self.config.rope_dim
        x, rest = x[..., :dim], x[..., dim:]
        if self.config.rope_neox:
            a, b = x.chunk(2, dim=-1)
            x = torch.cat((a * cos - b * sin, b * cos + a * sin), dim=-1)
        else:
            a, b = x[..., 0::2], x[..., 1::2]
            x = torch.stack((a * cos - b * sin, b * cos + a * sin), dim=-1).flatten(-2)
        return torch.cat((x, rest), dim=-1)
