#!/usr/bin/python3
"""Writes selective_golden.hpp: outputs and gradients of Mamba's block (arXiv 2312.00752) by PyTorch, in float64.

    python3 tests/recurrent/selective_golden.py > tests/recurrent/selective_golden.hpp

The block is written as in mamba_ssm's reference, `selective_scan_ref` and `Mamba.step`, one token after the other, with
tensors named and shaped as there. PyTorch's autograd gives the gradients. Tests compile the header and do not run this
script.
"""
import torch
import torch.nn.functional as F

INPUTS, UNITS, OUTPUTS, STATES, RANK, WIDTH = 6, 19, 5, 3, 2, 4
LENGTHS = [9, 1, 4]  # of the sequences

torch.manual_seed(13)
torch.set_default_dtype(torch.float64)


def numbers(*shape, scale=1.0):
    """Random float32 numbers, held in float64: the test reads the same."""
    return (torch.randn(*shape) * scale).float().double().requires_grad_()


block = {
    "in_proj.weight": numbers(2 * UNITS, INPUTS, scale=0.5),
    "conv1d.weight": numbers(UNITS, 1, WIDTH, scale=0.5),
    "conv1d.bias": numbers(UNITS, scale=0.2),
    "x_proj.weight": numbers(RANK + 2 * STATES, UNITS, scale=0.4),
    "dt_proj.weight": numbers(UNITS, RANK, scale=0.7),
    "dt_proj.bias": numbers(UNITS, scale=0.8),
    "A_log": numbers(UNITS, STATES, scale=0.6),
    "D": numbers(UNITS),
    "out_proj.weight": numbers(OUTPUTS, UNITS, scale=0.5),
}


def run(x, window, h):
    """x [tokens, INPUTS], window [WIDTH - 1, UNITS] the inputs of the convolution before x, h [UNITS, STATES]."""
    conv = block["conv1d.weight"][:, 0, :]
    a = -torch.exp(block["A_log"])
    outputs = []
    for token in x:
        u, z = (block["in_proj.weight"] @ token).split(UNITS)
        seen = torch.cat([window, u[None]])
        window = seen[1:]
        u = F.silu((seen * conv.T).sum(0) + block["conv1d.bias"])
        dt, b, c = (block["x_proj.weight"] @ u).split([RANK, STATES, STATES])
        dt = F.softplus(block["dt_proj.weight"] @ dt + block["dt_proj.bias"])
        h = torch.exp(dt[:, None] * a) * h + (dt * u)[:, None] * b[None]
        y = h @ c + block["D"] * u
        outputs.append(block["out_proj.weight"] @ (y * F.silu(z)))
    return torch.stack(outputs), window, h


def print_array(name, *tensors):
    values = [f"{v:.9g}" for t in tensors for v in t.detach().reshape(-1).tolist()]
    values = [v + ("f" if "." in v or "e" in v else ".0f") for v in values]
    print(f"inline const std::vector<float> {name}{{")
    line = "   "
    for v in values:
        if len(line) + len(v) + 2 > 118:
            print(line)
            line = "   "
        line += " " + v + ","
    print(line + "};")


xs = [numbers(n, INPUTS) for n in LENGTHS]
windows = [numbers(WIDTH - 1, UNITS, scale=0.5) for _ in LENGTHS]
hs = [numbers(UNITS, STATES, scale=0.5) for _ in LENGTHS]
weights = [numbers(n, OUTPUTS).detach() for n in LENGTHS]  # the gradient of the loss by the outputs
results = [run(x, w, h) for x, w, h in zip(xs, windows, hs)]
sum((r[0] * w).sum() for r, w in zip(results, weights)).backward()

print("""#pragma once

// Written by selective_golden.py; see there.
#include <cstddef>
#include <vector>

namespace selective_golden {
""")
for name, value in [("inputs", INPUTS), ("units", UNITS), ("outputs", OUTPUTS), ("state_size", STATES),
                    ("rank", RANK), ("convolution", WIDTH)]:
    print(f"inline constexpr std::size_t {name} = {value};")
print("inline const std::vector<std::size_t> lengths{" + ", ".join(map(str, LENGTHS)) + "};")
print("\n// Parameters as mamba_ssm stores them.")
for name, value in block.items():
    print_array(name.replace(".", "_"), value)
print("\n// All sequences after each other.")
print_array("x", *xs)
print("// [sequences, convolution - 1, units], [sequences, units, state_size]")
print_array("window", *windows)
print_array("h", *hs)
print_array("out", *[r[0] for r in results])
print_array("last_window", *[r[1] for r in results])
print_array("last_h", *[r[2] for r in results])
print_array("d_out", *weights)
print_array("d_x", *[x.grad for x in xs])
print_array("d_window", *[w.grad for w in windows])
print_array("d_h", *[h.grad for h in hs])
for name, value in block.items():
    print_array("d_" + name.replace(".", "_"), value.grad)
print("\n}  // namespace selective_golden")
