#!/usr/bin/env python3
"""Times training steps of PyTorch's GRU and LSTM on the shapes of recurrent.bench.cpp, beside its results.

    python3 bench/torch_recurrent.py                             # PyTorch alone
    python3 bench/torch_recurrent.py build/release/bench/multistate_bench    # both by turns, shape by shape

A training step is forward and backward, with gradients of inputs and parameters. The program is asked for one shape at a
time, right after PyTorch, so that both meet the same load. Without PyTorch the script says so and ends. Times are
medians of several steps, in milliseconds.
"""

import json
import statistics
import subprocess
import sys
import time

try:
    import torch
except ImportError:
    torch = None

SHAPES = ((64, 64), (1, 512))  # sequences and width
LENGTHS = (64, 128, 256, 512, 1024, 2048, 4096)
MINIMAL = {"gru": "min_gru", "lstm": "min_lstm"}


def training_ms(name, sequences, width, length):
    module = {"gru": torch.nn.GRU, "lstm": torch.nn.LSTM}[name](width, width, batch_first=True)
    x = torch.rand(sequences, length, width, requires_grad=True)
    gradient = torch.rand(sequences, length, width)
    times = []
    while len(times) < 9 and (len(times) < 3 or sum(times) < 2):
        module.zero_grad()
        x.grad = None
        begin = time.perf_counter()
        out, _ = module(x)
        out.backward(gradient)
        times.append(time.perf_counter() - begin)
    return 1e3 * statistics.median(times[1:])


def library_ms(program, name, shape, length, threads):
    """Milliseconds of the library's minimal and classic cell."""
    pattern = f"^cell_training/{MINIMAL[name]}/{shape}/{length}/{threads}/"
    output = subprocess.run([program, f"--benchmark_filter={pattern}", "--benchmark_format=json"], check=True,
                            capture_output=True, text=True).stdout
    result = json.loads(output)["benchmarks"][0]
    return result["ms"], result["classic_ms"]


def main(arguments):
    if len(arguments) > 1:
        print(__doc__, file=sys.stderr)
        return 1
    if torch is None:
        print("PyTorch is not installed (Debian: python3-torch); nothing was measured", file=sys.stderr)
        return 1
    heads = ["cell", "batch x width", "length", "threads", "PyTorch ms"]
    if arguments:
        heads += ["classic ms", "minimal ms", "PyTorch/classic", "PyTorch/minimal"]
    print("| " + " | ".join(heads) + " |\n" + "|" + " - |" * len(heads), flush=True)
    for threads in (1, 2):
        torch.set_num_threads(threads)
        for name in MINIMAL:
            for sequences, width in SHAPES:
                for length in LENGTHS:
                    shape = f"{sequences}x{width}"
                    theirs = training_ms(name, sequences, width, length)
                    cells = [name, shape, length, threads, f"{theirs:.1f}"]
                    if arguments:
                        minimal, classic = library_ms(arguments[0], name, shape, length, threads)
                        cells += [f"{classic:.1f}", f"{minimal:.1f}", f"{theirs / classic:.2f}", f"{theirs / minimal:.2f}"]
                    print("| " + " | ".join(map(str, cells)) + " |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
