// The server's sockets: HTTP/1.1 on the answers of ApiServer. One thread a connection, which sleeps
// while its answer is decoded.
#pragma once
#include <memory>
#include <string>

#include "decoding/api_server.h"

namespace aerie {

struct HttpOptions {
  std::string host = "127.0.0.1";
  int port = 8000;      ///< 0: any free one
  std::string api_key;  ///< "": everybody may ask
  int64_t max_body_bytes = 8 << 20;
  int64_t max_connections = 1200;  ///< further ones wait in the kernel's queue
};

class HttpServer {
 public:
  /// Binds, so that the port is known. Throws Error if host and port cannot be had. `api` outlives
  /// this.
  HttpServer(ApiServer& api, HttpOptions options);
  ~HttpServer();

  int port() const;
  /// Serves until `stop` is called from another thread and the last answer is sent or cut off.
  void run();
  /// Cuts off answers that are still under way: drain the engine's service first. Once, after or
  /// while `run` is called.
  void stop();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace aerie
