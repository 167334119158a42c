"""Goldens for the model in models/: logits at every position of three prompts and 64 greedy tokens for each."""

import json

import numpy as np
from tokenizers import Tokenizer

from common import GOLDEN, ROOT, all_logits, cache_noise, greedy, load_f32, save

MODEL = ROOT / "models" / "rustdoc-14m-mlx-4bit"
START = 0
NEW_TOKENS = 64
# Float32 rounding moves these logits by 2e-5 (check.py measures it).
MIN_MARGIN = 5e-3
PROMPTS = [
    "# The borrow checker",
    "A lifetime is",
    "## Smart pointers\n\nA smart pointer is a data structure that acts like a pointer but also has additional "
    "metadata and capabilities. The most common smart pointers in the standard library are `Box<T>` for "
    "allocating values on the heap, and",
]


def main():
    model = load_f32(MODEL)
    tokenizer = Tokenizer.from_file(str(MODEL / "tokenizer.json"))
    for i, text in enumerate(PROMPTS):
        tokens = np.array([START] + tokenizer.encode(text, add_special_tokens=False).ids, np.int32)
        continuation, margins = greedy(model, tokens, NEW_TOKENS)
        noise = cache_noise(model, tokens, continuation, margins)
        written = tokenizer.decode(continuation.tolist(), skip_special_tokens=False)
        save(
            GOLDEN / "rustdoc-14m" / f"prompt{i}.safetensors",
            {
                "tokens": tokens,
                "logits": all_logits(model, tokens),
                "greedy": continuation,
                "greedy_margins": margins,
            },
            {
                "model": MODEL.name,
                "compute": "float32",
                "text": text,
                "greedy_text": written,
                "min_margin": json.dumps(float(margins.min())),
            },
        )
        print(f"prompt {i}: {len(tokens)} tokens, smallest margin {margins.min():.4f}, cache noise {noise:.1e}")
        print(f"{text}>>>{written}\n")
        assert margins.min() > MIN_MARGIN, "the greedy path hangs on rounding: choose another prompt"
        assert START not in continuation, "the greedy path ends early: choose another prompt"


if __name__ == "__main__":
    main()
