"""Kovar against llama.cpp and MLX on the CPU, in turn, as a Markdown table.

`compare.py MODELS --kovar PROGRAM`, with the folder that models.py made and the command `kovar`; `--help` lists the sizes that
can be chosen.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys


def once(command):
    """Rates from the last line of JSON that a program prints, or nothing if the program fails: that is said, and shown."""
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode or not lines:
        print(f"failed with {done.returncode}: {command}\n{done.stderr[-500:]}", file=sys.stderr)
        return None
    rates = json.loads(lines[-1])
    if "backend" in rates:
        # Of Kovar, which also tells how much of what the memory can do, as it was just then, decoding reads.
        decode = rates["decode"]
        rates = {kind: rates[kind]["tokens_per_s"]["median"] for kind in ("prompt", "decode")}
        rates["share"], rates["peak"] = decode["of_read_peak"], decode["read_peak_bytes_per_s"]
    return rates


def cell(values, reference):
    if not values:
        return "failed"
    middle = statistics.median(values)
    spread = f"{middle:.4g} ({min(values):.4g}–{max(values):.4g})"
    return spread if reference is None else f"{spread}, {statistics.median(reference) / middle:.2f} x"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("models", type=pathlib.Path)
    parser.add_argument("--kovar", type=pathlib.Path, required=True)
    parser.add_argument("--amx", type=pathlib.Path, help="Python of an environment whose llama.cpp has AMX kernels")
    parser.add_argument("--amx-prompt", type=int, default=1, help="its prompt: a longer one dies where AMX is forbidden")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--prompt", type=int, default=128)
    parser.add_argument("--decode", type=int, default=64)
    parser.add_argument("--mlx-prompt", type=int, default=8)
    parser.add_argument("--mlx-decode", type=int, default=4, help="0 leaves MLX out")
    a = parser.parse_args()
    here = pathlib.Path(__file__).parent
    sizes = [a.threads, a.prompt, a.decode]
    kovar = [a.kovar, "bench", "--model", a.models / "mlx-4bit", "--device", "cpu", "--threads", a.threads, "--json"]
    kovar += ["--prompt", a.prompt, "--ctx", a.prompt, "--gen", a.decode, "--rounds", 1]
    commands = {"Kovar": [*kovar, "--copy-weights"], "Kovar, weights as in the file": kovar}
    other_prompts = set()
    llama = [here / "llama.py", a.models / "q4_0.gguf"]
    commands["llama.cpp Q4_0, weights as in the file"] = [sys.executable, *llama, *sizes, "plain"]
    commands["llama.cpp Q4_0, its own layout"] = [sys.executable, *llama, *sizes]
    if a.amx:
        name = f"llama.cpp Q4_0, its layout for AMX (prompt {a.amx_prompt})"
        commands[name] = [a.amx, *llama, a.threads, a.amx_prompt, a.decode]
        if a.amx_prompt != a.prompt:
            other_prompts.add(name)
    if a.mlx_decode:
        mlx = [sys.executable, here / "mlx_speed.py", a.models / "mlx-4bit", a.threads, a.mlx_prompt, a.mlx_decode]
        name = f"MLX (prompt {a.mlx_prompt}, decode {a.mlx_decode})"
        commands[name] = mlx
        if a.mlx_prompt != a.prompt:
            other_prompts.add(name)
    results = {name: [] for name in commands}
    for number in range(a.rounds):
        for name, command in commands.items():
            result = once(command)
            if result:
                results[name].append(result)
                print(f"round {number + 1}: {name}: {result}", file=sys.stderr)
    print(f"| {a.threads} threads, {a.rounds} rounds in turn | prompt {a.prompt}, tokens/s | decode {a.decode}, tokens/s |")
    print("|---|---|---|")
    for name, runs in results.items():
        cells = []
        for kind in ("prompt", "decode"):
            compared = not name.startswith("Kovar") and not (kind == "prompt" and name in other_prompts)
            reference = [run[kind] for run in results["Kovar"]] if compared else None
            cells.append(cell([run[kind] for run in runs], reference))
        print(f"| {name} | {cells[0]} | {cells[1]} |")
    shares, peaks = ([run[kind] for run in results["Kovar"]] for kind in ("share", "peak"))
    if shares:
        peaks = [peak / 1e9 for peak in peaks]
        print(f"\nKovar's decoding reads {cell([100 * share for share in shares], None)} % of the {cell(peaks, None)} GB/s")
        print("that reading alone reached in the same runs.")
    print(f"\nLoad when it ended: {os.getloadavg()[0]:.2f}.", file=sys.stderr)


if __name__ == "__main__":
    main()
