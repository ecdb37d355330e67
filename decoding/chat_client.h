// Asks a server that speaks OpenAI's chat API: vLLM, SGLang, `aerie serve`.
#pragma once
#include <string>

#include "common/error.h"
#include "data/json.h"

namespace aerie {

/// The server is there and does not answer this request (too long, a key that it does not know).
class RequestRefused : public Error {
 public:
  using Error::Error;
};

struct ChatRule {
  int64_t max_new_tokens = 512;
  double temperature = 0;
  uint64_t seed = 0;
};

struct ChatAnswer {
  std::string content;
  std::string reasoning;      ///< where the server gives it apart from the content
  std::string finish_reason;  ///< "stop", "length"
  int64_t tokens = 0;         ///< of the answer, as the server counts them
};

/// Several threads may ask at a time, each over a connection of its own.
class ChatClient {
 public:
  /// `url`: "http://host:port/v1"; `model`: "" where the server has one only; `key`: "" or the
  /// server's API key. Throws Error where nobody answers there, or not as such a server.
  ChatClient(const std::string& url, std::string model, std::string key);

  const std::string& model() const { return model_; }
  /// `variables`: the template's ("tools" apart, they go along as "chat_template_kwargs"). Throws
  /// RequestRefused, and Error where the server stays away, busy or broken for some seconds.
  ChatAnswer ask(const Json& messages, const Json& variables, const ChatRule& rule) const;

 private:
  std::string send(const std::string& path, const std::string& body) const;

  std::string origin_, path_, model_, key_;
};

}  // namespace aerie
