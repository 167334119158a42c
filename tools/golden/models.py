"""Random small models as MLX folders, built and saved with mlx-lm, with goldens computed in float32.

Between them they cover Llama and Qwen3, both ways to tie the head, every scale dtype, 4 and 8 bits, groups of
32, 64 and 128, rope scaling, per-layer quantisation, sharding, and sizes that are no multiple of a tile.
"""

import contextlib
import json
import shutil

import mlx.core as mx
import numpy as np
from mlx.utils import tree_flatten
from mlx_lm.utils import _get_classes, get_total_parameters, quantize_model, save_config

from common import GOLDEN, all_logits, cache_noise, greedy, load_f32, save

TOKENS = 40
PROMPT = 8
NEW_TOKENS = 24
# Float32 rounding moves these logits by about 1e-5 (check.py measures it).
MIN_MARGIN = 5e-3
MIN_DISTINCT = 8
EOS = 2

LLAMA3_SCALING = {
    # A short original context puts all three bands of the scaling within the 40 positions tested.
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}


def shape(kind, hidden, heads, kv, head_dim, intermediate, vocab, tied, **more):
    """The part of a config.json that says what the model is."""
    config = {
        "model_type": kind,
        "architectures": [{"llama": "LlamaForCausalLM", "qwen3": "Qwen3ForCausalLM"}[kind]],
        "hidden_size": hidden,
        "num_attention_heads": heads,
        "num_key_value_heads": kv,
        "head_dim": head_dim,
        "intermediate_size": intermediate,
        "vocab_size": vocab,
        "tie_word_embeddings": tied,
        "num_hidden_layers": 2,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "rope_scaling": None,
        "max_position_embeddings": 512,
        "hidden_act": "silu",
        "attention_bias": False,
        "bos_token_id": 1,
        "eos_token_id": EOS,
    }
    return {k: v for k, v in (config | more).items() if v is not DROP}


DROP = object()

# name: (config, dtype, (bits, group) or None, per-layer settings, shards)
MODELS = {
    "llama-q4g64-bf16-rope3": (
        shape("llama", 192, 3, 1, 64, 320, 301, False, rope_theta=500000.0, rope_scaling=LLAMA3_SCALING),
        "bfloat16", (4, 64), {}, 1,
    ),
    "llama-q8g32-f16-linear": (
        shape("llama", 128, 2, 1, 128, 160, 131, True, rope_scaling={"type": "linear", "factor": 4.0}),
        "float16", (8, 32), {}, 1,
    ),
    # No head_dim in the config (hidden / heads), as many key as query heads.
    "llama-q4g32-f32-mha": (
        shape("llama", 128, 2, 2, DROP, 224, 257, True, rope_theta=DROP, mlp_bias=False),
        "float32", (4, 32), {}, 1,
    ),
    "llama-dense-bf16": (
        shape("llama", 96, 3, 1, 64, 136, 103, False),
        "bfloat16", None, {}, 1,
    ),
    "qwen3-q4g64-bf16": (
        shape("qwen3", 192, 6, 2, 64, 192, 301, True, rms_norm_eps=1e-6, rope_theta=1000000.0),
        "bfloat16", (4, 64), {}, 1,
    ),
    "qwen3-q4g128-f16-hd128": (
        shape("qwen3", 128, 4, 2, 128, 256, 517, True, rms_norm_eps=1e-6),
        "float16", (4, 128), {}, 1,
    ),
    "qwen3-q8g64-bf16-sharded": (
        shape("qwen3", 128, 4, 1, 64, 192, 203, False, rms_norm_eps=1e-6),
        "bfloat16", (8, 64), {}, 2,
    ),
    "qwen3-mixed-bf16": (
        shape("qwen3", 128, 6, 2, 64, 192, 197, True, rms_norm_eps=1e-6),
        "bfloat16", (4, 64),
        {
            "model.embed_tokens": {"group_size": 64, "bits": 8},
            "model.layers.0.mlp.down_proj": {"group_size": 32, "bits": 8, "mode": "affine"},
            "model.layers.1.self_attn.k_proj": False,
        },
        1,
    ),
}


def randomise(model, dtype, rng):
    """Weights that spread the logits by a few units and let attention look at more than one position."""
    weights = []
    for path, old in tree_flatten(model.parameters()):
        if "norm" in path:
            new = rng.uniform(0.5, 1.5, old.shape)
        elif "embed_tokens" in path or "lm_head" in path:
            new = rng.normal(0, 2.0 / np.sqrt(old.shape[-1]), old.shape)
        else:
            gain = 1.5 if "q_proj" in path or "k_proj" in path else 1.0
            new = rng.normal(0, gain / np.sqrt(old.shape[-1]), old.shape)
        weights.append((path, mx.array(new.astype(np.float32)).astype(getattr(mx, dtype))))
    model.load_weights(weights)


def write_weights(folder, model, shards):
    """`model.safetensors`, or a row of shards cut at a layer's middle, with their index."""
    weights = sorted(tree_flatten(model.parameters()))
    if shards == 1:
        mx.save_safetensors(str(folder / "model.safetensors"), dict(weights), metadata={"format": "mlx"})
        return
    size = -(-len(weights) // shards)
    index = {
        "metadata": {"total_size": sum(w.nbytes for _, w in weights), "total_parameters": get_total_parameters(model)},
        "weight_map": {},
    }
    for i in range(shards):
        name = f"model-{i + 1:05d}-of-{shards:05d}.safetensors"
        part = dict(weights[i * size : (i + 1) * size])
        mx.save_safetensors(str(folder / name), part, metadata={"format": "mlx"})
        index["weight_map"].update({k: name for k in part})
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=4) + "\n")


def write_model(folder, rng, config, dtype, quant, overrides, shards):
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    config = config | {"torch_dtype": dtype}
    model_class, args_class = _get_classes(config)
    model = model_class(args_class.from_dict(config))
    randomise(model, dtype, rng)
    if quant:
        bits, group = quant
        with contextlib.redirect_stdout(None):
            model, config = quantize_model(
                model, config, group, bits, quant_predicate=lambda path, _: overrides.get(path, True)
            )
        # mlx-lm leaves a refused layer out of the config; others write `false` for it, which mlx-lm reads too.
        config["quantization"].update({k: v for k, v in overrides.items() if v is False})
    write_weights(folder, model, shards)
    save_config(config, folder / "config.json")


def make(name, number):
    config, *_ = MODELS[name]
    folder = GOLDEN / "models" / name
    for attempt in range(100):
        rng = np.random.default_rng([number, attempt])
        write_model(folder, rng, *MODELS[name])
        model = load_f32(folder)
        tokens = rng.integers(0, config["vocab_size"], TOKENS).astype(np.int32)
        continuation, margins = greedy(model, tokens[:PROMPT], NEW_TOKENS)
        varied = len(set(continuation.tolist())) >= MIN_DISTINCT and EOS not in continuation
        if varied and margins.min() > MIN_MARGIN:
            break
    else:
        raise SystemExit(f"{name}: no seed gives a greedy path with clear margins")
    noise = cache_noise(model, tokens[:PROMPT], continuation, margins)
    save(
        folder / "golden.safetensors",
        {
            "tokens": tokens,
            "logits": all_logits(model, tokens),
            "greedy": continuation,
            "greedy_margins": margins,
        },
        {"compute": "float32", "prompt_len": str(PROMPT), "min_margin": json.dumps(float(margins.min()))},
    )
    kib = sum(f.stat().st_size for f in folder.iterdir()) // 1024
    print(f"{name}: seed {attempt}, {kib} KiB, smallest margin {margins.min():.4f}, cache noise {noise:.1e}")


def main():
    for number, name in enumerate(MODELS):
        make(name, number)


if __name__ == "__main__":
    main()
