#!/usr/bin/env python3
"""Writes malformed GGUF files, each a named mutation of a small valid model, and what must be said of each.

    make_malformed.py FOLDER

FOLDER/manifest.tsv holds a line per file: name, status that rs_model_load must return, text that its message
must contain. Files with RS_OK must load and run, or, where there is a text, load and then fail to decode with
it. Everything follows from this script: the same bytes every time.
"""

import copy
import math
import os
import random
import struct
import sys

U8, I8, U16, I16, U32, I32, F32, BOOL, STRING, ARRAY, U64, I64, F64 = range(13)
SCALARS = {U8: "B", I8: "b", U16: "H", I16: "h", U32: "I", I32: "i", U64: "Q", I64: "q"}  # of struct
SCALARS.update({F32: "f", F64: "d", BOOL: "B"})
TENSOR_F32, TENSOR_F16, TENSOR_Q8_0 = 0, 1, 8
TOKEN_NORMAL, TOKEN_UNKNOWN, TOKEN_CONTROL, TOKEN_BYTE = 1, 2, 3, 6

OK, BAD, UNSUPPORTED = "RS_OK", "RS_BAD_FILE", "RS_UNSUPPORTED"
MAX32, MAX64 = 2**32 - 1, 2**64 - 1


def u32(value):
    return struct.pack("<I", value)


def u64(value):
    return struct.pack("<Q", value)


def string(text):
    data = text if isinstance(text, bytes) else text.encode()
    return u64(len(data)) + data


def array(kind, values, count=None):
    count = len(values) if count is None else count
    return u32(kind) + u64(count) + b"".join(encode(kind, v) for v in values)


def encode(kind, value):
    """The bytes of a value. Bytes stand for themselves, so that a mutation can write anything."""
    if isinstance(value, bytes):
        return value
    if kind == STRING:
        return string(value)
    if kind == ARRAY:
        return array(*value)
    return struct.pack("<" + SCALARS[kind], value)


class Tensor:
    def __init__(self, name, kind, ne, data):
        self.name, self.kind, self.ne, self.data = name, kind, ne, data
        self.n_dims = len(ne)
        self.offset = None  # None: after the tensor before, aligned


class File:
    """A GGUF file as lists of keys and tensors; whatever can be wrong in one is an attribute."""

    def __init__(self):
        self.magic, self.version, self.padding_unit = b"GGUF", u32(3), 32
        self.keys = []  # [name, type, value]
        self.tensors = []
        self.n_keys = self.n_tensors = None
        self.marks = {}  # where things begin in the bytes

    def key(self, name):
        return next(k for k in self.keys if k[0] == name)

    def tensor(self, name):
        return next(t for t in self.tensors if t.name == name)

    def offsets(self):
        """Where each tensor lies in the data section, and the section's size."""
        offsets, end = [], 0
        for t in self.tensors:
            at = end if t.offset is None else t.offset
            offsets.append(at)
            if t.offset is None:
                end = -(-(end + len(t.data)) // self.padding_unit) * self.padding_unit
        return offsets, end

    def build(self):
        out = bytearray(self.magic + self.version)
        self.marks["counts"] = len(out)
        out += u64(len(self.tensors) if self.n_tensors is None else self.n_tensors)
        out += u64(len(self.keys) if self.n_keys is None else self.n_keys)
        for name, kind, value in self.keys:
            self.marks[name] = len(out)
            out += encode(STRING, name) + u32(kind) + encode(kind, value)
        offsets, data_bytes = self.offsets()
        for t, offset in zip(self.tensors, offsets):
            self.marks[t.name] = len(out)
            out += encode(STRING, t.name) + u32(t.n_dims) + b"".join(u64(n) for n in t.ne)
            out += u32(t.kind) + u64(offset)
        self.marks["table end"] = len(out)
        out += bytes(-len(out) % self.padding_unit)
        self.marks["data"] = len(out)
        data = bytearray(data_bytes)
        for t, offset in zip(self.tensors, offsets):
            if offset + len(t.data) <= data_bytes:
                data[offset : offset + len(t.data)] = t.data
        last = max((o + len(t.data) for t, o in zip(self.tensors, offsets) if o < data_bytes), default=0)
        return bytes(out + data[:last])  # no padding after the last: its last byte is the file's


# --------------------------------------------------------------------------------------- the valid model --

N_LAYERS, N_EMBD, N_FF, N_HEADS, N_KV_HEADS, HEAD_DIM = 2, 64, 96, 4, 2, 16
N_TOKENS = 300


def weights(rng, kind, ne):
    """Small random weights in a type's blocks."""
    out = bytearray()
    for _ in range(math.prod(ne) // (32 if kind == TENSOR_Q8_0 else 1)):
        if kind == TENSOR_Q8_0:
            numbers = [rng.randint(-127, 127) for _ in range(32)]
            out += struct.pack("<e32b", rng.uniform(0.0005, 0.002), *numbers)
        else:
            out += struct.pack("<f", rng.uniform(0.5, 1.5) if len(ne) == 1 else rng.uniform(-0.1, 0.1))
    return bytes(out)


def byte_letters():
    """The printable letter that stands for each byte in byte-level BPE vocabularies."""
    plain = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [b for b in range(256) if b not in plain]
    return {**{b: chr(b) for b in plain}, **{b: chr(256 + i) for i, b in enumerate(others)}}


def bpe_keys():
    letters = byte_letters()
    space = letters[ord(" ")]
    pairs = [(space, "t"), ("h", "e"), (space, "a"), ("i", "n"), (space + "t", "he"), ("e", "r")]
    pairs += [(space, c) for c in "sbcdefghijklmnopqruvwxyz"] + [(c, "s") for c in "aeioumdnlrt"]
    tokens = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *letters.values(), *(a + b for a, b in pairs)]
    assert len(tokens) == len(set(tokens)) == N_TOKENS
    return [
        ["tokenizer.ggml.model", STRING, "gpt2"],
        ["tokenizer.ggml.pre", STRING, "smollm"],
        ["tokenizer.ggml.tokens", ARRAY, (STRING, tokens)],
        ["tokenizer.ggml.token_type", ARRAY, (I32, [TOKEN_CONTROL] * 3 + [TOKEN_NORMAL] * (N_TOKENS - 3))],
        ["tokenizer.ggml.merges", ARRAY, (STRING, [a + " " + b for a, b in pairs])],
        ["tokenizer.ggml.bos_token_id", U32, 1],
        ["tokenizer.ggml.eos_token_id", U32, 2],
        ["tokenizer.ggml.unknown_token_id", U32, 0],
        ["tokenizer.ggml.padding_token_id", U32, 2],
        ["tokenizer.ggml.add_bos_token", BOOL, 0],
    ]


def spm_keys():
    space = "\u2581"
    words = [*(space + "abcdefghijklmnopqrstuvwxyz"), "he", "in", "er", space + "t", space + "the"]
    words += [f"[{i}]" for i in range(N_TOKENS - 259 - len(words))]
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{b:02X}>" for b in range(256)), *words]
    kinds = [TOKEN_UNKNOWN, TOKEN_CONTROL, TOKEN_CONTROL] + [TOKEN_BYTE] * 256 + [TOKEN_NORMAL] * len(words)
    assert len(tokens) == len(set(tokens)) == N_TOKENS
    return [
        ["tokenizer.ggml.model", STRING, "llama"],
        ["tokenizer.ggml.tokens", ARRAY, (STRING, tokens)],
        ["tokenizer.ggml.scores", ARRAY, (F32, [0.0] * 259 + [-float(i) for i in range(len(words))])],
        ["tokenizer.ggml.token_type", ARRAY, (I32, kinds)],
        ["tokenizer.ggml.bos_token_id", U32, 1],
        ["tokenizer.ggml.eos_token_id", U32, 2],
        ["tokenizer.ggml.unknown_token_id", U32, 0],
        ["tokenizer.ggml.add_bos_token", BOOL, 1],
        ["tokenizer.ggml.add_space_prefix", BOOL, 1],
    ]


def valid_model():
    f = File()
    f.keys = [
        ["general.architecture", STRING, "llama"],
        ["general.name", STRING, "tiny"],
        ["general.languages", ARRAY, (STRING, ["en"])],
        ["llama.block_count", U32, N_LAYERS],
        ["llama.context_length", U32, 256],
        ["llama.embedding_length", U32, N_EMBD],
        ["llama.feed_forward_length", U32, N_FF],
        ["llama.attention.head_count", U32, N_HEADS],
        ["llama.attention.head_count_kv", U32, N_KV_HEADS],
        ["llama.rope.freq_base", F32, 10000.0],
        ["llama.rope.dimension_count", U32, HEAD_DIM],
        ["llama.attention.layer_norm_rms_epsilon", F32, 1e-5],
        ["llama.vocab_size", U32, N_TOKENS],
        *bpe_keys(),
        ["general.quantization_version", U32, 2],
    ]
    rng = random.Random(1)

    def add(name, kind, *ne):
        f.tensors.append(Tensor(name, kind, list(ne), weights(rng, kind, ne)))

    add("token_embd.weight", TENSOR_Q8_0, N_EMBD, N_TOKENS)
    for layer in range(N_LAYERS):
        blk = f"blk.{layer}."
        add(blk + "attn_norm.weight", TENSOR_F32, N_EMBD)
        add(blk + "attn_q.weight", TENSOR_Q8_0, N_EMBD, N_HEADS * HEAD_DIM)
        add(blk + "attn_k.weight", TENSOR_Q8_0, N_EMBD, N_KV_HEADS * HEAD_DIM)
        add(blk + "attn_v.weight", TENSOR_F32 if layer == 1 else TENSOR_Q8_0, N_EMBD, N_KV_HEADS * HEAD_DIM)
        add(blk + "attn_output.weight", TENSOR_Q8_0, N_HEADS * HEAD_DIM, N_EMBD)
        add(blk + "ffn_norm.weight", TENSOR_F32, N_EMBD)
        add(blk + "ffn_gate.weight", TENSOR_Q8_0, N_EMBD, N_FF)
        add(blk + "ffn_up.weight", TENSOR_Q8_0, N_EMBD, N_FF)
        add(blk + "ffn_down.weight", TENSOR_Q8_0, N_FF, N_EMBD)
    add("output_norm.weight", TENSOR_F32, N_EMBD)
    return f


def valid_spm_model(f):
    """The same with the other kind of vocabulary."""
    f = copy.deepcopy(f)
    first = next(i for i, k in enumerate(f.keys) if k[0] == "tokenizer.ggml.model")
    f.keys = [k for k in f.keys if not k[0].startswith("tokenizer.")]
    f.keys[first:first] = spm_keys()
    return f


# --------------------------------------------------------------------------------------------- mutations --
# Each of these returns a function that changes a File in place, or one that cuts the bytes of a built file.


def header(**attributes):
    return lambda f: f.__dict__.update(attributes)


def value(name, new, kind=None):
    """Another value for a key, of the same type if none is given. A new key, u32 if no type is given."""

    def mutate(f):
        if any(k[0] == name for k in f.keys):
            entry = f.key(name)
            entry[1:] = [entry[1] if kind is None else kind, new]
        else:
            f.keys.append([name, U32 if kind is None else kind, new])

    return mutate


def without(name):
    """Takes out a key or tensor."""

    def mutate(f):
        f.keys = [k for k in f.keys if k[0] != name]
        f.tensors = [t for t in f.tensors if t.name != name]

    return mutate


def elements(name, change, kind=None):
    """Changes the list of an array key in place, or its element type."""

    def mutate(f):
        entry = f.key(name)
        old_kind, values = entry[2]
        values = list(values)
        change(values)
        entry[2] = (old_kind if kind is None else kind, values)

    return mutate


def put(index, new):
    return lambda values: values.__setitem__(index, new)


def pop(values):
    values.pop()


def all_become(new):
    return lambda values: values.__setitem__(slice(None), [new] * len(values))


def tensor(which, **attributes):
    def mutate(f):
        t = f.tensor(which)
        t.__dict__.update(attributes)
        if "n_dims" not in attributes:
            t.n_dims = len(t.ne)

    return mutate


def reshaped(name, *ne, kind=None):
    """Another shape, with the data to go with it."""

    def mutate(f):
        t = f.tensor(name)
        t.kind = t.kind if kind is None else kind
        t.ne, t.n_dims, t.data = list(ne), len(ne), weights(random.Random(2), t.kind, ne)

    return mutate


def extra_key(*entry):
    return lambda f: f.keys.append(list(entry))


def extra_tensor(name, kind, *ne):
    return lambda f: f.tensors.append(Tensor(name, kind, list(ne), weights(random.Random(3), kind, ne)))


def cut(mark, offset):
    """The file ends `offset` bytes after the beginning of a key, tensor or section."""
    return lambda f, data: data[: f.marks[mark] + offset]


def nested(depth):
    """An array in an array in an array ..."""
    return (u32(ARRAY) + u64(1)) * (depth - 1) + array(U8, [1])


def swapped_offsets(f):
    """Tensors in another order than their data, with gaps: unusual, allowed."""
    at = 0
    for t in reversed(f.tensors):
        t.offset = at
        at += -(-len(t.data) // 32) * 32 + 64
    f.offsets = lambda: ([t.offset for t in f.tensors], at)


def not_finite(f):
    """Infinities and NaNs in the scales of every quantised matrix and in a float matrix."""
    for t in f.tensors:
        if t.kind == TENSOR_Q8_0:
            data = bytearray(t.data)
            for i, at in enumerate(range(0, len(data), 34 * 3)):
                data[at : at + 2] = struct.pack("<e", (NAN, INF, -INF)[i % 3])
            t.data = bytes(data)
    f.tensor("blk.1.attn_v.weight").data = struct.pack("<2048f", *[NAN, INF, -INF, 3e38] * 512)


def one_scale(name, row):
    """The first scale of a row of a matrix is NaN, or where it has none the first weight, and nothing else."""

    def mutate(f):
        t = f.tensor(name)
        data = bytearray(t.data)
        at = row * (len(data) // t.ne[1])
        nan = struct.pack("<f" if t.kind == TENSOR_F32 else "<e", NAN)
        data[at : at + len(nan)] = nan
        t.data = bytes(data)

    return mutate


def aligned_to(unit):
    def mutate(f):
        f.keys.append(["general.alignment", U32, unit])
        f.padding_unit = unit

    return mutate


def overlapping(name, other, shift):
    """Moves a tensor onto another."""

    def mutate(f):
        offsets, _ = f.offsets()
        f.tensor(name).offset = offsets[f.tensors.index(f.tensor(other))] + shift

    return mutate


TOKENS, TYPES, MERGES = "tokenizer.ggml.tokens", "tokenizer.ggml.token_type", "tokenizer.ggml.merges"
SCORES, BOS, EOT = "tokenizer.ggml.scores", "tokenizer.ggml.bos_token_id", "tokenizer.ggml.eot_token_id"
EOS, ADD_BOS = "tokenizer.ggml.eos_token_id", "tokenizer.ggml.add_bos_token"
HEADS, KV_HEADS = "llama.attention.head_count", "llama.attention.head_count_kv"
WIDTH = "llama.embedding_length"
KEY_LENGTH, N_ROT = "llama.attention.key_length", "llama.rope.dimension_count"
SCALING, FACTOR = "llama.rope.scaling.type", "llama.rope.scaling.factor"
BASE, EPS = "llama.rope.freq_base", "llama.attention.layer_norm_rms_epsilon"
EMBD, Q, K, NORM = "token_embd.weight", "blk.0.attn_q.weight", "blk.1.attn_k.weight", "blk.0.attn_norm.weight"
NAN, INF = float("nan"), float("inf")

# name, status, text that the message must contain, mutation
MODEL_CASES = [
    ("valid", OK, "", lambda f: None),
    ("valid_version_2", OK, "", header(version=u32(2))),
    ("valid_swapped_offsets", OK, "", swapped_offsets),
    ("valid_alignment_4096", OK, "", aligned_to(4096)),
    ("valid_template_is_data", OK, "", value(
        "tokenizer.chat_template", "{{ ''.__class__.__mro__[1].__subclasses__() }}{% for x in y %}", STRING)),
    ("valid_bos_none", OK, "", value(BOS, MAX32)),  # what files write for "none"
    ("weights_not_finite", OK, "logits", not_finite),
    *((f"blk_{block}_{part}_row_{row}_nan", OK, "logits", one_scale(f"blk.{block}.{part}.weight", row))
      for block in (0, 1) for part in ("ffn_up", "attn_k", "attn_v") for row in (0, 3, 9)),
    # header
    ("magic_wrong", BAD, "GGUF", header(magic=b"GGUE")),
    ("magic_of_older_format", BAD, "GGUF", header(magic=b"tjgg")),
    ("version_0", UNSUPPORTED, "version 0", header(version=u32(0))),
    ("version_1", UNSUPPORTED, "version 1", header(version=u32(1))),
    ("version_4", UNSUPPORTED, "version 4", header(version=u32(4))),
    ("version_max", UNSUPPORTED, "version 4294967295", header(version=u32(MAX32))),
    ("big_endian", UNSUPPORTED, "big-endian", header(version=struct.pack(">I", 3))),
    ("n_tensors_max", BAD, "tensors", header(n_tensors=MAX64)),
    ("n_tensors_wraps_a_product", BAD, "tensors", header(n_tensors=2**61 + 1)),
    ("n_tensors_more_than_the_file_holds", BAD, "tensors", header(n_tensors=100_000)),
    ("n_tensors_one_more", BAD, "tensor", lambda f: header(n_tensors=len(f.tensors) + 1)(f)),
    ("n_tensors_one_less", BAD, "output_norm.weight", lambda f: header(n_tensors=len(f.tensors) - 1)(f)),
    ("n_keys_max", BAD, "keys", header(n_keys=MAX64)),
    ("n_keys_wraps_a_product", BAD, "keys", header(n_keys=2**60 + 1)),
    ("n_keys_more_than_the_file_holds", BAD, "keys", header(n_keys=1_000_000)),
    ("n_keys_one_more", BAD, "tensor", lambda f: header(n_keys=len(f.keys) + 1)(f)),
    ("n_keys_one_less", UNSUPPORTED, "tensor general.quant", lambda f: header(n_keys=len(f.keys) - 1)(f)),
    # keys and values
    ("key_name_length_max", BAD, "key 24", extra_key(u64(MAX64), U8, 0)),
    ("key_name_length_wraps_a_sum", BAD, "key 24", extra_key(u64(MAX64 - 7), U8, 0)),
    ("key_name_past_the_end", BAD, "key 24", extra_key(u64(2**40), U8, 0)),
    ("key_name_empty", BAD, "key 24", extra_key("", U8, 0)),
    ("key_name_too_long", BAD, "key xxxx", extra_key("x" * 65536, U8, 0)),
    ("key_name_unprintable", BAD, "key ?[2J????", extra_key(string(b"\x1b[2J\0\n\x07\xff"), BOOL, 9)),
    ("key_twice", BAD, "key general.name", extra_key("general.name", STRING, "other")),
    ("key_twice_of_other_type", BAD, "key llama.block_count", extra_key("llama.block_count", STRING, "2")),
    ("string_length_max", BAD, "key general.name", value("general.name", u64(MAX64))),
    ("string_length_wraps_a_sum", BAD, "key general.name", value("general.name", u64(MAX64 - 7))),
    ("string_past_the_end", BAD, "key general.name", value("general.name", u64(2**20) + b"tiny")),
    ("string_in_array_length_max", BAD, "key general.languages",
     value("general.languages", array(STRING, [u64(MAX64)]))),
    ("value_type_13", BAD, "key odd", extra_key("odd", 13, bytes(8))),
    ("value_type_max", BAD, "key odd", extra_key("odd", MAX32, bytes(8))),
    ("bool_2", BAD, "key " + ADD_BOS, value(ADD_BOS, b"\2")),
    ("bool_255_in_array", BAD, "key odd", extra_key("odd", ARRAY, (BOOL, [1, 0, 255]))),
    ("array_type_13", BAD, "key odd", extra_key("odd", ARRAY, u32(13) + u64(1) + bytes(8))),
    ("array_count_max", BAD, "key odd", extra_key("odd", ARRAY, array(U32, [1], MAX64))),
    ("array_count_wraps_a_product", BAD, "key odd", extra_key("odd", ARRAY, array(U32, [1], 2**62 + 1))),
    ("array_past_the_end", BAD, "key odd", extra_key("odd", ARRAY, array(F64, [1.0], 2**30))),
    ("array_of_strings_count_max", BAD, "key odd", extra_key("odd", ARRAY, array(STRING, ["a"], MAX64))),
    ("array_of_arrays_count_max", BAD, "key odd", extra_key("odd", ARRAY, array(ARRAY, [(U8, [])], MAX64))),
    ("arrays_nest_5_deep", BAD, "key odd", extra_key("odd", ARRAY, nested(5))),
    ("arrays_nest_5000_deep", BAD, "key odd", extra_key("odd", ARRAY, nested(5000))),
    # alignment
    ("alignment_0", BAD, "general.alignment", value("general.alignment", 0)),
    ("alignment_1", BAD, "general.alignment", value("general.alignment", 1)),
    ("alignment_3", BAD, "general.alignment", value("general.alignment", 3)),
    ("alignment_2_to_31", BAD, "tensor", value("general.alignment", 2**31)),
    ("alignment_max", BAD, "general.alignment", value("general.alignment", MAX32)),
    ("alignment_over_32_bits", BAD, "general.alignment", value("general.alignment", 2**32 + 32, U64)),
    ("alignment_is_a_string", BAD, "general.alignment", value("general.alignment", "32", STRING)),
    # tensor table
    ("tensor_name_length_max", BAD, "tensor 0", tensor(EMBD, name=u64(MAX64))),
    ("tensor_name_empty", BAD, "tensor 0", tensor(EMBD, name="")),
    ("tensor_name_too_long", BAD, "tensor " + "x" * 64, tensor(EMBD, name="x" * 65)),
    ("tensor_twice", BAD, "tensor " + EMBD, extra_tensor(EMBD, TENSOR_F32, 8)),
    ("tensor_no_dimensions", BAD, "tensor " + NORM, tensor(NORM, ne=[])),
    ("tensor_5_dimensions", BAD, "tensor " + Q, tensor(Q, ne=[64, 64, 1, 1, 1])),
    ("tensor_n_dims_max", BAD, "tensor " + Q, tensor(Q, n_dims=MAX32)),
    ("tensor_dimension_0", BAD, "tensor " + Q, tensor(Q, ne=[64, 0])),
    ("tensor_row_not_whole_blocks", BAD, "tensor " + Q, tensor(Q, ne=[65, 64])),
    ("tensor_product_wraps_to_0", BAD, "tensor " + Q, tensor(Q, ne=[2**32, 2**32])),
    ("tensor_product_of_4_wraps", BAD, "tensor " + Q, tensor(Q, ne=[2**16, 2**16, 2**16, 2**16 + 1])),
    ("tensor_row_bytes_wrap", BAD, "tensor " + NORM, tensor(NORM, ne=[2**62 + 16])),
    ("tensor_bytes_wrap_small", BAD, "tensor " + Q, tensor(Q, ne=[32, (2**64 + 68) // 34])),
    ("tensor_dimension_max", BAD, "tensor " + Q, tensor(Q, ne=[64, MAX64])),
    ("tensor_dimensions_inflated", BAD, "tensor " + EMBD, tensor(EMBD, ne=[N_EMBD, N_TOKENS * 1000])),
    ("tensor_type_removed", UNSUPPORTED, "Q4_2", tensor(Q, kind=4)),
    ("tensor_type_Q2_K", UNSUPPORTED, "Q2_K is not supported, only F32, ", tensor(Q, kind=10)),
    ("tensor_type_IQ4_XS", UNSUPPORTED, "IQ4_XS", tensor(Q, kind=23)),
    ("tensor_type_I32", UNSUPPORTED, "I32", tensor(Q, kind=26)),
    ("tensor_type_MXFP4", UNSUPPORTED, "MXFP4", tensor(Q, kind=39)),
    ("tensor_type_4096", UNSUPPORTED, "tensor " + Q, tensor(Q, kind=4096)),
    ("tensor_type_max", UNSUPPORTED, "tensor " + Q, tensor(Q, kind=MAX32)),
    # tensor data
    ("offset_misaligned", BAD, "tensor " + K, tensor(K, offset=16)),
    ("offset_max", BAD, "tensor " + K, tensor(K, offset=MAX64 - 31)),
    ("offset_past_the_end", BAD, "tensor " + K, tensor(K, offset=2**30)),
    ("offset_sum_wraps_into_the_file", BAD, "tensor " + K, tensor(K, offset=2**64 - 2048)),
    ("tensors_at_the_same_place", BAD, K, overlapping(K, Q, 0)),
    ("tensors_overlap_by_a_tail", BAD, K, overlapping(K, EMBD, 20384)),
    ("tensors_add_up_to_more_than_the_file", BAD, "overlap", lambda f: [
        overlapping(t.name, EMBD, 0)(f) for t in f.tensors[1:]]),
    ("split_in_one", OK, "", value("split.count", 1)),
    ("split_part_1", UNSUPPORTED, "part 1 of 3; merge them", value("split.count", 3)),
    ("split_part_3", UNSUPPORTED, "part 3 of 3; merge them", lambda f: (
        f.keys.__setitem__(slice(None), [["split.no", U32, 2], ["split.count", U32, 3]]))),
    ("split_count_is_a_string", BAD, "split.count", value("split.count", "3", STRING)),
    # shape of the model
    ("architecture_missing", BAD, "general.architecture", without("general.architecture")),
    ("architecture_unknown", UNSUPPORTED, "mamba", value("general.architecture", "mamba")),
    ("architecture_unprintable", UNSUPPORTED, "?[2J", value("general.architecture", "\x1b[2J\r\n\0llama")),
    ("architecture_empty", UNSUPPORTED, "architecture", value("general.architecture", "")),
    ("architecture_is_a_number", BAD, "general.architecture", value("general.architecture", 1, U32)),
    ("architecture_of_other_keys", BAD, "qwen2.", value("general.architecture", "qwen2")),
    ("block_count_missing", BAD, "llama.block_count", without("llama.block_count")),
    ("block_count_0", BAD, "llama.block_count", value("llama.block_count", 0)),
    ("block_count_3", BAD, "blk.2.", value("llama.block_count", 3)),
    ("block_count_max", BAD, "llama.block_count: 4294967295 is not within 1 to 1024", value("llama.block_count", MAX32)),
    ("block_count_over_32_bits", BAD, "llama.block_count", value("llama.block_count", 2**32 + 2, U64)),
    ("block_count_negative", BAD, "llama.block_count", value("llama.block_count", -2, I32)),
    ("block_count_is_a_string", BAD, "llama.block_count", value("llama.block_count", "2", STRING)),
    ("context_length_missing", BAD, "llama.context_length", without("llama.context_length")),
    ("context_length_0", BAD, "llama.context_length", value("llama.context_length", 0)),
    ("embedding_length_0", BAD, WIDTH, value(WIDTH, 0)),
    ("embedding_length_max", BAD, WIDTH, value(WIDTH, MAX32)),
    ("embedding_length_is_a_float", BAD, WIDTH, value(WIDTH, 64.0, F32)),
    ("feed_forward_length_missing", BAD, "llama.feed_forward_length", without("llama.feed_forward_length")),
    ("feed_forward_length_0", BAD, "llama.feed_forward_length", value("llama.feed_forward_length", 0)),
    ("feed_forward_length_of_another_model", BAD, "blk.0.ffn_", value("llama.feed_forward_length", 128)),
    ("head_count_missing", BAD, HEADS, without(HEADS)),
    ("head_count_0", BAD, HEADS, value(HEADS, 0)),
    ("head_count_max", BAD, HEADS, value(HEADS, MAX32)),
    *((f"{name.split('.')[-1]}_is_an_array", UNSUPPORTED, f"{name}: one value per layer is not supported",
       value(name, (U32, [4, 4]), ARRAY))
      for name in (HEADS, KV_HEADS, KEY_LENGTH, "llama.feed_forward_length")),
    ("head_count_kv_0", BAD, KV_HEADS, value(KV_HEADS, 0)),
    ("head_count_kv_3_of_4", BAD, HEADS, value(KV_HEADS, 3)),
    ("head_count_kv_above_head_count", BAD, HEADS, value(KV_HEADS, 8)),
    ("key_length_0", UNSUPPORTED, KEY_LENGTH, value(KEY_LENGTH, 0)),
    ("key_length_max", UNSUPPORTED, KEY_LENGTH, value(KEY_LENGTH, MAX32)),
    ("key_length_wraps_a_product", UNSUPPORTED, KEY_LENGTH, value(KEY_LENGTH, 2**30)),
    ("rope_dimension_count_0", BAD, N_ROT, value(N_ROT, 0)),
    ("rope_dimension_count_odd", BAD, N_ROT, value(N_ROT, 15)),
    ("rope_dimension_count_above_head", BAD, N_ROT, value(N_ROT, 18)),
    ("rope_base_nan", BAD, BASE, value(BASE, NAN)),
    ("rope_base_0", BAD, BASE, value(BASE, 0.0)),
    ("rope_base_negative", BAD, BASE, value(BASE, -10000.0)),
    ("rope_base_infinite", BAD, BASE, value(BASE, INF)),
    ("rope_base_is_a_string", BAD, BASE, value(BASE, "10000", STRING)),
    ("rope_base_over_float", BAD, BASE, value(BASE, 1e300, F64)),
    ("rope_scaling_unknown", UNSUPPORTED, SCALING, value(SCALING, "spiral", STRING)),
    *((f"rope_{name}_{text}", BAD, key, value(key, factor, F32))
      for name, key in (("scaling_factor", FACTOR), ("scale_linear", "llama.rope.scale_linear"))
      for text, factor in (("negative", -2.0), ("nan", NAN), ("infinite", INF))),
    ("rope_scaling_factor_0", OK, "", value(FACTOR, 0.0, F32)),
    ("rope_scaling_is_a_number", BAD, SCALING, value(SCALING, 1)),
    ("norm_epsilon_missing", BAD, EPS + " is missing", without(EPS)),
    ("norm_epsilon_nan", BAD, EPS, value(EPS, NAN)),
    ("norm_epsilon_0", BAD, EPS, value(EPS, 0.0)),
    ("norm_epsilon_negative", BAD, EPS, value(EPS, -1e-5)),
    ("norm_epsilon_infinite", BAD, EPS, value(EPS, INF)),
    # weights
    ("embedding_missing", BAD, EMBD, without(EMBD)),
    ("embedding_wrong_width", BAD, EMBD, reshaped(EMBD, N_EMBD * 2, N_TOKENS)),
    ("embedding_3_dimensions", BAD, EMBD, reshaped(EMBD, N_EMBD, N_TOKENS, 2)),
    ("query_missing", BAD, Q, without(Q)),
    ("query_too_few_rows", BAD, Q, reshaped(Q, 64, 32)),
    ("query_row_too_short", BAD, Q, reshaped(Q, 32, 64)),
    ("key_too_many_rows", BAD, K, reshaped(K, 64, 64)),
    ("down_transposed", BAD, "blk.1.ffn_down.weight", reshaped("blk.1.ffn_down.weight", N_EMBD, N_FF)),
    ("norm_missing", BAD, NORM, without(NORM)),
    ("norm_too_short", BAD, NORM, reshaped(NORM, N_EMBD // 2)),
    ("norm_is_a_matrix", BAD, NORM, reshaped(NORM, N_EMBD, 2)),
    ("norm_of_q8_0", UNSUPPORTED, NORM, reshaped(NORM, N_EMBD, kind=TENSOR_Q8_0)),
    ("output_norm_missing", BAD, "output_norm.weight", without("output_norm.weight")),
    ("output_wrong_rows", BAD, "output.weight",
     extra_tensor("output.weight", TENSOR_Q8_0, N_EMBD, N_TOKENS - 1)),
    *((f"{name.replace('.', '_')}_has_no_use", UNSUPPORTED, f"tensor {name} is not used by llama with 2 layers",
       extra_tensor(name, TENSOR_F32, N_EMBD))
      for name in ("blk.0.attn_output.bias", "blk.1.ffn_down.bias", "output.bias", "blk.0.attn_q_norm.weight",
                   "blk.2.attn_norm.weight", "tensor")),
    ("block_count_1", UNSUPPORTED, "tensor blk.1.", value("llama.block_count", 1)),
    ("rope_factors_wrong_length", BAD, "rope_freqs.weight", extra_tensor("rope_freqs.weight", TENSOR_F32, 7)),
    # vocabulary
    ("tokenizer_model_missing", BAD, "tokenizer.ggml.model", without("tokenizer.ggml.model")),
    ("tokenizer_model_unknown", UNSUPPORTED, "abacus", value("tokenizer.ggml.model", "abacus")),
    ("tokenizer_model_is_a_number", BAD, "tokenizer.ggml.model", value("tokenizer.ggml.model", 1, U32)),
    ("pre_tokenizer_missing", UNSUPPORTED, "tokenizer.ggml.pre", without("tokenizer.ggml.pre")),
    ("pre_tokenizer_unknown", UNSUPPORTED, "abacus", value("tokenizer.ggml.pre", "abacus")),
    ("pre_tokenizer_is_a_number", BAD, "tokenizer.ggml.pre", value("tokenizer.ggml.pre", 1, U32)),
    ("tokens_missing", BAD, TOKENS, without(TOKENS)),
    ("tokens_are_numbers", BAD, TOKENS, elements(TOKENS, all_become(7), U32)),
    ("tokens_are_arrays", BAD, TOKENS, elements(TOKENS, all_become((U8, [65])), ARRAY)),
    ("tokens_are_one_string", BAD, TOKENS, value(TOKENS, "abc", STRING)),
    ("tokens_empty", BAD, TOKENS, value(TOKENS, (STRING, []))),
    ("tokens_fewer_than_embeddings", BAD, TOKENS, elements(TOKENS, pop)),
    ("tokens_more_than_embeddings", BAD, TOKENS, elements(TOKENS, lambda v: v.append("one more"))),
    ("token_types_fewer", BAD, TYPES, elements(TYPES, pop)),
    ("token_types_more", BAD, TYPES, elements(TYPES, lambda v: v.append(1))),
    ("token_types_are_floats", BAD, TYPES, elements(TYPES, all_become(1.0), F32)),
    ("token_types_are_bytes", BAD, TYPES, elements(TYPES, all_become(1), U8)),
    ("token_types_are_one_number", BAD, TYPES, value(TYPES, 1, I32)),
    ("merges_missing", BAD, MERGES, without(MERGES)),
    ("merges_are_numbers", BAD, MERGES, value(MERGES, (I32, [1, 2, 3]))),
    ("merge_left_unknown", BAD, MERGES, elements(MERGES, put(3, "zzz n"))),
    ("merge_right_unknown", BAD, MERGES, elements(MERGES, put(3, "i zzz"))),
    ("merge_result_unknown", BAD, MERGES, elements(MERGES, put(3, "q q"))),
    ("merge_without_a_space", BAD, MERGES, elements(MERGES, put(3, "in"))),
    ("merge_empty", BAD, MERGES, elements(MERGES, put(3, ""))),
    ("merge_of_nothing", BAD, MERGES, elements(MERGES, put(3, " "))),
    ("bos_one_past_the_vocabulary", BAD, BOS, value(BOS, 300)),
    ("bos_2_to_31", BAD, BOS, value(BOS, 2**31)),
    ("bos_is_a_string", BAD, BOS, value(BOS, "1", STRING)),
    ("eos_max_less_1", BAD, EOS, value(EOS, MAX32 - 1)),
    ("eos_negative", BAD, EOS, value(EOS, -1, I32)),
    ("eot_past_the_vocabulary", BAD, EOT, value(EOT, 301)),
    ("add_bos_is_a_number", BAD, ADD_BOS, value(ADD_BOS, 1, U32)),
    ("template_is_a_number", BAD, "tokenizer.chat_template", value("tokenizer.chat_template", 1)),
]

SPM_CASES = [
    ("valid_spm", OK, "", lambda f: None),
    ("spm_scores_missing", BAD, SCORES, without(SCORES)),
    ("spm_scores_fewer", BAD, SCORES, elements(SCORES, pop)),
    ("spm_scores_more", BAD, SCORES, elements(SCORES, lambda v: v.append(0.0))),
    ("spm_scores_are_integers", BAD, SCORES, elements(SCORES, all_become(0), I32)),
    ("spm_scores_are_doubles", BAD, SCORES, elements(SCORES, all_become(0.0), F64)),
    ("spm_score_nan", BAD, SCORES, elements(SCORES, put(270, NAN))),
    ("spm_token_types_missing", BAD, TYPES, without(TYPES)),
    ("spm_token_types_fewer", BAD, TYPES, elements(TYPES, pop)),
    ("spm_byte_token_negative", BAD, TOKENS, elements(TOKENS, put(3, "<0x-1>"))),
    ("spm_byte_token_256", BAD, TOKENS, elements(TOKENS, put(3, "<0x100>"))),
    ("spm_byte_token_not_hexadecimal", BAD, TOKENS, elements(TOKENS, put(3, "<0xG0>"))),
    ("spm_byte_token_cut", BAD, TOKENS, elements(TOKENS, put(3, "<0x"))),
    ("spm_byte_token_empty", BAD, TOKENS, elements(TOKENS, put(3, ""))),
    ("spm_eos_past_the_vocabulary", BAD, EOS, value(EOS, 300)),
]

# The same with a function of the built file and its bytes.
BYTE_CASES = [
    ("empty", BAD, "empty", lambda f, data: b""),
    ("three_bytes", BAD, "GGUF", lambda f, data: data[:3]),
    ("cut_after_magic", BAD, "header", lambda f, data: data[:4]),
    ("cut_in_version", BAD, "header", lambda f, data: data[:6]),
    ("cut_in_n_tensors", BAD, "header", cut("counts", 5)),
    ("cut_in_n_keys", BAD, "header", cut("counts", 15)),
    ("cut_after_header", BAD, "file", cut("counts", 16)),
    ("cut_in_first_keys", BAD, "file", cut("llama.block_count", 10)),
    ("cut_in_key_name", BAD, "key 18", cut(BOS, 8 + len(BOS) - 1)),
    ("cut_in_value_type", BAD, "key " + BOS, cut(BOS, 8 + len(BOS) + 3)),
    ("cut_in_value", BAD, "key " + BOS, cut(BOS, 8 + len(BOS) + 4 + 3)),
    ("cut_in_array_type", BAD, "key " + TYPES, cut(TYPES, 8 + len(TYPES) + 4 + 2)),
    ("cut_in_array_count", BAD, "key " + TYPES, cut(TYPES, 8 + len(TYPES) + 4 + 4 + 7)),
    ("cut_in_array_of_strings", BAD, TOKENS, cut(TYPES, -1)),
    ("cut_in_array_of_numbers", BAD, TYPES, cut(MERGES, -1)),
    ("cut_after_keys", BAD, "tensor 0", cut(EMBD, 0)),
    ("cut_in_tensor_name", BAD, "tensor 0", cut(EMBD, 15)),
    ("cut_in_tensor_dimensions", BAD, "tensor " + Q, cut(Q, 8 + len(Q) + 10)),
    ("cut_in_tensor_offset", BAD, "tensor " + Q, cut(Q, 8 + len(Q) + 4 + 16 + 4 + 7)),
    ("cut_after_tensor_table", BAD, "tensor " + EMBD, cut("table end", 0)),
    ("cut_before_data", BAD, "tensor " + EMBD, cut("data", 0)),
    ("cut_in_data", BAD, "run past the end of the file", cut("data", 30_000)),
    ("cut_last_byte", BAD, "tensor output_norm.weight: 256 bytes", lambda f, data: data[:-1]),
    ("cut_last_tensor", BAD, "tensor output_norm.weight: 256 bytes", lambda f, data: data[:-256]),
    ("zeros", BAD, "GGUF", lambda f, data: bytes(len(data))),
    ("header_alone_repeated", BAD, "file", lambda f, data: data[:24] * 100),
]


def main():
    if len(sys.argv) != 2:
        sys.exit("usage: make_malformed.py FOLDER")
    folder = sys.argv[1]
    os.makedirs(folder, exist_ok=True)
    files = []
    model = valid_model()
    for valid, cases in ((model, MODEL_CASES), (valid_spm_model(model), SPM_CASES)):
        for name, status, text, mutate in cases:
            f = copy.deepcopy(valid)
            mutate(f)
            files.append((name, status, text, f.build()))
    data = model.build()
    for name, status, text, mutate in BYTE_CASES:
        files.append((name, status, text, mutate(model, data)))
    with open(os.path.join(folder, "manifest.tsv"), "w", encoding="utf-8", newline="\n") as manifest:
        for name, status, text, data in files:
            with open(os.path.join(folder, name + ".gguf"), "wb") as out:
                out.write(data)
            manifest.write(f"{name}.gguf\t{status}\t{text}\n")


if __name__ == "__main__":
    main()
