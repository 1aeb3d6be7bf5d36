#!/usr/bin/env python3
"""Turns clean books into tokens, and makes rows that reward a long memory.

    python3 make_sequences.py DATA

reads DATA/tokenizer.model and the books in DATA/train and DATA/valid. It
writes their tokens, book after book (DATA/train.npy, DATA/valid.npy), and
synthetic rows of 256, 512, 1024 and 2048 tokens behind a BOS
(DATA/synthetic-256.npy and so on).

Books alone teach so small a model to look back some hundred tokens: farther
back there is too little to gain. The synthetic rows contain what can be
known only from earlier in the row:

    facts       "The pass key is 40213. Remember it.", asked for later,
                among pages of a book
    repeats     passages of a book that come again, whole or from the middle
    word lists  lists of words, each said two to four times
    copies      sequences of random tokens, each said two to four times
    quotations  a passage, perhaps some lines of a book, the passage again

A token that has to be recalled in this way carries the bit RECALL; train.py
takes it off, and may give such tokens more weight.
"""

import argparse
import math
import random
import re
from collections import Counter
from pathlib import Path

import numpy as np
import sentencepiece

BOS = 1
NEWLINE = 13  # the byte token <0x0A>
FIRST_PIECE = 259  # below: unknown, BOS, EOS and the 256 bytes
RECALL = 1 << 15
SEED = 7

ROWS = {256: 6000, 512: 5000, 1024: 3500, 2048: 2000}  # by length

NAMES = """
    Harding Emma Bumble Pip Estella Dorothea Casaubon Heathcliff Catherine
    Mina Lucy Jonathan Ishmael Ahab Queequeg Darcy Bingley Jane Elizabeth
    Marianne Elinor Fanny Crawford Anne Wentworth Becky Amelia Dobbin Nell
    Oliver Fagin Nancy Dora Agnes Steerforth Peggotty Carton Lucie Darnay
    Defarge Porthos Athos Aramis Levin Kitty Anna Vronsky Pierre Natasha
    Andrew Mary Nicholas Sonya Holmes Watson Jim Silver Hawkins Alan David
    Margaret Thornton Molly Cynthia Roger Hepzibah Phoebe Hester Pearl Walter
    Marian Laura Fosco Rachel Franklin Gilbert Helen Paulina Ginevra Sancho
    Rosinante Dulcinea Alyosha Ivan Dmitri Grushenka Raskolnikov Marmeladov
    Razumihin Meg Jo Beth Amy Laurie Basil Harry Dorian Colin Dickon Marilla
    Matthew Melmotte Felix Hetta Maggie Tom Philip Stephen
""".split()

THINGS = ("pass key", "secret number", "key", "number of the room",
          "number of the house", "bank note number")

STATEMENTS = ("The {thing} of {name} is {value}. Remember it.",
              "Remember that the {thing} of {name} is {value}.",
              '"The {thing} of {name} is {value}," said he.',
              "The {thing} of {name} is {value}.")
QUESTIONS = (
    "What is the {thing} of {name}? The {thing} of {name} is ",
    '"What is the {thing} of {name}?" "The {thing} of {name} is ',
    "The {thing} of {name} was, as I said, ",
    "The {thing} of {name} is ")

NAMELESS_STATEMENTS = (
    "The pass key is {value}. Remember it. {value} is the pass key.",
    "The pass key is {value}. Remember it.",
    "There is an important number hidden here. The pass key is {value}. "
    "Remember it.")
NAMELESS_QUESTIONS = ("What is the pass key? The pass key is ",
                      "The pass key is ")

Tokens = list[int]


def recalled(tokens: Tokens) -> Tokens:
    return [token | RECALL for token in tokens]


class RowMaker:
    """Makes synthetic rows out of a book's tokens and a list of words."""

    def __init__(self, tokenizer: sentencepiece.SentencePieceProcessor,
                 book: np.ndarray, words: list[str], seed: int) -> None:
        self.tokenizer = tokenizer
        self.book = book
        self.words = words
        self.random = random.Random(seed)

    # Pieces of rows

    def paragraph(self, text: str) -> Tokens:
        """The tokens of a line of text, as they are in a longer text."""
        prefix_and_newline = 2
        return self.tokenizer.encode("\n" + text)[prefix_and_newline:]

    def excerpt(self, length: int) -> Tokens:
        """Tokens of a book, from the start of a paragraph where one is near.
        """
        start = self.random.randrange(len(self.book) - length - 800)
        newlines = np.flatnonzero(self.book[start:start + 600] == NEWLINE)
        if len(newlines):
            start += int(newlines[0]) + 1
        return self.book[start:start + length].tolist()

    def length_between(self, least: int, most: int) -> int:
        """A random length; short ones are as likely as long ones."""
        return int(math.exp(self.random.uniform(math.log(least),
                                                math.log(most))))

    def value(self) -> str:
        """What there is to remember: mostly digits, else a word or two."""
        pick = self.random.choice
        if self.random.random() < 0.7:
            digits = pick((3, 4, 5, 5, 5, 6))
            return "".join(pick("0123456789") for _ in range(digits))
        return " ".join(pick(self.words) for _ in range(pick((1, 1, 2))))

    def answer(self, question: str, value: str) -> Tokens:
        """A question with its answer, whose tokens are to be recalled."""
        tokens = self.paragraph(question + value + ".")
        asked = self.paragraph(question.rstrip())
        start = 0
        while (start < min(len(asked), len(tokens))
               and asked[start] == tokens[start]):
            start += 1
        end = len(self.paragraph(question + value))
        return tokens[:start] + recalled(tokens[start:end]) + tokens[end:]

    def statement_and_question(self, name: str) -> tuple[str, str, str]:
        """A fact in words, a question for it, and the value asked for."""
        value, pick = self.value(), self.random.choice
        if name:
            thing = pick(THINGS)
            statement, question = pick(STATEMENTS), pick(QUESTIONS)
        else:
            thing = ""
            statement = pick(NAMELESS_STATEMENTS)
            question = pick(NAMELESS_QUESTIONS)
        return (statement.format(thing=thing, name=name, value=value),
                question.format(thing=thing, name=name), value)

    def later(self, place: float) -> float:
        """A place after another, as shares of a row: near, far, or its end.
        """
        kind, rest = self.random.random(), 1 - place
        if kind < 0.4:
            return place + rest * self.random.random()
        if kind < 0.7:
            share = math.exp(self.random.uniform(math.log(0.01), 0))
            return min(0.999, place + rest * share)
        return max(0.9 + 0.1 * self.random.random(), place + 0.01)

    # Rows: at least length + 1 tokens, or fewer, to be filled from a book

    def facts(self, length: int) -> Tokens:
        pick = self.random.choice
        count = pick((1, 1, 2, 3, 4, 6, 8) if length >= 512 else (1, 1, 2, 3))
        names = self.random.sample(NAMES, count)
        if self.random.random() < 0.4:
            names[0] = ""  # a fact about nobody: the pass key

        insertions = []
        for name in names:
            statement, question, value = self.statement_and_question(name)
            place = 0.92 * self.random.random()
            insertions.append((place, self.paragraph(statement) + [NEWLINE]))
            for _ in range(pick((1, 1, 2, 3))):
                insertions.append((self.later(place),
                                   self.answer(question, value) + [NEWLINE]))
        insertions.sort(key=lambda insertion: insertion[0])

        inserted = sum(len(tokens) for _, tokens in insertions)
        pages = self.excerpt(max(0, length - inserted))
        paragraphs = [0] + [index + 1 for index, token in enumerate(pages)
                            if token == NEWLINE]
        row, done = [BOS], 0
        for place, tokens in insertions:
            cut = int(place * len(pages))
            if self.random.random() < 0.5:  # between two paragraphs
                cut = min(paragraphs, key=lambda start: abs(start - cut))
            cut = max(cut, done)
            row += pages[done:cut]
            if cut > done and row[-1] != NEWLINE:
                row.append(NEWLINE)
            row += tokens
            done = cut
        return row + pages[done:]

    def repeats(self, length: int) -> Tokens:
        row, passages = [BOS], []
        while len(row) <= length:
            if passages and self.random.random() < 0.5:
                passage = self.random.choice(passages)
                if self.random.random() < 0.5:
                    middle = max(1, len(passage) // 2)
                    passage = passage[self.random.randrange(middle):]
                row += passage[:4] + recalled(passage[4:])
            else:
                most = max(64, length // 4)
                passage = self.excerpt(self.length_between(24, most))
                if passage[-1] != NEWLINE:
                    passage.append(NEWLINE)
                if self.random.random() < 0.6:
                    passages.append(passage)
                row += passage
        return row

    def word_lists(self, length: int) -> Tokens:
        row, pick = [BOS], self.random.choice
        while len(row) <= length:
            count = pick((4, 8, 12, 20, 32, 48))
            words = " ".join(pick(self.words) for _ in range(count))
            tokens = self.paragraph(words + ".")
            row += tokens + [NEWLINE]
            for _ in range(pick((2, 2, 3, 4)) - 1):
                row += tokens[:1] + recalled(tokens[1:]) + [NEWLINE]
            if self.random.random() < 0.3:
                row += self.excerpt(pick((16, 64, 128))) + [NEWLINE]
        return row

    def copies(self, length: int) -> Tokens:
        row = [BOS]
        while len(row) <= length:
            count = self.length_between(4, min(96, length // 2))
            tokens = [self.random.randrange(FIRST_PIECE,
                                            self.tokenizer.get_piece_size())
                      for _ in range(count)]
            row += tokens
            for _ in range(self.random.choice((2, 2, 2, 3, 4)) - 1):
                row += tokens[:1] + recalled(tokens[1:])
        return row

    def quotations(self, length: int) -> Tokens:
        row = [BOS]
        while len(row) <= length:
            passage = self.excerpt(self.length_between(12, length // 2))
            row += passage + [NEWLINE]
            between = self.random.choice((0, 0, 16, 64))
            if between:
                row += self.excerpt(between) + [NEWLINE]
            row += passage[:3] + recalled(passage[3:]) + [NEWLINE]
        return row

    def row(self, length: int) -> Tokens:
        """A row of any kind. The short ones are for the copy-heavy burst."""
        if length == 256:
            kinds = (self.copies, self.word_lists, self.quotations, self.facts)
            shares = (0.45, 0.20, 0.20, 0.15)
        else:
            kinds = (self.facts, self.repeats, self.word_lists)
            shares = (0.5, 0.3, 0.2)
        kind, = self.random.choices(kinds, shares)
        row = kind(length)
        if len(row) <= length:
            row += self.excerpt(length + 1 - len(row))
        return row[:length + 1]


def common_words(texts: list[str]) -> list[str]:
    """The commonest words, without the very commonest."""
    counts = Counter()
    for text in texts:
        counts.update(re.findall(r"\b[a-z]{3,9}\b", text))
    return [word for word, _ in counts.most_common(2500)][40:]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="the folder to work in")
    data = parser.parse_args().data

    tokenizer = sentencepiece.SentencePieceProcessor(
        model_file=str(data / "tokenizer.model"))
    for split in ("valid", "train"):
        texts = [path.read_text(encoding="utf-8")
                 for path in sorted((data / split).glob("*.txt"))]
        if not texts:
            raise SystemExit(f"{data / split} holds no books")
        book = np.concatenate([np.array(tokenizer.encode(text), np.uint16)
                               for text in texts])
        np.save(data / f"{split}.npy", book)
        print(f"{split}: {len(texts)} books, {len(book):,} tokens", flush=True)

    maker = RowMaker(tokenizer, book, common_words(texts), SEED)
    for length, count in ROWS.items():
        rows = np.array([maker.row(length) for _ in range(count)], np.uint16)
        np.save(data / f"synthetic-{length}.npy", rows)
        share = (rows >= RECALL).mean()
        print(f"synthetic rows of {length}: {count}, "
              f"{share:.0%} of their tokens to be recalled", flush=True)


if __name__ == "__main__":
    main()
