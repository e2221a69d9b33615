"""A context that `rs_context_save` wrote, read as anybody can read it who has the file (runtime/state.c, runtime/kv.c)."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np

MAGIC = b"rasureKV"
HEAD = struct.Struct("<8sIIQQIiiIii")
PAGE = 16  # entries


class SavedError(Exception):
    """The file is no saved context of this shape; the message says why."""


@dataclass(frozen=True)
class Saved:
    tokens: np.ndarray  # int32 [n]; -1 where a span was steered
    positions: np.ndarray  # int32 [n]
    keys: np.ndarray  # float32 [layers, n, heads * head_dim], rotated as they are in the cache
    values: np.ndarray  # the same


def _planes(pages: np.ndarray, head_dim: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Positions [entries], keys and values [entries, head_dim] of pages of bytes [m, bytes], holes left out. Of a page keys lie as
    [head_dim / 4][entry][4], values as [entry / 4][head_dim][4 entries]; behind them scales and positions."""
    m, plane = len(pages), PAGE * head_dim
    k = pages[:, :plane].view(np.int8).reshape(m, head_dim // 4, PAGE, 4).transpose(0, 2, 1, 3).reshape(m, PAGE, head_dim)
    v = (
        pages[:, plane : 2 * plane]
        .view(np.int8)
        .reshape(m, PAGE // 4, head_dim, 4)
        .transpose(0, 1, 3, 2)
        .reshape(m, PAGE, head_dim)
    )
    rest = np.ascontiguousarray(pages[:, 2 * plane :])
    scales = rest[:, : 8 * PAGE].copy().view("<f4").reshape(m, 2, PAGE)
    positions = rest[:, 8 * PAGE : 12 * PAGE].copy().view("<i4").reshape(m * PAGE)
    there = positions >= 0
    keys = (k * scales[:, 0, :, None]).reshape(m * PAGE, head_dim)
    values = (v * scales[:, 1, :, None]).reshape(m * PAGE, head_dim)
    return positions[there], keys[there], values[there]


def read(path: Path, layers: int, heads: int, head_dim: int) -> Saved:
    """A context whose policy keeps everything."""
    data = path.read_bytes()
    if len(data) < HEAD.size or data[:8] != MAGIC:
        raise SavedError(f"{path}: this is no saved context")
    _, version, n_logits, _, _, n, *_ = HEAD.unpack_from(data)
    if version != 2:
        raise SavedError(f"{path}: version {version}")
    at = HEAD.size
    tokens = np.frombuffer(data, "<i4", n, at)
    positions = np.frombuffer(data, "<i4", n, at + 4 * n)
    at += 12 * n
    lengths = np.frombuffer(data, "<u4", 2 * layers * heads, at).reshape(-1, 2)
    at += lengths.nbytes + 4 * n_logits
    page_bytes = 2 * PAGE * head_dim + 12 * PAGE
    if at + int(lengths[:, 0].sum()) * page_bytes + 8 != len(data):
        raise SavedError(f"{path}: not of {layers} layers with {heads} KV heads of {head_dim}")
    keys, values = (np.empty((layers, n, heads * head_dim), np.float32) for _ in range(2))
    for stream, (pages, _used) in enumerate(lengths):
        raw = np.frombuffer(data, np.uint8, int(pages) * page_bytes, at).reshape(-1, page_bytes)
        at += raw.nbytes
        found, k, v = _planes(raw, head_dim)
        if not np.array_equal(found, positions):
            raise SavedError(f"{path}: a stream does not have the entries of all tokens")
        layer, head = divmod(stream, heads)
        where = slice(head * head_dim, (head + 1) * head_dim)
        keys[layer, :, where], values[layer, :, where] = k, v
    return Saved(tokens, positions, keys, values)
