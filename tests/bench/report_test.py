"""Tests of bench/report.py with made-up results, and that it reads what multistate_bench really writes.

    python3 tests/bench/report_test.py                                           # the made-up results
    python3 tests/bench/report_test.py build/release/bench/multistate_bench      # and the smallest of each kind
"""

import contextlib
import io
import json
import pathlib
import subprocess
import sys
import tempfile
import unittest

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "bench"))
import report  # noqa: E402

PROGRAM = None


def run(name, error="", counters=None, **more):
    """One run as Google Benchmark writes it."""
    made = {"name": name, "run_name": name, "run_type": "iteration", "iterations": 5, "real_time": 1.0, "cpu_time": 1.0,
            "time_unit": "ns", "threads": 1, "family_index": 0, **(counters or {}), **more}
    if error:
        made.update(error_occurred=True, error_message=error)
    return made


def results(*runs):
    return report.read_results({"benchmarks": list(runs)})


class Results(unittest.TestCase):
    def test_a_counter_is_the_median_over_repetitions_and_aggregates_are_ignored(self):
        name = "policy/h2o/512/0/iterations:5/repeats:3/manual_time"
        runs = [run(name, step_us=value) for value in (1, 9, 2)] + [run(name, run_type="aggregate", step_us=100)]
        self.assertEqual(results(*runs), {"policy/h2o/512/0": {"counters": {"step_us": 2}, "error": ""}})

    def test_the_family_threads_keeps_its_name(self):
        self.assertEqual(list(results(run("threads/pool/step/tova/32x8/512/threads:2/real_time"))),
                         ["threads/pool/step/tova/32x8/512"])


class Tables(unittest.TestCase):
    def test_one_table_for_each_family_one_column_for_each_part_of_the_name(self):
        text = report.markdown(results(
            run("softmax/64", counters={"ns/element": 1.234, "eigen/ours": 2.5, "scalar/ours": 10}),
            run("softmax/256", counters={"ns/element": 0.5, "read/ours": 0.25, "memcpy/ours": 0.5})))
        self.assertEqual(text, "\n### Softmax\n\n"
                               "| n | ns/element | eigen/ours | scalar/ours | read/ours | memcpy/ours |\n"
                               "| - | - | - | - | - | - |\n"
                               "| 64 | 1.23 | 2.50 | 10.00 |  |  |\n"
                               "| 256 | 0.50 |  |  | 0.250 | 0.500 |\n")

    def test_units_are_converted(self):
        text = report.markdown(results(run("memory/memcpy/dram", counters={"bytes/s": 6.25e9, "probe/ours": 0.5})))
        self.assertIn("| memcpy | dram | 6.2 | 0.50 |\n", text)

    def test_policies_go_across(self):
        text = report.markdown(results(run("step/window/int8/32x8/512", counters={"step/attention": 1.001}),
                                       run("step/tova/int8/32x8/512", counters={"step/attention": 1.02}),
                                       run("step/tova/int8/32x8/4096", counters={"step/attention": 1.03})))
        self.assertIn("| codec | heads | states | window | tova |\n"
                      "| - | - | - | - | - |\n"
                      "| int8 | 32x8 | 512 | 1.001 | 1.020 |\n"
                      "| int8 | 32x8 | 4096 |  | 1.030 |\n", text)

    def test_a_family_without_a_description_shows_all_its_counters(self):
        self.assertEqual(report.markdown(results(run("new/a/b", x=1, y=2))),
                         "\n### new\n\n| benchmark | x | y |\n| - | - | - |\n| a/b | 1.00 | 2.00 |\n")

    def test_a_failure_is_shown(self):
        text = report.markdown(results(run("least/64", error="the two chose differently")))
        self.assertIn("| 64 | failed: the two chose differently |", text)


class Goals(unittest.TestCase):
    def test_a_goal_is_compared_with_the_worst(self):
        lines = report.goals(results(run("step_and_rivals/f16/32x32/512", counters={"eigen/step": 3}),
                                     run("step_and_rivals/bf16/32x32/512", counters={"eigen/step": 2.5}),
                                     run("step_and_rivals/int8/32x32/512", counters={"eigen/step": 1}),
                                     run("softmax/65536", counters={"ns/element": 0.375})))
        self.assertEqual(len(lines), 2, lines)
        self.assertTrue(lines[0].startswith("MISSED ") and "bf16/32x32/512" in lines[0] and "2.500" in lines[0], lines)
        self.assertTrue(lines[1].startswith("reached") and "0.375" in lines[1], lines)


class File(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        self.page = self.folder / "page.md"

    def call(self, document):
        (self.folder / "results.json").write_text(json.dumps(document))
        self.page.write_text(report.FIRST_MARKER + report.LAST_MARKER)
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            return report.main([str(self.folder / "results.json"), str(self.page)])

    def test_only_what_lies_between_the_markers_changes(self):
        self.page.write_text(f"before\n{report.FIRST_MARKER}\nold\n{report.LAST_MARKER}\nafter\n")
        for text in ("new", "newer"):
            report.write_between_markers(str(self.page), text)
            self.assertEqual(self.page.read_text(),
                             f"before\n{report.FIRST_MARKER}\n\n{text}\n{report.LAST_MARKER}\nafter\n")
        self.assertEqual(list(self.folder.iterdir()), [self.page])

    def test_without_markers_nothing_changes(self):
        first, last = report.FIRST_MARKER, report.LAST_MARKER
        for text in ("text\n", first, last + first, first + first + last, first + last + last, ""):
            self.page.write_text(text)
            with self.assertRaises(ValueError):
                report.write_between_markers(str(self.page), "new")
            self.assertEqual(self.page.read_text(), text)

    def test_the_page_says_what_was_measured_and_not_on_which_host(self):
        context = {"host_name": "mine", "target": "AVX2", "compiler": "GCC"}
        self.assertEqual(self.call({"context": context, "benchmarks": [run("new/a", x=1)]}), 0)
        self.assertIn("- target: AVX2\n- compiler: GCC\n\n### new", self.page.read_text())
        self.assertNotIn("mine", self.page.read_text())

    def test_a_failed_benchmark_and_no_benchmark_are_failures(self):
        self.assertEqual(self.call({"benchmarks": [run("new/a", error="wrong")]}), 1)
        self.assertEqual(self.call({"benchmarks": []}), 1)

    def test_every_kind_of_benchmark_runs_and_has_its_table(self):
        if PROGRAM is None:
            self.skipTest("no program was named")
        smallest = "|".join(["memory/memcpy", "step/(tova|h2o)/int8/32x8/512", "step_and_rivals/f16/32x8/512",
                             "policy/h2o/512/0", "head_dim/int8/.*/64", "group/int8/.*/32", "batch/tova/f16/32x8/256",
                             "threads/pool/step/tova/32x8/256", "one_layer/int8/32x8/256",
                             "(clone|construct)/int8/32x8/", "(softmax|least|top_k)/64", "prefill/tova/f16/8x8/",
                             "cell_step/min_gru/bf16/512", "cell_scan/min_gru/256/4096/1",
                             "cell_training/min_gru/64x64/64/1", "cell_parameters/min_gru/1"])
        out = self.folder / "results.json"
        subprocess.run([PROGRAM, "--benchmark_min_time=0.001", f"--benchmark_filter=^({smallest})",
                        f"--benchmark_out={out}"], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        document = json.loads(out.read_text())
        self.assertEqual(self.call(document), 0)
        text = self.page.read_text()
        for name, fam in report.FAMILIES.items():
            with self.subTest(name):
                section = text.partition(f"\n### {fam['title']}\n")[2].partition("\n### ")[0]
                self.assertTrue(section, "no table")
                self.assertNotIn("|  |", section, "a counter is missing")
        for fact in report.FACTS:
            self.assertIn(f"- {fact}: ", text)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        PROGRAM = sys.argv.pop(1)
    unittest.main()
