"""The frozen model with gates: softly, as they are trained, and with entries evicted, as the runtime does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..eraser.lora import EraserModel, sees_everything
from ..gguf_model import GgufModel
from ..reference import Cache
from .evict import Rule, keep
from .forms import Gates
from .loss import lifetimes

PADDING = 6  # columns of zeros: heads that are a multiple of eight wide stay so


class GatedModel(EraserModel):
    def __init__(self, model: GgufModel, gates: Gates, dtype: torch.dtype) -> None:
        super().__init__(model, dtype)
        self.gates = gates
        self.lambdas: list[Tensor] = []  # [n_kv_head, n] by layer, of the last pass in a mode
        self.ages: list[tuple[Tensor, Tensor]] = []  # lifetimes of the last pass that watched
        self._mode = "plain"
        self._kept: list[Tensor] = []  # bool [n_kv_head, m] by layer: rows that are not evicted

    @contextmanager
    def in_mode(self, mode: str) -> Iterator[None]:
        """soft: attention decays as the gates say. watch: the gates listen, and lifetimes are read off the attention. hard: rows that
        are evicted are not seen."""
        self._mode = mode
        try:
            yield
        finally:
            self._mode = "plain"

    def forward(self, tokens: Tensor, *args: object, **more: object) -> Tensor:
        self.lambdas, self.ages = [], []
        return super().forward(tokens, *args, **more)  # type: ignore[arg-type]

    def _attention(self, layer: int, x: Tensor, rotation: tuple[Tensor, Tensor], cache: Cache, mask: Tensor) -> Tensor:
        if self._mode == "plain":
            return super()._attention(layer, x, rotation, cache, mask)
        config, n = self.config, len(x)
        group = config.n_head // config.n_kv_head
        q = self._queries(layer, x, rotation)
        k, v = cache.append(layer, *self._keys_values(layer, x, rotation))
        lambdas = self.gates(layer, x)
        self.lambdas.append(lambdas)
        if self._mode == "watch":
            logits = q @ k.repeat_interleave(group, 0).transpose(1, 2) * config.attention_scale
            attention = logits.masked_fill(~mask, -torch.inf).softmax(-1)
            self.ages.append(lifetimes(attention, group))
            out = attention @ v.repeat_interleave(group, 0)
        elif self._mode == "soft":
            out = self._attend_softly(q, k, v, lambdas, mask)
        else:
            seen = torch.cat((self._kept[layer], torch.ones(config.n_kv_head, n, dtype=torch.bool)), 1)
            per_head = (mask[None] & seen[:, None, :]).repeat_interleave(group, 0)
            out = F.scaled_dot_product_attention(
                q[None], k[None], v[None], per_head[None], scale=config.attention_scale, enable_gqa=True
            )[0]
        return self.linear(out.transpose(0, 1).reshape(n, -1), f"blk.{layer}.attn_output")

    def _attend_softly(self, q: Tensor, k: Tensor, v: Tensor, lambdas: Tensor, mask: Tensor) -> Tensor:
        """Logits get age * lambda of the key's entry. As (i - j) lambda_j = i lambda_j - j lambda_j, two more columns of queries and keys
        say it, and no matrix of all queries and keys is made, nor one of its gradients."""
        n, width = q.shape[1:]
        position = torch.arange(n).float()
        bias_q = torch.stack((position, torch.ones(n)), 1).expand(len(q), -1, -1)
        bias_k = torch.stack((lambdas, -position * lambdas), 2)
        q = F.pad(torch.cat((q * self.config.attention_scale, bias_q), 2), (0, PADDING))
        k, v = F.pad(torch.cat((k, bias_k), 2), (0, PADDING)), F.pad(v, (0, 2 + PADDING))
        how = {"is_causal": True} if sees_everything(mask) else {"attn_mask": mask}
        return F.scaled_dot_product_attention(q[None], k[None], v[None], **how, scale=1.0, enable_gqa=True)[0, :, :, :width]

    @torch.no_grad()
    def forward_evicting(self, tokens: Tensor, rule: Rule, chunk: int) -> Tensor:
        """Hidden states [n, d] of tokens that are read in chunks, behind each of which entries go."""
        config, cache = self.config, Cache.empty(self.config)
        self._kept = [torch.ones(config.n_kv_head, 0, dtype=torch.bool)] * config.n_layer
        everything = torch.empty(config.n_layer * config.n_kv_head, 0)
        hidden = []
        for begin in range(0, len(tokens), chunk):
            with self.in_mode("hard"):
                hidden.append(self.forward(tokens[begin : begin + chunk], cache=cache))
            everything = torch.cat((everything, torch.cat(self.lambdas)), 1)
            n = everything.shape[1]
            new = torch.ones(config.n_kv_head, n - self._kept[0].shape[1], dtype=torch.bool)
            there = torch.cat([torch.cat((kept, new), 1) for kept in self._kept])
            stays = torch.zeros_like(there)
            places = [row.nonzero()[:, 0].numpy() for row in there]
            values = [row[mask].numpy().astype(np.float32) for row, mask in zip(everything, there, strict=True)]
            for stream, kept in enumerate(keep(values, places, n - 1, rule)):
                stays[stream, torch.from_numpy(places[stream][kept])] = True
            self._kept = list(stays.view(config.n_layer, config.n_kv_head, n))
        return torch.cat(hidden)
