"""aerie bench --load on a table's clock: no model, no machine in the figures."""
import json
import unittest

from program import ProgramTest

CLOCK = json.dumps({"rows": [1, 16, 512], "seconds": [0.020, 0.025, 0.300]})


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

    def test_what_is_missing_is_named(self):
        self.assert_error("--load needs --rate", *self.load())
        self.put("bad.json", "{}")
        self.assert_error("bad.json is not a clock table", "bench", "--load", "--clock-table", "bad.json", "--prompt-tokens",
                          "9", "--output", "out", "--rate", "1")
        self.assert_error("--clock-table needs --prompt-tokens", "bench", "--load", "--clock-table", "clock.json",
                          "--output", "out", "--rate", "1")
        self.assert_usage("--input is required", "bench", "--target", "m", "--output", "out")


if __name__ == "__main__":
    unittest.main(verbosity=1)
