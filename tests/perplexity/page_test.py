#!/usr/bin/env python3
"""Opens a page of `perplexity --report` in headless Chromium and uses it.

usage: page_test.py CHROMIUM PAGE.html...

A script is put into a copy of the page. It counts marks, moves the pointer, clicks, and leaves what it found in the
document, which Chromium prints.
"""

import json
import pathlib
import re
import subprocess
import sys
import tempfile

ERRORS = """<script>
window.problems = [];
addEventListener("error", (event) => problems.push(event.message));
console.error = console.warn = (...words) => problems.push(words.join(" "));
</script>"""

USE = """<script>
(() => {
  const found = {}, count = (css) => document.querySelectorAll(css).length;
  const move = (target, x, y) => {
    const box = target.getBoundingClientRect();
    target.dispatchEvent(new PointerEvent("pointermove",
      { bubbles: true, clientX: box.left + x * box.width, clientY: box.top + y * box.height }));
  };
  found.recall = count("#recall .found");
  found.repeats = count("#repeats .mark");
  found.quality = count("#quality .mark");
  found.memory = count("#memory .mark");
  found.position = count("#position .line");
  found.speed = count("#speed .mark");
  found.classes = count("#classes .mark");
  found.heads = count("#heads .cell");
  found.panels = count("#map canvas");
  found.tokens = count("#colored span");
  found.rows = count("#quality-table tbody tr");
  move(document.querySelector("#quality rect"), 0.5, 0.5);
  found.cursor = document.getElementById("tip").hidden ? "" : document.getElementById("tip").textContent;
  const canvas = document.querySelector("#map canvas");
  move(canvas, 0.02, 0.9);
  found.reading = document.getElementById("map-text").textContent;
  const painted = () => [...document.querySelector("#map canvas").getContext("2d").getImageData(0, 0, 8, 8).data.slice(0, 4)].join();
  const before = [document.documentElement.dataset.theme, painted()];
  document.getElementById("theme").click();
  found.theme = [before, [document.documentElement.dataset.theme, painted()]];
  document.querySelector("#legend button").click();
  found.hidden = count("#memory .mark");
  done();
  function done() {
    found.scrolls = document.documentElement.scrollWidth - innerWidth;
    found.problems = problems;
    const out = document.createElement("pre");
    out.id = "found";
    out.textContent = JSON.stringify(found);
    document.body.append(out);
  }
})();
</script>"""


def used(chromium, page, width):
    """What the script found in the page, in a window of this width."""
    with tempfile.TemporaryDirectory() as folder:
        copy = pathlib.Path(folder, "page.html")
        text = page.replace("<head>", "<head>" + ERRORS, 1)
        copy.write_text(text.replace("</body>", USE + "</body>", 1), encoding="utf-8")
        dom = subprocess.run(
            [chromium, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder}/profile",
             f"--window-size={width},900", "--dump-dom", copy.as_uri()],
            check=True, capture_output=True, text=True, timeout=120).stdout
    match = re.search(r'<pre id="found">(.*?)</pre>', dom, re.DOTALL)
    assert match, "the page's script ended early:\n" + dom[-2000:]
    return json.loads(match.group(1).replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"))


def check(chromium, page, width):
    data = json.loads(re.search(r'<script id="data" type="application/json">(.*?)</script>', page, re.DOTALL).group(1))
    found = used(chromium, page, width)
    assert found["problems"] == [], found["problems"]
    assert found["scrolls"] <= 0, f"at width {width} the page is {found['scrolls']} pixels too wide"
    runs = data["runs"]
    policies = list(dict.fromkeys(run["policy"] for run in runs))
    drawn = [run for run in runs if run["policy"] in policies[:8]]
    first_codec = [run for run in drawn if run["codec"] == runs[0]["codec"]]
    smallest = [run for run in first_codec if run["states"] == min(run["states"] for run in runs)]
    first = next((run for run in data["map"]["runs"] if not run["policy"].startswith("window")), data["map"]["runs"][0])
    mapped = [run for run in data["map"]["runs"] if run["policy"] in policies[:8] and run["states"] == first["states"]]
    expected = {
        "quality": len(first_codec),
        "memory": len(drawn) + 1,
        "position": len(smallest),
        "speed": len(drawn),
        "classes": sum(share is not None for run in mapped for share in run["class_share"]),
        "heads": sum(len(layer) for layer in data["heads"]["near"]),
        "panels": data["model"]["layers"],
        "tokens": len(data["map"]["tokens"]),
        "rows": 1 + len(data["shorter_context"]) + len(runs),
        "recall": count_recall(data["recall"], policies[:8]),
        "repeats": count_repeats(data["repeats"], policies[:8], min(run["states"] for run in runs)),
        "hidden": len([run for run in drawn if run["policy"] != policies[0]]) + 1,
    }
    for name, value in expected.items():
        assert found[name] == value, f"{name} at width {width}: {found[name]}, not {value}"
    assert found["cursor"].startswith("k = "), found["cursor"]
    assert found["reading"].startswith("Layer 0, step "), found["reading"]
    (theme, painted), (other_theme, other_painted) = found["theme"]
    assert {theme, other_theme} == {"light", "dark"} and painted != other_painted, found["theme"]


def count_recall(recall, policies):
    """Cells of the first kind that are measurable, of full and of the policies that are shown."""
    runs = [run for run in recall["runs"] if run["policy"] in ["full", *policies]] if recall else []
    return sum(score is not None for run in runs for row in run["scores"][0] for score in row)


def count_repeats(repeats, policies, states):
    """Passages, for full and for each policy that is shown at the first k."""
    if not repeats:
        return 0
    assert repeats["passages"] and all(group["measurable"] for group in repeats["runs"][0]["groups"]), "for the test"
    drawn = [run for run in repeats["runs"][1:] if run["policy"] in policies and run["states"] == states]
    return len(repeats["passages"]) * (1 + len(drawn))


def main():
    chromium, *paths = sys.argv[1:]
    for path in paths:
        page = pathlib.Path(path).read_text(encoding="utf-8")
        assert "http://" not in page.replace("http://www.w3.org/2000/svg", "") and "https://" not in page, "names a network"
        for width in (500, 1200):
            check(chromium, page, width)


if __name__ == "__main__":
    main()
