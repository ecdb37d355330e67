// What our tensors are called in a draft's GGUF, and how their rows stand there. Internal.
#pragma once
#include "draft_models/draft.h"
#include "target_models/rope.h"

namespace aerie::gguf_layout {

struct Name {
  const char *ours, *theirs;  // ours: file_tensors.h
};
constexpr Name kNames[] = {
    {"fc.weight", "fc.weight"},
    {"midlayer.input_layernorm.weight", "blk.0.attn_norm.weight"},
    {"midlayer.hidden_norm.weight", "blk.0.attn_norm_2.weight"},
    {"midlayer.post_attention_layernorm.weight", "blk.0.ffn_norm.weight"},
    {"midlayer.self_attn.q_proj.weight", "blk.0.attn_q.weight"},
    {"midlayer.self_attn.k_proj.weight", "blk.0.attn_k.weight"},
    {"midlayer.self_attn.v_proj.weight", "blk.0.attn_v.weight"},
    {"midlayer.self_attn.o_proj.weight", "blk.0.attn_output.weight"},
    {"midlayer.mlp.gate_proj.weight", "blk.0.ffn_gate.weight"},
    {"midlayer.mlp.up_proj.weight", "blk.0.ffn_up.weight"},
    {"midlayer.mlp.down_proj.weight", "blk.0.ffn_down.weight"},
    {"norm.weight", "output_norm.weight"},
    {"lm_head.weight", "output.weight"},
};
constexpr const char* kRopeFactors = "rope_freqs.weight";
constexpr const char* kMap = "d2t";  // no ".weight": llama.cpp asks for this very name

inline const char* theirs(const std::string& ours) {
  for (const Name& name : kNames)
    if (ours == name.ours) return name.theirs;
  return nullptr;
}

/// Heads of a projection whose rows rotate, 0 for the others.
inline int64_t rotated_heads(const std::string& ours, const DraftConfig& config) {
  if (ours == "midlayer.self_attn.q_proj.weight") return config.heads;
  if (ours == "midlayer.self_attn.k_proj.weight") return config.kv_heads;
  return 0;
}

/// llama.cpp rotates rows 2i and 2i+1 of a head together, Hugging Face rows i and i + D/2.
inline Tensor to_pairs(const Tensor& rows, int64_t heads) {
  const int64_t half = rows.size(0) / heads / 2;
  return rows.view({heads, 2, half, -1}).transpose(1, 2).reshape(rows.sizes());
}
inline Tensor from_pairs(const Tensor& rows, int64_t heads) {
  const int64_t half = rows.size(0) / heads / 2;
  return rows.view({heads, half, 2, -1}).transpose(1, 2).reshape(rows.sizes());
}

/// llama3's scaling as llama.cpp wants it: each frequency is divided by its factor. [D/2] f32
inline Tensor frequency_factors(const RopeConfig& rope, int64_t head_dim) {
  RopeConfig plain = rope;
  plain.type = "default";
  return inverse_frequencies(plain, head_dim) / inverse_frequencies(rope, head_dim);
}

}  // namespace aerie::gguf_layout
