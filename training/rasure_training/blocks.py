"""Random but valid raw blocks of the GGUF quantisation types.

Byte layouts are ggml's (`ggml-common.h`). Half precision scales are placed by hand so that their corners are covered; all
other bytes of a block are quants and integer scales, where every value is valid.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType
from gguf.quants import dequantize

Type = GGMLQuantizationType


@dataclass(frozen=True)
class Layout:
    """Where the scales of a block are, in bytes from its start; all else is quants."""

    scale: int  # half precision
    minimum: int | None = None  # half precision, of types with an offset
    inner: tuple[int, int] = (0, 0)  # the integer scales of a K-quant's sub-blocks


LAYOUTS = {
    Type.Q4_0: Layout(0),
    Type.Q4_1: Layout(0, 2),
    Type.Q5_0: Layout(0),
    Type.Q5_1: Layout(0, 2),
    Type.Q8_0: Layout(0),
    Type.Q4_K: Layout(0, 2, (4, 16)),
    Type.Q5_K: Layout(0, 2, (4, 16)),
    Type.Q6_K: Layout(208, None, (192, 208)),
}


def put_half(blocks: np.ndarray, offset: int, values: np.ndarray) -> None:
    """Writes half precision `values` [n] at `offset` of uint8 blocks [n, bytes of a block]."""
    blocks[:, offset : offset + 2] = values.astype(np.float16).view(np.uint8).reshape(-1, 2)


def random_quants(rng: np.random.Generator, qtype: Type, rows: int, columns: int) -> np.ndarray:
    """Raw rows uint8 [rows, bytes of a row] of uniform random bytes, whose scales are yet to be placed."""
    block, size = GGML_QUANT_SIZES[qtype]
    return rng.integers(0, 256, (rows, columns // block * size), dtype=np.uint8)


def as_blocks(raw: np.ndarray, qtype: Type) -> np.ndarray:
    """The same memory as uint8 [number of blocks, bytes of a block]."""
    return raw.reshape(-1, GGML_QUANT_SIZES[qtype][1])


def random_weight(rng: np.random.Generator, qtype: Type, rows: int, columns: int, deviation: float) -> np.ndarray:
    """Raw rows of a K-quant weight matrix with about the given standard deviation and a mean near zero."""
    raw = random_quants(rng, qtype, rows, columns)
    blocks, layout = as_blocks(raw, qtype), LAYOUTS[qtype]
    spread = rng.uniform(0.5, 1.5, len(blocks))
    # Of random 6-bit scales s and offsets o and quants q up to m, s * q - o * m / 2 has mean zero.
    half_range = {Type.Q4_K: 7.5, Type.Q5_K: 15.5}.get(qtype, 0.0)

    def place(scale: float) -> np.ndarray:
        put_half(blocks, layout.scale, scale * spread)
        if layout.minimum is not None:
            put_half(blocks, layout.minimum, scale * half_range * spread)
        return dequantize(raw, qtype)

    place(deviation / place(1e-3).std() * 1e-3)
    return raw


def corner_rows(rng: np.random.Generator, qtype: Type, columns: int) -> np.ndarray:
    """Eight raw rows [8, bytes of a row] that cover the corners of a block type.

    Rows: 0 and 1 ordinary; 2 all quants the least; 3 all the greatest; 4 negative scales; 5 scales below half precision's
    normal range; 6 the largest scales that are finite; 7 scales of any size and sign, zero included. Minima have the
    sizes of the scales, in another order, and both signs.
    """
    rows = random_quants(rng, qtype, 8, columns)
    layout = LAYOUTS[qtype]
    n = len(as_blocks(rows[:1], qtype))
    least, greatest = (0x80, 0x7F) if qtype == Type.Q8_0 else (0x00, 0xFF)
    for row, bits in ((2, least), (3, greatest)):
        blocks = as_blocks(rows[row], qtype)
        inner = slice(*layout.inner)
        inner_scales = blocks[:, inner].copy()
        blocks[:] = bits
        blocks[:, inner] = inner_scales
    ordinary = rng.uniform(0.001, 0.1, (8, n))
    ordinary[4] *= -1
    ordinary[5] = rng.integers(1, 1024, n) * 2.0**-24
    ordinary[6] = 65504.0
    ordinary[7] = rng.choice([-1.0, 1.0], n) * 2.0 ** rng.uniform(-24, 15, n)
    ordinary[7, 0] = 0.0
    for row, scale in zip(rows, ordinary, strict=True):
        blocks = as_blocks(row, qtype)
        put_half(blocks, layout.scale, scale)
        if layout.minimum is not None:
            put_half(blocks, layout.minimum, np.roll(scale, 1) * rng.choice([-1.0, 1.0], n))
    return rows


def corner_floats(rng: np.random.Generator, qtype: Type, columns: int) -> np.ndarray:
    """Eight raw rows of F16 or BF16: random finite bit patterns, with zeros, subnormals and the largest values first."""
    exponent = {Type.F16: 0x7C00, Type.BF16: 0x7F80}[qtype]
    bits = rng.integers(0, 1 << 16, (8, columns), dtype=np.uint16)
    corners = [0, 1, exponent - 1, (exponent & -exponent) - 1, exponent & -exponent]
    bits[0, : 2 * len(corners)] = corners + [value | 0x8000 for value in corners]
    bits[bits & exponent == exponent] = 0x3C00  # infinities and NaNs
    return bits.view(np.uint8)
