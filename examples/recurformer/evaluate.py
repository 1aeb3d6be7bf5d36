#!/usr/bin/env python3
"""Perplexity, recall and bytes of models, compared with the first of them.

    python3 evaluate.py DATA TEXT.txt books-4m-no-sink-f16.gguf 25.gguf 50.gguf

DATA has tokenizer.model and valid.npy, whose pages hide the pass keys. TEXT
is cut into sequences of BOS and 1023 tokens, as `perplexity` does. Errors
are one standard error, paired by sequence with the first model.

    python3 evaluate.py --windows DATA TEXT.txt books-4m-no-sink-f16.gguf 25.gguf

measures instead, for each later model, the first one with a window on the
heads that the later one replaced: of as many tokens as take the bytes of its
cells.
"""

import argparse
import math
import random
from pathlib import Path

import numpy as np
import sentencepiece
import torch
from torch import Tensor
from torch.nn import functional

from convert import load
from make_sequences import BOS, NEWLINE
from recurformer import Recurformer

CONTEXT = 1024
DISTANCES = (128, 512, 900)
TRIES = 24  # per distance, half of them in each form
SEED = 5
FORMS = (("The pass key is {}. Remember it. {} is the pass key.",
          "What is the pass key? The pass key is "),
         ("The secret number of Margaret is {}. Remember it.",
          "What is the secret number of Margaret? "
          "The secret number of Margaret is "))


def sequences_of(tokens: list[int]) -> list[Tensor]:
    pieces = [[BOS] + tokens[start:start + CONTEXT - 1]
              for start in range(0, len(tokens), CONTEXT - 1)]
    return [torch.tensor(piece) for piece in pieces
            if len(piece) >= CONTEXT / 2]


@torch.no_grad()
def sums_of_losses(model: Recurformer, sequences: list[Tensor]) -> np.ndarray:
    """For each sequence: the negative log likelihood, and the tokens."""
    return np.array([(functional.cross_entropy(
        model(row[None, :-1])[0], row[1:], reduction="sum").item(),
        len(row) - 1) for row in sequences])


def comparison(losses: np.ndarray, first: np.ndarray) -> tuple[float, float]:
    """Perplexity above the first in percent, with its error."""
    difference, tokens = losses[:, 0] - first[:, 0], losses[:, 1]
    mean = difference.sum() / tokens.sum()
    residuals, count = difference - mean * tokens, len(tokens)
    error = math.sqrt((residuals ** 2).sum() * count / (count - 1))
    ratio = math.exp(mean)
    return 100 * (ratio - 1), 100 * ratio * error / tokens.sum()


class PassKeys:
    """Five digits, stated among pages of a book and asked for later."""

    def __init__(self, data: Path) -> None:
        self.tokenizer = sentencepiece.SentencePieceProcessor(
            model_file=str(data / "tokenizer.model"))
        self.book = np.load(data / "valid.npy", mmap_mode="r")

    def paragraph(self, text: str) -> list[int]:
        return self.tokenizer.encode("\n" + text)[2:]

    def row(self, distance: int, form: tuple[str, str],
            generator: random.Random) -> list[int]:
        """Ends with the five digits; one token each."""
        digits = "".join(generator.choice("0123456789") for _ in range(5))
        start = generator.randrange(len(self.book) - distance - 700)
        pages = self.book[start:start + distance + 630].tolist()
        if NEWLINE in pages[:600]:
            pages = pages[pages.index(NEWLINE) + 1:]
        asked = self.paragraph(form[1] + digits)
        return ([BOS] + pages[:30] + [NEWLINE]
                + self.paragraph(form[0].format(digits, digits)) + [NEWLINE]
                + pages[30:30 + distance] + [NEWLINE] + asked)

    @torch.no_grad()
    def recalled(self, model: Recurformer, distance: int) -> int:
        """How often all five digits are the most likely tokens."""
        generator, right = random.Random(SEED + distance), 0
        for attempt in range(TRIES):
            row = torch.tensor(self.row(distance, FORMS[attempt % 2],
                                        generator))
            best = model(row[None, :-1])[0, -5:].argmax(-1)
            right += int((best == row[-5:]).all())
        return right


def with_windows(model: Recurformer, converted: Recurformer) -> str:
    """Sets windows of equal bytes; says how long they are."""
    saved = model.token_bytes() - converted.token_bytes()
    tokens = converted.state_bytes() // saved if saved else 0
    for block, other in zip(model.blk, converted.blk):
        gone = [head for head in block.heads if head not in other.heads]
        block.windows = (gone, tokens) if gone else None
    return f"window of {tokens} tokens on {len(converted.shape.heads)} heads"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("text", type=Path)
    parser.add_argument("models", type=Path, nargs="+")
    parser.add_argument("--windows", action="store_true")
    parser.add_argument("--no-recall", action="store_true")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)

    keys = PassKeys(arguments.data)
    text = arguments.text.read_text(encoding="utf-8")
    sequences = sequences_of(keys.tokenizer.encode(text))
    first = None
    for path in arguments.models:
        model, name = load(path), path.name
        if arguments.windows and first is not None:
            converted, model = model, load(arguments.models[0])
            name += ": " + with_windows(model, converted)
        losses = sums_of_losses(model, sequences)
        first = losses if first is None else first
        percent, error = comparison(losses, first)
        perplexity = math.exp(losses[:, 0].sum() / losses[:, 1].sum())
        line = (f"{name}: {model.token_bytes()} bytes per token and "
                f"{model.state_bytes()} of states; perplexity "
                f"{perplexity:.3f}, {percent:+.2f} ± {error:.2f} %")
        if not arguments.no_recall:
            line += "; all digits right of " + str(TRIES) + ": " + ", ".join(
                f"{keys.recalled(model, distance)} at {distance}"
                for distance in DISTANCES)
        print(line, flush=True)


if __name__ == "__main__":
    main()
