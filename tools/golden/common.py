"""What the golden scripts share: loading a model for float32 work, running it, and writing results."""

import json
from pathlib import Path

import mlx.core as mx
import numpy as np
from mlx_lm.models.cache import make_prompt_cache
from mlx_lm.utils import load_model

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "tests" / "golden"

mx.set_default_device(mx.cpu)


def load_f32(folder):
    """Load an MLX folder with mlx-lm; all floating tensors (scales, biases, norms, dense weights) become float32.

    Packed integer weights stay as they are, so only the arithmetic is widened.
    """
    model, _ = load_model(Path(folder))
    model.set_dtype(mx.float32)
    mx.eval(model.parameters())
    return model


def all_logits(model, tokens):
    """Logits at every position of one forward pass without a cache: float32 [n, vocab]."""
    out = model(mx.array(tokens, dtype=mx.int32)[None])[0]
    assert out.dtype == mx.float32
    return np.array(out)


def greedy(model, prompt, count):
    """Continue `prompt` by `count` tokens of largest logit, with a KV cache, one token at a time.

    Returns the tokens and, for each, the distance between the largest and the second largest logit.
    """
    cache = make_prompt_cache(model)
    step = mx.array(prompt, dtype=mx.int32)
    tokens, margins = [], []
    for _ in range(count):
        logits = np.array(model(step[None], cache=cache)[0, -1])
        second, first = np.sort(logits)[-2:]
        tokens.append(int(logits.argmax()))
        margins.append(float(first - second))
        step = mx.array(tokens[-1:], dtype=mx.int32)
    return np.array(tokens, np.int32), np.array(margins, np.float32)


def cache_noise(model, prompt, continuation, margins):
    """Check a greedy path against one uncached pass over it; returns the largest difference between the margins."""
    path = np.concatenate([np.array(prompt, np.int32), continuation])
    logits = all_logits(model, path[:-1])[len(prompt) - 1 :]
    assert (logits.argmax(-1) == continuation).all(), "cached and uncached passes choose different tokens"
    top = np.sort(logits, axis=-1)
    return float(np.abs(top[:, -1] - top[:, -2] - margins).max())


SAFETENSORS_NAME = {
    mx.float32: "F32", mx.float16: "F16", mx.bfloat16: "BF16", mx.uint32: "U32", mx.int32: "I32",
}


def save(path, tensors, metadata):
    """Write a safetensors file whose tensors all lie at multiples of their item size; metadata values are strings.

    (MLX's own writer, used for the model folders, aligns nothing.)
    """
    arrays = {k: v if isinstance(v, mx.array) else mx.array(v) for k, v in tensors.items()}
    header, parts, offset = {"__metadata__": metadata}, [], 0
    # Wider items first; equal ones keep the order of the caller.
    for name, array in sorted(arrays.items(), key=lambda item: -item[1].itemsize):
        raw = np.array(array.view(mx.uint16) if array.dtype == mx.bfloat16 else array).tobytes()
        header[name] = {
            "dtype": SAFETENSORS_NAME[array.dtype],
            "shape": list(array.shape),
            "data_offsets": [offset, offset + len(raw)],
        }
        parts.append(raw)
        offset += len(raw)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(len(text).to_bytes(8, "little") + text + b"".join(parts))
