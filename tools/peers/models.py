"""Makes one model of random weights, in the shape of Qwen3-0.6B, in the form that each program reads.

`models.py FOLDER` writes FOLDER/mlx-4bit (an MLX folder, 4 bits in groups of 64) and FOLDER/q4_0.gguf (the same weights
as llama.cpp's Q4_0). Nothing is fetched. Takes a minute, 2 GB of disk while it works and 0.8 GB afterwards.
"""

import ctypes
import pathlib
import sys

import gguf
import llama_cpp
import mlx.core as mx
import numpy as np
from mlx.utils import tree_flatten, tree_unflatten
from mlx_lm.models import qwen3
from mlx_lm.utils import quantize_model, save_config, save_model

CONFIG = {
    "architectures": ["Qwen3ForCausalLM"],
    "model_type": "qwen3",
    "hidden_size": 1024,
    "num_hidden_layers": 28,
    "intermediate_size": 3072,
    "num_attention_heads": 16,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "rms_norm_eps": 1e-6,
    "vocab_size": 151936,
    "max_position_embeddings": 40960,
    "rope_theta": 1000000.0,
    "tie_word_embeddings": True,
    "hidden_act": "silu",
    "torch_dtype": "bfloat16",
}

# Names of a layer's tensors in MLX and in GGUF.
LAYER = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def random_model():
    """Norms near one, matrices of deviation 0.02, as trained models have them; bf16."""
    model = qwen3.Model(qwen3.ModelArgs.from_dict(CONFIG))
    mx.random.seed(0)
    weights = []
    for name, value in tree_flatten(model.parameters()):
        noise = 0.02 * mx.random.normal(value.shape)
        weight = (1 + noise if value.ndim == 1 else noise).astype(mx.bfloat16)
        mx.eval(weight)
        weights.append((name, weight))
    model.update(tree_unflatten(weights))
    return model


def gguf_name(name):
    if name == "model.embed_tokens.weight":
        return "token_embd.weight"
    if name == "model.norm.weight":
        return "output_norm.weight"
    _, _, layer, rest = name.split(".", 3)
    return f"blk.{layer}.{LAYER[rest.removesuffix('.weight')]}.weight"


def write_gguf(model, path):
    writer = gguf.GGUFWriter(path, "qwen3")
    writer.add_context_length(CONFIG["max_position_embeddings"])
    writer.add_embedding_length(CONFIG["hidden_size"])
    writer.add_block_count(CONFIG["num_hidden_layers"])
    writer.add_feed_forward_length(CONFIG["intermediate_size"])
    writer.add_head_count(CONFIG["num_attention_heads"])
    writer.add_head_count_kv(CONFIG["num_key_value_heads"])
    writer.add_key_length(CONFIG["head_dim"])
    writer.add_value_length(CONFIG["head_dim"])
    writer.add_rope_freq_base(CONFIG["rope_theta"])
    writer.add_layer_norm_rms_eps(CONFIG["rms_norm_eps"])
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_BF16)
    writer.add_vocab_size(CONFIG["vocab_size"])
    # llama.cpp wants a vocabulary, though tokens are given as numbers here.
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    tokens = [f"<{i}>" for i in range(CONFIG["vocab_size"])]
    writer.add_token_list(tokens)
    writer.add_token_types([gguf.TokenType.NORMAL] * len(tokens))
    writer.add_token_merges([f"{tokens[0]} {tokens[1]}"])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(1)
    for name, value in tree_flatten(model.parameters()):
        bits = np.array(value.view(mx.uint16))
        if bits.ndim == 1:
            writer.add_tensor(gguf_name(name), (bits.astype(np.uint32) << 16).view(np.float32))
        else:
            kind = gguf.GGMLQuantizationType.BF16
            writer.add_tensor(gguf_name(name), bits.view(np.uint8), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def main():
    root = pathlib.Path(sys.argv[1])
    root.mkdir(parents=True, exist_ok=True)
    model = random_model()
    wide = root / "bf16.gguf"
    write_gguf(model, wide)
    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype = llama_cpp.LLAMA_FTYPE_MOSTLY_Q4_0
    params.nthread = 2
    narrow = root / "q4_0.gguf"
    if llama_cpp.llama_model_quantize(str(wide).encode(), str(narrow).encode(), ctypes.byref(params)):
        sys.exit(f"{narrow}: llama.cpp could not quantise")
    wide.unlink()
    model, config = quantize_model(model, dict(CONFIG), group_size=64, bits=4)
    folder = root / "mlx-4bit"
    folder.mkdir(exist_ok=True)
    save_model(folder, model, donate_model=True)
    save_config(config, folder / "config.json")


if __name__ == "__main__":
    main()
