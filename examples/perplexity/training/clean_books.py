#!/usr/bin/env python3
"""Turns plain-text books of Project Gutenberg into clean text to train on.

    python3 clean_books.py BOOKS DATA

BOOKS is a folder of .txt files whose names begin with the book's number at
Project Gutenberg, as they do there: 98.txt, 98-0.txt, pg98.txt. Every book
that is both there and in the manifest (books.csv, beside this script) is
written to DATA/train, DATA/valid or DATA/test, as the manifest says.

What is written is the author's text only: header, footer and licence go, and
so do notes of transcribers, title pages and indexes; each paragraph becomes
one line; quotes and dashes become plain ASCII ones. Look at the beginning of
what comes out: where a book's story starts is a guess.
"""

import argparse
import csv
import re
import sys
import unicodedata
from pathlib import Path

PLAIN = str.maketrans({
    "\u2018": "'", "\u2019": "'", "\u201b": "'", "\u2032": "'", "\u00b4": "'",
    "`": "'", "\u201c": '"', "\u201d": '"', "\u2033": '"',
    "\u2010": "-", "\u2011": "-", "\u2012": "-", "\u2013": "-",
    "\u2014": "--", "\u2015": "--", "\u2026": "...",
    "\u00a0": " ", "\u2009": " ", "\u200a": " ",
    "\u200b": "", "\u00ad": "", "\ufeff": "",
})

NOT_THE_AUTHOR = re.compile(
    r"Project Gutenberg|gutenberg\.|Produced by|E-text prepared|[Tt]ranscriber"
    r"|TRANSCRIBER|etext|eBook|http://|https://|www\.|^\[?Footnote"
    r"|HTML version")


def read(path: Path) -> str:
    """The text of a file in UTF-8 or in the encoding of older ones."""
    raw = path.read_bytes()
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        text = raw.decode("cp1252", errors="replace")
    return text.replace("\r\n", "\n").replace("\r", "\n").translate(PLAIN)


def without_licence(text: str) -> str:
    """What lies between Project Gutenberg's header and its footer."""
    start = re.search(
        r"\*\*\* ?START OF (THE|THIS) PROJECT GUTENBERG.*?\*\*\*",
        text, re.DOTALL)
    if start:
        text = text[start.end():]
    for footer in (r"\*\*\* ?END OF (THE|THIS) PROJECT GUTENBERG",
                   r"\n\s*(?i:End of (the )?Project Gutenberg)"):
        end = re.search(footer, text)
        if end:
            text = text[:end.start()]
    return text


def one_line(paragraph: str) -> str:
    """A paragraph on one line, without the marks of a transcriber."""
    line = re.sub(r"\[(Illustration|Pg|Page)[^\]]*\]", "",
                  " ".join(paragraph.split()))
    line = re.sub(r"[_=~]", "", line)
    line = re.sub(r"^[*. -]+$", "", line)
    line = re.sub(r"-{3,}", "--", line)
    line = re.sub(r"\.( \.){2,}", "...", line)
    return " ".join(line.split())


def share_of(test, text: str) -> float:
    """The share of the characters of a text that pass a test."""
    return sum(map(test, text)) / len(text)


def is_prose(line: str) -> bool:
    """Whether a line is a long paragraph, neither heading nor contents."""
    return (len(line) > 220
            and share_of(str.islower, line) > 0.68
            and share_of(str.isdigit, line) < 0.02
            and len(re.findall(r"\bCHAPTER|Chapter [IVX\d]", line)) < 2)


def without_title_page(lines: list[str]) -> list[str]:
    """The lines from the first prose on, and up to two headings before it."""
    for start in range(min(len(lines), 400)):
        if (is_prose(lines[start])
                and sum(map(is_prose, lines[start:start + 6])) >= 2):
            break
    else:
        return lines
    first = start
    while first > 0 and start - first < 2 and len(lines[first - 1]) < 120:
        first -= 1
    return lines[first:]


def clean(text: str) -> str:
    """The author's text, one paragraph per line."""
    paragraphs = re.split(r"\n[ \t]*\n", without_licence(text))
    lines = [one_line(paragraph) for paragraph in paragraphs]
    lines = [line for line in lines
             if line and not NOT_THE_AUTHOR.search(line)]
    lines = [line for line in without_title_page(lines)
             if len(line) < 12 or share_of(str.isdigit, line) < 0.15]
    return unicodedata.normalize("NFC", "\n".join(lines) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("books", type=Path, help="folder of .txt files")
    parser.add_argument("data", type=Path, help="folder to write to")
    arguments = parser.parse_args()

    paths = {}
    for path in sorted(arguments.books.glob("*.txt")):
        number = re.match(r"(?:pg)?(\d+)", path.name)
        if number:
            paths.setdefault(number[1], path)

    with open(Path(__file__).with_name("books.csv"), encoding="utf-8") as file:
        manifest = list(csv.DictReader(file))
    found = 0
    for book in manifest:
        number, title = book["gutenberg_number"], book["title"]
        if number not in paths:
            print(f"not there: {number} {title}", file=sys.stderr)
            continue
        text = clean(read(paths[number]))
        target = arguments.data / book["split"] / f"{number}.txt"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
        found += 1
        print(f"{target}: {title}, {len(text):,} characters, "
              f"begins {text[:40]!r}")
    print(f"{found} of {len(manifest)} books")


if __name__ == "__main__":
    main()
