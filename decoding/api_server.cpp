#include "decoding/api_server.h"

#include <ctime>
#include <nlohmann/json.hpp>
#include <random>

namespace aerie {

namespace {

uint64_t fresh_seed() {
  std::random_device device;
  return (static_cast<uint64_t>(device()) << 32) | device();
}

}  // namespace

ApiServer::ApiServer(const TextTarget& target, EngineService& service, ServerMetrics& metrics,
                     std::string name, ApiLimits limits)
    : target_(target),
      service_(service),
      metrics_(metrics),
      name_(std::move(name)),
      limits_(limits),
      created_(std::time(nullptr)) {}

Json ApiServer::model_json() const {
  return {{"id", name_},
          {"object", "model"},
          {"created", created_},
          {"owned_by", "aerie"},
          {"max_model_len", limits_.context}};
}

void ApiServer::check_name(const std::string& name) const {
  if (name == name_) return;
  throw ApiError(404,
                 fmt::format("the model \"{}\" is not here; this server has \"{}\"", name, name_),
                 "model");
}

ApiReply ApiServer::models() const {
  return {200, Json{{"object", "list"}, {"data", Json::array({model_json()})}}.dump() + "\n"};
}

ApiReply ApiServer::model(const std::string& name) const {
  check_name(name);
  return {200, model_json().dump() + "\n"};
}

ApiReply ApiServer::health() const {
  const std::string closed = service_.closed_because();
  return {closed.empty() ? 200 : 503,
          Json{{"status", closed.empty() ? "ok" : closed}}.dump() + "\n"};
}

ApiReply ApiServer::metrics() const {
  return {200, metrics_.render(), "text/plain; version=0.0.4; charset=utf-8"};
}

std::unique_ptr<ApiAnswer> ApiServer::answer(const std::string& body, bool chat) {
  ApiRequest request = parse_api_request(body, chat, target_, limits_, fresh_seed());
  if (!request.model.empty()) check_name(request.model);
  std::unique_ptr<Generation> generation;
  try {
    generation = service_.submit(request.requests);
  } catch (const BusyError& error) {
    throw ApiError(429, error.what());
  } catch (const ClosedError& error) {
    throw ApiError(503, error.what());
  } catch (const Error& error) {
    throw ApiError(400, error.what());
  }
  return std::make_unique<ApiAnswer>(target_.tokenizer, std::move(request), std::move(generation),
                                     name_);
}

std::string ApiServer::refuse(const ApiError& error) {
  metrics_.refuse(error.status());
  return error.body();
}

}  // namespace aerie
