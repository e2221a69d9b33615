"""Writes the golden file of the default model: layer outputs, next-token distributions and perplexity.

    python -m rasure_training.golden --model MODEL.gguf --text-data DIR --out tests/golden/data

The file's keys are listed in tests/golden/README.md. The command also prints how much of a KL divergence is lost when the
vocabulary outside the stored top K is lumped into one event.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from torch import Tensor

from .gguf_model import ModelError, load_model
from .golden_file import TOP_K, GoldenFile, log_probabilities, top_and_tail, write_case, write_layers
from .reference import Cache, Reference
from .text import DataError, Paragraph, load_paragraphs, shuffled
from .tokenizer import bpe_tokenizer

SEED = 20
LAYERS_PROMPT = "The river runs north past the old mill and into the sea"
LAYERS_TOKENS = 12
CASE_TOKENS = (256, 512, 1024)
FULL_POSITIONS = (0, 1, 15, 63, 127, 190, 254, 255)
PERPLEXITY_TOKENS = 4096
PIECE = 1024  # tokens at a time through the cache; bounds the memory of logits


class RoundedInputs(Reference):
    """Simulates int8 activations: the inputs of every linear layer are rounded in blocks of 32 with one scale each."""

    BLOCK = 32

    def linear(self, x: Tensor, name: str) -> Tensor:
        blocks = x.unflatten(-1, (-1, self.BLOCK))
        scale = (blocks.abs().amax(-1, keepdim=True) / 127.0).clamp_min(torch.finfo(torch.float32).tiny)
        return super().linear(((blocks / scale).round() * scale).flatten(-2), name)


def distributions(reference: Reference, tokens: Tensor) -> Tensor:
    """Log-probabilities after each token of one causal pass, float64 [n, n_vocab]."""
    return log_probabilities(reference.logits(reference.forward(tokens)))


def negative_log_likelihood(reference: Reference, tokens: Tensor) -> Tensor:
    """-log p(token i + 1 | tokens 0..i) in nats, float32 [n - 1]; one causal pass, `PIECE` tokens at a time."""
    cache = Cache.empty(reference.config)
    pieces = [
        F.cross_entropy(reference.logits(reference.forward(inputs, cache=cache)), labels, reduction="none")
        for inputs, labels in zip(tokens[:-1].split(PIECE), tokens[1:].split(PIECE), strict=True)
    ]
    return torch.cat(pieces)


def full_kl(p: Tensor, q: Tensor) -> Tensor:
    """KL(p || q) in nats over the last dimension; p and q are log-probabilities [n, n_vocab]."""
    return (p.exp() * (p - q)).sum(-1)


def lumped_kl(p: Tensor, q: Tensor, k: int) -> Tensor:
    """KL(p || q) when all but p's k likeliest tokens are one event: what a golden file lets a test compute.

    Never above `full_kl` (the data processing inequality).
    """
    ids, top, tail = top_and_tail(p, k)
    q_tail = q.scatter(-1, ids, -torch.inf).logsumexp(-1)
    return (top.exp() * (top - q.gather(-1, ids))).sum(-1) + tail.exp() * (tail - q_tail)


def take_tokens(tokenizer: Tokenizer, paragraphs: list[Paragraph], n: int) -> tuple[Tensor, list[str]]:
    """The first n tokens of paragraphs joined by empty lines, and the titles used; takes them off the front of the list."""
    text, titles = "", []
    while len(ids := tokenizer.encode(text).ids) < n:
        if not paragraphs:
            raise DataError("the text data holds too few paragraphs")
        paragraph = paragraphs.pop(0)
        text += ("\n\n" if text else "") + paragraph.text
        titles.append(paragraph.title)
    return torch.tensor(ids[:n]), titles


def write_golden(model_path: Path, text_data: Path, out: Path) -> None:
    model = load_model(model_path)
    reference, rounded = Reference(model), RoundedInputs(model)
    tokenizer = bpe_tokenizer(model.file)
    paragraphs = shuffled(load_paragraphs(text_data, test=True), SEED)
    prompt = torch.tensor(tokenizer.encode(LAYERS_PROMPT).ids)
    if len(prompt) != LAYERS_TOKENS:
        raise ModelError(f"{model_path}: the prompt of the layer goldens has {len(prompt)} tokens, not {LAYERS_TOKENS}")

    kl_full, kl_lumped = [], []
    with GoldenFile(out / "smollm2.golden.gguf") as golden:
        golden.text("golden.model_sha256", model.file.sha256())
        golden.integer("golden.top_k", TOP_K)
        golden.integer("golden.cases", len(CASE_TOKENS))
        write_layers(golden, reference, prompt)
        for case, n in enumerate(CASE_TOKENS):
            tokens, titles = take_tokens(tokenizer, paragraphs, n)
            logprob = distributions(reference, tokens)
            golden.text(f"case.{case}.titles", "\n".join(titles))
            # The whole vocabulary is kept for the first text only, in half precision, for the file's size.
            full_positions = torch.tensor(FULL_POSITIONS) if case == 0 else None
            write_case(golden, case, tokens, logprob, full_positions, torch.float16)
            rounded_logprob = distributions(rounded, tokens)
            kl_full.append(full_kl(logprob, rounded_logprob))
            kl_lumped.append(lumped_kl(logprob, rounded_logprob, TOP_K))
        tokens, titles = take_tokens(tokenizer, paragraphs, PERPLEXITY_TOKENS)
        nll = negative_log_likelihood(reference, tokens)
        golden.text("ppl.titles", "\n".join(titles))
        golden.integers("ppl.tokens", tokens)
        golden.tensor("ppl.nll", nll)

    full, lumped = torch.cat(kl_full), torch.cat(kl_lumped)
    size = golden.path.stat().st_size
    print(f"{golden.path}: {size} bytes; perplexity {nll.double().mean().exp():.4f} over {len(nll)} tokens")
    print(
        f"int8 activations in blocks of 32: mean KL {full.mean():.6f} nats over {len(full)} positions; with the top {TOP_K} "
        f"and a lumped tail {lumped.mean():.6f}, ratio {lumped.mean() / full.mean():.4f}"
    )


def main() -> int:
    parser = argparse.ArgumentParser(prog="rasure_training.golden", description=__doc__.split("\n")[0])
    parser.add_argument("--model", required=True, type=Path, help="SmolLM2-135M-Instruct.Q4_1.gguf")
    parser.add_argument("--text-data", required=True, type=Path, help="folder of wiki_paragraphs.jsonl.gz")
    parser.add_argument("--out", required=True, type=Path, help="folder for smollm2.golden.gguf")
    parser.add_argument("--threads", type=int, default=2, help="threads of PyTorch (default: %(default)s)")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    args.out.mkdir(parents=True, exist_ok=True)
    try:
        with torch.inference_mode():
            write_golden(args.model, args.text_data, args.out)
    except (ModelError, DataError) as error:
        print(f"golden: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
