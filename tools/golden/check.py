"""Recomputes every model golden from the files on disk in numpy float64, sharing no code with MLX.

Prints, for each, how far MLX's float32 result lies from the exact one (so: which tolerance is fair), and how far
typical mistakes would move it (so: which of them the golden would notice).
"""

import json
import sys

import numpy as np

from common import GOLDEN, ROOT

DTYPES = {"F32": np.float32, "F16": np.float16, "U32": np.uint32, "I32": np.int32, "BF16": np.uint16}


def read_safetensors(path):
    raw = path.read_bytes()
    start = 8 + int.from_bytes(raw[:8], "little")
    tensors = {}
    for name, info in json.loads(raw[8:start]).items():
        if name == "__metadata__":
            continue
        a, b = info["data_offsets"]
        data = np.frombuffer(raw[start + a : start + b], DTYPES[info["dtype"]]).reshape(info["shape"])
        if info["dtype"] == "BF16":
            data = (data.astype(np.uint32) << 16).view(np.float32)
        tensors[name] = data if data.dtype.kind in "ui" else data.astype(np.float64)
    return tensors


class Reference:
    """Llama and Qwen3 in float64; `fault` names one deliberate mistake."""

    def __init__(self, folder, fault=None):
        self.cfg = json.loads((folder / "config.json").read_text())
        self.fault = fault
        index = folder / "model.safetensors.index.json"
        if index.exists():
            files = sorted(set(json.loads(index.read_text())["weight_map"].values()))
        else:
            files = ["model.safetensors"]
        self.t = {}
        for file in files:
            self.t.update(read_safetensors(folder / file))

    def weight(self, path):
        """The weight at `path`, dequantised by what the config says of it."""
        w = self.t[path + ".weight"]
        q = self.cfg.get("quantization")
        own = q.get(path, q) if q else False
        assert (own is not False) == (path + ".scales" in self.t), path
        if own is False:
            return w
        bits, group = own["bits"], own["group_size"]
        per_word = 32 // bits
        codes = (w[..., None] >> (np.arange(per_word, dtype=np.uint32) * bits)) & ((1 << bits) - 1)
        codes = codes.reshape(w.shape[0], -1, group).astype(np.float64)
        scales, biases = self.t[path + ".scales"], self.t[path + ".biases"]
        return (codes * scales[..., None] + biases[..., None]).reshape(w.shape[0], -1)

    def norm(self, x, path):
        eps = self.cfg["rms_norm_eps"]
        return x / np.sqrt((x * x).mean(-1, keepdims=True) + eps) * self.t[path + ".weight"]

    def inv_freq(self, dim):
        inv = self.cfg.get("rope_theta", 10000.0) ** -(np.arange(0, dim, 2) / dim)
        s = self.cfg.get("rope_scaling")
        if not s or self.fault == "no rope scaling":
            return inv
        kind = s.get("type") or s.get("rope_type", "default")
        if kind == "linear":
            return inv / s["factor"]
        if kind == "default":
            return inv
        assert kind == "llama3", kind
        length, low, high = s["original_max_position_embeddings"], s["low_freq_factor"], s["high_freq_factor"]
        wave = 2 * np.pi / inv
        smooth = (length / wave - low) / (high - low)
        mid = inv * ((1 - smooth) / s["factor"] + smooth)
        return np.where(wave > length / low, inv / s["factor"], np.where(wave < length / high, inv, mid))

    def rope(self, x):
        """x: [T, H, D]; the first half of D turns with the second."""
        if self.fault == "no rope":
            return x
        half = x.shape[-1] // 2
        angle = np.arange(x.shape[0])[:, None] * self.inv_freq(x.shape[-1])
        cos, sin = np.cos(angle)[:, None], np.sin(angle)[:, None]
        if self.fault == "interleaved rope":
            a, b = x[..., 0::2], x[..., 1::2]
            return np.stack([a * cos - b * sin, a * sin + b * cos], -1).reshape(x.shape)
        a, b = x[..., :half], x[..., half:]
        return np.concatenate([a * cos - b * sin, b * cos + a * sin], -1)

    def attention(self, x, path):
        c, n = self.cfg, x.shape[0]
        heads, kv = c["num_attention_heads"], c.get("num_key_value_heads", c["num_attention_heads"])
        dim = c.get("head_dim") or c["hidden_size"] // heads
        q, k, v = (
            (x @ self.weight(f"{path}.{p}_proj").T).reshape(n, h, dim) for p, h in (("q", heads), ("k", kv), ("v", kv))
        )
        if c["model_type"] == "qwen3" and self.fault != "no q/k norm":
            q, k = self.norm(q, path + ".q_norm"), self.norm(k, path + ".k_norm")
        q, k = self.rope(q), self.rope(k)
        share = np.arange(heads) % kv if self.fault == "wrong kv head" else np.arange(heads) // (heads // kv)
        scores = np.einsum("thd,lhd->htl", q, k[:, share]) / np.sqrt(dim)
        if self.fault != "no causal mask":
            scores = np.where(np.tri(n, dtype=bool), scores, -np.inf)
        p = np.exp(scores - scores.max(-1, keepdims=True))
        p /= p.sum(-1, keepdims=True)
        out = np.einsum("htl,lhd->thd", p, v[:, share]).reshape(n, heads * dim)
        return out @ self.weight(f"{path}.o_proj").T

    def logits(self, tokens):
        embedding = self.weight("model.embed_tokens")
        h = embedding[tokens]
        for i in range(self.cfg["num_hidden_layers"]):
            path = f"model.layers.{i}"
            h = h + self.attention(self.norm(h, path + ".input_layernorm"), path + ".self_attn")
            x = self.norm(h, path + ".post_attention_layernorm")
            gate, up = (x @ self.weight(f"{path}.mlp.{p}_proj").T for p in ("gate", "up"))
            h = h + (gate / (1 + np.exp(-gate)) * up) @ self.weight(f"{path}.mlp.down_proj").T
        h = self.norm(h, "model.norm")
        tied = self.cfg.get("tie_word_embeddings", True)
        return h @ (embedding if tied else self.weight("lm_head")).T


def faults(cfg):
    found = ["no rope", "interleaved rope", "no causal mask"]
    if cfg.get("rope_scaling"):
        found.append("no rope scaling")
    if cfg["model_type"] == "qwen3":
        found.append("no q/k norm")
    if 1 < cfg["num_key_value_heads"] < cfg["num_attention_heads"]:
        found.append("wrong kv head")
    return found


def check(folder, golden, prompt_len):
    """`prompt_len`: how many of `tokens` the greedy path starts from (None: all)."""
    g = read_safetensors(golden)
    tokens, greedy = g["tokens"], g["greedy"]
    exact = Reference(folder)
    expected = exact.logits(tokens)
    error = np.abs(expected - g["logits"]).max()
    start = tokens[:prompt_len]
    path = np.concatenate([start, greedy])[:-1]
    steps = exact.logits(path)[len(start) - 1 :]
    top = np.sort(steps, -1)
    margin = (top[:, -1] - top[:, -2]).min()
    agree = (steps.argmax(-1) == greedy).all()
    print(f"{folder.name} {golden.stem}: max |logit| {np.abs(expected).max():.2f}, std {expected.std():.2f}, MLX f32 - f64 "
          f"{error:.1e}, greedy {'agrees' if agree else 'DIFFERS'}, margin {margin:.4f}, {len(set(greedy.tolist()))} distinct")
    moves = {f: np.abs(Reference(folder, f).logits(tokens) - expected).max() for f in faults(exact.cfg)}
    print("   moved by: " + ", ".join(f"{f} {m:.2g}" for f, m in moves.items()))
    return agree and error < 1e-4 * np.abs(expected).max() and margin > 50 * error and min(moves.values()) > 100 * error


def main():
    shipped = ROOT / "models" / "rustdoc-14m-mlx-4bit"
    good = [check(shipped, p, None) for p in sorted((GOLDEN / "rustdoc-14m").glob("prompt*.safetensors"))]
    for folder in sorted((GOLDEN / "models").glob("*/")):
        good.append(check(folder, folder / "golden.safetensors", 8))
    if not all(good):
        sys.exit("some golden is too far from the exact result, or too blind")


if __name__ == "__main__":
    main()
