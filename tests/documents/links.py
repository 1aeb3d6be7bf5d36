"""Every relative link of the documents leads to a file, and every anchor to a heading.

    python3 tests/documents/links.py REPOSITORY
"""

import pathlib
import re
import sys


def anchors(path):
    """GitHub's anchors of the headings."""
    headings = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def main(root):
    folders = ("bench", "examples", "include", "tests", ".github")
    documents = [*root.glob("*.md"), *(each for folder in folders for each in (root / folder).rglob("*.md"))]
    broken = []
    for document in documents:
        for link in re.findall(r"\]\(([^)\s]+)\)", document.read_text(encoding="utf-8")):
            if link.startswith(("http:", "https:")):
                continue
            name, _, anchor = link.partition("#")
            target = document.parent / name if name else document
            if not target.exists() or (anchor and anchor not in anchors(target)):
                broken.append(f"{document}: {link}")
    print("\n".join(broken) or f"{len(documents)} documents")
    return 1 if broken or len(documents) < 5 else 0


if __name__ == "__main__":
    sys.exit(main(pathlib.Path(sys.argv[1])))
