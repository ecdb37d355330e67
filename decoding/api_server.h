// What the server answers, without the protocol that carries it.
#pragma once
#include <memory>
#include <string>

#include "decoding/api_answer.h"

namespace aerie {

struct ApiReply {
  int status = 200;
  std::string body;
  std::string content_type = "application/json";
};

class ApiServer {
 public:
  /// All outlive this. `name`: of the model in requests and answers.
  ApiServer(const TextTarget& target, EngineService& service, ServerMetrics& metrics,
            std::string name, ApiLimits limits);

  ApiReply models() const;
  /// Throws ApiError (404) for another name than the server's.
  ApiReply model(const std::string& name) const;
  /// 200 while requests are taken, else 503 with the reason.
  ApiReply health() const;
  ApiReply metrics() const;
  /// Starts to answer. Throws ApiError with the status to send.
  std::unique_ptr<ApiAnswer> answer(const std::string& body, bool chat);
  /// The body of an error, which is counted.
  std::string refuse(const ApiError& error);

 private:
  Json model_json() const;
  void check_name(const std::string& name) const;

  const TextTarget& target_;
  EngineService& service_;
  ServerMetrics& metrics_;
  const std::string name_;
  const ApiLimits limits_;
  const int64_t created_;
};

}  // namespace aerie
