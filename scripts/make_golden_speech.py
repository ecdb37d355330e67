"""A tiny random CosyVoice 3 language model, and what plain PyTorch makes of it: Qwen2's decoder of transformers between an
embedding of two tables and the head of speech. For tests/target_models, tests/data and tests/decoding. The results are
committed under tests/golden/models/cosyvoice3; run again only to change them.

usage: .venv/bin/python scripts/make_golden_speech.py
"""
import json
import os
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch  # noqa: E402
from safetensors.torch import save_file  # noqa: E402
from transformers import Qwen2Config, Qwen2ForCausalLM  # noqa: E402

from convert_cosyvoice3 import convert_config, convert_tensors, write  # noqa: E402
from make_golden_models import randomise  # noqa: E402
from tiny_media import Dialect  # noqa: E402

MODEL = Path(__file__).resolve().parent.parent / "tests" / "golden" / "models" / "cosyvoice3"
CODES, TAIL = 88, 8  # of speech, and of ids behind them
START, END, TURN = CODES, CODES + 1, CODES + 2
NEW = 24  # tokens of a continuation
ROWS = (  # of 37 and 20 tokens
    {"id": "voice", "prompt_text": "Say.<|endofprompt|>Oh.", "prompt_speech": [3, 87, 0, 41, 41, 12], "text": "Good day.",
     "speech": [5, 5, 70, 33, 0, 86, 2, 19, 64, 64, 31]},
    {"id": "none", "text": "Stop!", "speech": [80, 1, 1, 7, 66, 23, 9, 54, 15, 15, 40, 38]},
)


class SpeechModel(torch.nn.Module):
    def __init__(self, text_vocab: int):
        super().__init__()
        config = Qwen2Config(hidden_size=32, intermediate_size=48, num_attention_heads=4, num_key_value_heads=2,
                             num_hidden_layers=3, vocab_size=text_vocab, max_position_embeddings=128, rms_norm_eps=1e-6,
                             rope_parameters=dict(rope_type="default", rope_theta=1000000.0), tie_word_embeddings=True,
                             bos_token_id=None, eos_token_id=None, attn_implementation="eager")
        self.llm = torch.nn.Module()
        self.llm.model = Qwen2ForCausalLM(config)
        self.speech_embedding = torch.nn.Embedding(CODES + TAIL, config.hidden_size)
        self.llm_decoder = torch.nn.Linear(config.hidden_size, CODES + TAIL, bias=False)

    def embed(self, prompt: list[int], speech: list[int]) -> torch.Tensor:
        """[start | text | turn | speech], each looked up in its own table."""
        say = lambda ids: self.speech_embedding(torch.tensor(ids, dtype=torch.long))
        return torch.cat([say([START]), self.llm.model.model.embed_tokens(torch.tensor(prompt)), say([TURN]), say(speech)])

    def forward(self, embeds: torch.Tensor):
        """Logits, last hidden state after the norm, the residual stream after every layer."""
        outputs = []
        keep = lambda _module, _inputs, output: outputs.append((output[0] if isinstance(output, tuple) else output)[0])
        hooks = [layer.register_forward_hook(keep) for layer in self.llm.model.model.layers]
        hidden = self.llm.model.model(inputs_embeds=embeds[None]).last_hidden_state[0]
        for hook in hooks:
            hook.remove()
        return self.llm_decoder(hidden), hidden, torch.stack(outputs)

    def speak(self, embeds: torch.Tensor) -> list[int]:
        """The likeliest ids, one after the other; those that end an answer are ids like the others."""
        out = []
        while len(out) < NEW:
            out.append(int(self(embeds)[0][-1].argmax()))
            embeds = torch.cat([embeds, self.speech_embedding(torch.tensor(out[-1:]))])
        return out


@torch.no_grad()
def main() -> None:
    MODEL.mkdir(parents=True, exist_ok=True)
    for old in MODEL.iterdir():
        old.unlink()
    dialect = Dialect("speech", "<|endofprompt|>", "[breath]", "[laughter]")
    tokenizer = dialect.write_text_files(MODEL)
    (MODEL / "chat_template.jinja").unlink()
    text_vocab = (tokenizer.get_vocab_size() + 7) // 8 * 8
    torch.manual_seed(300)
    model = SpeechModel(text_vocab).eval()
    randomise(model)
    state = {name: value for name, value in model.state_dict().items()}
    write(MODEL, convert_config(model.llm.model.config.to_dict(), state, torch.float32, TAIL),
          convert_tensors(state, torch.float32))
    (MODEL / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))

    values, parts, tokens = {}, [], []
    for i, row in enumerate(ROWS):
        text = tokenizer.encode(row.get("prompt_text", "")).ids + tokenizer.encode(row["text"]).ids
        voice = row.get("prompt_speech", [])
        parts.append(model(model.embed(text, voice + row["speech"] + [END])))
        tokens.append(torch.tensor([START, *(CODES + TAIL + t for t in text), TURN, *voice, *row["speech"], END]))
        values[f"{i}.continuation"] = torch.tensor(model.speak(model.embed(text, voice)))
    # From inside the text, as the tests of other families do it: ids of speech follow ids of text.
    begin = [int(t) - CODES - TAIL for t in tokens[0][1:9]]
    inside = model.embed(begin, [])[:-1]
    values |= {
        "tokens": torch.cat(tokens),
        "q_start": torch.tensor([0, len(tokens[0]), len(tokens[0]) + len(tokens[1])], dtype=torch.int32),
        "logits": torch.cat([p[0] for p in parts]),
        "hidden": torch.cat([p[1] for p in parts]),
        "layers": torch.cat([p[2] for p in parts], 1).contiguous(),
        "greedy": torch.cat([tokens[0][:9], torch.tensor(model.speak(inside))]),
    }
    assert [len(t) for t in tokens] == [37, 20]
    save_file(values, MODEL / "values.safetensors")
    print(f"{MODEL}: {sum(f.stat().st_size for f in MODEL.iterdir()) // 1024} KiB")


if __name__ == "__main__":
    main()
