"""Turns a PEFT adapter into an adapter file of rasure.

    python -m rasure_training.eraser.convert PEFT_FOLDER BASE.gguf OUT.gguf --kind steer --window 64 --sinks 4

Reads `adapter_config.json` and `adapter_model.safetensors`. The base is the GGUF file that the adapter will run beside.
llama.cpp's converter permutes the rows of q and k of `llama` models for its form of RoPE; rows of their B are permuted alike.
In the last layer only k and v are kept: an erase pass needs nothing else of it.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from ..gguf_model import Config, GgufFile, ModelError, read_config
from .adapter_file import KINDS, TYPES, Adapter, AdapterError, adapter_shapes_of, build_lora, write_adapter
from .engine import Settings

# Hugging Face's names of the matrices, by ours.
PEFT_MODULES = {
    "q_proj": "attn_q", "k_proj": "attn_k", "v_proj": "attn_v", "o_proj": "attn_output",
    "gate_proj": "ffn_gate", "up_proj": "ffn_up", "down_proj": "ffn_down",
}  # fmt: skip
TENSOR_NAME = re.compile(r"(?:base_model\.)?(?:model\.)*layers\.(\d+)\.(?:self_attn|mlp)\.(\w+)\.lora_([AB])(?:\.\w+)?\.weight")
# What PEFT can do to a LoRA that a file of ours cannot say.
UNSUPPORTED = ("use_dora", "use_rslora", "rank_pattern", "alpha_pattern", "modules_to_save", "lora_bias", "layer_replication")


def read_config_file(folder: Path) -> dict[str, Any]:
    path = folder / "adapter_config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise AdapterError(f"{path}: {error.strerror}") from error
    except ValueError as error:
        raise AdapterError(f"{path}: not JSON: {error}") from error
    if not isinstance(config, dict):
        raise AdapterError(f"{path}: not a JSON object")
    if config.get("peft_type") != "LORA":
        raise AdapterError(f"{path}: peft_type is {config.get('peft_type')}, not LORA")
    for key in UNSUPPORTED:
        if config.get(key):
            raise AdapterError(f"{path}: {key} is not supported")
    if config.get("bias", "none") != "none":
        raise AdapterError(f"{path}: bias {config['bias']} is not supported")
    if not isinstance(config.get("r"), int) or config["r"] < 1:
        raise AdapterError(f"{path}: r is {config.get('r')}, not a rank")
    if not isinstance(config.get("lora_alpha"), int | float):
        raise AdapterError(f"{path}: lora_alpha is {config.get('lora_alpha')}, not a number")
    modules = config.get("target_modules")
    if not isinstance(modules, list) or not modules:
        raise AdapterError(f"{path}: target_modules is not a list of names")
    for module in modules:
        if module not in PEFT_MODULES:
            raise AdapterError(f"{path}: target module {module} is not one of {', '.join(PEFT_MODULES)}")
    return config


def permute(b: torch.Tensor, n_head: int) -> torch.Tensor:
    """Rows of B [outputs, rank] in llama.cpp's order: from halves of a head to pairs of neighbours."""
    return b.reshape(n_head, 2, b.shape[0] // n_head // 2, -1).transpose(1, 2).reshape(b.shape)


def read_tensors(folder: Path, peft: dict[str, Any], config: Config) -> dict[str, torch.Tensor]:
    """A and B under the names of an adapter file, without those of the last layer that nothing could use."""
    path = folder / "adapter_model.safetensors"
    try:
        loaded = load_file(path)
    except (OSError, SafetensorError) as error:
        raise AdapterError(f"{path}: {error}") from error
    tensors: dict[str, torch.Tensor] = {}
    for name, tensor in loaded.items():
        match = TENSOR_NAME.fullmatch(name)
        if not match or match[2] not in PEFT_MODULES:
            raise AdapterError(f"{path}: the tensor {name} is not part of a LoRA that is supported")
        layer, module, part = int(match[1]), match[2], match[3].lower()
        if module not in peft["target_modules"]:
            raise AdapterError(f"{path}: {name} is not of a target module of adapter_config.json")
        if layer >= config.n_layer:
            raise AdapterError(f"{path}: {name}: the model has only {config.n_layer} layers")
        rank = tensor.shape[0 if part == "a" else 1] if tensor.dim() == 2 else None
        if rank != peft["r"]:
            raise AdapterError(f"{path}: {name} is {tuple(tensor.shape)}, which is not of rank {peft['r']}")
        if layer == config.n_layer - 1 and module not in ("k_proj", "v_proj"):
            continue
        tensor = tensor.float()
        if part == "b" and config.arch == "llama" and module in ("q_proj", "k_proj"):
            n_head = config.n_head if module == "q_proj" else config.n_kv_head
            if tensor.shape[0] != n_head * config.head_dim:
                raise AdapterError(f"{path}: {name} has {tensor.shape[0]} outputs, not {n_head * config.head_dim}")
            tensor = permute(tensor, n_head)
        tensors[f"blk.{layer}.{PEFT_MODULES[module]}.weight.lora_{part}"] = tensor
    for layer in range(config.n_layer):
        for module in peft["target_modules"]:
            name = f"blk.{layer}.{PEFT_MODULES[module]}.weight.lora_"
            needed = layer < config.n_layer - 1 or module in ("k_proj", "v_proj")
            if needed and (name + "a" not in tensors or name + "b" not in tensors):
                raise AdapterError(f"{path}: layer {layer} has no whole pair for {module}")
    return tensors


def convert(folder: Path, base: GgufFile, settings: Settings, name: str, license_: str) -> Adapter:
    peft = read_config_file(folder)
    tensors = read_tensors(folder, peft, read_config(base))
    order = [f"{matrix}.weight.lora_{part}" for matrix in adapter_shapes_of(base) for part in "ab"]
    ordered = {key: tensors[key] for key in order if key in tensors}
    lora = build_lora(ordered, float(peft["lora_alpha"]), base, str(folder / "adapter_model.safetensors"))
    training = {"converted_from": "peft", "base_model_name_or_path": peft.get("base_model_name_or_path")}
    return Adapter(settings, lora, base.fingerprint(), name, license_, training)


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="rasure_training.eraser.convert", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, metavar="PEFT_FOLDER")
    parser.add_argument("base", type=Path, metavar="BASE.gguf")
    parser.add_argument("out", type=Path, metavar="OUT.gguf")
    parser.add_argument("--kind", required=True, choices=KINDS)
    parser.add_argument("--window", required=True, type=int, help="rows before the span that an erase pass sees")
    parser.add_argument("--sinks", required=True, type=int, help="first rows of the context that it sees too")
    parser.add_argument("--bridge-tokens", type=int, default=16, help="tokens that a bridge re-encodes (default: %(default)s)")
    parser.add_argument("--name", help="general.name (default: the folder's name)")
    parser.add_argument("--license", default="other", help="general.license, as in apache-2.0 (default: %(default)s)")
    parser.add_argument("--a-type", choices=list(TYPES), default="q8_0", help="of lora_a (default: %(default)s)")
    parser.add_argument("--b-type", choices=list(TYPES), default="f16", help="of lora_b (default: %(default)s)")
    args = parser.parse_args()
    settings = Settings(args.kind, args.window, args.sinks, args.bridge_tokens if args.kind == "bridge" else 0)
    try:
        base = GgufFile(args.base)
        adapter = convert(args.folder, base, settings, args.name or args.folder.resolve().name, args.license)
        size = write_adapter(args.out, base, adapter, args.a_type, args.b_type)
    except (AdapterError, ModelError, OSError) as error:
        print(f"convert: {error}", file=sys.stderr)
        return 1
    print(f"{args.out}: {size} bytes, {args.kind}, rank {adapter.lora.rank}, {len(adapter.lora.a)} matrices")
    return 0


if __name__ == "__main__":
    sys.exit(main())
