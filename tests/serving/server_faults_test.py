"""What goes wrong around a server: bad bodies, callers that read slowly or go away, crowds, SIGTERM."""
import json
import resource
import signal
import threading
import time
import unittest

from aerie_server import MODEL, NAME, Server, parse, read_all, wait_for

LONG = {"model": NAME, "prompt": "Once upon a time", "max_tokens": 3000, "ignore_eos": True, "stream": True}
SHORT = {"model": NAME, "prompt": "One two three", "max_tokens": 4, "temperature": 0}


class Faults(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = Server("--max-requests", 200, "--max-sequences", 8)

    @classmethod
    def tearDownClass(cls):
        assert cls.server.stop() == 0, cls.server.errors

    def assert_serves(self):
        status, body = self.server.post(SHORT)
        self.assertEqual(status, 200, body)
        self.assertEqual(body["usage"]["completion_tokens"], 4)

    def assert_error(self, status: int, body, path: str = "/v1/completions") -> dict:
        got, answer = self.server.post(body, path)
        self.assertEqual(got, status, answer)
        self.assertEqual(set(answer["error"]), {"message", "type", "param", "code"})
        self.assertEqual(answer["error"]["code"], status)
        return answer["error"]

    def test_bodies_that_are_not_what_they_should_be(self):
        for body in (b"", b"{", b"null", b"[1, 2]", b'{"prompt": "a", }', b'{"prompt": "\xff\xfe"}', b"[" * 100000,
                     b'{"prompt": ' + b"[" * 50000 + b"]" * 50000 + b"}", b"\x00" * 1000):
            self.assert_error(400, body)
        deep = b"[" * 60000 + b"]" * 60000
        for body in (b'{"messages": [{"role": "user", "content": "hi", "x": ' + deep + b"}]}",
                     b'{"messages": [{"role": "user", "content": "hi"}], "chat_template_kwargs": {"a": ' + deep + b"}}",
                     b'{"messages": [{"role": "user", "content": "hi"}], "x": ' + b'{"a":' * 60000 + b"1" + b"}" * 60001):
            self.assertIn("nests deeper", self.assert_error(400, body, "/v1/chat/completions")["message"])
        for field, value in (("prompt", 3), ("prompt", {"a": 1}), ("prompt", [1.5]), ("prompt", ["a", 3]), ("prompt", [[]]),
                             ("prompt", ""), ("max_tokens", 0), ("max_tokens", -5), ("max_tokens", 1e30), ("max_tokens", "7"),
                             ("temperature", "hot"), ("temperature", 1e9), ("top_k", 1.5), ("n", 0), ("stream", "yes"),
                             ("stop", 7), ("stop", [1]), ("seed", "x"), ("logit_bias", []), ("logit_bias", {"x": 1}),
                             ("stop_token_ids", ["a"]), ("stop_token_ids", [-3]), ("stop_token_ids", [49152]), ("min_tokens", 5),
                             ("n", 201), ("tool_choice", "required"), ("continue_final_message", True), ("logprobs", 21), ("best_of", 2), ("echo", True),
                             ("stream_options", {"include_usage": True}), ("guided_json", {})):
            error = self.assert_error(400, {**SHORT, field: value})
            self.assertTrue(error["param"] or "prompt" in error["message"], error)
        for messages in ("hello", [], [1], [{"role": "user"}], [{"role": 3, "content": "a"}],
                         [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]):
            error = self.assert_error(400, {"model": NAME, "messages": messages}, "/v1/chat/completions")
            self.assertEqual(error["param"], "messages")
        self.assert_error(404, SHORT, "/v1/nothing")
        with self.server.connect() as made:
            made.sendall(b"GET /v1/completions HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            self.assertEqual(parse(read_all(made))[0], 405)
        for method in ("DELETE", "OPTIONS", "PUT"):
            with self.server.connect() as made:
                made.sendall(f"{method} /v1/models HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())
                self.assertEqual(parse(read_all(made))[0], 405)
        for status, headers in ((411, ""), (400, "Content-Length: -5\r\n"), (400, "Content-Length: 2\r\nContent-Length: 3\r\n"),
                                (415, "Content-Type: multipart/form-data; boundary=x\r\nContent-Length: 0\r\n")):
            start = time.monotonic()
            with self.server.connect() as made:
                made.sendall(f"POST /v1/completions HTTP/1.1\r\nHost: a\r\n{headers}\r\n".encode())
                self.assertIn(f" {status} ".encode(), made.recv(1000).split(b"\r\n")[0], headers)
            self.assertLess(time.monotonic() - start, 4)
        with self.server.connect() as made:
            made.sendall(b"how do you do?\r\n\r\n")
            self.assertIn(b" 400 ", made.recv(1000).split(b"\r\n")[0])
        self.assert_serves()

    def test_a_request_that_leaves_no_token_is_refused_alone(self):
        with self.server.send({**LONG, "max_tokens": 60}) as other:
            error = self.assert_error(400, {**SHORT, "min_tokens": 1, "stop_token_ids": list(range(49152))})
            self.assertIn("whole vocabulary", error["message"])
            self.assertTrue(read_all(other).endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n"))
        self.assert_serves()

    def test_a_temperature_next_to_0_is_greedy(self):
        greedy = self.server.post(SHORT)[1]["choices"][0]["text"]
        for temperature in (1e-6, 1e-38, 1e-39, 1e-300):
            self.assertEqual(self.server.post({**SHORT, "temperature": temperature})[1]["choices"][0]["text"], greedy)

    def test_an_answer_that_ends_at_a_stop_string_counts_as_stopped(self):
        count = lambda reason: self.server.metric("vllm:request_success_total", reason)
        stopped, aborted = count("stop"), count("abort")
        status, body = self.server.post({**SHORT, "max_tokens": 3000, "ignore_eos": True, "stop": ["e"]})
        self.assertEqual((status, body["choices"][0]["finish_reason"]), (200, "stop"))
        self.assertTrue(wait_for(lambda: count("stop") == stopped + 1))
        self.assertEqual(count("abort"), aborted)

    def send_large_prompts(self):
        large = json.dumps({**SHORT, "prompt": "many words " * 950000}).encode()
        self.assertGreater(len(large), 10_000_000)
        for _ in range(3):
            self.assertIn("larger than", self.assert_error(413, large)["message"])
        with self.server.connect() as made:  # the same without a length that gives it away
            made.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n")
            for start in range(0, len(large), 1 << 16):
                piece = large[start:start + (1 << 16)]
                made.sendall(b"%x\r\n%s\r\n" % (len(piece), piece))
            made.sendall(b"0\r\n\r\n")
            self.assertEqual(parse(read_all(made))[0], 413)
        # Of 5 MB: read, and refused by its length before it is tokenised.
        start = time.monotonic()
        self.assertIn("context", self.assert_error(400, {**SHORT, "prompt": "many words " * 450000})["message"])
        self.assertLess(time.monotonic() - start, 5)
        # Just too long: tokenised, then refused with its number of tokens.
        self.assertRegex(self.assert_error(400, {**SHORT, "prompt": "word " * 9000})["message"], r"8192.*90\d\d")

    def test_a_prompt_of_10_mb_is_refused_and_not_kept(self):
        # malloc keeps what was freed, in each thread that answered one; then it suffices.
        resident = [self.server.status("VmRSS")]
        while len(resident) < 10 and (len(resident) < 3 or resident[-1] > resident[-2] + 1000):
            self.send_large_prompts()
            resident.append(self.server.status("VmRSS"))
        self.assertLessEqual(resident[-1], resident[-2] + 1000, resident)
        self.assertLess(resident[-1] - resident[0], 200_000, resident)
        self.assert_serves()

    def test_callers_that_go_away_mid_stream_free_their_places(self):
        aborted = self.server.metric("vllm:request_success_total", "abort")
        callers = [self.server.send(LONG) for _ in range(20)]  # 8 run, 12 wait
        for caller in callers[:4]:
            caller.recv(1000)
        for caller in callers:
            caller.close()
        self.assertTrue(wait_for(lambda: self.server.metric("vllm:request_success_total", "abort") - aborted == 20, 10))
        self.assertEqual(self.server.metric("vllm:num_requests_running"), 0)
        self.assertEqual(self.server.metric("vllm:num_requests_waiting"), 0)
        self.assertEqual(self.server.metric("vllm:kv_cache_usage_perc"), 0)
        self.assert_serves()

    def test_callers_of_whole_answers_that_go_away_free_their_places(self):
        # Nothing is written to them until the answer is complete: only their socket tells.
        aborted = self.server.metric("vllm:request_success_total", "abort")
        whole = {**LONG, "stream": False}
        callers = [self.server.send(whole) for _ in range(12)]  # 8 run, 4 wait
        self.assertTrue(wait_for(lambda: self.server.metric("vllm:num_requests_running") == 8))
        stays = self.server.send({**SHORT, "max_tokens": 30})
        for caller in callers:
            caller.close()
        # Each would run for a minute. The one that stays is answered as if they had never been.
        self.assertTrue(wait_for(lambda: self.server.metric("vllm:request_success_total", "abort") - aborted == 12, 10))
        with stays:
            self.assertEqual(parse(read_all(stays))[1]["usage"]["completion_tokens"], 30)
        self.assertTrue(wait_for(lambda: self.server.metric("vllm:num_requests_running") == 0))
        self.assertEqual(self.server.metric("vllm:kv_cache_usage_perc"), 0)
        self.assert_serves()

    def test_a_reader_that_reads_nothing_holds_up_nobody(self):
        # Some 2 kB a token: more than the kernel keeps for a reader that takes nothing.
        large = {**LONG, "max_tokens": 150, "logprobs": 20}
        slow = [self.server.send(large, made=self.server.connect(receive_buffer=2048))
                for _ in range(4)]
        for _ in range(3):
            self.assert_serves()
        for caller in slow:  # and gets all of it in the end
            with caller:
                self.assertTrue(read_all(caller).endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n"))

    def test_a_crowd_of_1000_is_answered_or_refused(self):
        self.assert_serves()
        time.sleep(0.5)
        memory, files = self.server.status("VmRSS"), self.server.open_files()
        crowd = [self.server.send({**SHORT, "max_tokens": 1, "prompt": [5, 6, i + 10]}) for i in range(1000)]
        self.assertIn("ok", self.server.get("/health"))
        answers = [parse(read_all(caller)) for caller in crowd]
        for caller in crowd:
            caller.close()
        codes = [status for status, _ in answers]
        self.assertEqual(set(codes), {200, 429})
        self.assertGreaterEqual(codes.count(200), 200)
        self.assertIn("try again", next(body for status, body in answers if status == 429)["error"]["message"])
        self.assertEqual(self.server.metric("aerie:requests_refused_total", '"429"'), codes.count(429))
        self.assertLess(self.server.status("VmRSS") - memory, 200_000)
        self.assertTrue(wait_for(lambda: self.server.open_files() <= files + 2))
        self.assert_serves()

    def test_an_idle_server_does_not_burn_time(self):
        self.assert_serves()
        def used():
            with open(f"/proc/{self.server.process.pid}/stat") as file:
                return sum(map(int, file.read().rsplit(")", 1)[1].split()[11:13]))  # ticks of 10 ms
        self.assertTrue(wait_for(lambda: self.server.metric("vllm:num_requests_running") == 0))
        time.sleep(0.3)
        before = used()
        time.sleep(1)
        self.assertLessEqual(used() - before, 5)


def refused(server) -> bool:
    """503 while streams are being finished; once they are, nobody listens any more."""
    try:
        return server.post(SHORT)[0] == 503
    except ConnectionRefusedError:
        return True


class Ends(unittest.TestCase):
    def test_sigterm_under_load_finishes_what_runs_and_refuses_what_comes(self):
        server = Server("--max-sequences", 4)
        streams = [server.send({**LONG, "max_tokens": 60}) for _ in range(8)]
        held = lambda: server.metric("vllm:num_requests_running") + server.metric("vllm:num_requests_waiting")
        self.assertTrue(wait_for(lambda: held() == 8))
        server.process.send_signal(signal.SIGTERM)
        self.assertTrue(wait_for(lambda: refused(server)))
        ends = [None] * len(streams)
        readers = [threading.Thread(target=lambda i=i: ends.__setitem__(i, read_all(streams[i])[-40:])) for i in range(8)]
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join()
        for stream, end in zip(streams, ends):
            stream.close()
            self.assertTrue(end.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n"), end)
        self.assertEqual(server.stop(), 0, server.errors)

    def test_the_drain_has_an_end(self):
        server = Server("--drain-seconds", 0.5)
        with server.send(LONG) as stream:
            stream.recv(10)
            start = time.monotonic()
            self.assertEqual(server.stop(), 0)
            self.assertLess(time.monotonic() - start, 10)
            self.assertNotIn(b"[DONE]", read_all(stream))

    def test_without_the_key_nothing_is_read_or_told(self):
        server = Server("--api-key", "secret", "--served-model-name", 'a "quoted" name', "--max-requests", 4)
        try:
            for body in (SHORT, b"{", b"x" * 7_000_000):
                self.assertEqual(server.post(body)[0], 401)
            self.assertIn('model_name="a \\"quoted\\" name"', server.get("/metrics"))
        finally:
            self.assertEqual(server.stop(), 0, server.errors)

    def test_connections_beyond_the_threads_that_the_system_has_wait(self):
        server = Server()
        size = server.status("VmSize") << 10
        resource.prlimit(server.process.pid, resource.RLIMIT_AS, (size + (60 << 20), resource.RLIM_INFINITY))
        held = [server.connect() for _ in range(60)]
        for caller in held:
            caller.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n{")
        time.sleep(0.5)
        self.assertIsNone(server.process.poll())
        for caller in held:
            caller.close()
        resource.prlimit(server.process.pid, resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        self.assertEqual(server.post(SHORT)[0], 200)
        self.assertEqual(server.stop(), 0, server.errors)

    def test_a_port_that_is_taken_is_refused(self):
        server = Server()
        try:
            with self.assertRaisesRegex(AssertionError, f"cannot listen on 127.0.0.1:{server.port}"):
                Server("--port", server.port)
        finally:
            self.assertEqual(server.stop(), 0)


if __name__ == "__main__":
    assert MODEL.exists(), f"{MODEL} is missing: scripts/fetch_smollm2.sh"
    unittest.main(verbosity=1)
