"""Tokens a second of MLX on the CPU: `mlx_speed.py FOLDER THREADS PROMPT DECODE`, one line of JSON.

MLX has no setting for its threads on the CPU; the second argument is there for the sake of the others. Activations are
float32, in which it is fastest there.
"""

import json
import pathlib
import sys
import time

import mlx.core as mx
from mlx_lm.models.cache import make_prompt_cache
from mlx_lm.utils import load_model


def main():
    path, _, prompt, decode = sys.argv[1], *map(int, sys.argv[2:5])
    model, config = load_model(pathlib.Path(path))
    model.set_dtype(mx.float32)
    mx.eval(model.parameters())
    cache = make_prompt_cache(model)

    def run(tokens):
        token = mx.argmax(model(tokens, cache=cache)[:, -1], -1)
        mx.eval(token)
        return token

    tokens = [i * 2654435761 % config["vocab_size"] for i in range(1, prompt + 1)]
    start = time.perf_counter()
    token = run(mx.array([tokens]))
    middle = time.perf_counter()
    for _ in range(decode):
        token = run(token[:, None])
    end = time.perf_counter()
    print(json.dumps({"prompt": prompt / (middle - start), "decode": decode / (end - middle)}))


if __name__ == "__main__":
    main()
