"""Makes tests/golden/affine-dequantize: matrices quantised by MLX in every affine format, with MLX's own dequantised values.

The folder is a model folder like any other: one layer for each width and group size, named b<bits>g<group>, each with its
own setting in config.json. The values `<layer>.expected` are computed in float32 from the stored scales and biases.

Run in the repository root, with MLX 0.32.4 (CPU) installed:  python tools/golden/affine_dequantize.py
"""

import json
import os

import mlx.core as mx

OUT = "tests/golden/affine-dequantize"
N, K = 2, 256
# the group size also picks the type of the scales, so that all three are covered
TYPES = {32: mx.bfloat16, 64: mx.float16, 128: mx.float32}

mx.set_default_device(mx.cpu)
mx.random.seed(20)
tensors = {}
settings = {"group_size": 64, "bits": 4}
for bits in (2, 3, 4, 5, 6, 8):
    for group, dtype in TYPES.items():
        layer = f"b{bits}g{group}"
        w = mx.random.normal((N, K)).astype(dtype)
        packed, scales, biases = mx.quantize(w, group_size=group, bits=bits)
        expected = mx.dequantize(
            packed, scales.astype(mx.float32), biases.astype(mx.float32), group_size=group, bits=bits
        )
        tensors |= {
            f"{layer}.weight": packed,
            f"{layer}.scales": scales,
            f"{layer}.biases": biases,
            f"{layer}.expected": expected,
        }
        settings[layer] = {"group_size": group, "bits": bits}

os.makedirs(OUT, exist_ok=True)
mx.save_safetensors(f"{OUT}/model.safetensors", tensors, metadata={"format": "mlx"})
with open(f"{OUT}/config.json", "w") as f:
    json.dump({"quantization": settings}, f, indent=1)
    f.write("\n")
