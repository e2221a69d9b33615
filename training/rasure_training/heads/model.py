"""The frozen model with streaming heads mixed in."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..eraser.lora import EraserModel, sees_everything
from ..reference import Cache


@dataclass(frozen=True)
class Streaming:
    """What a local head sees: the first `sinks` tokens and the last `window`, itself included."""

    sinks: int
    window: int

    def mask(self, n: int) -> Tensor:
        """bool [n, n] of a sequence."""
        i, j = torch.arange(n)[:, None], torch.arange(n)[None, :]
        return (j <= i) & ((j < self.sinks) | (i - j < self.window))


def attend_locally(q: Tensor, k: Tensor, v: Tensor, scale: float, streaming: Streaming) -> Tensor:
    """Attention of a whole sequence as a local head sees it; q [n_head, n, h], k and v [n_kv_head, n, h].

    Queries go in blocks as long as the window, each against the sinks, the block before and its own: what lies between is not looked
    at, rather than masked."""
    n_head, n, width = q.shape
    window, n_blocks = streaming.window, -(-n // streaming.window)
    q = F.pad(q, (0, 0, 0, n_blocks * window - n)).view(n_head, n_blocks, window, width).transpose(0, 1)
    begin = window * torch.arange(n_blocks)[:, None]
    sinks, near = torch.arange(streaming.sinks).expand(n_blocks, -1), begin - window + torch.arange(2 * window)
    columns = torch.cat((sinks, near), 1)
    own = begin + torch.arange(window)
    # A sink that is also in the blocks at hand is seen once, there.
    apart = torch.cat((sinks < begin - window, near >= 0), 1)
    i, j = own[:, :, None], columns[:, None, :]
    seen = apart[:, None, :] & (j <= i) & ((j < streaming.sinks) | (i - j < window))
    seen |= (i >= n) & (j == i)  # rows of the padding see themselves, to have something to see
    rows = columns.clamp(0, n - 1)
    k, v = (x[:, rows].transpose(0, 1) for x in (k, v))
    out = F.scaled_dot_product_attention(q, k, v, seen[:, None], scale=scale, enable_gqa=True)
    return out.transpose(0, 1).reshape(n_head, n_blocks * window, width)[:, :n]


@dataclass(frozen=True)
class Mix:
    """z [n_layer, n_kv_head]: share of the full attention in each head's output. full: outputs of full attention
    [n_head, n, h] by layer, of another pass; None: of this pass's own queries, keys and values."""

    z: Tensor
    streaming: Streaming
    full: list[Tensor] | None = None


class HeadsModel(EraserModel):
    """Reads whole sequences; head outputs are z * full + (1 - z) * streaming where a mix is given. Then attention is of the type of the
    matrices."""

    _mix: Mix | None = None
    _kept: list[Tensor] | None = None

    @contextmanager
    def mixed(self, mix: Mix) -> Iterator[None]:
        self._mix = mix
        try:
            yield
        finally:
            self._mix = None

    @contextmanager
    def keeping(self) -> Iterator[list[Tensor]]:
        """Within the block, the outputs of full attention are kept by layer."""
        self._kept = []
        try:
            yield self._kept
        finally:
            self._kept = None

    def _attention(self, layer: int, x: Tensor, rotation: tuple[Tensor, Tensor], cache: Cache, mask: Tensor) -> Tensor:
        if self._mix is None and self._kept is None:
            return super()._attention(layer, x, rotation, cache, mask)
        config, n = self.config, len(x)
        q = self._queries(layer, x, rotation)
        k, v = cache.append(layer, *self._keys_values(layer, x, rotation))
        q, k, v = (tensor.to(self._dtype) for tensor in (q, k, v))
        everything = sees_everything(mask)

        def attend(seen: Tensor) -> Tensor:
            how = {"is_causal": True} if seen is mask and everything else {"attn_mask": seen}
            return F.scaled_dot_product_attention(
                q[None], k[None], v[None], **how, scale=config.attention_scale, enable_gqa=True
            )[0].float()  # fmt: skip

        mix = self._mix
        if mix is None:
            out = attend(mask)
            self._kept.append(out)
        else:
            z = mix.z[layer].repeat_interleave(config.n_head // config.n_kv_head)[:, None, None]
            full = attend(mask) if mix.full is None else mix.full[layer]
            local = (attend_locally(q, k, v, config.attention_scale, mix.streaming).float() if everything
                     else attend(mask & mix.streaming.mask(n)))  # fmt: skip
            out = z * full + (1.0 - z) * local
        return self.linear(out.transpose(0, 1).reshape(n, -1), f"blk.{layer}.attn_output")
