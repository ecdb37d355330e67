#include "target_models/speech_cosyvoice3.h"

#include "common/error.h"
#include "target_models/hf_json.h"

namespace aerie {

void read_cosyvoice3(const HfJson& file, ModelConfig& config) {
  constexpr int64_t kOpening =
      3;  // ids behind the codes: start, end, and what parts text and speech
  const int64_t codes = file.require_size("speech_token_size");
  config.text_vocab = file.require_size("text_vocab_size");
  AERIE_CHECK(
      codes + kOpening <= config.vocab,
      "{}: \"vocab_size\" is {}, and {} speech tokens with the ids that frame them are more: "
      "convert the model again",
      file.where(), config.vocab, codes);
  AERIE_CHECK(
      !config.tied_head,
      "{}: \"tie_word_embeddings\" is true, and the head of a model that speaks is its own: "
      "set it to false",
      file.where());
}

}  // namespace aerie
