"""The server as OpenAI's own client meets it."""
import asyncio
import json
import subprocess
import tempfile
import unittest
from pathlib import Path

import openai

from aerie_server import MODEL, NAME, PROGRAM, Server

QUESTION = [{"role": "user", "content": "Name three colours, with an emoji for each."}]
STREAMS = 64


class Client(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = Server("--max-sequences", 32)
        cls.client = openai.OpenAI(base_url=cls.server.url + "/v1", api_key="none", max_retries=0)

    @classmethod
    def tearDownClass(cls):
        cls.client.close()
        assert cls.server.stop() == 0, cls.server.errors

    def chat(self, **extra):
        return self.client.chat.completions.create(
            **{"model": NAME, "messages": QUESTION, "max_tokens": 40, "temperature": 0, **extra})

    def complete(self, **extra):
        return self.client.completions.create(
            **{"model": NAME, "prompt": "The three primary colours are", "max_tokens": 24, "temperature": 0, **extra})

    def streamed(self, stream) -> tuple[str, str]:
        """Text and finish reason."""
        text, reason = "", None
        for chunk in stream:
            for choice in chunk.choices:
                text += (choice.delta.content or "") if hasattr(choice, "delta") else choice.text
                reason = choice.finish_reason or reason
        return text, reason

    def test_models(self):
        self.assertEqual([model.id for model in self.client.models.list()], [NAME])
        self.assertEqual(self.client.models.retrieve(NAME).id, NAME)
        with self.assertRaises(openai.NotFoundError):
            self.client.models.retrieve("another")

    def test_a_stream_is_byte_for_byte_the_whole_answer(self):
        for extra in ({}, {"temperature": 0.9, "seed": 3, "max_tokens": 60}, {"stop": ["2.", "\n\n"]}):
            whole = self.chat(**extra)
            text, reason = self.streamed(self.chat(stream=True, **extra))
            self.assertEqual(text, whole.choices[0].message.content)
            self.assertEqual(reason, whole.choices[0].finish_reason)
            self.assertGreater(len(text), 0)

    def test_greedy_answers_are_those_of_aerie_generate(self):
        questions = ["What is 7 times 8?", "Say hello in French.", "Write one line about the sea."]
        with tempfile.TemporaryDirectory() as directory:
            rows = [json.dumps({"id": str(i), "prompt": q}) for i, q in enumerate(questions)]
            Path(directory, "in.jsonl").write_text("\n".join(rows) + "\n")
            subprocess.run([PROGRAM, "generate", "--target", MODEL, "--input", "in.jsonl", "--output", "out.jsonl",
                            "--max-new-tokens", "30", "--quiet"], cwd=directory, check=True)
            expected = [json.loads(line) for line in Path(directory, "out.jsonl").read_text().splitlines()]
        for question, row in zip(questions, expected):
            answer = self.chat(messages=[{"role": "user", "content": question}], max_tokens=30)
            self.assertEqual(answer.choices[0].message.content, row["text"])
            self.assertEqual(answer.choices[0].finish_reason, row["finish_reason"])
            self.assertEqual(answer.usage.prompt_tokens, row["prompt_tokens"])
            self.assertEqual(answer.usage.completion_tokens, len(row["tokens"]))

    def test_usage_comes_at_the_end_of_a_stream_on_request(self):
        chunks = list(self.chat(stream=True, stream_options={"include_usage": True}))
        self.assertEqual(chunks[-1].choices, [])
        self.assertEqual(chunks[-1].usage, self.chat().usage)
        self.assertEqual(chunks[0].choices[0].delta.role, "assistant")

    def test_prompt_as_token_ids_equals_the_text(self):
        ids = {"return_token_ids": True}
        text = self.complete(extra_body=ids)
        again = self.complete(prompt=text.choices[0].prompt_token_ids, extra_body=ids)
        self.assertEqual(again.choices[0].text, text.choices[0].text)
        self.assertEqual(again.choices[0].token_ids, text.choices[0].token_ids)
        self.assertEqual(len(text.choices[0].token_ids), text.usage.completion_tokens)
        stream = list(self.complete(stream=True, extra_body=ids))
        self.assertEqual(sum((chunk.choices[0].token_ids for chunk in stream), []), text.choices[0].token_ids)

    def test_several_prompts_and_choices_come_in_order(self):
        prompts = ["One two", "A B C"]
        answer = self.complete(prompt=prompts, n=2, max_tokens=8)
        self.assertEqual([choice.index for choice in answer.choices], [0, 1, 2, 3])
        alone = [self.complete(prompt=prompt, max_tokens=8).choices[0].text for prompt in prompts]
        self.assertEqual([choice.text for choice in answer.choices], [alone[0]] * 2 + [alone[1]] * 2)

    def test_seeds_decide_and_choices_differ(self):
        warm = {"temperature": 1.0, "seed": 7, "max_tokens": 30}
        self.assertEqual(self.chat(**warm).choices[0].message.content, self.chat(**warm).choices[0].message.content)
        first, second = self.chat(n=2, **warm).choices
        self.assertNotEqual(first.message.content, second.message.content)

    def test_ignore_eos_and_min_tokens(self):
        short = self.chat(messages=[{"role": "user", "content": "Say only: yes"}], max_tokens=60)
        self.assertEqual(short.choices[0].finish_reason, "stop")
        tokens = short.usage.completion_tokens
        for extra in ({"ignore_eos": True}, {"min_tokens": 60}):
            long = self.chat(messages=[{"role": "user", "content": "Say only: yes"}], max_tokens=60, extra_body=extra)
            self.assertEqual(long.usage.completion_tokens, 60)
            self.assertEqual(long.choices[0].finish_reason, "length")
        self.assertLess(tokens, 60)

    def test_stop_strings_and_stop_token_ids(self):
        full = self.complete(max_tokens=40, extra_body={"return_token_ids": True}).choices[0]
        stop = full.text[9:13]
        cut = self.complete(max_tokens=40, stop=[stop]).choices[0]
        self.assertEqual(cut.text, full.text[:full.text.index(stop)])
        self.assertEqual((cut.finish_reason, cut.stop_reason), ("stop", stop))
        kept = self.complete(max_tokens=40, stop=[stop], extra_body={"include_stop_str_in_output": True}).choices[0]
        self.assertEqual(kept.text, cut.text + stop)
        token = full.token_ids[5]
        at = full.token_ids.index(token)
        by_id = self.complete(max_tokens=40, extra_body={"stop_token_ids": [token], "return_token_ids": True}).choices[0]
        self.assertEqual(by_id.token_ids, full.token_ids[:at + 1])
        self.assertEqual((by_id.finish_reason, by_id.stop_reason), ("stop", token))

    def test_logprobs(self):
        places = self.chat(logprobs=True, top_logprobs=3, max_tokens=12).choices[0].logprobs.content
        self.assertEqual(len(places), 12)
        for place in places:
            self.assertEqual(place.token, place.top_logprobs[0].token)  # greedy
            self.assertEqual(place.logprob, place.top_logprobs[0].logprob)
            values = [top.logprob for top in place.top_logprobs]
            self.assertEqual((len(values), values), (3, sorted(values, reverse=True)))
            self.assertLess(max(values), 0)
        plain = self.complete(logprobs=2, max_tokens=6)
        self.assertEqual("".join(plain.choices[0].logprobs.tokens), plain.choices[0].text)
        stream = list(self.chat(logprobs=True, top_logprobs=3, max_tokens=12, stream=True))
        got = sum((c.choices[0].logprobs.content for c in stream if c.choices[0].logprobs), [])
        self.assertEqual([place.logprob for place in got], [place.logprob for place in places])

    def test_logprobs_of_tokens_inside_characters_have_their_bytes(self):
        prompt = "Repeat: 🙂🙂🙂🙂🙂🙂🙂🙂🙂🙂🙂🙂🙂🙂🙂🙂"
        chat = self.chat(messages=[{"role": "user", "content": prompt}], logprobs=True, max_tokens=24).choices[0]
        places = chat.logprobs.content
        whole = b"".join(bytes(place.bytes) for place in places if not place.token.startswith("<|"))
        self.assertEqual(whole.decode(errors="replace").rstrip("\ufffd"), chat.message.content.rstrip("\ufffd"))
        parts = [place for place in places if place.token.startswith("bytes:")]
        self.assertTrue(parts, [place.token for place in places])
        for place in parts:
            self.assertEqual(place.token, "bytes:" + "".join(f"\\x{byte:02x}" for byte in place.bytes))
        plain = self.complete(prompt=prompt, logprobs=1, max_tokens=24).choices[0]
        offsets = plain.logprobs.text_offset
        self.assertLessEqual(offsets[-1], len(plain.text))  # characters, as Python counts
        self.assertEqual(offsets, sorted(offsets))

    def test_penalties_and_biases_change_the_answer(self):
        plain = self.complete().choices[0].text
        loop = self.complete(prompt="a b a b a b a b", max_tokens=16)
        tokens = self.complete(prompt="a b a b a b a b", max_tokens=16, frequency_penalty=2.0, presence_penalty=2.0)
        self.assertNotEqual(loop.choices[0].text, tokens.choices[0].text)
        first = self.complete(max_tokens=1, extra_body={"return_token_ids": True}).choices[0].token_ids[0]
        banned = self.complete(logit_bias={str(first): -100}, extra_body={"return_token_ids": True}).choices[0]
        self.assertNotEqual(banned.token_ids[0], first)
        self.assertNotEqual(self.complete(extra_body={"repetition_penalty": 1.5}).choices[0].text, plain)
        top = self.complete(temperature=1.5, seed=1, extra_body={"top_k": 1}).choices[0].text
        self.assertEqual(top, plain)
        self.assertEqual(self.complete(temperature=1.5, seed=1, extra_body={"min_p": 1.0}).choices[0].text, plain)

    def test_errors_are_the_clients_own_exceptions(self):
        for call, named in ((lambda: self.chat(temperature=-1), "temperature"), (lambda: self.chat(top_p=2), "top_p"),
                            (lambda: self.chat(max_tokens=100000), "max_tokens"), (lambda: self.chat(messages=[]), "messages"),
                            (lambda: self.complete(prompt=[]), "prompt"), (lambda: self.complete(prompt=[999999]), "prompt"),
                            (lambda: self.chat(stop=[""]), "stop"), (lambda: self.chat(n=1000), "n"),
                            (lambda: self.chat(response_format={"type": "json_object"}), "response_format"),
                            (lambda: self.complete(logit_bias={"-1": 3}), "logit_bias")):
            with self.assertRaises(openai.BadRequestError) as caught:
                call()
            self.assertEqual(caught.exception.param, named)
            self.assertEqual(caught.exception.type, "invalid_request_error")
        with self.assertRaises(openai.NotFoundError):
            self.chat(model="another")

    def test_64_streams_at_once_each_get_what_they_get_in_another_batch(self):
        async def all_at_once():
            async with openai.AsyncOpenAI(base_url=self.server.url + "/v1", api_key="none", max_retries=0) as client:
                async def one(i: int, stream: bool) -> str:
                    answer = await client.completions.create(
                        model=NAME, prompt=f"Number {i} is", max_tokens=8 + i % 9, temperature=0.8 if i % 2 else 0,
                        seed=i, stream=stream, presence_penalty=i % 3 / 2, extra_body={"top_k": i % 7 * 5})
                    if not stream:
                        return answer.choices[0].text
                    return "".join([chunk.choices[0].text async for chunk in answer])
                streams = await asyncio.gather(*(one(i, True) for i in range(STREAMS)))
                wholes = await asyncio.gather(*(one(i, False) for i in reversed(range(STREAMS))))
                return streams, wholes[::-1]
        streams, wholes = asyncio.run(all_at_once())
        self.assertEqual(streams, wholes)
        self.assertGreater(len(set(streams)), STREAMS // 2)


class Decoders(unittest.TestCase):
    def test_however_tokens_are_guessed_the_answers_are_the_same(self):
        asked = ({"temperature": 0}, {"temperature": 0.9, "seed": 3}, {"temperature": 0, "stop": ["2."]},
                 {"temperature": 0, "frequency_penalty": 0.8}, {"temperature": 0, "logprobs": True})
        answers = {}
        for flags in ((), ("--decoder", "ngram"), ("--decoder", "diffusion", "--mask-token", 5, "--window", 4)):
            server = Server(*flags)
            client = openai.OpenAI(base_url=server.url + "/v1", api_key="none", max_retries=0)
            chosen = [client.chat.completions.create(model=NAME, messages=QUESTION, max_tokens=40, **extra).choices[0]
                      for extra in asked]
            answers[flags] = [(choice.message.content, choice.finish_reason) for choice in chosen]
            self.assertEqual(len(chosen[-1].logprobs.content), 40)
            client.close()
            self.assertEqual(server.stop(), 0, server.errors)
        plain = answers.pop(())
        self.assertEqual((plain[0] == plain[1], plain[0] == plain[4]), (False, True))  # sampling tells, logprobs do not
        for flags, guessed in answers.items():
            self.assertEqual(guessed, plain, flags)

    def test_a_target_without_masks_is_refused(self):
        done = subprocess.run([PROGRAM, "serve", "--target", MODEL, "--decoder", "diffusion"], text=True, capture_output=True)
        self.assertEqual(done.returncode, 1)
        self.assertIn("this target has no masks (mask_token_id of its config.json)", done.stderr)


class Key(unittest.TestCase):
    def test_a_key_is_wanted_where_one_is_set(self):
        server = Server(environment={"AERIE_API_KEY": "secret"})
        try:
            for key, right in (("secret", True), ("secre", False), ("Secret", False), ("", False)):
                client = openai.OpenAI(base_url=server.url + "/v1", api_key=key or "x", max_retries=0)
                if right:
                    self.assertEqual(client.models.list().data[0].id, NAME)
                    self.assertTrue(client.completions.create(model=NAME, prompt="a", max_tokens=1).choices)
                else:
                    self.assertRaises(openai.AuthenticationError, client.models.list)
                    self.assertRaises(openai.AuthenticationError, client.completions.create, model=NAME, prompt="a")
                client.close()
            self.assertIn("ok", server.get("/health"))
        finally:
            self.assertEqual(server.stop(), 0)


if __name__ == "__main__":
    assert MODEL.exists(), f"{MODEL} is missing: scripts/fetch_smollm2.sh"
    unittest.main(verbosity=1)
