"""Goldens of single operations, computed by mlx.core in float32; one file an operation, many cases in each.

Each result is also computed in float64 here, and the case records how far MLX lies from it (`mlx_error`), or is
found equal bit for bit and says so (`exact`).
"""

import json

import mlx.core as mx
import numpy as np
from mlx_lm.models.rope_utils import Llama3RoPE

from common import GOLDEN, save

DTYPES = {"f32": mx.float32, "f16": mx.float16, "bf16": mx.bfloat16}


class Cases:
    """Collects the cases of one file."""

    def __init__(self, op, seed):
        self.op, self.rng, self.tensors, self.params, self.worst = op, np.random.default_rng(seed), {}, [], 0.0

    def add(self, tensors, params, result=None, exact=None):
        """`result` names the tensor that `exact` (float64) is compared with; without it the case is bit exact."""
        tensors = {k: v if isinstance(v, mx.array) else mx.array(v) for k, v in tensors.items()}
        if result is None:
            params = params | {"exact": True}
        else:
            got = np.array(tensors[result], np.float64)
            error, largest = np.abs(got - exact).max(), np.abs(exact).max()
            assert error <= 2e-5 * max(largest, 1e-3), (self.op, params, error, largest)
            self.worst = max(self.worst, error / largest)
            params = params | {"exact": False, "mlx_error": float(error), "max_abs": float(largest)}
        params["shapes"] = {k: list(v.shape) for k, v in tensors.items()}
        n = len(self.params)
        self.params.append(params)
        self.tensors |= {f"case{n}.{k}": v for k, v in tensors.items()}

    def normal(self, *shape, scale=1.0):
        return self.rng.normal(0, scale, shape).astype(np.float32)

    def save(self):
        meta = {f"case{i}": json.dumps(p, sort_keys=True) for i, p in enumerate(self.params)}
        path = GOLDEN / "ops" / f"{self.op}.safetensors"
        save(path, self.tensors, meta | {"op": self.op, "cases": str(len(self.params))})
        print(f"{self.op}: {len(self.params)} cases, {path.stat().st_size // 1024} KiB, worst error / largest value {self.worst:.1e}")


def bits_equal(a, b):
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


def f64(a):
    """An MLX array of any float dtype as float64, exactly."""
    return np.array(a.astype(mx.float32)).astype(np.float64)


def f32(a):
    return a.astype(mx.float32)


def to_bf16(x):
    """float32 rounded to bfloat16, to nearest, ties to even, as the 16 bits; no NaN."""
    u = np.ascontiguousarray(x, np.float32).view(np.uint32).astype(np.uint64)
    return ((u + 0x7FFF + ((u >> 16) & 1)) >> 16).astype(np.uint16)


def rounder(dtype):
    """What storing a float32 in `dtype` does to it."""
    return {
        "f32": lambda x: x.astype(np.float32),
        "f16": lambda x: x.astype(np.float16).astype(np.float32),
        "bf16": lambda x: (to_bf16(x).astype(np.uint32) << 16).view(np.float32),
    }[dtype]


def unpack(codes, bits):
    words = np.array(codes)
    q = (words[..., None] >> (np.arange(32 // bits, dtype=np.uint32) * bits)) & ((1 << bits) - 1)
    return q.reshape(*words.shape[:-1], -1)


def quantised(c, rows, cols, bits, group, dtype):
    w = mx.array(c.normal(rows, cols, scale=1 / np.sqrt(cols))).astype(DTYPES[dtype])
    return mx.quantize(w, group_size=group, bits=bits)


def dequantised_f64(codes, scales, biases, bits):
    q = unpack(codes, bits).astype(np.float64)
    q = q.reshape(*scales.shape, -1)
    return (q * f64(scales)[..., None] + f64(biases)[..., None]).reshape(scales.shape[0], -1)


def rms_norm():
    c = Cases("rms_norm", 1)
    plan = [(d, rows, dt, eps) for d, rows in ((64, 1), (64, 7), (128, 33), (384, 3), (100, 5), (1, 2), (1000, 3))
            for dt, eps in (("f32", 1e-6), ("bf16", 1e-5), ("f16", 1e-6))] + [(384, 5, None, 1e-6)]
    for d, rows, dtype, eps in plan:
        x = c.normal(rows, d)
        if rows >= 5:
            # Rows where eps rules, where it is nothing, and all zeros.
            x[1] *= 1e-4
            x[2] *= 1e3
            x[3] = 0
        w = None if dtype is None else mx.array(c.rng.uniform(-2, 2, d).astype(np.float32)).astype(DTYPES[dtype])
        y = mx.fast.rms_norm(mx.array(x), None if w is None else f32(w), eps)
        wide = x.astype(np.float64)
        exact = wide / np.sqrt((wide**2).mean(-1, keepdims=True) + eps) * (1.0 if w is None else f64(w))
        tensors = {"x": x, "y": y} | ({} if w is None else {"w": w})
        c.add(tensors, {"rows": rows, "dim": d, "weight_dtype": dtype, "eps": eps}, "y", exact)
    c.save()


def rope():
    c = Cases("rope", 2)
    llama3 = {
        "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64,
    }
    llama32 = llama3 | {"factor": 32.0, "original_max_position_embeddings": 8192}
    plan = [
        # head_dim, heads, tokens, offset, base, scale, llama3 scaling
        (64, 2, 1, 0, 10000.0, 1.0, None),
        (64, 6, 5, 0, 10000.0, 1.0, None),
        (64, 3, 7, 33, 10000.0, 1.0, None),
        (64, 2, 1, 517, 1000000.0, 1.0, None),
        (128, 2, 9, 0, 500000.0, 1.0, None),
        (128, 1, 3, 100, 1000000.0, 1.0, None),
        (128, 3, 6, 21, 10000.0, 0.25, None),
        (64, 3, 11, 40, 10000.0, 1.0, llama3),
        (128, 2, 5, 77, 500000.0, 1.0, llama3),
        (128, 2, 4, 200, 500000.0, 1.0, llama32),
        (32, 1, 3, 5, 10000.0, 1.0, None),
        (256, 1, 2, 50, 10000.0, 1.0, None),
    ]
    for dim, heads, tokens, offset, base, scale, scaling in plan:
        x = c.normal(tokens, heads, dim)
        freqs = None if scaling is None else Llama3RoPE(dim, base=base, scaling_config=scaling)._freqs
        y = mx.fast.rope(
            mx.array(x).transpose(1, 0, 2)[None], dim, traditional=False,
            base=base if freqs is None else None, scale=scale, offset=offset, freqs=freqs,
        )[0].transpose(1, 0, 2)
        inv = base ** -(np.arange(0, dim, 2) / dim) if freqs is None else 1 / f64(freqs)
        angle = ((np.arange(tokens) + offset) * scale)[:, None, None] * inv
        a, b = np.split(x.astype(np.float64), 2, -1)
        exact = np.concatenate([a * np.cos(angle) - b * np.sin(angle), b * np.cos(angle) + a * np.sin(angle)], -1)
        tensors = {"x": x, "y": mx.contiguous(y)} | ({} if freqs is None else {"freqs": freqs})
        c.add(
            tensors,
            {"head_dim": dim, "heads": heads, "tokens": tokens, "offset": offset, "base": base, "scale": scale,
             "rope_scaling": scaling},
            "y", exact,
        )
    c.save()


def special_rows(c, cols, group):
    """Rows that reach every branch of the affine quantiser."""
    w = c.normal(8, cols)
    w[1] = 0
    w[2] = 0.75
    w[3] = np.abs(w[3])
    w[4] = -np.abs(w[4]) - 1
    w[5] *= 1e-3
    w[5, ::group] = 3
    w[6, ::group] = -50
    w[7] = np.arange(cols) % 16 - 8
    return w


def quantize():
    c = Cases("quantize", 3)
    for bits in (4, 8):
        for group in (32, 64, 128):
            for dtype in DTYPES:
                w = mx.array(special_rows(c, 3 * group, group)).astype(DTYPES[dtype])
                codes, scales, biases = mx.quantize(w, group_size=group, bits=bits)
                own = mx.dequantize(codes, scales, biases, group_size=group, bits=bits)
                wide = mx.dequantize(codes, f32(scales), f32(biases), group_size=group, bits=bits)
                round_ = rounder(dtype)
                q = unpack(codes, bits).astype(np.float32).reshape(*scales.shape, group)
                s, b = (np.array(f32(a))[..., None] for a in (scales, biases))
                assert bits_equal(round_(round_(q * s) + b).reshape(w.shape), np.array(f32(own))), (bits, group, dtype)
                assert bits_equal((q * s + b).reshape(w.shape), np.array(wide)), (bits, group, dtype)
                c.add(
                    {"w": w, "codes": codes, "scales": scales, "biases": biases, "dequantized": own,
                     "dequantized_f32": wide},
                    {"bits": bits, "group_size": group, "dtype": dtype},
                )
    c.save()


def embedding():
    c = Cases("embedding", 4)
    for bits in (4, 8):
        for group in (32, 64, 128):
            for dtype in DTYPES:
                vocab, dim = 37, 2 * group + (group if bits == 4 else 0)
                codes, scales, biases = quantised(c, vocab, dim, bits, group, dtype)
                ids = np.array([0, vocab - 1, 5, 5, *c.rng.integers(0, vocab, 3)], np.int32)
                rows = mx.array(ids)
                y = mx.dequantize(codes[rows], f32(scales)[rows], f32(biases)[rows], group_size=group, bits=bits)
                q = unpack(codes, bits).astype(np.float32).reshape(*scales.shape, group)
                s, b = (np.array(f32(a))[..., None] for a in (scales, biases))
                assert bits_equal((q * s + b).reshape(vocab, dim)[ids], np.array(y))
                c.add(
                    {"ids": ids, "codes": codes, "scales": scales, "biases": biases, "y": y},
                    {"bits": bits, "group_size": group, "dtype": dtype, "vocab": vocab, "dim": dim},
                )
    for dtype in DTYPES:
        w = mx.array(c.normal(23, 60)).astype(DTYPES[dtype])
        ids = np.array([22, 0, 7, 7, 13], np.int32)
        y = f32(w)[mx.array(ids)]
        assert bits_equal(np.array(f32(w))[ids], np.array(y))
        c.add({"ids": ids, "w": w, "y": y}, {"bits": None, "dtype": dtype, "vocab": 23, "dim": 60})
    c.save()


ROWS = [1, 2, 7, 33]


def quantized_matmul():
    c = Cases("quantized_matmul", 5)
    for bits in (4, 8):
        for group in (32, 64, 128):
            for dtype in DTYPES:
                for n, k in ((37, 3 * group), (301, 384 if group == 128 else 320)):
                    if n == 301 and dtype == "f32" and bits == 8:
                        continue
                    codes, scales, biases = quantised(c, n, k, bits, group, dtype)
                    x = c.normal(max(ROWS), k)
                    y = mx.quantized_matmul(
                        mx.array(x), codes, f32(scales), f32(biases), transpose=True, group_size=group, bits=bits
                    )
                    exact = x.astype(np.float64) @ dequantised_f64(codes, scales, biases, bits).T
                    c.add(
                        {"x": x, "codes": codes, "scales": scales, "biases": biases, "y": y},
                        {"bits": bits, "group_size": group, "dtype": dtype, "rows": ROWS, "n": n, "k": k},
                        "y", exact,
                    )
    c.save()


def matmul():
    c = Cases("matmul", 6)
    for dtype in DTYPES:
        for n, k in ((37, 100), (64, 64), (1, 33), (301, 136)):
            w = mx.array(c.normal(n, k, scale=1 / np.sqrt(k))).astype(DTYPES[dtype])
            x = c.normal(max(ROWS), k)
            y = mx.array(x) @ f32(w).T
            c.add({"x": x, "w": w, "y": y}, {"dtype": dtype, "rows": ROWS, "n": n, "k": k}, "y", x.astype(np.float64) @ f64(w).T)
    c.save()


def attention():
    c = Cases("attention", 7)
    plan = [(heads, t, n) for heads in ((6, 2, 64), (3, 1, 128), (2, 2, 64))
            for t, n in ((1, 1), (1, 2), (1, 37), (1, 130), (7, 7), (33, 33), (5, 41), (17, 64))]
    for (heads, kv, dim), t, n in plan:
        q, k, v = c.normal(t, heads, dim, scale=2.0), c.normal(n, kv, dim), c.normal(n, kv, dim)
        scale = dim**-0.5
        batched = (mx.array(a).transpose(1, 0, 2)[None] for a in (q, k, v))
        y = mx.fast.scaled_dot_product_attention(*batched, scale=scale, mask="causal" if t > 1 else None)
        q6, k6, v6 = (a.astype(np.float64) for a in (q, k, v))
        share = np.arange(heads) // (heads // kv)
        scores = np.einsum("thd,lhd->htl", q6, k6[:, share]) * scale
        scores = np.where(np.arange(n) <= np.arange(n - t, n)[:, None], scores, -np.inf)
        p = np.exp(scores - scores.max(-1, keepdims=True))
        exact = np.einsum("htl,lhd->thd", p / p.sum(-1, keepdims=True), v6[:, share])
        c.add(
            {"q": q, "k": k, "v": v, "y": mx.contiguous(y[0].transpose(1, 0, 2))},
            {"heads": heads, "kv_heads": kv, "head_dim": dim, "tokens": t, "length": n, "offset": n - t, "scale": scale},
            "y", exact,
        )
    c.save()


def elementwise():
    c = Cases("silu_mul", 8)
    for rows, cols in ((1, 1), (1, 37), (7, 320), (33, 100)):
        a, b = c.normal(rows, cols, scale=3.0), c.normal(rows, cols)
        if cols >= 37:
            a[0, :12] = [0, -0.0, 20, -20, 60, -60, 88, -88, 100, -100, 1e-6, -1e-6]
        gate = mx.array(a)
        y = gate * mx.sigmoid(gate) * mx.array(b)
        wide = a.astype(np.float64)
        c.add({"a": a, "b": b, "y": y}, {"rows": rows, "cols": cols}, "y", wide / (1 + np.exp(-wide)) * b)
    c.save()
    c = Cases("add", 9)
    for rows, cols in ((1, 1), (1, 37), (7, 384), (33, 100)):
        a, b = c.normal(rows, cols), c.normal(rows, cols, scale=10.0)
        y = mx.array(a) + mx.array(b)
        assert bits_equal(a + b, np.array(y))
        c.add({"a": a, "b": b, "y": y}, {"rows": rows, "cols": cols})
    c.save()


def argmax():
    c = Cases("argmax", 10)
    for rows, cols in ((1, 1), (3, 37), (2, 301), (1, 4096), (5, 4097)):
        x = c.normal(rows, cols)
        for ties in (False, True) if cols > 1 else (False,):
            if ties:
                # The largest value stands three times in each row: the first place counts.
                for r in range(rows):
                    x[r, c.rng.choice(cols, 3, replace=False)] = x[r].max() + 1
            y = mx.argmax(mx.array(x), axis=-1).astype(mx.int32)
            assert bits_equal(x.argmax(-1).astype(np.int32), np.array(y))
            c.add({"x": mx.array(x), "y": y}, {"rows": rows, "cols": cols, "ties": ties})
    low = np.full((2, 40), -np.inf, np.float32)
    low[0, 17], low[1, 39] = -1e30, -3.0
    y = mx.argmax(mx.array(low), axis=-1).astype(mx.int32)
    assert bits_equal(low.argmax(-1).astype(np.int32), np.array(y))
    c.add({"x": low, "y": y}, {"rows": 2, "cols": 40, "ties": False})
    c.save()


def cast_inputs(c, kind):
    """float32 values around every rounding decision of a 16-bit format: `drop` bits are cut off."""
    drop, top = (13, 15) if kind == "f16" else (16, 127)
    values = [c.normal(200), c.normal(100, scale=1e4)]
    for exponent in range(-top, top + 1, 1 if kind == "f16" else 9):
        base = (np.uint32(exponent + 127) << np.uint32(23)) + (c.rng.integers(0, 1 << (23 - drop), 4, np.uint32) << drop)
        for tail in (0, 1, (1 << (drop - 1)) - 1, 1 << (drop - 1), (1 << (drop - 1)) + 1, (1 << drop) - 1):
            values.append((base.astype(np.uint32) + np.uint32(tail)).view(np.float32))
    # Ties between neighbours of both parities, and the step to the next power of two.
    lattice = (np.uint32(127) << np.uint32(23)) + (np.arange(8, dtype=np.uint32) << np.uint32(drop)) + np.uint32(1 << (drop - 1))
    carry = np.array([0x3FFFFFFF, 0x3FFFF000, 0x3FFF8000], np.uint32)
    values += [lattice.view(np.float32), carry.view(np.float32)]
    if kind == "f16":
        unit = 2.0**-24
        values.append((np.arange(0, 40) * unit / 4).astype(np.float32))
        values.append(np.array([1023.5, 1023, 1023.49, 1024], np.float32) * np.float32(unit))
        edge = [65504, 65519.996, 65520, 65536, 1e30, 3.4e38]
    else:
        values.append(np.array([1, 0x7FFF, 0x8000, 0x8001, 0x18000, 0x17FFF, 0x7FFFFF, 0x7F8000], np.uint32).view(np.float32))
        values.append(np.array([0x7F7F0000, 0x7F7F7FFF, 0x7F7F8000, 0x7F7FFFFF], np.uint32).view(np.float32))
        edge = [1e30, 3.4e38]
    values.append(np.array([0, np.inf] + edge, np.float32))
    both = np.concatenate(values)
    return np.concatenate([both, -both])


def casts():
    c = Cases("cast", 11)
    for kind in ("f16", "bf16"):
        x = cast_inputs(c, kind)
        y = mx.array(x).astype(DTYPES[kind])
        with np.errstate(over="ignore"):
            want = x.astype(np.float16).view(np.uint16) if kind == "f16" else to_bf16(x)
        assert bits_equal(want, np.array(y.view(mx.uint16))), kind
        c.add({"x": x, "y": y}, {"from": "f32", "to": kind})
        back = f32(y)
        c.add({"x": y, "y": back}, {"from": kind, "to": "f32"})
    c.save()


def main():
    for op in (rms_norm, rope, quantize, embedding, quantized_matmul, matmul, attention, elementwise, argmax, casts):
        op()


if __name__ == "__main__":
    main()
