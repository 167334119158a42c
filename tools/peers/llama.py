"""Tokens a second of llama.cpp: `llama.py MODEL.gguf THREADS PROMPT DECODE [plain]`, one line of JSON.

`plain` keeps the weights as they lie in the file, which leaves llama.cpp's kernels for weights that it packs anew out.
"""

import json
import sys
import time

import llama_cpp

CONTEXT = 1024


def main():
    path, threads, prompt, decode = sys.argv[1], *map(int, sys.argv[2:5])
    llama_cpp.llama_backend_init()
    params = llama_cpp.llama_model_default_params()
    params.n_gpu_layers = 0
    params.use_extra_bufts = "plain" not in sys.argv[5:]
    model = llama_cpp.llama_model_load_from_file(path.encode(), params)
    params = llama_cpp.llama_context_default_params()
    params.n_ctx = params.n_batch = CONTEXT
    params.n_threads = params.n_threads_batch = threads
    context = llama_cpp.llama_init_from_model(model, params)

    def run(tokens):
        """Appends tokens. Choosing the next one is left out, as llama-bench does: Kovar's figures have it."""
        # Kept by name: the batch only points to it.
        numbers = (llama_cpp.llama_token * len(tokens))(*tokens)
        if llama_cpp.llama_decode(context, llama_cpp.llama_batch_get_one(numbers, len(tokens))):
            sys.exit("llama.cpp: decoding failed")
        llama_cpp.llama_synchronize(context)

    vocab = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(model))
    tokens = [i * 2654435761 % vocab for i in range(1, prompt + 1)]
    # The first text warms up: it reads the file.
    for _ in range(2):
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(context), True)
        start = time.perf_counter()
        run(tokens)
        middle = time.perf_counter()
        for i in range(decode):
            run([tokens[i % prompt]])
        end = time.perf_counter()
    print(json.dumps({"prompt": prompt / (middle - start), "decode": decode / (end - middle)}))


if __name__ == "__main__":
    main()
