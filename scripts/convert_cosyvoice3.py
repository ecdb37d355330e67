"""Makes a Hugging Face directory of CosyVoice 3's language model, which is published as a pickled checkpoint:
config.json ("model_type": "cosyvoice3"), model.safetensors, tokenizer.json.

Speech ids come first and text ids behind them: the embedding is the table of speech on top of the text's, the head is
that of speech (llm_decoder). Everything else is Qwen2 as it is.

usage: .venv/bin/python scripts/convert_cosyvoice3.py MODEL OUTPUT [--dtype float32] [--special-tokens FILE]
  MODEL  a directory with llm.pt and CosyVoice-BlankEN/ (config.json, tokenizer)
  FILE   the tokens that CosyVoice 3 adds to Qwen2's, one a line, in its order, from <|endofprompt|> on
"""
import argparse
import json
import os
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch  # noqa: E402
from safetensors.torch import save_file  # noqa: E402

TAIL = 200  # ids behind the codes: start, end, what parts text and speech, fill, and spare ones; all of them end an answer
BODY = "llm.model.model."
SHAPE_KEYS = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads",
              "head_dim", "rms_norm_eps", "max_position_embeddings", "hidden_act", "rope_theta", "rope_scaling",
              "rope_parameters", "use_sliding_window", "sliding_window", "layer_types")


def convert_tensors(state: dict[str, torch.Tensor], dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """The checkpoint's tensors under Qwen2's names; two tables become one embedding."""
    tensors = {}
    for name, value in state.items():
        if name.startswith(BODY + "layers.") or name == BODY + "norm.weight":
            tensors["model." + name.removeprefix(BODY)] = value
        elif name not in ("speech_embedding.weight", "llm_decoder.weight", BODY + "embed_tokens.weight",
                          "llm.model.lm_head.weight"):  # the text's head is not used
            raise SystemExit(f"tensor {name} is not CosyVoice 3's: CosyVoice 1 and 2 have another language model")
    tensors["model.embed_tokens.weight"] = torch.cat([state["speech_embedding.weight"], state[BODY + "embed_tokens.weight"]])
    tensors["lm_head.weight"] = state["llm_decoder.weight"]
    return {name: value.detach().to(dtype).contiguous().clone() for name, value in tensors.items()}


def convert_config(text: dict, state: dict[str, torch.Tensor], dtype: torch.dtype, tail: int = TAIL) -> dict:
    """`text`: the config.json of the Qwen2 that it was made from."""
    vocab = state["llm_decoder.weight"].shape[0]
    return {"architectures": ["CosyVoice3LM"], "model_type": "cosyvoice3",
            **{key: text[key] for key in SHAPE_KEYS if key in text},
            "vocab_size": vocab, "speech_token_size": vocab - tail,
            "text_vocab_size": state[BODY + "embed_tokens.weight"].shape[0],
            "tie_word_embeddings": False, "eos_token_id": list(range(vocab - tail, vocab)),
            "torch_dtype": str(dtype).removeprefix("torch.")}


def write(output: Path, config: dict, tensors: dict[str, torch.Tensor]) -> None:
    output.mkdir(parents=True, exist_ok=True)
    save_file(tensors, output / "model.safetensors", {"format": "pt"})
    (output / "config.json").write_text(json.dumps(config, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("model", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--dtype", choices=("bfloat16", "float32"), default="bfloat16")
    parser.add_argument("--special-tokens", type=Path)
    flags = parser.parse_args()
    from transformers import AutoTokenizer

    dtype = getattr(torch, flags.dtype)
    blank = flags.model / "CosyVoice-BlankEN"
    loaded = torch.load(flags.model / "llm.pt", map_location="cpu", weights_only=True)
    state = {name: value for name, value in loaded.items() if isinstance(value, torch.Tensor)}
    write(flags.output, convert_config(json.loads((blank / "config.json").read_text()), state, dtype),
          convert_tensors(state, dtype))
    tokenizer = AutoTokenizer.from_pretrained(blank)
    added = ["<|endofprompt|>"]
    if flags.special_tokens:
        added = flags.special_tokens.read_text().split()
    else:
        print("without --special-tokens only <|endofprompt|> is special: [breath] and the like are read as plain text")
    tokenizer.add_special_tokens({"additional_special_tokens": added})
    tokenizer.save_pretrained(flags.output)
    print(f"{flags.output}: {', '.join(sorted(f.name for f in flags.output.iterdir()))}")


if __name__ == "__main__":
    main()
