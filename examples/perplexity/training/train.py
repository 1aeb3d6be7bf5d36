#!/usr/bin/env python3
"""Trains the bundled model.

    python3 train.py DATA
    python3 train.py DATA --rehearsal

reads what make_sequences.py wrote to DATA, and keeps DATA/checkpoint.pt as it
goes: started again, it continues there, with the same batches as if it had
never stopped. A GPU is used if there is one. The recipe is PHASES and the
numbers below it. --rehearsal trains a tiny model for some minutes, to see
that everything works (in DATA/rehearsal.pt).

Printed now and then: the loss in training, which is a mixture; the loss and
perplexity on the validation books; and, for the phase's synthetic rows, the
loss on tokens that can be recalled from earlier in the row. The last one
falls suddenly, in the copy-heavy phase: there the model learns to copy.
"""

import argparse
import os
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.utils import clip_grad_norm_

from make_sequences import BOS, NEWLINE, RECALL
from model import Config, Llama


@dataclass
class Phase:
    length: int  # of a row, in predicted tokens
    steps: int
    batch_tokens: int
    synthetic: float  # share of the rows
    recall_weight: float = 1  # of tokens to be recalled, in the loss


PHASES = (
    Phase(512, 1750, 8192, synthetic=0.15),
    Phase(256, 150, 8192, synthetic=0.60, recall_weight=2),
    Phase(512, 180, 8192, synthetic=0.25),
    Phase(1024, 350, 16384, synthetic=0.25),
    Phase(2048, 260, 16384, synthetic=0.25),
)

MATRIX_RATE = 6e-3  # Muon's learning rate, for the blocks' matrices
VECTOR_RATE = 4e-3  # Adam's learning rate, for the embedding and the norms
MATRIX_DECAY = 0.1
WARM_UP = 100  # steps in which the rates rise
COOL_DOWN = 0.25  # share of all steps in which they fall, down to
LEAST_RATE = 0.02  # of what they were
GRADIENT_NORM = 1.0
SEED = 1

HELD_OUT = 32  # synthetic rows of each length: never trained on
TOKENS_AT_ONCE = 2048  # more need more memory; the result is the same
REPORT_EVERY = 10
SAVE_EVERY = 100

REHEARSAL_CONFIG = Config(context=512, width=64, layers=2, heads=4,
                          kv_heads=2, feed_forward=160)
REHEARSAL_PHASES = (
    Phase(256, 120, 2048, synthetic=0.15),
    Phase(256, 40, 2048, synthetic=0.60, recall_weight=2),
    Phase(512, 40, 2048, synthetic=0.25),
)


def orthogonal(matrix: Tensor) -> Tensor:
    """Nearly the closest matrix whose singular values are all alike.

    Five Newton-Schulz iterations, with the coefficients published with Muon.
    """
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if tall else matrix
    x = x / (x.norm() + 1e-7)
    for _ in range(5):
        square = x @ x.T
        x = 3.4445 * x + (-4.7750 * square + 2.0315 * square @ square) @ x
    return x.T if tall else x


class Muon(torch.optim.Optimizer):
    """Momentum whose every step is made orthogonal; for matrices.

    Keller Jordan, 2024. The step is scaled to the size of Adam's.
    """

    def __init__(self, matrices: list[Tensor], lr: float, weight_decay: float,
                 momentum: float = 0.95) -> None:
        super().__init__(matrices, {"lr": lr, "weight_decay": weight_decay,
                                    "momentum": momentum})

    @torch.no_grad()
    def step(self) -> None:
        for group in self.param_groups:
            rate, momentum = group["lr"], group["momentum"]
            for matrix in group["params"]:
                state = self.state[matrix]
                if not state:
                    state["average"] = torch.zeros_like(matrix)
                average = state["average"].lerp_(matrix.grad, 1 - momentum)
                direction = orthogonal(matrix.grad.lerp(average, momentum))
                size = 0.2 * max(matrix.shape) ** 0.5
                matrix.mul_(1 - rate * group["weight_decay"])
                matrix.sub_(direction, alpha=rate * size)


class Sequences:
    """Rows of training and validation data."""

    def __init__(self, data: Path, phases: tuple[Phase, ...]) -> None:
        self.train = np.load(data / "train.npy", mmap_mode="r")
        self.valid = np.load(data / "valid.npy", mmap_mode="r")
        self.synthetic = {
            length: np.load(data / f"synthetic-{length}.npy", mmap_mode="r")
            for length in {phase.length for phase in phases}}

    @staticmethod
    def excerpt(book: np.ndarray, start: int, length: int) -> np.ndarray:
        """BOS and a book's tokens, from a paragraph's start if one is near."""
        newlines = np.flatnonzero(book[start:start + 500] == NEWLINE)
        if len(newlines):
            start += newlines[0] + 1
        return np.concatenate(([BOS], book[start:start + length]))

    def batch(self, phase: Phase, step: int) -> Tensor:
        """The rows of a step: (rows, length + 1), some tokens marked RECALL.
        """
        generator = np.random.default_rng((SEED, step))
        synthetic = self.synthetic[phase.length]
        rows = []
        for _ in range(phase.batch_tokens // phase.length):
            if generator.random() < phase.synthetic:
                index = generator.integers(len(synthetic) - HELD_OUT)
                rows.append(synthetic[index])
            else:
                most = len(self.train) - phase.length - 600
                rows.append(self.excerpt(self.train, generator.integers(most),
                                         phase.length))
        return torch.from_numpy(np.stack(rows).astype(np.int64))

    def validation(self, length: int, rows: int = 16) -> Tensor:
        """Rows from places spread over the validation books."""
        distance = (len(self.valid) - length - 600) // rows
        return torch.from_numpy(np.stack(
            [self.excerpt(self.valid, distance * row, length)
             for row in range(rows)]).astype(np.int64))

    def recall(self, length: int) -> Tensor:
        """Some of the synthetic rows that are never trained on."""
        rows = self.synthetic[length][-max(2, 4096 // length):]
        return torch.from_numpy(rows.astype(np.int64))


def losses(model: Llama, rows: Tensor) -> Tensor:
    """The negative log-likelihood of every token after each row's first."""
    tokens = (rows & ~RECALL).to(model.token_embd.weight.device)
    logits = model(tokens[:, :-1])
    return functional.cross_entropy(logits.transpose(1, 2), tokens[:, 1:],
                                    reduction="none")


def backward(model: Llama, rows: Tensor, phase: Phase) -> float:
    """Adds up the gradients of a batch, a few rows at a time; its loss."""
    predicted = rows[:, 1:].numel()
    total = 0.0
    for part in rows.split(max(1, TOKENS_AT_ONCE // phase.length)):
        weights = torch.ones(part[:, 1:].shape)
        weights[part[:, 1:] >= RECALL] = phase.recall_weight
        part_losses = losses(model, part)
        loss = (part_losses * weights.to(part_losses.device)).sum() / predicted
        loss.backward()
        total += loss.item()
    return total


@torch.no_grad()
def validate(model: Llama, sequences: Sequences, phase: Phase) -> str:
    length = model.config.context
    on_books = torch.cat([losses(model, row[None]).cpu()
                          for row in sequences.validation(length)]).mean()
    rows = sequences.recall(phase.length)
    on_rows = torch.cat([losses(model, row[None]).cpu() for row in rows])
    recalled = on_rows[rows[:, 1:] >= RECALL].mean()
    return (f"validation loss {on_books:.4f}, perplexity "
            f"{on_books.exp():.2f} at {length}; recall loss {recalled:.3f} "
            f"at {phase.length}")


def phase_of(step: int, phases: tuple[Phase, ...]) -> Phase:
    for phase in phases:
        if step < phase.steps:
            return phase
        step -= phase.steps
    raise IndexError("there are not so many steps")


def rate_of(step: int, steps: int) -> float:
    """What share of the learning rates a step uses."""
    if step < WARM_UP:
        return (step + 1) / WARM_UP
    rest = min(1, (steps - step) / (COOL_DOWN * steps))
    return LEAST_RATE + (1 - LEAST_RATE) * rest


def train(config: Config, phases: tuple[Phase, ...], data: Path,
          checkpoint: Path) -> None:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(SEED)
    model = Llama(config).to(device)
    matrices = [parameter for parameter in model.blk.parameters()
                if parameter.ndim == 2]
    others = [model.token_embd.weight] + [
        parameter for parameter in model.parameters() if parameter.ndim == 1]
    muon = Muon(matrices, lr=MATRIX_RATE, weight_decay=MATRIX_DECAY)
    adam = torch.optim.Adam(others, lr=VECTOR_RATE, betas=(0.9, 0.95))
    optimizers = {muon: MATRIX_RATE, adam: VECTOR_RATE}

    first = 0
    if checkpoint.exists():
        saved = torch.load(checkpoint, map_location=device)
        model.load_state_dict(saved["model"])
        muon.load_state_dict(saved["muon"])
        adam.load_state_dict(saved["adam"])
        first = saved["step"]

    sequences = Sequences(data, phases)
    steps = sum(phase.steps for phase in phases)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    print(f"{parameters:,} parameters on {device}, steps {first} to {steps}")

    recent = []
    for step in range(first, steps):
        phase = phase_of(step, phases)
        recent.append(backward(model, sequences.batch(phase, step), phase))
        clip_grad_norm_(model.parameters(), GRADIENT_NORM)
        for optimizer, rate in optimizers.items():
            optimizer.param_groups[0]["lr"] = rate * rate_of(step, steps)
            optimizer.step()
            optimizer.zero_grad()

        done = step + 1
        if done % REPORT_EVERY == 0:
            print(f"step {done}, length {phase.length}: "
                  f"loss {sum(recent) / len(recent):.4f}", flush=True)
            recent.clear()
        if done % SAVE_EVERY == 0 or done == steps:
            print(f"step {done}: {validate(model, sequences, phase)}",
                  flush=True)
            unfinished = checkpoint.with_suffix(".new")
            torch.save({"config": asdict(config), "step": done,
                        "model": model.state_dict(),
                        "muon": muon.state_dict(),
                        "adam": adam.state_dict()}, unfinished)
            os.replace(unfinished, checkpoint)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="the folder to work in")
    parser.add_argument("--rehearsal", action="store_true",
                        help="train a tiny model for some minutes")
    arguments = parser.parse_args()
    if arguments.rehearsal:
        train(REHEARSAL_CONFIG, REHEARSAL_PHASES, arguments.data,
              arguments.data / "rehearsal.pt")
    else:
        train(Config(), PHASES, arguments.data,
              arguments.data / "checkpoint.pt")


if __name__ == "__main__":
    main()
