"""aerie resample --server: answers from where the target is served already."""
import http.server
import json
import subprocess
import tempfile
import threading
import unittest
from pathlib import Path

from aerie_server import MODEL, NAME, PROGRAM, Server

QUESTIONS = ["What is 3 times 4?", "Name a colour.", "Which month follows May?", "Is ice cold?"]


class Stand(http.server.BaseHTTPRequestHandler):
    """A server that answers as `reply` says: called with the request's body, it gives status and JSON."""
    reply = None

    def do_GET(self):
        self.answer(200, {"data": [{"id": "stand"}]})

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.answer(*type(self).reply(body))

    def answer(self, status, reply):
        content = json.dumps(reply).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        pass


def said(text, **message):
    return 200, {"choices": [{"message": {"content": text, **message}, "finish_reason": "stop"}],
                 "usage": {"completion_tokens": 3}}


class FromServer(unittest.TestCase):
    def setUp(self):
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.directory = Path(scratch.name)

    def rows(self, name):
        path = self.directory / name
        lines = path.read_text().splitlines() if path.exists() else []
        return {row["id"]: row for row in map(json.loads, lines)}

    def write(self, rows):
        (self.directory / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    def questions(self):
        self.write({"id": f"q{i}", "prompt": text} for i, text in enumerate(QUESTIONS))

    def resample(self, *flags, output="answers.jsonl"):
        return subprocess.run([PROGRAM, "resample", "--input", "prompts.jsonl", "--output", output, "--json",
                               *map(str, flags)], cwd=self.directory, capture_output=True, text=True, timeout=300)

    def stand(self, reply):
        handler = type("Handler", (Stand,), {"reply": staticmethod(reply)})
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.addCleanup(server.server_close)
        self.addCleanup(server.shutdown)
        return f"http://127.0.0.1:{server.server_port}/v1"

    def test_answers_are_those_of_the_target_itself_and_a_second_run_asks_for_what_is_missing(self):
        self.write([{"id": f"q{i}", "prompt": text} for i, text in enumerate(QUESTIONS)] +
                   [{"id": "two", "turns": ["Name a colour.", "And another one?"]},
                    {"id": "long", "prompt": "word " * 9000}])
        limits = "--max-new-tokens", 24, "--temperature", "0.2,0.9"
        done = self.resample("--target", MODEL, *limits, output="own.jsonl")
        self.assertEqual(done.returncode, 0, done.stderr)
        server = Server("--api-key", "secret")
        self.addCleanup(server.stop)
        url = "--server", server.url + "/v1"
        refused = self.resample(*url, *limits)
        self.assertEqual(refused.returncode, 1)
        self.assertIn("status 401", refused.stderr)
        done = self.resample(*url, "--api-key", "secret", *limits)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(json.loads(done.stdout)["answered"], 5)
        own, answers = self.rows("own.jsonl"), self.rows("answers.jsonl")
        self.assertEqual(answers, own)
        self.assertIn("8192", self.rows("answers.failed.jsonl")["long"]["error"])

        whole = (self.directory / "answers.jsonl").read_text().splitlines(keepends=True)
        (self.directory / "answers.jsonl").write_text("".join(whole[:2]) + whole[2][:30])  # as a kill leaves it
        again = json.loads(self.resample(*url, "--api-key", "secret", *limits).stdout)
        self.assertEqual((again["done_before"], again["answered"]), (2, 3))
        self.assertEqual(self.rows("answers.jsonl"), own)

    def test_nobody_there(self):
        self.questions()
        done = self.resample("--server", "http://127.0.0.1:9/v1")
        self.assertEqual(done.returncode, 1)
        self.assertRegex(done.stderr, r"error: http://127\.0\.0\.1:9/v1/models: .*onnect")
        self.assertRegex(self.resample("--server", "https://127.0.0.1/v1").stderr, "give http://HOST:PORT/v1")
        self.assertRegex(self.resample("--server", "http://a/v1", "--target", MODEL).stderr, "--target excludes --server")

    def test_another_model(self):
        self.questions()
        done = self.resample("--server", self.stand(None), "--model", NAME)
        self.assertRegex(done.stderr, f'has the models stand; --model is "{NAME}"')

    def test_what_the_server_refuses_fails_its_row_only(self):
        self.questions()
        url = self.stand(lambda body: (400, {"error": {"message": "no colours here"}})
                         if "colour" in body["messages"][-1]["content"] else said("Yes."))
        done = self.resample("--server", url)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(set(self.rows("answers.jsonl")), {"q0", "q2", "q3"})
        self.assertEqual(self.rows("answers.failed.jsonl")["q1"]["error"], "status 400: no colours here")

    def test_a_busy_server_is_asked_again(self):
        self.questions()
        asked = []

        def reply(body):
            asked.append(body)
            return (503, {}) if len(asked) <= 4 else said("Yes.")
        done = self.resample("--server", self.stand(reply))
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual((len(self.rows("answers.jsonl")), len(asked)), (4, 8))

    def test_a_server_that_breaks_stops_the_run_and_keeps_what_was_answered(self):
        self.questions()
        url = self.stand(lambda body: said("Yes.") if "ice" in body["messages"][-1]["content"] else (500, {}))
        done = self.resample("--server", url)
        self.assertEqual(done.returncode, 1)
        self.assertRegex(done.stderr, r"/v1/chat/completions: status 500")
        self.assertEqual(set(self.rows("answers.jsonl")), {"q3"})

    def test_reasoning_tools_and_variables(self):
        tools = [{"type": "function", "function": {"name": "add"}}]
        self.write([{"id": "a", "messages": [{"role": "user", "content": "Hi"}], "tools": tools}])
        asked = []

        def reply(body):
            asked.append(body)
            return said("Hello.", reasoning_content="A greeting.")
        done = self.resample("--server", self.stand(reply), "--temperature", "0.5", "--max-new-tokens", 7)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual((asked[0]["tools"], asked[0]["temperature"], asked[0]["max_tokens"]), (tools, 0.5, 7))
        row = self.rows("answers.jsonl")["a"]
        self.assertEqual(row["conversations"][-1],
                         {"role": "assistant", "content": "Hello.", "reasoning_content": "A greeting."})
        self.assertEqual(row["tools"], tools)

    def test_later_turns_follow_the_answers_before(self):
        self.write([{"id": "two", "turns": ["Name a colour.", "And another one?"]}])
        done = self.resample("--server", self.stand(lambda body: said(f"Colour {len(body['messages'])}.")))
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual([message["content"] for message in self.rows("answers.jsonl")["two"]["conversations"]],
                         ["Name a colour.", "Colour 1.", "And another one?", "Colour 3."])

    def test_media_are_not_sent(self):
        image = {"type": "image", "path": "a.jpg"}
        self.write([{"id": "m", "messages": [{"role": "user", "content": [image, {"type": "text", "text": "What?"}]}]}])
        done = self.resample("--server", self.stand(lambda body: said("No.")))
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertRegex(self.rows("answers.failed.jsonl")["m"]["error"], "media: only text is sent to a server")


if __name__ == "__main__":
    assert PROGRAM.exists(), f"{PROGRAM} is not built: scripts/build.sh"
    unittest.main(verbosity=1)
