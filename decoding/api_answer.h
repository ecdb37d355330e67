// One answer under way: tokens in, the bytes of OpenAI's response forms out. The same pieces of
// text make up a stream of events and a whole response.
#pragma once
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "decoding/api_request.h"
#include "decoding/engine_service.h"

namespace aerie {

class ApiAnswer {
 public:
  /// `model`: the name to answer with. `tokenizer` outlives this.
  ApiAnswer(const Tokenizer& tokenizer, ApiRequest request, std::unique_ptr<Generation> generation,
            std::string model);

  /// The next bytes of the body; waits for them, `seconds` at most. "": nothing yet, or done.
  /// Throws ClosedError if the engine broke.
  std::string next(double seconds);
  bool done() const { return done_; }
  const char* content_type() const;

 private:
  struct Choice {
    explicit Choice(TextStream stream) : text(std::move(stream)) {}
    TextStream text;
    std::string whole;              // not streamed: the text so far
    std::vector<int32_t> tokens;    // not streamed: all of them
    Json logprobs = Json(nullptr);  // not streamed: all of them, in the response's form
    int64_t count = 0;              // of tokens
    size_t logprob_text = 0;        // characters that tokens with log probabilities began
    bool begun = false;
    std::string finish_reason;  // "" while it goes on
    Json stop_reason = Json(nullptr);
  };
  /// What one delivery adds to a choice.
  struct Piece {
    std::string text;
    std::vector<int32_t> tokens;
    std::vector<PlaceLogprobs> logprobs;
  };

  Piece consume(Choice& choice, const Delivery& delivery);
  void finish(Choice& choice, const Delivery& delivery, Piece& piece);
  std::string event(size_t index, const Piece& piece);
  void collect(Choice& choice, Piece piece);
  std::string last_events() const;
  std::string response() const;
  Json choice_json(size_t index, const Choice& choice) const;
  Json envelope(const char* object) const;
  Json usage() const;
  Json logprobs_json(Choice& choice, const Piece& piece) const;
  Json chat_logprobs(const Piece& piece) const;
  Json completion_logprobs(Choice& choice, const Piece& piece) const;
  const std::vector<int32_t>& prompt_of(size_t index) const;

  const Tokenizer& tokenizer_;
  const ApiRequest request_;
  std::unique_ptr<Generation> generation_;
  const std::string model_, id_;
  const int64_t created_;
  std::vector<Choice> choices_;
  size_t running_;
  bool done_ = false;
};

}  // namespace aerie
