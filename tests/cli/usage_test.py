"""Flags, help and exit codes of every command."""
import json
import unittest

from program import PROGRAM, ROOT, ProgramTest

COMMANDS = {
    "prepare": ["--config", "--set", "--help-config"],
    "resample": ["--target", "--server", "--model", "--input", "--output", "--concurrency", "--temperature", "--max-new-tokens"],
    "dump": ["--config", "--set", "--estimate", "--part", "--help-config"],
    "train": ["--config", "--set", "--resume", "--resume-override", "--dry-run", "--help-config"],
    "report": ["RUN", "--output"],
    "export": ["--checkpoint", "--output", "--format", "--check"],
    "generate": ["--target", "--draft", "--prompt", "--input", "--output", "--decoder", "--draft-tokens", "--concurrency",
                 "--max-new-tokens", "--temperature", "--seed", "--ignore-eos", "--json", "--tree", "--tree-width",
                 "--tree-nodes", "--adaptive"],
    "bench": ["--target", "--draft", "--input", "--output", "--concurrency", "--draft-tokens", "--json", "--tree",
              "--adaptive", "--no-fixed", "--ngram", "--load", "--rate", "--streams", "--clock-table", "--policy",
              "--inter-token-ms", "--evict", "--kv-tokens", "--prefix-cache"],
    "serve": ["--target", "--draft", "--host", "--port", "--api-key", "--max-sequences", "--max-requests", "--json",
              "--policy", "--inter-token-ms", "--evict", "--kv-tokens", "--no-prefix-cache", "--tree", "--adaptive"],
    "info": ["--json"],
}
COMMON = ["--device", "--dtype", "--threads", "--quiet", "--help"]


class Usage(ProgramTest):
    def test_help_lists_exactly_the_commands_there_are(self):
        done = self.aerie("--help")
        self.assertEqual(done.returncode, 0)
        listed = done.stdout.split("Subcommands:")[1].split("\n")
        self.assertEqual({line.split()[0] for line in listed if line.strip()}, set(COMMANDS))

    def test_help_of_each_command_lists_its_flags(self):
        for command, flags in COMMANDS.items():
            done = self.aerie(command, "--help")
            self.assertEqual(done.returncode, 0, command)
            for flag in flags + COMMON:
                self.assertRegex(done.stdout, rf"(^|[ ,]){flag}\b", command)

    def test_version(self):
        done = self.aerie("--version")
        self.assertEqual(done.returncode, 0)
        self.assertRegex(done.stdout, r"^aerie \d+\.\d+")

    def test_wrong_usage_exits_with_2(self):
        self.assert_usage("A subcommand is required")
        self.assert_usage("aerie has no command fly", "fly")
        self.assert_usage("aerie has no command trian; did you mean train\\?", "trian", "--config", "a")
        self.assert_usage("info has no flag --speed", "info", "--speed", "9")
        self.assert_usage("train has no flag --confg; did you mean --config\\?", "train", "--confg=run.yaml")
        self.assert_usage("train has no argument run.yaml", "train", "run.yaml")
        self.assert_usage("`aerie train --help` says", "train")
        self.assert_usage("--config is required", "train")
        self.assert_usage("--target, or target.path", "generate", "--input", "a", "--output", "b")
        self.assert_usage("--prompt, or --input with --output", "generate", "--target", "a")
        self.assert_usage("--input requires --output", "generate", "--target", "a", "--input", "b")
        self.assert_usage("--max-new-tokens: -3 is not a number above 0", "generate", "--max-new-tokens", "-3")
        self.assert_usage("--temperature: warm is not 0 or a number above it", "generate", "--temperature", "warm")
        self.assert_usage("--checkpoint", "export")
        self.assert_usage("--format", "export", "--checkpoint", "a", "--output", "b", "--format", "onnx")
        self.assert_usage("--threads", "info", "--threads", "0")
        self.assert_usage("--dtype", "info", "--dtype", "int4")

    def test_help_config_describes_every_key(self):
        done = self.aerie("train", "--help-config")
        self.assertEqual(done.returncode, 0)
        for word in ("optim:", "  lr ", "target:", "default", "in steps"):
            self.assertIn(word, done.stdout)

    def test_info_is_json_on_request(self):
        done = self.aerie("info", "--json", "--threads", "1")
        info = json.loads(done.stdout)
        self.assertEqual(info["machine"]["threads"], 1)
        self.assertGreater(info["machine"]["read_bandwidth_bytes_per_second"], 1e8)
        self.assertTrue(info["build"]["version"])


if __name__ == "__main__":
    assert PROGRAM.exists(), f"{PROGRAM} is not built: scripts/build.sh ({ROOT})"
    unittest.main(verbosity=1)
