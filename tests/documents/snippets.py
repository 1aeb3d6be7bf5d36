"""Compiles the C++ of the documents: every block that is marked ```cpp.

    python3 tests/documents/snippets.py OUTPUT.cpp DOCUMENT...      # writes one file with all blocks

Includes and namespace aliases of a block go to the top. A block with a struct is compiled at namespace scope, any other
as the body of a function. What a document leaves to the reader is declared in tests/documents/given.hpp.
"""

import pathlib
import re
import sys
import textwrap


def blocks(path):
    """(line, code) of each block."""
    text = path.read_text(encoding="utf-8")
    for match in re.finditer(r"^ *```cpp\n(.*?)^ *```$", text, re.M | re.S):
        yield text.count("\n", 0, match.start(1)) + 1, textwrap.dedent(match.group(1)).splitlines()


def main(output, documents):
    top, bodies = [], []
    for number, (path, line, code) in enumerate(
            (path, line, code) for path in documents for line, code in blocks(path)):
        is_top = [each.startswith(("#include", "namespace ")) for each in code]
        top += [each for each, at_top in zip(code, is_top) if at_top]
        body = [f'#line {line} "{path}"'] + ["" if at_top else each for each, at_top in zip(code, is_top)]
        if any(each.startswith(("struct ", "template ")) for each in code):
            bodies += [f"namespace block_{number} {{"] + body + ["}"]
        else:
            bodies += [f"[[maybe_unused]] void block_{number}() {{"] + body + ["}"]
    if not bodies:
        sys.exit("no C++ in " + ", ".join(map(str, documents)))
    top = list(dict.fromkeys(top))
    output.write_text("\n".join(top + ['#include "given.hpp"', ""] + bodies) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]), [pathlib.Path(each) for each in sys.argv[2:]])
