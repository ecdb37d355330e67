// What the files of each serving engine can hold.
#pragma once
#include <string>

#include "draft_models/draft_config.h"

namespace aerie {

/// Throws Error, naming the option and the engines that do, where drafts for `engine` (vllm,
/// sglang, speculators, gguf; "any": none in particular) cannot be of this form. Engines load such
/// a draft without a word and only accept fewer tokens.
void check_servable(const DraftConfig& config, const std::string& engine);

/// What no serving engine feeds a draft of this form as it was trained, and what follows; "" if
/// they all do.
std::string fed_otherwise(const DraftConfig& config);

}  // namespace aerie
