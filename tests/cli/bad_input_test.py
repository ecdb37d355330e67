"""What a user can get wrong: each case checks the exit code and that the message names the place and the fix."""
import json
import unittest

from program import MODEL, PROGRAM, ROOT, ProgramTest

RUN = f"""target:
  path: {MODEL}
data:
  train: [train.jsonl]
output:
  dir: run
"""
PROMPT = json.dumps({"id": "a", "prompt": "What is 2 + 2?"}) + "\n"


class RunFiles(ProgramTest):
    def test_missing_file(self):
        self.assert_error(r"absent\.yaml does not exist", "train", "--config", "absent.yaml")

    def test_malformed_yaml_names_line_and_column(self):
        run = self.put("run.yaml", RUN + "train: {unroll: 3\noptim: x\n")
        self.assert_error(r"run\.yaml:8:\d+: not valid YAML", "train", "--config", run)

    def test_unknown_key_names_line_and_nearest_key(self):
        run = self.put("run.yaml", RUN + "train:\n  unrol: 3\n")
        self.assert_error(r"run\.yaml:8: unknown key train\.unrol; did you mean train\.unroll\?", "prepare", "--config", run)

    def test_override_is_checked(self):
        run = self.put("run.yaml", RUN)
        self.assert_error(r"--set optim\.lr=fast: .*allowed: a number above 0", "train", "--config", run, "--set", "optim.lr=fast")


class Data(ProgramTest):
    def prepare(self, rows: str):
        self.put("train.jsonl", rows)
        return "prepare", "--config", self.put("run.yaml", RUN)

    def test_missing_file(self):
        run = self.put("run.yaml", RUN)
        self.assert_error(r"data\.train: train\.jsonl does not exist", "prepare", "--config", run)

    def test_empty_file(self):
        self.assert_error(r"train\.jsonl has no rows: give a file of JSON lines", *self.prepare(""))

    def test_rows_that_are_not_conversations(self):
        self.assert_error(r"train\.jsonl:1: unknown form: expected conversations, messages", *self.prepare('{"id": 1, "question": "hello"}\n' * 5))
        self.assert_error(r"train\.jsonl:1: the target writes text: a row of \"text\" is one to be spoken", *self.prepare('{"id": 1, "text": "hello"}\n' * 5))

    def test_rows_that_are_not_json(self):
        self.assert_error(r"train\.jsonl:1: not JSON", *self.prepare("hello\n" * 5))


class Targets(ProgramTest):
    def generate(self, target, prompts=PROMPT, *flags):
        self.put("prompts.jsonl", prompts)
        return "generate", "--target", target, "--input", "prompts.jsonl", "--output", "out.jsonl", *flags

    def test_no_such_directory(self):
        self.assert_error(r"no/model does not exist: give a model's directory", *self.generate("no/model"))

    def test_unknown_model_type_lists_the_known_ones(self):
        model = self.model_with({"model_type": "mamba"})
        self.assert_error(r'model/config\.json: model_type "mamba" is not supported; known: .*llama', *self.generate(model))

    def test_unsupported_rope_scaling_is_named(self):
        model = self.model_with({"rope_parameters": {"rope_type": "longrope", "rope_theta": 1e4, "factor": 4.0}})
        self.assert_error(r"model/config\.json: .*longrope", *self.generate(model))

    def test_truncated_weights(self):
        whole = (MODEL / "model.safetensors").read_bytes()
        model = self.model_with({}, whole[:1 << 20])
        self.assert_error(r"model/model\.safetensors: .*truncated: copy it again", *self.generate(model))

    def test_weights_that_are_no_safetensors_file(self):
        model = self.model_with({}, b"<html>404 not found</html>")
        self.assert_error(r"model/model\.safetensors: ", *self.generate(model))

    def test_weights_of_another_shape(self):
        model = self.model_with({"intermediate_size": 1024})
        self.assert_error(r"model\.safetensors.*(1024|1536)", *self.generate(model))

    def test_prompt_longer_than_the_context(self):
        prompt = json.dumps({"id": "a", "prompt": "many words " * 6000}) + "\n"
        self.assert_error(r"prompt has \d+ tokens and the model's context holds 8192", *self.generate(MODEL, prompt))

    def test_empty_prompts(self):
        self.assert_error(r"prompts\.jsonl has no rows", *self.generate(MODEL, ""))

    def test_draft_that_is_none(self):
        self.put("draft/config.json", "{}")
        self.assert_error(r'draft/config\.json: the key "model_type" is missing', *self.generate(MODEL, PROMPT, "--draft", "draft"))

    def test_device_that_is_not_there(self):
        self.assert_error(r"--device tpu: give", *self.generate(MODEL, PROMPT, "--device", "tpu"))


class Exports(ProgramTest):
    def test_no_checkpoint(self):
        self.assert_error(r"run/best is no checkpoint: .*Give a step-\* directory", "export", "--checkpoint", "run/best", "--output", "draft")

    def test_check_of_no_draft(self):
        self.assert_error(r"draft/config\.json does not exist", "export", "--check", "draft")


if __name__ == "__main__":
    assert PROGRAM.exists(), f"{PROGRAM} is not built: scripts/build.sh ({ROOT})"
    assert MODEL.exists(), f"{MODEL} is missing: scripts/fetch_smollm2.sh"
    unittest.main(verbosity=1)
