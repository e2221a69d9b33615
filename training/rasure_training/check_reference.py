"""Checks the reference forward pass against an outside truth: the same GGUF file in Hugging Face transformers.

    python -m rasure_training.check_reference MODEL.gguf ...

Both run in float32 on random tokens. Prints the largest difference of logits, the largest logit for scale, and the mean
KL divergence; also the largest difference between one pass and the same tokens in three pieces through the cache. Fails
when a difference is above the tolerance. transformers ignores what a file says of RoPE scaling, of Qwen 3's head dimension
and of Gemma's attention scale: these are set from our reading of the file, so for them only the arithmetic is checked.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

import torch

from .gguf_model import ModelError, load_model
from .reference import Cache, Reference

SEED = 20
TOLERANCE = 2e-3  # of a logit; float32 sums of a few hundred terms in another order


def transformers_logits(path: Path, tokens: torch.Tensor, reference: Reference) -> torch.Tensor:
    """Logits [n, n_vocab] by transformers, which reads the file itself and needs no network for that."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    from transformers import AutoConfig, AutoModelForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    config = reference.config
    their_config = AutoConfig.from_pretrained(path.parent, gguf_file=path.name)
    their_config.head_dim = config.head_dim
    their_config.query_pre_attn_scalar = round(config.attention_scale**-2)
    model = AutoModelForCausalLM.from_pretrained(
        path.parent, gguf_file=path.name, config=their_config, dtype=torch.float32, attn_implementation="eager"
    )
    rotary = model.model.rotary_emb
    inv_freq = rotary.full_attention_inv_freq if config.is_gemma else rotary.inv_freq
    inv_freq.div_(reference.weights.get("rope_freqs.weight", 1.0)).div_(config.rope_factor)
    return model(tokens[None]).logits[0]


def check(path: Path, n_tokens: int) -> bool:
    reference = Reference(load_model(path))
    generator = torch.Generator().manual_seed(SEED)
    tokens = torch.randint(reference.config.n_vocab, (n_tokens,), generator=generator)
    ours = reference.logits(reference.forward(tokens))

    cache = Cache.empty(reference.config)
    pieces = [reference.forward(piece, cache=cache) for piece in tokens.tensor_split(3)]
    cache_difference = (reference.logits(torch.cat(pieces)) - ours).abs().max().item()

    theirs = transformers_logits(path, tokens, reference)
    difference = (ours - theirs).abs().max().item()
    p, q = theirs.double().log_softmax(-1), ours.double().log_softmax(-1)
    kl = (p.exp() * (p - q)).sum(-1).mean().item()
    print(
        f"{path.name}: {n_tokens} tokens, largest difference {difference:.2e} (largest logit {theirs.abs().max().item():.1f}), "
        f"mean KL {kl:.1e}; through the cache {cache_difference:.2e}"
    )
    return max(difference, cache_difference) <= TOLERANCE


def main() -> int:
    parser = argparse.ArgumentParser(prog="rasure_training.check_reference", description=__doc__.split("\n")[0])
    parser.add_argument("models", nargs="+", type=Path, metavar="MODEL", help="GGUF file")
    parser.add_argument("--tokens", type=int, default=96, help="length of the random sequence (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=2, help="threads of PyTorch (default: %(default)s)")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    try:
        with torch.inference_mode():
            results = [check(path, args.tokens) for path in args.models]
    except (ModelError, ImportError) as error:
        print(f"check_reference: {error}", file=sys.stderr)
        return 2
    if not all(results):
        print(f"check_reference: a difference is above {TOLERANCE}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
