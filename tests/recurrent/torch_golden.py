#!/usr/bin/env python3
"""Writes torch_golden.txt: outputs, states and gradients of recurrent cells as PyTorch computes them.

    python3 tests/recurrent/torch_golden.py > tests/recurrent/torch_golden.txt

gru and lstm are torch.nn.GRU and torch.nn.LSTM. min_gru and min_lstm follow the listings in the appendix of "Were RNNs
All We Needed?" (arXiv 2410.01201): log-space forms with torch.logcumsumexp, the others token by token. All in double
precision. CI does not run this script; it reads the file. Needs torch 1.13 or newer.
"""

import torch
import torch.nn.functional as F

INPUTS, UNITS, LENGTHS = 3, 5, (4, 1, 6)


def g(x):
    return torch.where(x >= 0, x + 0.5, torch.sigmoid(x))


def log_g(x):
    return torch.where(x >= 0, (F.relu(x) + 0.5).log(), -F.softplus(-x))


def scan_in_log_space(log_coefficients, log_values):
    """Appendix: h = exp(a + logcumsumexp(log_values - a)); the first value is the initial state."""
    a = F.pad(torch.cumsum(log_coefficients, dim=0), (0, 0, 1, 0))
    return torch.exp(a + torch.logcumsumexp(log_values - a, dim=0))[1:]


class Minimal:
    """One Linear for all gates, then the candidate: rows in the order of the library's layout."""

    def __init__(self, name, form, normalized):
        self.name, self.form, self.normalized = name, form, normalized
        self.gates = 2 if name == "min_gru" else 3
        self.layer = torch.nn.Linear(INPUTS, self.gates * UNITS).double()

    def parameters(self):
        return [self.layer.weight, self.layer.bias]

    def run(self, x, h):
        maps = self.layer(x).split(UNITS, dim=1)
        return self.run_in_log_space(maps, h) if self.form == "log" else self.run_steps(maps, h)

    def run_in_log_space(self, maps, h):
        if self.name == "min_gru":
            log_keep, log_take = -F.softplus(maps[0]), -F.softplus(-maps[0])
        elif self.normalized:
            difference = F.softplus(-maps[0]) - F.softplus(-maps[1])
            log_keep, log_take = -F.softplus(difference), -F.softplus(-difference)
        else:
            log_keep, log_take = -F.softplus(-maps[0]), -F.softplus(-maps[1])
        out = scan_in_log_space(log_keep, torch.cat([h.log()[None], log_take + log_g(maps[-1])]))
        return out, out[-1]

    def run_steps(self, maps, h):
        out = []
        for t in range(maps[0].shape[0]):
            if self.name == "min_gru":
                take = torch.sigmoid(maps[0][t])
                keep = 1 - take
            else:
                keep, take = torch.sigmoid(maps[0][t]), torch.sigmoid(maps[1][t])
                if self.normalized:
                    keep, take = keep / (keep + take), take / (keep + take)
            value = maps[-1][t] if self.form == "linear" else g(maps[-1][t])
            h = keep * h + take * value
            out.append(h)
        return torch.stack(out), h


class Classic:
    def __init__(self, name):
        self.name, self.form, self.normalized = name, "positive", True
        self.module = (torch.nn.GRU if name == "gru" else torch.nn.LSTM)(INPUTS, UNITS).double()

    def parameters(self):
        return list(self.module.parameters())  # weight_ih, weight_hh, bias_ih, bias_hh

    def run(self, x, state):
        if self.name == "gru":
            out, last = self.module(x, state[None])
            return out, last[0]
        out, (h, c) = self.module(x, (state[None, :UNITS], state[None, UNITS:]))
        return out, torch.cat([h[0], c[0]])


def line(name, numbers):
    print(name, *(f"{x:.10g}" for x in numbers.detach().flatten().tolist()))


def case(cell):
    states = 2 if cell.name == "lstm" else 1
    for p in cell.parameters():
        torch.nn.init.uniform_(p, -0.8, 0.8)
        p.data = p.data.float().double()
    numbers = [torch.rand(sum(LENGTHS), INPUTS) * 3 - 1.5, torch.rand(len(LENGTHS), states * UNITS) + 0.25,
               torch.rand(sum(LENGTHS), UNITS) * 2 - 1, torch.rand(len(LENGTHS), states * UNITS) * 2 - 1]
    x, initial, out_gradient, state_gradient = (n.double() for n in numbers)
    x.requires_grad_()
    initial.requires_grad_()
    outs, lasts = zip(*(cell.run(part, h) for part, h in zip(x.split(LENGTHS), initial)))
    out, last = torch.cat(outs), torch.stack(lasts)
    ((out * out_gradient).sum() + (last * state_gradient).sum()).backward()

    print("cell", cell.name, cell.form, int(cell.normalized))
    line("parameters", torch.cat([p.flatten() for p in cell.parameters()]))
    for name, values in (("x", x), ("initial", initial), ("out_gradient", out_gradient),
                         ("state_gradient", state_gradient), ("out", out), ("state", last), ("x_gradient", x.grad),
                         ("initial_gradient", initial.grad)):
        line(name, values)
    line("parameter_gradient", torch.cat([p.grad.flatten() for p in cell.parameters()]))


def main():
    torch.manual_seed(1)
    print("# written by torch_golden.py: inputs, units, lengths of the sequences; then cells, their candidates, "
          "whether gates are normalized")
    print("sizes", INPUTS, UNITS, *LENGTHS)
    case(Classic("gru"))
    case(Classic("lstm"))
    for form in ("log", "positive", "linear"):
        case(Minimal("min_gru", form, True))
    for normalized in (True, False):
        for form in ("log", "positive", "linear"):
            case(Minimal("min_lstm", form, normalized))


if __name__ == "__main__":
    main()
