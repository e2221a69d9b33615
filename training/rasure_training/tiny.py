"""Writes tiny random models with their goldens, the golden of the block types and a vocabulary that shows word splits.

    python -m rasure_training.tiny --out tests/golden/data

One model an architecture, small enough for a repository, together they hold every block type, both RoPE conventions, both
kinds of RoPE scaling, biases, head norms, sliding windows, tied and untied heads, and both kinds of vocabulary. Weights
are random, scaled so that the distributions of the next token are neither flat nor saturated. `dequant.gguf` holds raw
blocks and what gguf-py makes of them; `tokenizer_pre.gguf` holds a vocabulary alone.
"""

from __future__ import annotations

import argparse
import math
import sys
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from gguf import GGMLQuantizationType, GGUFWriter
from gguf.quants import dequantize, quantize

from .blocks import LAYOUTS, corner_floats, corner_rows, random_weight
from .gguf_model import ModelError, load_model
from .golden_file import TOP_K, GoldenFile, log_probabilities, write_case, write_layers
from .reference import Reference
from .tokenizer import BYTE, CONTROL, NORMAL, UNKNOWN, USER_DEFINED

Type = GGMLQuantizationType
Value = str | int | float | bool

SEED = 20
N_VOCAB = 320
K_QUANTS = (Type.Q4_K, Type.Q5_K, Type.Q6_K)

# Byte-level BPE: 256 bytes, 55 merges, 9 special tokens. A merge joins two pieces that are there already.
BPE_MERGES = """
Ġ t|h e|Ġ a|i n|r e|o n|Ġt he|e r|Ġ s|a t|Ġ w|o r|e n|Ġ c|i t|i s|a n|Ġ o|e s|in g|Ġ b|e d|Ġ f|o u|Ġ p|Ġo f|Ġa n|Ġan d|a l|Ġ m
Ġt o|a r|Ġ in|Ġ h|Ġ d|i c|l l|Ġt h|o m|a s|Ġ re|l e|Ġ n|Ġb e|i on|r o|Ġ l|Ġ e|v e|s t|en t|Ċ Ċ|1 2|Ġ Ġ|ĠĠ ĠĠ
"""
BPE_SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]

# GPT-2's printable stand-ins of bytes: printable Latin-1 stands for itself, the rest for U+0100 and on, in order.
_PRINTABLE = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
_OTHERS = [byte for byte in range(256) if byte not in _PRINTABLE]
BYTE_SYMBOLS = {byte: chr(byte) for byte in _PRINTABLE} | {byte: chr(0x100 + i) for i, byte in enumerate(_OTHERS)}

# Of `tokenizer_pre.gguf`: any two of these merge, as do the last byte of a UTF-8 sequence with one and one with a first.
SPLIT_CHARACTERS = b"astlAS01 \n\r\t'.(_"
SPLIT_WORDS = 200

# SentencePiece: 4 control tokens, 2 user-defined runs, 256 bytes, single characters, then pieces in merge order.
SPM_CHARACTERS = "\u2581etaoinshrdlucmfwypvbgk.,x"
SPM_PIECES = """
\u2581t he in \u2581a er \u2581the on re \u2581s at en \u2581w or an nd \u2581and is it es ou ing \u2581o \u2581of ed ar st
""".split()


@dataclass(frozen=True)
class Tiny:
    """One tiny model: hyper-parameters, types of its matrices (taken in turn) and what sets it apart."""

    arch: str
    types: tuple[Type, ...]
    d_model: int
    d_ffn: int
    n_layer: int
    n_head: int
    n_kv_head: int
    head_dim: int
    n_tokens: int
    tokenizer: str  # tokenizer.ggml.pre of a BPE vocabulary, or "spm"
    embedding_deviation: float
    tied: bool = True
    qkv_bias: bool = False
    head_norm: bool = False
    llama3_rope: bool = False
    metadata: dict[str, Value] = field(default_factory=dict)  # after the architecture's name


MODELS = {
    "tiny-llama": Tiny(
        "llama", K_QUANTS, 256, 256, 2, 4, 2, 64, 32, "llama-bpe", 0.13, tied=False, llama3_rope=True,
        metadata={"rope.freq_base": 500000.0, "rope.dimension_count": 64},
    ),
    "tiny-llama-linear": Tiny(
        "llama", (Type.F16, Type.BF16, Type.F32), 96, 128, 2, 3, 1, 32, 32, "gpt-2", 0.2,
        metadata={
            "rope.freq_base": 10000.0, "rope.dimension_count": 32,
            "rope.scaling.type": "linear", "rope.scaling.factor": 4.0,
        },
    ),
    "tiny-qwen2": Tiny(
        "qwen2", (Type.Q8_0, Type.Q5_0, Type.Q5_1), 128, 256, 2, 4, 2, 32, 32, "qwen2", 0.2, qkv_bias=True,
        metadata={"rope.freq_base": 1000000.0},
    ),
    "tiny-qwen3": Tiny(
        "qwen3", (Type.Q4_1, Type.Q4_0), 128, 192, 2, 4, 2, 64, 32, "qwen2", 0.2, head_norm=True,
        metadata={"rope.freq_base": 1000000.0, "attention.key_length": 64, "attention.value_length": 64},
    ),
    "tiny-gemma3": Tiny(
        "gemma3", (Type.Q8_0,), 64, 128, 7, 4, 2, 32, 48, "spm", 0.125, head_norm=True,
        metadata={
            "rope.freq_base": 1000000.0, "attention.key_length": 32, "attention.value_length": 32,
            "attention.sliding_window": 16, "rope.scaling.type": "linear", "rope.scaling.factor": 8.0,
        },
    ),
}  # fmt: skip


def llama3_factors(
    base: float, dim: int, factor: float = 8.0, low: float = 1.0, high: float = 4.0, n_ctx: int = 64
) -> np.ndarray:
    """Divisors of the inverse frequencies, float32 [dim / 2], as llama.cpp's converter writes them for Llama 3.1.

    n_ctx is the context of the first training, here short enough for all three cases to come up in a tiny head.
    """
    wavelengths = 2.0 * math.pi * base ** (np.arange(0, dim, 2) / dim)
    smooth = (n_ctx / wavelengths - low) / (high - low)
    between = 1.0 / ((1.0 - smooth) / factor + smooth)
    factors = np.where(wavelengths < n_ctx / high, 1.0, np.where(wavelengths > n_ctx / low, factor, between))
    return factors.astype(np.float32)


def add_bpe_vocabulary(writer: GGUFWriter, pre: str, merges: list[str], n_reserved: int) -> None:
    """Tokens: all bytes, what the merges make, the special ones; ids in that order."""
    pieces = [BYTE_SYMBOLS[byte] for byte in range(256)] + [merge.replace(" ", "") for merge in merges]
    special = BPE_SPECIAL + [f"<|reserved_{i}|>" for i in range(n_reserved)]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(pieces + special)
    writer.add_token_types([NORMAL] * len(pieces) + [CONTROL] * len(special))
    writer.add_token_merges(merges)
    first = len(pieces)
    writer.add_bos_token_id(first)
    writer.add_eos_token_id(first + 2)
    writer.add_pad_token_id(first)
    writer.add_add_bos_token(pre == "llama-bpe")


def add_spm_vocabulary(writer: GGUFWriter) -> None:
    control = ["<pad>", "<eos>", "<bos>", "<unk>"]
    runs = ["\n\n", "  "]
    pieces = SPM_PIECES + list(SPM_CHARACTERS)
    used = len(control) + len(runs) + 256 + len(pieces)
    unused = [f"<unused{i}>" for i in range(N_VOCAB - used)]
    tokens = control + runs + [f"<0x{byte:02X}>" for byte in range(256)] + pieces + unused
    types = (
        [CONTROL] * 3 + [UNKNOWN] + [USER_DEFINED] * len(runs) + [BYTE] * 256
        + [NORMAL] * len(pieces) + [CONTROL] * len(unused)
    )  # fmt: skip
    scores = [-1000.0] * 6 + [0.0] * 256 + [-float(i) for i in range(len(pieces))] + [-1000.0] * len(unused)
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(tokens)
    writer.add_token_scores(scores)
    writer.add_token_types(types)
    writer.add_bos_token_id(2)
    writer.add_eos_token_id(1)
    writer.add_unk_token_id(3)
    writer.add_pad_token_id(0)
    writer.add_add_bos_token(True)
    writer.add_add_space_prefix(False)


def write_model(path: Path, tiny: Tiny, rng: np.random.Generator) -> None:
    writer = GGUFWriter(path, tiny.arch)
    writer.add_name(path.stem)
    writer.add_license("apache-2.0")
    metadata: dict[str, Value] = {
        "block_count": tiny.n_layer,
        "context_length": 256,
        "embedding_length": tiny.d_model,
        "feed_forward_length": tiny.d_ffn,
        "attention.head_count": tiny.n_head,
        "attention.head_count_kv": tiny.n_kv_head,
        "attention.layer_norm_rms_epsilon": 1e-6,
        "vocab_size": N_VOCAB,
        **tiny.metadata,
    }
    add = {str: writer.add_string, bool: writer.add_bool, int: writer.add_uint32, float: writer.add_float32}
    for key, value in metadata.items():
        add[type(value)](f"{tiny.arch}.{key}", value)
    if tiny.tokenizer == "spm":
        add_spm_vocabulary(writer)
    else:
        merges = [merge for line in BPE_MERGES.split("\n") for merge in line.split("|") if merge]
        n_reserved = N_VOCAB - 256 - len(merges) - len(BPE_SPECIAL)
        add_bpe_vocabulary(writer, tiny.tokenizer, merges, n_reserved)

    turn = 0

    def matrix(name: str, rows: int, columns: int, deviation: float) -> None:
        nonlocal turn
        qtype = tiny.types[turn % len(tiny.types)]
        turn += 1
        if qtype in K_QUANTS:  # gguf-py does not quantise to these
            raw = random_weight(rng, qtype, rows, columns, deviation)
        else:
            raw = quantize(rng.normal(0.0, deviation, (rows, columns)).astype(np.float32), qtype)
        writer.add_tensor(f"{name}.weight", raw, raw_dtype=qtype)

    def vector(name: str, values: np.ndarray) -> None:
        writer.add_tensor(name, values.astype(np.float32))

    def norm(name: str, n: int, mean: float = 1.0) -> None:
        vector(f"{name}.weight", mean * rng.uniform(0.5, 1.5, n))

    d, ffn = tiny.d_model, tiny.d_ffn
    n_q, n_kv = tiny.n_head * tiny.head_dim, tiny.n_kv_head * tiny.head_dim
    is_gemma = tiny.arch == "gemma3"
    matrix("token_embd", N_VOCAB, d, tiny.embedding_deviation)
    norm("output_norm", d, 2.0 if is_gemma else 1.0)
    if not tiny.tied:
        matrix("output", N_VOCAB, d, 2.0 / math.sqrt(d))
    if tiny.llama3_rope:
        vector("rope_freqs.weight", llama3_factors(tiny.metadata["rope.freq_base"], tiny.head_dim))
    for layer in range(tiny.n_layer):
        block = f"blk.{layer}"
        norm(f"{block}.attn_norm", d)
        for name, rows in (("q", n_q), ("k", n_kv), ("v", n_kv)):
            matrix(f"{block}.attn_{name}", rows, d, (1.0 if name == "v" else 1.4) / math.sqrt(d))
            if tiny.qkv_bias:
                vector(f"{block}.attn_{name}.bias", rng.normal(0.0, 0.5, rows))
        if tiny.head_norm:
            norm(f"{block}.attn_q_norm", tiny.head_dim, 1.4)
            norm(f"{block}.attn_k_norm", tiny.head_dim, 1.4)
        matrix(f"{block}.attn_output", d, n_q, 1.5 / math.sqrt(n_q))
        norm(f"{block}.ffn_norm", d)
        matrix(f"{block}.ffn_gate", ffn, d, 1.5 / math.sqrt(d))
        matrix(f"{block}.ffn_up", ffn, d, 1.5 / math.sqrt(d))
        matrix(f"{block}.ffn_down", d, ffn, 1.5 / math.sqrt(ffn))
        if is_gemma:
            norm(f"{block}.post_attention_norm", d, 1.5)
            norm(f"{block}.post_ffw_norm", d, 1.5)
    write(writer)


def write(writer: GGUFWriter) -> None:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def write_model_golden(path: Path, model_path: Path, n_tokens: int, rng: np.random.Generator) -> None:
    model = load_model(model_path)
    reference = Reference(model)
    tokens = torch.from_numpy(rng.integers(0, N_VOCAB, n_tokens))
    logits = reference.logits(reference.forward(tokens))
    logprob = log_probabilities(logits)
    with GoldenFile(path) as golden:
        golden.text("golden.model_sha256", model.file.sha256())
        golden.integer("golden.top_k", TOP_K)
        golden.integer("golden.cases", 1)
        write_layers(golden, reference, tokens)
        write_case(golden, 0, tokens, logprob, torch.arange(n_tokens))
    p = logprob.exp()
    print(
        f"{model_path}: {model_path.stat().st_size} bytes, golden {path.stat().st_size}; logits deviate by {logits.std():.2f}, "
        f"likeliest token {p.amax(-1).mean():.2f}, entropy {-(p * logprob).sum(-1).mean():.2f} of {math.log(N_VOCAB):.2f}"
    )


def write_dequant(path: Path, rng: np.random.Generator) -> None:
    """`q.<type>`: raw blocks of 8 rows; `f.<type>`: F32 [8, columns], the same dequantised by gguf-py."""
    writer = GGUFWriter(path, "rasure-golden")
    for qtype in (*LAYOUTS, Type.F16, Type.BF16):
        if qtype in LAYOUTS:
            raw = corner_rows(rng, qtype, 512 if qtype in K_QUANTS else 288)
        else:
            raw = corner_floats(rng, qtype, 256)
        writer.add_tensor(f"q.{qtype.name}", raw, raw_dtype=qtype)
        values = dequantize(raw, qtype)
        if not np.isfinite(values).all():
            raise ModelError(f"{path}: the random blocks of {qtype.name} are not all finite")
        writer.add_tensor(f"f.{qtype.name}", values)
    write(writer)
    print(f"{path}: {path.stat().st_size} bytes")


def write_split_vocabulary(path: Path, rng: np.random.Generator) -> None:
    """A byte-level BPE vocabulary whose merges join characters of all kinds, in random order, so that a wrong split shows.

    A real vocabulary hides most of them: it has hardly a token across the splits of the pre-tokenizer it was trained with.
    """
    starts, ends = range(0xC2, 0xF5), range(0x80, 0xC0)
    pairs = [(a, b) for a in (*SPLIT_CHARACTERS, *ends) for b in (*SPLIT_CHARACTERS, *starts)]
    merges = [f"{BYTE_SYMBOLS[a]} {BYTE_SYMBOLS[b]}" for a, b in rng.permutation(pairs).tolist()]
    words = rng.choice(list(SPLIT_CHARACTERS), (SPLIT_WORDS, 3)).tolist()
    merges += dict.fromkeys(f"{BYTE_SYMBOLS[a]}{BYTE_SYMBOLS[b]} {BYTE_SYMBOLS[c]}" for a, b, c in words)
    writer = GGUFWriter(path, "llama")
    add_bpe_vocabulary(writer, "gpt-2", merges, 0)
    write(writer)
    print(f"{path}: {path.stat().st_size} bytes")


def main() -> int:
    parser = argparse.ArgumentParser(prog="rasure_training.tiny", description=__doc__.split("\n")[0])
    parser.add_argument("--out", required=True, type=Path, help="folder for the files")
    args = parser.parse_args()
    torch.set_num_threads(1)
    args.out.mkdir(parents=True, exist_ok=True)
    try:
        with torch.inference_mode():
            for i, (name, tiny) in enumerate(MODELS.items()):
                rng = np.random.default_rng([SEED, i])
                model_path = args.out / f"{name}.gguf"
                write_model(model_path, tiny, rng)
                write_model_golden(args.out / f"{name}.golden.gguf", model_path, tiny.n_tokens, rng)
        write_dequant(args.out / "dequant.gguf", np.random.default_rng([SEED, len(MODELS)]))
        write_split_vocabulary(args.out / "tokenizer_pre.gguf", np.random.default_rng([SEED, len(MODELS) + 1]))
    except ModelError as error:
        print(f"tiny: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
