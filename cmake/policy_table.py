#!/usr/bin/env python3
"""Writes include/multistate/policies/README.md from the headers of the policies, modifiers and mergers.

    python3 cmake/policy_table.py            # writes the page
    python3 cmake/policy_table.py --check    # exit code 1 if the page is not what the headers say

A method is described by one comment block:

    // h2o: forgets the state with the least attention summed over its life.
    //
    //   paper    "H2O: Heavy-Hitter Oracle", arXiv 2306.14048
    //   rule     score[j] = ...
    //   reads    the attention probabilities of every token
    //   forgets  for each KV head
    //   cost     one addition per probability
    //   differs  ...

The order is that of policies/list.hpp. Needs Python 3.8 and nothing else.
"""

import difflib
import pathlib
import re
import sys

LABELS = ("paper", "rule", "reads", "forgets", "cost", "differs")
SCOPES = {"for each KV head": "head", "for the layer": "layer"}
REQUIRED = {"policies": LABELS[:-1], "modifiers": ("rule", "cost"), "mergers": ("rule", "cost")}
ROOT = pathlib.Path(__file__).resolve().parents[1] / "include" / "multistate"

HEAD = """# Policies

<!-- Written by cmake/policy_table.py from the comments of the headers. Change the headers, then run the script. -->

Each policy is one file in this folder or a preset in [list.hpp](list.hpp). All policies take guards: `.sinks` (the
first arrivals) and `.recent` (the newest states) are never forgotten. Among equal scores the oldest state is forgotten.
`a[i][t][j]` is the attention probability of query head i at token t for state j. What each policy costs in time:
[bench](../../../bench/README.md#what-each-policy-costs); in perplexity on one small model:
[perplexity](../../../examples/perplexity/README.md#every-policy).

"""


def comment_blocks(text):
    """The contiguous comments of a file, without the slashes."""
    block = []
    for line in text.splitlines() + [""]:
        comment = re.match(r"\s*///? ?(.*)", line)
        if comment:
            block.append(comment.group(1).rstrip())
        elif block:
            yield block
            block = []


def methods(text):
    """(names, summary, {label: text}) of each described method."""
    for block in comment_blocks(text):
        fields, label, summary = {}, "", []
        for line in block:
            labelled = re.match(r"  (%s) +(\S.*)" % "|".join(LABELS), line)
            if labelled:
                label = labelled.group(1)
                fields[label] = labelled.group(2)
            elif label and line.startswith("      "):
                fields[label] += " " + line.strip()
            elif label and line.strip():
                label = ""
            elif not fields and (line == "" or line.startswith(" ")):
                summary.append(None)  # the end of the first paragraph
            elif not fields:
                summary.append(line)
        first = " ".join(summary[:summary.index(None)] if None in summary else summary)
        named = re.match(r"([a-z][a-z0-9_]*(?:(?:, | and )[a-z][a-z0-9_]*)*): (.+)", first)
        if named and "rule" in fields:
            yield re.split(r", | and ", named.group(1)), named.group(2), fields


def escaped(text):
    """As Markdown: nothing outside of backticks is markup, and arXiv numbers are links."""
    parts = text.split("`")
    for i in range(0, len(parts), 2):
        parts[i] = re.sub(r"([\\*_<>|\[\]])", r"\\\1", parts[i])
        parts[i] = re.sub(r"\barXiv (\d{4}\.\d{5})", r"[arXiv \1](https://arxiv.org/abs/\1)", parts[i])
    return "`".join(parts).replace("|", r"\|") if len(parts) > 1 and "|" in text else "`".join(parts)


def short_paper(text):
    numbers = re.findall(r"\b(\d{4}\.\d{5})\b", text)
    if numbers:
        return f"[{numbers[0]}](https://arxiv.org/abs/{numbers[0]})"
    return "–" if text.startswith("none") else escaped(text.split(";")[0])


def first_clause(text):
    return re.split(r"[;:.] ", text)[0].rstrip(".")


def sentence(text):
    if not (ROOT / "policies" / (re.split(r"\W", text)[0] + ".hpp")).exists():  # names stay as they are
        text = text[0].upper() + text[1:]
    return text if text.endswith(".") else text + "."


def described(room):
    """[(file, names, summary, fields)] of a room; raises ValueError if a description lacks a line."""
    found = []
    for path in sorted((ROOT / room).glob("*.hpp")):
        for names, summary, fields in methods(path.read_text(encoding="utf-8")):
            missing = [label for label in REQUIRED[room] if label not in fields]
            if missing:
                raise ValueError(f"{room}/{path.name}: {', '.join(names)} has no line {', '.join(missing)}")
            found.append((path.name, names, summary, fields))
    return found


def in_order_of_the_list(found):
    """The policies that the list names; raises ValueError if one of them has no description."""
    text = (ROOT / "policies" / "list.hpp").read_text(encoding="utf-8")
    listed = re.search(r"using any_policy = one_of<(.*?)>;", text, re.S).group(1).replace(",", " ").split()
    described_by = {entry[1][0]: entry for entry in found}
    missing = [name for name in listed if name not in described_by]
    if missing:
        raise ValueError(f"no comment begins with '{missing[0]}: ' and has a line '  rule  ' (policies/{missing[0]}.hpp)")
    return [described_by[name] for name in listed]


def page():
    policies = in_order_of_the_list(described("policies"))
    text = HEAD + "| policy | in one sentence | per | reads | paper |\n| - | - | - | - | - |\n"
    for file, names, summary, fields in policies:
        per = SCOPES.get(first_clause(fields["forgets"]).split(",")[0], "–")
        what = escaped(summary.rstrip("."))
        reads = escaped(re.split(r"\. ", fields["reads"])[0].rstrip(".").replace("; ", ", "))
        text += f"| [`{names[0]}`]({file}) | {what} | {per} | {reads} | " \
                f"{short_paper(fields['paper'])} |\n"
    text += "\n## Rules, costs and differences\n"
    for file, names, summary, fields in policies:
        text += entry(names, summary, fields, file)
    for room, title in (("modifiers", "Modifiers"), ("mergers", "Mergers")):
        text += f"\n## {title}\n"
        for file, names, summary, fields in described(room):
            text += entry(names, summary, fields, f"../{room}/{file}")
    return text


def entry(names, summary, fields, link):
    text = f"\n### {', '.join(names)}\n\n{sentence(escaped(summary))} [Header]({link})\n\n"
    return text + "".join(f"- **{label}**: {escaped(fields[label])}\n" for label in LABELS if label in fields)


def main(arguments):
    path = ROOT / "policies" / "README.md"
    wanted = page()
    if arguments == ["--check"]:
        old = path.read_text(encoding="utf-8") if path.exists() else ""
        if old == wanted:
            return 0
        difference = difflib.unified_diff(old.splitlines(), wanted.splitlines(), "README.md", "headers", n=0, lineterm="")
        print("\n".join(list(difference)[:40]))
        print(f"{path} is not what the headers say: run python3 cmake/policy_table.py")
        return 1
    if arguments:
        print(__doc__, file=sys.stderr)
        return 1
    path.write_text(wanted, encoding="utf-8")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except ValueError as error:
        print(f"policy_table.py: {error}", file=sys.stderr)
        sys.exit(1)
