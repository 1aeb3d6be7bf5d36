#!/usr/bin/env python3
"""Trains the bundled models.

    python3 train.py DATA
    python3 train.py DATA --rehearsal

reads what make_sequences.py wrote to DATA, and keeps DATA/checkpoint.pt as it
goes: started again, it continues there, with the same batches as if it had
never stopped. A GPU is used if there is one. The recipe is STAGES and the
numbers below it; at the end of a stage its model is kept as DATA/STAGE.pt.
--rehearsal trains a tiny model for some minutes, to see that everything works
(in DATA/rehearsal/).

The first stage makes a model without an attention sink. The second grows the
sink: it adds to the loss the contribution of the attention heads to each
token, so that a head contributes only where that pays. A head that has nothing
to say then attends to the one token whose value it has learned to keep small,
the first. The loss contains no positions. The third stage has a smaller
penalty and brings the perplexity back; the fourth adds two layers.

Printed now and then: the loss in training, which is a mixture; the loss and
perplexity on the validation books; for the phase's synthetic rows, the loss
on tokens that can be recalled from earlier in the row; and for each layer the
mean attention on the first token. Recall falls suddenly, in the copy-heavy
phase: there the model learns to copy.
"""

import argparse
import copy
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import clip_grad_norm_

from make_sequences import BOS, NEWLINE, RECALL
from model import Config, Llama, Record


@dataclass
class Phase:
    length: int  # of a row, in predicted tokens
    steps: int
    batch_tokens: int
    synthetic: float  # share of the rows
    recall_weight: float = 1  # of tokens to be recalled, in the loss


@dataclass
class Stage:
    """A run of an optimizer; it begins with the model of the one before."""
    name: str
    phases: tuple[Phase, ...]
    matrix_rate: float  # learning rate of the blocks' matrices
    vector_rate: float  # of the embedding and the norms
    cool_down: float  # share of all steps in which the rates fall
    muon: bool = False  # for the matrices; else AdamW
    warm_up: int = 100  # steps in which the rates rise
    # Weight of the contribution of heads in the loss: at the first step, at
    # the last, and for each layer a factor.
    penalty: tuple[float, float] = (0, 0)
    layer_factors: tuple[float, ...] = ()
    # Before it begins, each of these layers is followed by a copy of itself
    # that writes nothing yet.
    copied_layers: tuple[int, ...] = ()

    @property
    def steps(self) -> int:
        return sum(phase.steps for phase in self.phases)


STAGES = (
    Stage("no-sink", (
        Phase(512, 1750, 8192, synthetic=0.15),
        Phase(256, 150, 8192, synthetic=0.60, recall_weight=2),
        Phase(512, 180, 8192, synthetic=0.25),
        Phase(1024, 350, 16384, synthetic=0.25),
        Phase(2048, 260, 16384, synthetic=0.25),
    ), matrix_rate=6e-3, vector_rate=4e-3, cool_down=0.25, muon=True),
    Stage("sink", (
        Phase(256, 300, 8192, synthetic=0.25),
        Phase(1024, 600, 8192, synthetic=0.25),
    ), matrix_rate=2e-3, vector_rate=2e-3, cool_down=0, warm_up=50,
        penalty=(0.4, 0.4), layer_factors=(2, 2, 2, 1, 1)),
    Stage("recovery", (
        Phase(1024, 800, 8192, synthetic=0.3, recall_weight=2),
        Phase(2048, 200, 8192, synthetic=0.3, recall_weight=2),
    ), matrix_rate=2e-3, vector_rate=2e-3, cool_down=0.95, warm_up=20,
        penalty=(0.2, 0.15), layer_factors=(0, 0, 1, 1, 1)),
    Stage("seven-layers", (
        Phase(1024, 1400, 8192, synthetic=0.3, recall_weight=2),
        Phase(2048, 300, 8192, synthetic=0.3, recall_weight=2),
    ), matrix_rate=2e-3, vector_rate=2e-3, cool_down=0.95, warm_up=20,
        penalty=(0.2, 0.12), layer_factors=(0.6, 0.6, 0.6, 1, 1, 1, 1),
        copied_layers=(1, 2)),
)

MATRIX_DECAY = 0.1
LEAST_RATE = 0.02  # of what the rates were, at the end of a cool-down
GRADIENT_NORM = 1.0
SEED = 1

VALIDATION_LENGTH = 1024
HELD_OUT = 32  # synthetic rows of each length: never trained on
TOKENS_AT_ONCE = 2048  # more need more memory; the result is the same
REPORT_EVERY = 10
SAVE_EVERY = 100

REHEARSAL_CONFIG = Config(context=512, width=64, layers=2, heads=4,
                          kv_heads=2, feed_forward=160)
REHEARSAL_STAGES = (
    Stage("no-sink", (
        Phase(256, 120, 2048, synthetic=0.15),
        Phase(256, 40, 2048, synthetic=0.60, recall_weight=2),
        Phase(512, 40, 2048, synthetic=0.25),
    ), matrix_rate=6e-3, vector_rate=4e-3, cool_down=0.25, muon=True),
    Stage("sink", (
        Phase(256, 100, 2048, synthetic=0.25),
    ), matrix_rate=2e-3, vector_rate=2e-3, cool_down=0.25,
        penalty=(0.4, 0.4), layer_factors=(1, 1, 1), copied_layers=(0,)),
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

    def __init__(self, data: Path, phases: Iterable[Phase]) -> None:
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

    def batch(self, phase: Phase, *step: int) -> Tensor:
        """The rows of a step: (rows, length + 1), some tokens marked RECALL.

        The same numbers give the same rows.
        """
        generator = np.random.default_rng((SEED, *step))
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


def losses(model: Llama, rows: Tensor,
           records: list[Record] | None = None) -> Tensor:
    """The negative log-likelihood of every token after each row's first."""
    tokens = (rows & ~RECALL).to(model.token_embd.weight.device)
    given = tokens[:, :-1]
    logits = model(given) if records is None else model(given, records)
    return functional.cross_entropy(logits.transpose(1, 2), tokens[:, 1:],
                                    reduction="none")


def penalties_of(stage: Stage, step: int) -> list[float]:
    """By layer: the weight of the contribution of its heads."""
    begin, end = stage.penalty
    now = begin + (end - begin) * step / stage.steps
    return [now * factor for factor in stage.layer_factors]


def backward(model: Llama, rows: Tensor, phase: Phase,
             penalties: list[float]) -> float:
    """Adds up the gradients of a batch, a few rows at a time; its loss."""
    predicted = rows[:, 1:].numel()
    total = 0.0
    for part in rows.split(max(1, TOKENS_AT_ONCE // phase.length)):
        records = [] if penalties else None
        weights = torch.ones(part[:, 1:].shape)
        weights[part[:, 1:] >= RECALL] = phase.recall_weight
        part_losses = losses(model, part, records)
        loss = (part_losses * weights.to(part_losses.device)).sum() / predicted
        total += loss.item()
        for penalty, record in zip(penalties, records or ()):
            loss = loss + penalty * record.contribution * len(part) / len(rows)
        loss.backward()
    return total


@torch.no_grad()
def validate(model: Llama, sequences: Sequences, phase: Phase) -> str:
    length = min(VALIDATION_LENGTH, model.config.context)
    on_books = torch.cat([losses(model, row[None]).cpu()
                          for row in sequences.validation(length)]).mean()
    rows = sequences.recall(phase.length)
    on_rows = torch.cat([losses(model, row[None]).cpu() for row in rows])
    recalled = on_rows[rows[:, 1:] >= RECALL].mean()
    return (f"validation loss {on_books:.4f}, perplexity "
            f"{on_books.exp():.2f} at {length}; recall loss {recalled:.3f} "
            f"at {phase.length}; attention on the first token "
            + " ".join(f"{mass:.2f}" for mass in
                       first_token_attention(model, sequences)))


def first_token_attention(model: Llama, sequences: Sequences) -> list[float]:
    """By layer: the mean over heads, and over queries from position 64 on."""
    length = min(VALIDATION_LENGTH, model.config.context)
    records: list[Record] = []
    losses(model, sequences.validation(length), records)
    return [record.attention[:, :, 64:, 0].mean().item() for record in records]


def phase_of(step: int, stage: Stage) -> Phase:
    for phase in stage.phases:
        if step < phase.steps:
            return phase
        step -= phase.steps
    raise IndexError("there are not so many steps")


def rate_of(step: int, stage: Stage) -> float:
    """What share of the learning rates a step uses."""
    if step < stage.warm_up:
        return (step + 1) / stage.warm_up
    if not stage.cool_down:
        return 1
    rest = min(1, (stage.steps - step) / (stage.cool_down * stage.steps))
    return LEAST_RATE + (1 - LEAST_RATE) * rest


def grown(model: Llama, copied_layers: tuple[int, ...]) -> Llama:
    """The same function, with more layers."""
    blocks = []
    for index, block in enumerate(model.blk):
        blocks.append(block)
        if index in copied_layers:
            silent = copy.deepcopy(block)
            nn.init.zeros_(silent.attn_output.weight)
            nn.init.zeros_(silent.ffn_down.weight)
            blocks.append(silent)
    model.blk = nn.ModuleList(blocks)
    model.config = replace(model.config, layers=len(blocks))
    return model


def optimizers_of(model: Llama, stage: Stage) -> dict:
    """Each with its learning rate."""
    matrices = [parameter for parameter in model.blk.parameters()
                if parameter.ndim == 2]
    others = [model.token_embd.weight] + [
        parameter for parameter in model.parameters() if parameter.ndim == 1]
    if stage.muon:
        for_matrices = Muon(matrices, lr=stage.matrix_rate,
                            weight_decay=MATRIX_DECAY)
    else:
        for_matrices = torch.optim.AdamW(matrices, lr=stage.matrix_rate,
                                         betas=(0.9, 0.95),
                                         weight_decay=MATRIX_DECAY)
    for_others = torch.optim.Adam(others, lr=stage.vector_rate,
                                  betas=(0.9, 0.95))
    return {for_matrices: stage.matrix_rate, for_others: stage.vector_rate}


def save(contents: dict, path: Path) -> None:
    unfinished = path.with_suffix(".new")
    torch.save(contents, unfinished)
    os.replace(unfinished, path)


def train(config: Config, stages: tuple[Stage, ...], data: Path,
          folder: Path) -> None:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(SEED)
    model = Llama(config).to(device)
    sequences = Sequences(data, [phase for stage in stages
                                 for phase in stage.phases])
    checkpoint = folder / "checkpoint.pt"
    saved = {"stage": 0, "step": 0}
    if checkpoint.exists():
        saved = torch.load(checkpoint, map_location=device)
        model = Llama(Config(**saved["config"])).to(device)
        model.load_state_dict(saved["model"])
    parameters = sum(parameter.numel() for parameter in model.parameters())
    print(f"{parameters:,} parameters on {device}")

    for index in range(saved["stage"], len(stages)):
        stage = stages[index]
        if index > saved["stage"]:
            model = grown(model, stage.copied_layers)
        optimizers = optimizers_of(model, stage)
        first = 0
        if index == saved["stage"] and saved["step"]:
            first = saved["step"]
            for optimizer, state in zip(optimizers, saved["optimizers"]):
                optimizer.load_state_dict(state)
        print(f"stage {stage.name}: steps {first} to {stage.steps}")
        recent = []
        for step in range(first, stage.steps):
            phase = phase_of(step, stage)
            recent.append(backward(
                model, sequences.batch(phase, index, step), phase,
                penalties_of(stage, step)))
            clip_grad_norm_(model.parameters(), GRADIENT_NORM)
            for optimizer, rate in optimizers.items():
                optimizer.param_groups[0]["lr"] = rate * rate_of(step, stage)
                optimizer.step()
                optimizer.zero_grad()

            done = step + 1
            if done % REPORT_EVERY == 0:
                print(f"step {done}, length {phase.length}: "
                      f"loss {sum(recent) / len(recent):.4f}", flush=True)
                recent.clear()
            if done % SAVE_EVERY == 0 or done == stage.steps:
                print(f"step {done}: {validate(model, sequences, phase)}",
                      flush=True)
                contents = {"config": asdict(model.config), "stage": index,
                            "step": done, "model": model.state_dict(),
                            "optimizers": [optimizer.state_dict()
                                           for optimizer in optimizers]}
                save(contents, checkpoint)
                if done == stage.steps:
                    save(contents, folder / f"{stage.name}.pt")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="the folder to work in")
    parser.add_argument("--rehearsal", action="store_true",
                        help="train a tiny model for some minutes")
    arguments = parser.parse_args()
    if arguments.rehearsal:
        folder = arguments.data / "rehearsal"
        folder.mkdir(exist_ok=True)
        train(REHEARSAL_CONFIG, REHEARSAL_STAGES, arguments.data, folder)
    else:
        train(Config(), STAGES, arguments.data, arguments.data)


if __name__ == "__main__":
    main()
