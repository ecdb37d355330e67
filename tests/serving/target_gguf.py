"""The quickstart's model as a bf16 or f32 GGUF, made with the `gguf` package: what a user gets from llama.cpp's converter.

usage: target_gguf.py MODEL_DIRECTORY OUTPUT.gguf
"""
import json
import sys
from pathlib import Path

import gguf
import torch
from safetensors import safe_open

NORMAL, CONTROL = gguf.TokenType.NORMAL, gguf.TokenType.CONTROL
NAMES = {  # Hugging Face's name of a layer's tensor -> llama.cpp's
    "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
}
OUTER = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight"}


def to_pairs(rows: torch.Tensor, heads: int) -> torch.Tensor:
    """Rows i and i + D/2 of a head, which rotate together, side by side."""
    return rows.view(heads, 2, rows.shape[0] // heads // 2, -1).transpose(1, 2).reshape(rows.shape)


def name_of(name: str) -> str:
    if name in OUTER:
        return OUTER[name]
    _, _, layer, rest = name.split(".", 3)
    return f"blk.{layer}.{NAMES[rest.removesuffix('.weight')]}.weight"


def add_tensor(writer: gguf.GGUFWriter, name: str, tensor: torch.Tensor, wide: bool) -> None:
    if wide or tensor.dim() == 1:
        writer.add_tensor(name, tensor.float().numpy())
    else:
        raw = tensor.contiguous().view(torch.uint8).numpy()
        writer.add_tensor(name, raw, raw_dtype=gguf.GGMLQuantizationType.BF16)


def add_tokenizer(writer: gguf.GGUFWriter, model: Path, vocab: int) -> None:
    tokenizer = json.loads((model / "tokenizer.json").read_text())
    ids = {id: text for text, id in tokenizer["model"]["vocab"].items()}
    special = {token["id"]: token["content"] for token in tokenizer["added_tokens"] if token["special"]}
    ids.update(special)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list([ids[i] for i in range(vocab)])
    writer.add_token_types([CONTROL if i in special else NORMAL for i in range(vocab)])
    merges = tokenizer["model"]["merges"]
    writer.add_token_merges([m if isinstance(m, str) else " ".join(m) for m in merges])
    settings = json.loads((model / "tokenizer_config.json").read_text())
    by_text = {text: id for id, text in ids.items()}
    writer.add_bos_token_id(by_text[settings["bos_token"]])
    writer.add_eos_token_id(by_text[settings["eos_token"]])
    writer.add_add_bos_token(False)


def convert(model: Path, output: Path, wide: bool = False) -> None:
    """`wide`: every weight as f32."""
    config = json.loads((model / "config.json").read_text())
    heads, kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
    writer = gguf.GGUFWriter(output, "llama")
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(kv_heads)
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_freq_base(config.get("rope_theta") or config["rope_parameters"]["rope_theta"])
    writer.add_rope_dimension_count(config["hidden_size"] // heads)
    writer.add_vocab_size(config["vocab_size"])
    writer.add_file_type(gguf.LlamaFileType.ALL_F32 if wide else gguf.LlamaFileType.MOSTLY_BF16)
    add_tokenizer(writer, model, config["vocab_size"])
    with safe_open(model / "model.safetensors", "pt") as file:
        for name in file.keys():
            tensor = file.get_tensor(name)
            if "q_proj" in name or "k_proj" in name:
                tensor = to_pairs(tensor, heads if "q_proj" in name else kv_heads)
            add_tensor(writer, name_of(name), tensor, wide)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    convert(Path(sys.argv[1]), Path(sys.argv[2]))
