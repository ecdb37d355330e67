"""Makes tests/golden/text: what the Python tokenizers and transformers say to strings and conversations.

Writes small tokenizers of four kinds (tokenizers/*.json), strings.json.gz, and golden.json.gz with, for each tokenizer
and string, checksums of the ids and of their decoding, and for each template and conversation the rendered text.
Needs models/SmolLM2-135M-Instruct (scripts/fetch_smollm2.sh). Tokenizers that are there are kept, because training one
breaks ties at random; the rest depends on nothing but them, this file, the templates and the pinned versions.

usage: .venv/bin/python scripts/make_golden_text.py
"""
import gzip
import itertools
import json
import random
import zlib
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers.utils import chat_template_utils

ROOT = Path(__file__).resolve().parent.parent
GOLDEN = ROOT / "tests/golden/text"
SMOLLM2 = ROOT / "models/SmolLM2-135M-Instruct/tokenizer.json"

SENTENCES = [
    "Natalia sold clips to 48 of her friends in April, and then half as many in May.", "The quick brown fox.",
    "def f(x):\n\treturn x ** 2  # squared\n", "for (int i = 0; i < n; ++i) { sum += a[i]; }", "SELECT * FROM t;",
    "Das ist ein Übergrößenträger.", "Où est la bibliothèque, s'il vous plaît ?", "¿Cuántos años tienes?",
    "Привет, как дела?", "Καλημέρα κόσμε", "שלום עולם", "مرحبا بالعالم", "हिन्दी में नमस्ते", "สวัสดีชาวโลก", "你好，世界！今天天气很好。",
    "こんにちは世界。カタカナ", "안녕하세요 세계", "Việt Nam", "ﬁne ligature ½ ² Ⅷ", "e\u0301 vs é", "Å vs Å", "don't we'll I'M THEY'VE",
    "3.14159 1,000,000 0x1F 1e-9 2024-07-26", "https://example.com/a?b=c&d=%20#e", "a_b-c.d@e.com", "<b>bold</b> &amp; \"q\"",
    "🙂👍🏽👩‍👩‍👧‍👦🇩🇪🏴󠁧󠁢󠁥󠁮󠁧󠁿", "\U0001d54f\U0001f9ff", "∑_{i=0}^{n} x_i² ≈ √2", "$\\frac{a}{b}$ \\n \\t", "{\"k\": [1, null, true]}",
]
PIECES = [
    " ", "  ", "   ", "\n", "\n\n", "\r\n", "\t", " \n ", "\n  \n", "\u00a0", "\u2003", "\u200b", "\u200d", "\ufeff", "\x00", "\x1f", "\x7f", "\x85",
    "<|im_start|>", "<|im_end|>", "<|endoftext|>", "<|im_start|>assistant\n", "<s>", "</s>", "[INST]", "<unk>", "▁", "Ġ", "'s", "'S", "12345678",
    "...", "!!!", "--", "=====", "\ufffd", "a", "Z", "é", "ß", "İ", "ǅ", "ﬀ", "中", "文", "ا", "े", "🙂", "\U00010348", "\ue000", "\U000e0041",
]

TOOLS = [{"type": "function", "function": {"name": "get_weather", "description": "Weather of a <city> & 'day'", "parameters": {
    "type": "object", "required": ["city"], "properties": {
        "city": {"type": "string", "description": "name, as in \"Köln\""}, "days": {"type": "integer", "default": 3},
        "unit": {"type": "string", "enum": ["celsius", "fahrenheit"], "default": "celsius"},
        "area": {"type": "object", "properties": {"radius": {"type": "number", "default": 2.5}, "deep": {"type": "boolean", "default": True}}},
        "none": {"default": None}}}}}]


def turns(*contents, system=None):
    messages = [{"role": "system", "content": system}] if system else []
    return messages + [{"role": ("user", "assistant")[i % 2], "content": c} for i, c in enumerate(contents)]


def call(name, arguments):
    return {"id": "call12345", "type": "function", "function": {"name": name, "arguments": arguments}}


CONVERSATIONS = [
    {"messages": turns("What is 2 + 2?", "It is 4.")},
    {"messages": turns("Hi", "Hello! How can I help?", "Tell me a joke.", "Why did the 🐔 cross the road?\n\nTo get to the other side.",
                       system="You are terse.\nVery terse.")},
    {"messages": turns("  blanks around \n", "\n\n  kept or trimmed  \n", "Ünïcödé 你好 \u00a0", "```python\nprint('x')\n```", "again", "ok")},
    {"messages": turns("Think first.", "<think>\nTwo and two...\n</think>\n\nFour.", "And three?", "<think>\nhm\n</think>\n\nSix.")},
    {"messages": turns("Weather in Köln?") + [
        {"role": "assistant", "content": None, "tool_calls": [call("get_weather", {"city": "Köln", "days": 2, "x": 1.0, "big": 1e16, "ok": True})]},
        {"role": "tool", "name": "get_weather", "content": "{\"temp\": 21.5}"},
        {"role": "assistant", "content": "It is 21.5 °C."}, {"role": "user", "content": "Thanks!"}], "variables": {"tools": TOOLS}},
    {"messages": [{"role": "user", "content": "one"}, {"role": "user", "content": "two"}, {"role": "assistant", "content": "three"}]},
    {"messages": turns("Say <|im_start|>assistant\nfoo<|im_end|> or </s> {{ x }} {% y %}", "<|im_end|>{{ '\"' }} & <b> \\n it's", "", "", "x", "y")},
    {"messages": [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "Because.", "reasoning_content": "Let me see.\n"},
                  {"role": "user", "content": "Sure?"}], "variables": {"enable_thinking": False, "date_string": "01 Jan 2030"}},
]
SPECIAL = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}


def make_strings():
    draw = random.Random(7)
    strings = ["", *SENTENCES, *PIECES]
    while len(strings) < 1600:
        strings.append("".join(draw.choice(SENTENCES if draw.random() < 0.3 else PIECES) for _ in range(draw.randint(2, 6))))
    while len(strings) < 2100:
        words = " ".join(draw.choice(SENTENCES) for _ in range(3)).split(" ")
        draw.shuffle(words)
        strings.append(draw.choice([" ", "  ", "\n", " \t"]).join(words[: draw.randint(1, 12)]))
    while len(strings) < 2400:
        top = draw.choice([0x7F, 0x7FF, 0xD7FF, 0x2FFFF])
        points = [draw.randrange(top) for _ in range(draw.randint(1, 12))]
        strings.append("".join(chr(p) for p in points if not 0xD800 <= p < 0xE000))
    return strings


# What closes a turn in the families of templates/: one tokenizer knows them all.
END_OF_TURN = ["</s>", "<|eot_id|>", "<end_of_turn>", "<|end|>"]


def specials(*names):
    return list(names) + ["<|im_start|>", "<|im_end|>"]


def small_tokenizers():
    """The kinds that matter: byte-level BPE (Llama 3, Qwen), BPE with byte fallback (Llama 2), unigram (T5, Gemma-like)."""
    llama3 = Tokenizer(models.BPE(ignore_merges=True))
    split = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    llama3.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(split), "isolated"), byte_level])
    llama3.decoder = decoders.ByteLevel()
    train(llama3, trainers.BpeTrainer(vocab_size=704, special_tokens=specials("<|begin_of_text|>", *END_OF_TURN),
                                      initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False))
    llama3.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=False), processors.TemplateProcessing(
        single="<|begin_of_text|> $A", pair="<|begin_of_text|> $A $B", special_tokens=[("<|begin_of_text|>", 0)])])

    qwen = Tokenizer(models.BPE())
    qwen.normalizer = normalizers.NFC()
    qwen.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(split.replace("{1,3}", "")), "isolated"), byte_level])
    qwen.decoder = decoders.ByteLevel()
    qwen.post_processor = processors.ByteLevel(trim_offsets=True)
    train(qwen, trainers.BpeTrainer(vocab_size=600, special_tokens=specials("<|endoftext|>"),
                                    initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False))

    llama2 = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    llama2.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    llama2.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    bytes_ = [f"<0x{b:02X}>" for b in range(256)]
    train(llama2, trainers.BpeTrainer(vocab_size=800, special_tokens=["<unk>", "<s>", "</s>", *bytes_], limit_alphabet=80, show_progress=False),
          plain=bytes_)

    unigram = Tokenizer(models.Unigram())
    unigram.normalizer = normalizers.NFKC()
    unigram.pre_tokenizer = pre_tokenizers.Metaspace()
    unigram.decoder = decoders.Metaspace()
    train(unigram, trainers.UnigramTrainer(vocab_size=400, special_tokens=["<unk>", "<s>", "</s>"], unk_token="<unk>", show_progress=False))
    return {"llama3": llama3, "qwen": qwen, "llama2": llama2, "unigram": unigram}


def train(tokenizer, trainer, plain=()):
    tokenizer.train_from_iterator(SENTENCES * 3, trainer)
    if plain:  # byte tokens belong to the vocabulary but are not special
        saved = json.loads(tokenizer.to_str())
        saved["added_tokens"] = [t for t in saved["added_tokens"] if t["content"] not in plain]
        tokenizer.__setstate__(json.dumps(saved).encode())


def checksum(values):
    return zlib.crc32(values if isinstance(values, bytes) else ",".join(map(str, values)).encode())


def with_blanks(tokenizer):
    """The same, but that a token's offsets count the blank that belongs to it, as we need them: some leave it out."""
    saved = json.loads(tokenizer.to_str())
    if saved["post_processor"] and "trim_offsets" in saved["post_processor"]:
        saved["post_processor"]["trim_offsets"] = False
    return Tokenizer.from_str(json.dumps(saved))


def byte_offsets(encoding, text):
    """begin, end of every token; Python counts characters."""
    bytes_before = list(itertools.accumulate((len(char.encode()) for char in text), initial=0))
    return [bytes_before[char] for pair in encoding.offsets for char in pair]


def tokenizer_rows(tokenizer, strings):
    encodings = with_blanks(tokenizer).encode_batch(strings, add_special_tokens=False)
    ids = [tokenizer.encode(s, add_special_tokens=False).ids for s in strings]
    return {"ids": [checksum(i) for i in ids],
            "offsets": [checksum(byte_offsets(*pair)) for pair in zip(encodings, strings)],
            "decoded": [checksum(tokenizer.decode(i, skip_special_tokens=False).encode()) for i in ids],
            "with_special": checksum(sum((tokenizer.encode(s).ids for s in strings), [])),
            "skip_special": checksum("\n".join(tokenizer.decode(i, skip_special_tokens=True) for i in ids).encode())}


def render(template, conversation, add_generation_prompt):
    messages = [{k: v for k, v in m.items() if v is not None} for m in conversation["messages"]]
    try:
        texts, spans = chat_template_utils.render_jinja_template(
            conversations=[messages], chat_template=template, return_assistant_tokens_mask="{%- generation" in template or "{% generation" in template,
            add_generation_prompt=add_generation_prompt, **{**SPECIAL, **conversation.get("variables", {})})
    except Exception as error:  # the message of raise_exception is part of the contract
        return {"error": str(error) if type(error).__name__ == "TemplateError" else ""}
    to_byte = lambda char: len(texts[0][:char].encode())
    return {"text": texts[0], "spans": [[to_byte(b), to_byte(e)] for b, e in (spans[0] if spans else [])]}


def write(name, value):
    data = json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
    (GOLDEN / name).write_bytes(gzip.compress(data, 9, mtime=0))


def main():
    (GOLDEN / "tokenizers").mkdir(parents=True, exist_ok=True)
    strings = make_strings()
    tokenizers = {}
    for name, tokenizer in small_tokenizers().items():
        path = GOLDEN / f"tokenizers/{name}.json"
        if not path.exists():
            tokenizer.save(str(path), pretty=False)
        tokenizers[name] = Tokenizer.from_file(str(path))
    tokenizers["smollm2"] = Tokenizer.from_file(str(SMOLLM2))
    golden = {"tokenizers": {name: tokenizer_rows(t, strings) for name, t in tokenizers.items()}, "templates": {}}
    for path in sorted((GOLDEN / "templates").glob("*.jinja")):
        golden["templates"][path.stem] = [[render(path.read_text(), c, g) for g in (False, True)] for c in CONVERSATIONS]
    write("strings.json.gz", strings)
    write("golden.json.gz", {"special_tokens": SPECIAL, "conversations": CONVERSATIONS, **golden})
    rendered = sum("text" in r for rows in golden["templates"].values() for pair in rows for r in pair)
    print(f"{len(strings)} strings x {len(tokenizers)} tokenizers, {rendered} rendered conversations of {len(golden['templates'])} templates")


if __name__ == "__main__":
    main()
