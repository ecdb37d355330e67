"""aerie bench --load on a table's clock: no model, no machine in the figures."""
import json
import unittest

from program import ProgramTest

CLOCK = json.dumps({"layers": [[1, 0.017], [16, 0.020], [512, 0.290]], "head": [[1, 0.003], [16, 0.005]],
                    "cache_row": 1e-6, "pair": 1e-7})


class Load(ProgramTest):
    def load(self, *flags):
        self.put("clock.json", CLOCK)
        return ("bench", "--load", "--clock-table", "clock.json", "--prompt-tokens", "256", "--max-new-tokens", "48",
                "--output", "out", *flags)

    def test_two_runs_write_the_same_bytes(self):
        flags = self.load("--rate", "0.5,1", "--streams", "4", "--row-budget", "64,512", "--requests", "40")
        written = []
        for _ in range(2):
            done = self.aerie(*flags)
            self.assertEqual(done.returncode, 0, done.stderr)
            written.append((self.directory / "out/load.json").read_bytes())
        self.assertEqual(*written)
        runs = json.loads(written[0])["runs"]
        self.assertEqual([(run["rate"], run["streams"], run["row_budget"]) for run in runs],
                         [(0.5, 0, 64), (0.5, 0, 512), (1.0, 0, 64), (1.0, 0, 512), (0, 4, 64), (0, 4, 512)])
        for run in runs:
            self.assertEqual(run["tokens"], 40 * 48)
            self.assertEqual(run["counts"]["prompt_rows"], 40 * 256)
        # Small forwards shorten the longest gaps; large ones the wait for the first token.
        self.assertLess(runs[2]["itl_seconds"]["p99"], runs[3]["itl_seconds"]["p99"] / 2)
        self.assertGreater(runs[0]["ttft_seconds"]["p50"], runs[1]["ttft_seconds"]["p50"])
        self.assertIn("</html>", (self.directory / "out/report.html").read_text())

    def test_policies_side_by_side_on_the_same_arrivals(self):
        flags = self.load("--rate", "2", "--policy", "prefill-first,splitfuse,static", "--requests", "40",
                          "--inter-token-ms", "60", "--goal-ttft-ms", "4000", "--goal-itl-ms", "61")
        # Beside load()'s 256 tokens: most prompts are short, some long.
        flags = [*flags, "--prompt-tokens", "32", "--prompt-tokens", "32", "--prompt-tokens", "900"]
        done = self.aerie(*flags)
        self.assertEqual(done.returncode, 0, done.stderr)
        first, fused, fixed = json.loads((self.directory / "out/load.json").read_bytes())["runs"]
        self.assertEqual([run["policy"] for run in (first, fused, fixed)], ["prefill-first", "splitfuse", "static"])
        self.assertIsNone(first["against_prefill_first"])
        for run in (fused, fixed):
            beside = run["against_prefill_first"]
            self.assertAlmostEqual(beside["itl_p99_shorter"], first["itl_seconds"]["p99"] / run["itl_seconds"]["p99"])
        self.assertLess(fused["itl_seconds"]["p99"], 0.062)
        self.assertGreater(first["itl_seconds"]["p99"], 2 * fused["itl_seconds"]["p99"])
        self.assertGreater(fused["goodput_requests_per_second"], first["goodput_requests_per_second"])
        self.assertGreater(fixed["ttft_seconds"]["p50"], first["ttft_seconds"]["p50"])
        self.assertIn("against prefill-first", done.stderr)

    def test_evictions_are_counted_and_lose_nothing(self):
        self.put("clock.json", CLOCK)
        flags = ("bench", "--load", "--clock-table", "clock.json", "--prompt-tokens", "32", "--max-new-tokens", "200",
                 "--output", "out", "--streams", "8", "--requests", "24", "--kv-tokens", "960")
        counts = []
        for more in ((), ("--evict",)):
            done = self.aerie(*flags, *more)
            self.assertEqual(done.returncode, 0, done.stderr)
            counts.append(json.loads((self.directory / "out/load.json").read_bytes())["runs"][0])
        self.assertEqual(counts[0]["counts"]["evictions"], 0)
        self.assertGreater(counts[1]["counts"]["evictions"], 0)
        self.assertEqual(counts[0]["tokens"], counts[1]["tokens"])

    def test_what_is_missing_is_named(self):
        self.assert_error("--load needs --rate", *self.load())
        self.put("bad.json", "{}")
        self.assert_error("bad.json is not a table of step costs", "bench", "--load", "--clock-table", "bad.json", "--prompt-tokens",
                          "9", "--output", "out", "--rate", "1")
        self.assert_error("--clock-table needs --prompt-tokens", "bench", "--load", "--clock-table", "clock.json",
                          "--output", "out", "--rate", "1")
        self.assert_usage("--repeats: is not read with --load", *self.load("--rate", "1", "--repeats", "3"))
        self.assert_usage("--draft-tokens: takes one number with --load", *self.load("--rate", "1", "--draft-tokens", "2,4"))
        self.assert_usage("--rate: is read with --load only", "bench", "--target", "t", "--input", "i", "--output", "o", "--rate", "1")
        self.assert_usage("prefill-last", *self.load("--rate", "1", "--policy", "prefill-last"))
        self.assert_error("--clock-table runs without a model", *self.load("--rate", "1", "--draft", "somewhere"))
        self.assert_usage("--input is required", "bench", "--target", "m", "--output", "out")


if __name__ == "__main__":
    unittest.main(verbosity=1)
