// Bodies of /v1/completions and /v1/chat/completions: OpenAI's fields, and those of vLLM that
// clients and load generators send.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "decoding/api_error.h"
#include "decoding/sequence.h"
#include "decoding/text_stream.h"
#include "decoding/text_target.h"

namespace aerie {

struct ApiLimits {
  int64_t context = 0;        ///< longest prompt and output together
  int64_t longest_token = 1;  ///< bytes of the longest text of a token
  int64_t max_choices = 64;   ///< prompts times n
};

struct ApiRequest {
  bool chat = false, stream = false, include_usage = false, return_token_ids = false;
  std::string model;                          ///< as the caller wrote it; "" if it did not
  std::vector<std::vector<int32_t>> prompts;  ///< chat: one
  std::vector<Request> requests;              ///< one a choice: prompt 0's n, prompt 1's n...
  TextRule text;
  std::vector<int64_t> stop_token_ids;  ///< the caller's own among the stop tokens
  int64_t n = 1;
};

/// Reads a body. `fresh_seed` seeds requests that name no seed. Throws ApiError (400) that names
/// the field: for what is malformed, out of range, or would silently be something else than was
/// asked for.
ApiRequest parse_api_request(const std::string& body, bool chat, const TextTarget& target,
                             const ApiLimits& limits, uint64_t fresh_seed);

/// Bytes of the longest text that one token can have: a text of b bytes has at least b / it tokens.
int64_t longest_token(const Tokenizer& tokenizer);

}  // namespace aerie
