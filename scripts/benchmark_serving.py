"""Poisson load on an OpenAI-compatible server (Aerie's, or another's on the same machine): time to the first token,
time between events, output tokens per second. Standard library only; one process, one thread.

usage: scripts/benchmark_serving.py [--url http://127.0.0.1:8000] [--rate 1,4] [--requests 16] [--prompt-tokens 400]
                                    [--output-tokens 64] [--prompts FILE.jsonl] [--seed 0] [--json]
"""
import argparse
import asyncio
import json
import random
import time
from urllib.parse import urlsplit

CHARACTERS_A_TOKEN = 3.6  # of English prose; the server says how many tokens it was
WORDS = """the of and to in is you that it he was for on are as with his they at be this have from or one had by word but not
what all were we when your can said there use an each which she do how their if will up other about out many then them these so
some her would make like him into time has look two more write go see number no way could people my than first water been call
who its now find long down day did get come made may part""".split()  # a token each


def texts(file: str | None, count: int, tokens: int, seed: int) -> list[str]:
    """Prompts of about so many tokens that share no beginning: rows of the file put together, or plain words."""
    source = random.Random(seed)
    if file:
        rows = [json.loads(line) for line in open(file) if line.strip()]
        pieces = [row.get("prompt") or (row.get("turns") or [turn["content"] for turn in
                  row.get("conversations") or row["messages"]])[0] for row in rows]
    else:
        return [" ".join(source.choices(WORDS, k=tokens)) for _ in range(count)]
    source.shuffle(pieces)
    made = []
    for _ in range(count):
        text = ""
        while len(text) < tokens * CHARACTERS_A_TOKEN:
            text += source.choice(pieces) + " "
        made.append(text[:int(tokens * CHARACTERS_A_TOKEN)])
    return made


async def ask(url, body: dict) -> dict:
    """Times of one streamed answer."""
    begin = time.perf_counter()
    reader, writer = await asyncio.open_connection(url.hostname, url.port)
    content = json.dumps(body).encode()
    writer.write(f"POST /v1/completions HTTP/1.1\r\nHost: {url.hostname}\r\nContent-Type: application/json\r\n"
                 f"Content-Length: {len(content)}\r\nConnection: close\r\n\r\n".encode() + content)
    times, usage, status = [], None, (await reader.readline()).decode().strip()
    if " 200 " not in status:
        raise SystemExit(f"the server answered {status}: {(await reader.read()).decode(errors='replace')[-400:]}")
    while line := await reader.readline():
        if not line.startswith(b"data: {"):
            continue
        event = json.loads(line[6:])
        if event.get("usage"):
            usage = event["usage"]
        if event["choices"]:
            times.append(time.perf_counter())
    writer.close()
    return {"begin": begin, "times": times, "usage": usage}


async def load(options, rate: float, seed: int) -> dict:
    url, gaps = urlsplit(options.url), random.Random(seed)
    models = await get(url, "/v1/models")
    prompts = texts(options.prompts, options.requests, options.prompt_tokens, seed)
    async def one(prompt: str) -> dict:
        return await ask(url, {"model": models["data"][0]["id"], "prompt": prompt, "max_tokens": options.output_tokens,
                               "temperature": 0, "ignore_eos": True, "stream": True,
                               "stream_options": {"include_usage": True}})
    await one(prompts[0][:200])  # warm
    tasks = []
    for prompt in prompts:
        tasks.append(asyncio.create_task(one(prompt)))
        await asyncio.sleep(gaps.expovariate(rate))
    return summary(rate, await asyncio.gather(*tasks))


async def get(url, path: str) -> dict:
    reader, writer = await asyncio.open_connection(url.hostname, url.port)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: {url.hostname}\r\nConnection: close\r\n\r\n".encode())
    head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    return json.loads(body[body.index(b"{"):body.rindex(b"}") + 1])


def summary(rate: float, answers: list[dict]) -> dict:
    def percentiles(values: list[float]) -> dict:
        values = sorted(values)
        return {f"p{p}": round(1000 * values[min(len(values) - 1, int(p / 100 * len(values)))], 1) for p in (50, 95, 99)}
    tokens = sum(answer["usage"]["completion_tokens"] for answer in answers)
    begin, end = min(answer["begin"] for answer in answers), max(answer["times"][-1] for answer in answers)
    between = [b - a for answer in answers for a, b in zip(answer["times"], answer["times"][1:])]
    return {"rate": rate, "requests": len(answers),
            "prompt_tokens": sum(answer["usage"]["prompt_tokens"] for answer in answers) / len(answers),
            "ttft_ms": percentiles([answer["times"][0] - answer["begin"] for answer in answers]),
            "itl_ms": percentiles(between), "events": len(between) + len(answers),
            "output_tokens_per_second": round(tokens / (end - begin), 1)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--rate", default="1,4", help="requests a second, one run each")
    parser.add_argument("--requests", type=int, default=16)
    parser.add_argument("--prompt-tokens", type=int, default=400)
    parser.add_argument("--output-tokens", type=int, default=64)
    parser.add_argument("--prompts", help="JSON lines; else made-up words")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    for index, rate in enumerate(map(float, options.rate.split(","))):
        # Other prompts for each rate: what one run left in a server's prefix cache must not help the next.
        result = asyncio.run(load(options, rate, options.seed + index))
        if options.json:
            print(json.dumps(result), flush=True)
            continue
        first, between = result["ttft_ms"], result["itl_ms"]
        print(f"{rate:g} requests/s: first token p50 {first['p50']:.0f} p95 {first['p95']:.0f} ms, between events p50 "
              f"{between['p50']:.0f} p95 {between['p95']:.0f} p99 {between['p99']:.0f} ms, "
              f"{result['output_tokens_per_second']:.1f} tokens/s ({result['prompt_tokens']:.0f} prompt tokens)", flush=True)


if __name__ == "__main__":
    main()
