"""Tokenizers built from the vocabulary of a GGUF file, by libraries that are not ours.

Byte-level BPE by Hugging Face `tokenizers`, SentencePiece by Google's `sentencepiece`. Neither adds a beginning-of-text
token, and the text of a control token is plain text to both.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tokenizers import Regex, Tokenizer
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel, Digits, PreTokenizer, Sequence, Split

from .gguf_model import GgufFile, ModelError

if TYPE_CHECKING:
    from sentencepiece import SentencePieceProcessor

# Values of `tokenizer.ggml.token_type`.
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)

# As in the tokenizer.json of Qwen 2 and of Llama 3; they differ in how many digits stay together.
_QWEN2 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_LLAMA_BPE = _QWEN2.replace(r"|\p{N}|", r"|\p{N}{1,3}|")


def _gpt2() -> PreTokenizer:
    """Its pattern is part of the library: 's|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"""
    return ByteLevel(add_prefix_space=False, use_regex=True)


def _pattern(pattern: str) -> PreTokenizer:
    return Sequence([Split(Regex(pattern), "isolated"), ByteLevel(add_prefix_space=False, use_regex=False)])


# By the names that `tokenizer.ggml.pre` has in GGUF files.
PRE_TOKENIZERS = {
    "smollm": lambda: Sequence([Digits(individual_digits=True), _gpt2()]),
    "gpt-2": _gpt2,
    "qwen2": lambda: _pattern(_QWEN2),
    "llama-bpe": lambda: _pattern(_LLAMA_BPE),
}


def bpe_tokenizer(file: GgufFile, pre: str | None = None) -> Tokenizer:
    """The byte-level BPE tokenizer of `file`; `pre` takes another pre-tokenizer than the file's own."""
    if file.value("tokenizer.ggml.model") != "gpt2":
        raise ModelError(f"{file.path}: its tokenizer is not byte-level BPE")
    pre = pre or file.value("tokenizer.ggml.pre")
    if pre not in PRE_TOKENIZERS:
        raise ModelError(f"{file.path}: the pre-tokenizer {pre} is not one of {', '.join(PRE_TOKENIZERS)}")
    vocabulary = {token: i for i, token in enumerate(file.value("tokenizer.ggml.tokens"))}
    merges = [tuple(merge.split(" ")) for merge in file.value("tokenizer.ggml.merges")]
    tokenizer = Tokenizer(BPE(vocabulary, merges, ignore_merges=pre == "llama-bpe"))
    tokenizer.pre_tokenizer = PRE_TOKENIZERS[pre]()
    return tokenizer


def spm_tokenizer(file: GgufFile) -> SentencePieceProcessor:
    """The SentencePiece tokenizer of `file`: a model proto of the BPE kind with the file's pieces, scores and types."""
    from sentencepiece import SentencePieceProcessor
    from sentencepiece import sentencepiece_model_pb2 as pb

    if file.value("tokenizer.ggml.model") != "llama":
        raise ModelError(f"{file.path}: its tokenizer is not SentencePiece")
    proto = pb.ModelProto()
    unknown = file.value("tokenizer.ggml.unknown_token_id")
    columns = (file.value(f"tokenizer.ggml.{name}") for name in ("tokens", "scores", "token_type"))
    for i, (token, score, kind) in enumerate(zip(*columns, strict=True)):
        # GGUF writes user-defined runs of spaces as spaces and may mark <unk> as control.
        piece = token.replace(" ", "\u2581") if kind == USER_DEFINED else token
        proto.pieces.add(piece=piece, score=score, type=UNKNOWN if i == unknown else kind)
    proto.trainer_spec.model_type = pb.TrainerSpec.BPE
    proto.trainer_spec.vocab_size = len(proto.pieces)
    proto.trainer_spec.byte_fallback = True
    proto.trainer_spec.unk_id = unknown
    proto.trainer_spec.bos_id = file.value("tokenizer.ggml.bos_token_id")
    proto.trainer_spec.eos_id = file.value("tokenizer.ggml.eos_token_id")
    proto.trainer_spec.pad_id = file.value("tokenizer.ggml.padding_token_id", -1)
    proto.normalizer_spec.name = "identity"
    proto.normalizer_spec.add_dummy_prefix = bool(file.value("tokenizer.ggml.add_space_prefix", True))
    proto.normalizer_spec.remove_extra_whitespaces = False
    proto.normalizer_spec.escape_whitespaces = True
    return SentencePieceProcessor(model_proto=proto.SerializeToString())
