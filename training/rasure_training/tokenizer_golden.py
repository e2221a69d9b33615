r"""Writes the golden files of the tokenizers.

    python -m rasure_training.tokenizer_golden --model SMOLLM2.gguf --text-data DIR --out tests/golden/data/tokenizer_bpe.tsv
    python -m rasure_training.tokenizer_golden --model GEMMA3.gguf --text-data DIR --out tests/golden/data/tokenizer_spm.tsv
    python -m rasure_training.tokenizer_golden --model tests/golden/data/tokenizer_pre.gguf --text-data DIR --longest 20 \
        --out tests/golden/data/tokenizer_pre.tsv

One text a line: the hexadecimal of its UTF-8 bytes, then tab-separated columns of token ids, separated by spaces. A byte-level
BPE model gets a column for each pre-tokenizer (smollm, gpt-2, qwen2, llama-bpe) over its one vocabulary; a SentencePiece
model gets one. No text is parsed for control tokens and no beginning-of-text token is added. The empty text is a case too.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from .gguf_model import GgufFile, ModelError
from .text import DataError, load_paragraphs
from .tokenizer import PRE_TOKENIZERS, bpe_tokenizer, spm_tokenizer
from .tokenizer_cases import all_texts

Encoder = Callable[[str], list[int]]


def encoders(file: GgufFile) -> dict[str, Encoder]:
    """The columns of a golden file by name."""
    if file.value("tokenizer.ggml.model") == "llama":
        return {"spm": spm_tokenizer(file).encode}
    tokenizers = {pre: bpe_tokenizer(file, pre) for pre in PRE_TOKENIZERS}
    return {pre: lambda text, tokenizer=tokenizer: tokenizer.encode(text).ids for pre, tokenizer in tokenizers.items()}


def write_golden(model: Path, text_data: Path, out: Path, longest: int) -> None:
    columns = encoders(GgufFile(model))
    texts = all_texts([paragraph.text for paragraph in load_paragraphs(text_data, test=True)])
    texts = [text for text in texts if len(text) <= longest]
    different = 0
    with out.open("w", encoding="ascii", newline="\n") as file:
        for text in texts:
            ids = [" ".join(map(str, encode(text))) for encode in columns.values()]
            different += len(set(ids)) > 1
            file.write("\t".join([text.encode().hex(), *ids]) + "\n")
    print(
        f"{out}: {out.stat().st_size} bytes, {len(texts)} texts, columns {', '.join(columns)}; "
        f"they differ on {different} texts"
    )


def main() -> int:
    parser = argparse.ArgumentParser(prog="rasure_training.tokenizer_golden", description=__doc__.split("\n")[0])
    parser.add_argument("--model", required=True, type=Path, help="GGUF file whose vocabulary is used")
    parser.add_argument("--text-data", required=True, type=Path, help="folder of wiki_paragraphs.jsonl.gz")
    parser.add_argument("--out", required=True, type=Path, help="file to write")
    parser.add_argument("--longest", type=int, default=10000, help="leave out longer texts, in characters (default: %(default)s)")
    args = parser.parse_args()
    try:
        write_golden(args.model, args.text_data, args.out, args.longest)
    except (ModelError, DataError, ImportError, OSError, RuntimeError) as error:
        print(f"tokenizer_golden: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
