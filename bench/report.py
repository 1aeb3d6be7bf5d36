#!/usr/bin/env python3
"""Turns Google Benchmark's JSON into the tables of README.md.

    multistate_bench --benchmark_repetitions=3 --benchmark_out=results.json
    python3 bench/report.py results.json bench/README.md

The tables replace everything between the two markers of the file; the rest of the file stays. A counter is the median
over the repetitions. GOALS are compared with the worst result and printed, not written to the file. The exit code is 1
if a benchmark failed or an argument is wrong. Needs Python 3.8 and nothing else.
"""

import json
import os
import re
import statistics
import sys

FIRST_MARKER = "<!-- results: written by the target bench_report -->"
LAST_MARKER = "<!-- end of results -->"

# What main.cpp adds to Google Benchmark's context, in the order in which it is shown.
FACTS = ("multistate", "target", "processor", "processors in use", "load average of the last minute", "pages",
         "compiler", "flags", "Eigen", "read probe", "assertions")


def column(counter, heading=None, factor=1, decimals=2):
    return {"counter": counter, "heading": heading or counter, "factor": factor, "decimals": decimals}


def family(title, parts, columns, across=False, note=""):
    """The benchmarks <name>/<part>/<part>...: a row for each, or with `across` one column for each first part."""
    return {"title": title, "parts": parts, "columns": columns, "across": across, "note": note}


BESIDE_RIVALS = [
    column("ns", "µs per token-layer", 1e-3, 0),
    column("bytes/s", "GB/s", 1e-9, 1),
    column("percent_of_read", decimals=0),
    column("memcpy/step"),
    column("eigen/step"),
    column("reference/step"),
]

COPIES = [
    column("ms", "ms"),
    column("megabytes", "MB of keys and values", decimals=1),
    column("ours/memcpy", "over memcpy"),
    column("ours/memcpy_to_new", "over memcpy to new memory"),
]

# Tables appear in this order. A family that is missing here gets a plain table at the end.
FAMILIES = {
    "memory": family("Memory", ["how", "where"],
                     [column("bytes/s", "GB/s", 1e-9, 1), column("probe/ours", "probe/this")]),
    "step_and_rivals": family("A step beside its rivals", ["codec", "heads", "states"], BESIDE_RIVALS),
    "step": family("A step over attention alone", ["policy", "codec", "heads", "states"],
                   [column("step/attention", decimals=3)], across=True),
    "policy": family("What each policy costs", ["policy", "states", "slack"],
                     [column("step_us", "µs per step", 1, 0), column("attention_us", "µs of attention", 1, 0),
                      column("step/attention", decimals=3), column("bytes", "bytes of its own per state", 1, 1)],
                     note="`lagkv`, `cur`, `leverage`, `noncausal` and `compactor` work at the end of each chunk of "
                          "the text, and few turns with a slack of 0 or 31 contain one. The third line of these "
                          "policies shows their cost per token, for any slack."),
    "head_dim": family("Other head dimensions", ["codec", "heads", "states", "head_dim"], BESIDE_RIVALS),
    "group": family("Query heads per KV head", ["codec", "heads", "states", "group"], BESIDE_RIVALS),
    "batch": family("As many sequences as fit into a fixed memory", ["policy", "codec", "heads", "states"],
                    [column("sequences", decimals=0), column("full_sequences", "full: sequences", 1, 0),
                     column("tokens/s", decimals=0), column("full_tokens/s", "full: tokens/s", 1, 0),
                     column("full/ours", "throughput over full"), column("percent_of_read", decimals=0),
                     column("memcpy/ours", "memcpy/step"), column("eigen/ours", "eigen/step")],
                    note="The paper reports for a whole model, with a batch of 8 for `full`: 1.7, 3.1, 4.8 and 8.5 "
                         "times the throughput with 2048, 1024, 512 and 256 states."),
    "prefill": family("Prefill: 512 tokens", ["policy", "codec", "heads", "states", "head_dim"],
                      [column("tokens/s", "exact tokens/s", 1, 0), column("block_tokens/s", "block tokens/s", 1, 0),
                       column("step_tokens/s", "single steps tokens/s", 1, 0),
                       column("block_flop/s", "block GFLOP/s", 1e-9, 1),
                       column("eigen_flop/s", "Eigen GFLOP/s", 1e-9, 1), column("exact/block"), column("steps/exact"),
                       column("eigen/block"), column("percent_of_read", decimals=1),
                       column("memcpy/block", decimals=3)]),
    "one_layer": family("Each layer in a cache of its own", ["codec", "heads", "states"],
                        [column("ns", "µs per token-layer", 1e-3, 0), column("bytes/s", "GB/s", 1e-9, 1),
                         column("one_layer/many", "over layers in one cache")]),
    "clone": family("Clones", ["codec", "heads", "states", "held"], COPIES),
    "construct": family("Construction", ["codec", "heads", "states"], COPIES),
    "threads": family("Two threads", ["executor", "what", "policy", "heads", "states"],
                      [column("ns", "µs", 1e-3, 0), column("serial/shared"),
                       column("probe/shared_probe", "the same for the probe"),
                       column("percent_of_gain", decimals=0)]),
    "cell_step": family("A step of a recurrent cell over a read of its parameters", ["cell", "parameters", "width"],
                        [column("us", "µs", 1, 0), column("bytes", "MB of parameters", 1e-6, 1),
                         column("bytes/s", "GB/s", 1e-9, 1), column("step/read")]),
    "cell_scan": family("A scan of one sequence", ["cell", "width", "length", "threads"],
                        [column("us", "µs per token", 1, 1),
                         column("own_steps/scan", "steps of the cell over scan", decimals=1),
                         column("classic_steps/scan", "steps of the classic cell over scan", decimals=1)]),
    "cell_training": family("Training: forward and backward", ["cell", "batch x width", "length", "threads"],
                            [column("ms", decimals=1), column("classic_ms", "ms of the classic cell", 1, 1),
                             column("classic/ours", "classic over this"), column("bytes", "MB", 1e-6, 1),
                             column("classic_bytes", "MB of the classic cell", 1e-6, 1)],
                            note="The classic cell of `min_gru` is `gru`, that of `min_lstm` is `lstm`. MB is what "
                                 "training holds besides parameters, inputs, outputs and their gradients."),
    "cell_parameters": family("Parameters", ["cell", "units over inputs"],
                              [column("parameters", decimals=0),
                               column("classic_parameters", "of the classic cell", 1, 0),
                               column("percent", "percent of it", 1, 1),
                               column("published", "published percent", 1, 0)]),
    "softmax": family("Softmax", ["n"],
                      [column("ns/element"), column("eigen/ours"), column("scalar/ours"),
                       column("read/ours", decimals=3), column("memcpy/ours", decimals=3)]),
    "least": family("The state to forget", ["n"],
                    [column("ns/element", decimals=3), column("min_element/ours"), column("eigen/ours"),
                     column("read/ours"), column("memcpy/ours")]),
    "top_k": family("The states to keep", ["n"],
                    [column("ns/element"), column("nth_element/ours"), column("read/ours", decimals=3),
                     column("memcpy/ours", decimals=3)]),
}

# (what, names of the benchmarks, counter, "at least" or "at most", bound)
GOALS = [
    ("MHA, percent of the read probe, 512 states", r"step_and_rivals/b?f16/32x32/512", "percent_of_read",
     "at least", 90),
    ("MHA, percent of the read probe, 4096 states", r"step_and_rivals/b?f16/32x32/4096", "percent_of_read",
     "at least", 95),
    ("MHA, f16 and bf16, times as fast as Eigen", r"step_and_rivals/b?f16/32x32/.*", "eigen/step", "at least", 2.8),
    ("GQA, f16 and bf16, times as fast as Eigen", r"step_and_rivals/b?f16/32x8/.*", "eigen/step", "at least", 4.3),
    ("a step of TOVA or H2O over attention alone, f16 and bf16", r"step/(tova|h2o)/b?f16/.*", "step/attention",
     "at most", 1.02),
    ("the same, int8", r"step/(tova|h2o)/int8/.*", "step/attention", "at most", 1.03),
    ("exact over block prefill, 512 tokens on 4096 states", r"prefill/.*/4096/.*", "exact/block", "at most", 1.15),
    ("single steps over exact prefill, the same", r"prefill/.*/4096/.*", "steps/exact", "at least", 5),
    ("a clone over memcpy to new memory", r"clone/.*", "ours/memcpy_to_new", "at most", 1.3),
    ("construction over memcpy to new memory", r"construct/.*", "ours/memcpy_to_new", "at most", 1.3),
    ("two threads, 256 to 1024 states", r"threads/.*/(step|sequences)/.*/(256|512|1024)", "serial/shared",
     "at least", 1.6),
    ("a step of a recurrent cell over a read of its parameters", r"cell_step/.*", "step/read", "at most", 1.3),
    ("steps of the classic cell over a scan, 4096 tokens, two threads", r"cell_scan/.*/4096/2", "classic_steps/scan",
     "at least", 5),
    ("softmax, ns per element", r"softmax/65536", "ns/element", "at most", 0.40),
    ("the state to forget, ns per element", r"least/65536", "ns/element", "at most", 0.10),
    ("the states to keep, ns per element", r"top_k/65536", "ns/element", "at most", 4),
]

# What Google Benchmark appends to the name of a run.
SUFFIXES = re.compile(r"/(iterations|repeats|min_time|min_warmup_time|threads):[^/]*|/(manual|real|process)_time")

# What a run has besides counters.
NOT_COUNTERS = {"family_index", "per_family_instance_index", "repetitions", "repetition_index", "threads", "iterations",
                "real_time", "cpu_time"}


def read_results(document):
    """The benchmarks in the order of their first runs: {name: {"counters": {counter: median}, "error": text}}."""
    runs = {}
    for run in document["benchmarks"]:
        if run.get("run_type", "iteration") != "iteration":
            continue
        entry = runs.setdefault(SUFFIXES.sub("", run.get("run_name", run["name"])), {"counters": {}, "error": ""})
        if run.get("error_occurred"):
            entry["error"] = run.get("error_message", "no message")
        for counter, value in run.items():
            if counter not in NOT_COUNTERS and isinstance(value, (int, float)) and not isinstance(value, bool):
                entry["counters"].setdefault(counter, []).append(value)
    for entry in runs.values():
        entry["counters"] = {counter: statistics.median(values) for counter, values in entry["counters"].items()}
    return runs


def cell(result, col):
    if result["error"]:
        return "failed: " + result["error"]
    value = result["counters"].get(col["counter"])
    return "" if value is None else f"{col['factor'] * value:.{col['decimals']}f}"


def table(headings, rows):
    lines = [headings, ["-"] * len(headings)] + rows
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def plain_table(fam, results):
    rows = []
    for name, result in results.items():
        parts = name.split("/", len(fam["parts"]))[1:]
        cells = [cell(result, col) for col in fam["columns"]]
        if result["error"]:
            cells[1:] = [""] * (len(cells) - 1)
        rows.append(parts + [""] * (len(fam["parts"]) - len(parts)) + cells)
    return table(fam["parts"] + [col["heading"] for col in fam["columns"]], rows)


def table_across(fam, results):
    """The first part of the names goes across, with one counter in all cells."""
    across, down, cells = {}, {}, {}  # dictionaries keep the order
    for name, result in results.items():
        _, first, rest = name.split("/", 2)
        across[first] = down[rest] = True
        cells[rest, first] = cell(result, fam["columns"][0])
    rows = [rest.split("/") + [cells.get((rest, first), "") for first in across] for rest in down]
    return table(fam["parts"][1:] + list(across), rows)


def markdown(results):
    """A section with a table for each family that has results."""
    families = dict(FAMILIES)
    for name, result in results.items():
        counters = list(result["counters"]) or [""]
        family_name = name.split("/")[0]
        families.setdefault(family_name, family(family_name, ["benchmark"], [column(c) for c in counters]))
    text = ""
    for family_name, fam in families.items():
        own = {name: result for name, result in results.items() if name.split("/")[0] == family_name}
        if own:
            note = fam["note"] + "\n\n" if fam["note"] else ""
            text += f"\n### {fam['title']}\n\n{note}" + (table_across if fam["across"] else plain_table)(fam, own)
    return text


def goals(results):
    """A line for each goal that these results are about, with the worst of them."""
    lines = []
    for what, names, counter, direction, bound in GOALS:
        about = [(result["counters"][counter], name) for name, result in results.items()
                 if re.fullmatch(names, name) and counter in result["counters"]]
        if about:
            value, name = min(about) if direction == "at least" else max(about)
            reached = value >= bound if direction == "at least" else value <= bound
            verdict = "reached" if reached else "MISSED "
            lines.append(f"{verdict}  {what}: {direction} {bound}, worst {value:.3f} ({name})")
    return lines


def context(document):
    facts = document.get("context", {})
    return "".join(f"- {key}: {facts[key]}\n" for key in FACTS if key in facts)


def write_between_markers(path, text):
    """Raises ValueError unless the file has both markers, each once and in this order. It changes whole or not."""
    with open(path, encoding="utf-8") as file:
        old = file.read()
    before, first, rest = old.partition(FIRST_MARKER)
    tables, last, after = rest.partition(LAST_MARKER)
    if not last or any(marker in part for marker in (FIRST_MARKER, LAST_MARKER) for part in (before, tables, after)):
        raise ValueError(f"{path} must have the lines\n{FIRST_MARKER}\n{LAST_MARKER}\nonce and in this order")
    with open(path + ".new", "w", encoding="utf-8") as file:
        file.write(f"{before}{first}\n\n{text}\n{last}{after}")
    os.replace(path + ".new", path)


def main(arguments):
    if len(arguments) != 2:
        print(__doc__, file=sys.stderr)
        return 1
    with open(arguments[0], encoding="utf-8") as file:
        document = json.load(file)
    results = read_results(document)
    write_between_markers(arguments[1], context(document) + markdown(results))
    for line in goals(results):
        print(line)
    failed = [name for name, result in results.items() if result["error"]]
    for name in failed:
        print(f"failed: {name}: {results[name]['error']}", file=sys.stderr)
    if not results:
        print("no results", file=sys.stderr)
    return 1 if failed or not results else 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except (OSError, ValueError, KeyError) as error:
        print(f"report.py: {error}", file=sys.stderr)
        sys.exit(1)
