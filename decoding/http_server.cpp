#include "decoding/http_server.h"

#include <httplib.h>
#include <sys/socket.h>

#include <algorithm>
#include <cctype>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <nlohmann/json.hpp>
#include <thread>

#include "common/error.h"
#include "common/log.h"
#include "common/memory.h"
#include "decoding/clock.h"

namespace aerie {

namespace {

constexpr int kBacklog = 1024;        // connections that the kernel keeps until they are accepted
constexpr double kLookSeconds = 0.2;  // how soon a caller that went away is noticed
constexpr time_t kStuckSeconds = 30;  // a reader that takes nothing for so long is given up
constexpr double kBodySeconds = 120;  // a body that has not come whole by then is given up
constexpr int64_t kMostSkipped = 256 << 20;  // bytes of a body too large that are read to answer it

/// Of unknown length, or more than a mebibyte.
bool is_large(const httplib::Request& request) {
  const std::string length = request.get_header_value("Content-Length");
  return length.empty() || std::strtoull(length.c_str(), nullptr, 10) > 1 << 20;
}

// Threads that are made when a connection needs one, and end when they have been idle for a while.
// Beyond `limit` the accepting thread waits: the rest stays in the kernel's queue.
class ConnectionThreads : public httplib::TaskQueue {
 public:
  explicit ConnectionThreads(size_t limit) : limit_(limit) {}

  void enqueue(std::function<void()> task) override {
    std::unique_lock lock(mutex_);
    room_.wait(lock, [this] { return idle_ > tasks_.size() || threads_ < limit_; });
    if (idle_ <= tasks_.size() && !add_thread() && threads_ == 0) {
      lock.unlock();
      task();
      return;
    }
    tasks_.push_back(std::move(task));
    wake_.notify_one();
  }

  void shutdown() override {
    std::unique_lock lock(mutex_);
    stop_ = true;
    wake_.notify_all();
    ended_.wait(lock, [this] { return threads_ == 0; });
  }

 private:
  // False where the system has no thread left: the connection then waits for one that is free.
  bool add_thread() {
    try {
      std::thread([this] { work(); }).detach();
    } catch (const std::system_error& error) {
      log_warning(fmt::format("no thread for one more connection: {}", error.what()));
      return false;
    }
    ++threads_;
    return true;
  }

  void work() {
    std::unique_lock lock(mutex_);
    for (;;) {
      ++idle_;
      room_.notify_one();
      wake_.wait_for(lock, std::chrono::seconds(10), [this] { return stop_ || !tasks_.empty(); });
      --idle_;
      if (tasks_.empty()) break;
      const std::function<void()> task = std::move(tasks_.front());
      tasks_.pop_front();
      lock.unlock();
      task();
      lock.lock();
    }
    // Last words under the lock: after them this object may be gone.
    --threads_;
    room_.notify_one();
    ended_.notify_all();
  }

  const size_t limit_;
  std::mutex mutex_;
  std::condition_variable wake_, room_, ended_;
  std::deque<std::function<void()>> tasks_;
  size_t threads_ = 0, idle_ = 0;
  bool stop_ = false;
};

// The library's own backlog of five loses connections of a burst.
class Listener : public httplib::Server {
 public:
  void widen_backlog() { ::listen(svr_sock_, kBacklog); }
};

// Takes the same time wherever the two differ.
bool same_secret(const std::string& given, const std::string& secret) {
  unsigned difference = given.size() != secret.size();
  for (size_t i = 0; i < given.size(); ++i) {
    difference |= static_cast<unsigned char>(given[i] ^ secret[i % secret.size()]);
  }
  return difference == 0;
}

// What the library would wait for without end, or break at, is refused before the body is read.
void check_headers(const httplib::Request& request) {
  const std::string length = request.get_header_value("Content-Length");
  if (length.empty() && !request.has_header("Transfer-Encoding")) {
    throw ApiError(411, "the length of the body is missing: send Content-Length");
  }
  const bool digits = std::all_of(length.begin(), length.end(),
                                  [](unsigned char c) { return std::isdigit(c) != 0; });
  if (!digits || request.get_header_value_count("Content-Length") > 1) {
    throw ApiError(400, "Content-Length must be one number");
  }
  if (request.is_multipart_form_data()) {
    throw ApiError(415, "this path wants JSON: Content-Type: application/json");
  }
}

void send(httplib::Response& response, const ApiReply& reply) {
  response.status = reply.status;
  response.set_content(reply.body, reply.content_type);
}

}  // namespace

struct HttpServer::Impl {
  Impl(ApiServer& api_server, HttpOptions given) : api(api_server), options(std::move(given)) {}

  void set_limits();
  void add_paths();
  void answer_errors();
  void check_key(const httplib::Request& request) const;
  std::string read_body(const httplib::ContentReader& reader) const;
  void answer(const httplib::Request& request, httplib::Response& response,
              const httplib::ContentReader& reader, bool chat);
  void refuse(httplib::Response& response, const ApiError& error);

  ApiServer& api;
  HttpOptions options;
  Listener listener;
  int port = 0;
};

void HttpServer::Impl::refuse(httplib::Response& response, const ApiError& error) {
  response.status = error.status();
  if (error.status() == 429 || error.status() == 503) response.set_header("Retry-After", "1");
  response.set_content(api.refuse(error) + "\n", "application/json");
}

void HttpServer::Impl::check_key(const httplib::Request& request) const {
  if (options.api_key.empty()) return;
  const std::string given = request.get_header_value("Authorization");
  if (!same_secret(given, "Bearer " + options.api_key)) {
    throw ApiError(401, "this server wants its API key as \"Authorization: Bearer KEY\"");
  }
}

// A body that is too large is read to its end, though not kept: else the caller would not see why.
std::string HttpServer::Impl::read_body(const httplib::ContentReader& reader) const {
  std::string body;
  int64_t skipped = 0;
  const double end = seconds_now() + kBodySeconds;
  const bool whole = reader([&](const char* data, size_t size) {
    if (seconds_now() > end) return false;
    if (skipped == 0 && static_cast<int64_t>(body.size() + size) <= options.max_body_bytes) {
      body.append(data, size);
      return true;
    }
    skipped += static_cast<int64_t>(body.size() + size);
    std::string().swap(body);
    return skipped < kMostSkipped;
  });
  if (skipped > 0) {
    throw ApiError(413, fmt::format("the body is larger than the {} bytes that this server takes",
                                    options.max_body_bytes));
  }
  if (!whole) throw ApiError(400, "the body ended early, or came too slowly");
  return body;
}

// A caller who is still writing would not read the answer.
void skip_body(const httplib::ContentReader& reader, int64_t most) {
  int64_t skipped = 0;
  const double end = seconds_now() + kStuckSeconds;
  reader([&](const char*, size_t size) {
    skipped += static_cast<int64_t>(size);
    return skipped < most && seconds_now() < end;
  });
}

void HttpServer::Impl::answer(const httplib::Request& request, httplib::Response& response,
                              const httplib::ContentReader& reader, bool chat) {
  try {
    check_headers(request);
  } catch (const ApiError& error) {
    response.set_header("Connection", "close");
    refuse(response, error);
    return;
  }
  try {
    check_key(request);
  } catch (const ApiError& error) {
    skip_body(reader, options.max_body_bytes);
    refuse(response, error);
    return;
  }
  try {
    const std::string body = read_body(reader);
    // std::function must be able to copy what it holds, hence shared.
    const std::shared_ptr<ApiAnswer> under_way = api.answer(body, chat);
    response.set_header("Cache-Control", "no-cache");
    response.set_chunked_content_provider(
        under_way->content_type(), [under_way](size_t, httplib::DataSink& sink) {
          if (!sink.is_writable()) return false;  // the caller went away: the answer is dropped
          std::string bytes;
          try {
            bytes = under_way->next(kLookSeconds);
          } catch (const ClosedError&) {
            return false;  // the status is out: all that is left is to break the connection
          }
          if (!bytes.empty() && !sink.write(bytes.data(), bytes.size())) return false;
          if (under_way->done()) sink.done();
          return true;
        });
  } catch (const ApiError& error) {
    refuse(response, error);
  }
}

void HttpServer::Impl::set_limits() {
  listener.new_task_queue = [this] {
    return new ConnectionThreads(static_cast<size_t>(options.max_connections));
  };
  // The library would let a second server share the port without a word.
  listener.set_socket_options([](int socket) {
    const int yes = 1;
    ::setsockopt(socket, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes));
  });
  listener.set_tcp_nodelay(true);
  listener.set_keep_alive_max_count(10000);
  listener.set_keep_alive_timeout(5);
  listener.set_read_timeout(kStuckSeconds);
  listener.set_write_timeout(kStuckSeconds);
}

void HttpServer::Impl::add_paths() {
  using httplib::Request;
  using httplib::Response;
  listener.Get("/health", [this](const Request&, Response& out) { send(out, api.health()); });
  listener.Get("/metrics", [this](const Request&, Response& out) { send(out, api.metrics()); });
  listener.Get("/v1/models", [this](const Request& in, Response& out) {
    try {
      check_key(in);
      send(out, api.models());
    } catch (const ApiError& error) {
      refuse(out, error);
    }
  });
  listener.Get("/v1/models/(.+)", [this](const Request& in, Response& out) {
    try {
      check_key(in);
      send(out, api.model(in.matches[1]));
    } catch (const ApiError& error) {
      refuse(out, error);
    }
  });
  for (const bool chat : {false, true}) {
    const std::string path = chat ? "/v1/chat/completions" : "/v1/completions";
    listener.Post(
        path, [this, chat](const Request& in, Response& out, const httplib::ContentReader& reader) {
          answer(in, out, reader, chat);
          if (is_large(in)) give_back_freed_memory();
        });
    listener.Get(path, [this](const Request&, Response& out) {
      refuse(out, ApiError(405, "this path wants POST"));
    });
  }
}

void HttpServer::Impl::answer_errors() {
  using httplib::Request;
  using httplib::Response;
  listener.set_error_handler([this](const Request& in, Response& out) {
    if (!out.body.empty()) return;  // said already
    constexpr std::array kPaths{"/health", "/metrics", "/v1/models", "/v1/completions",
                                "/v1/chat/completions"};
    if (out.status == 404 && std::find(kPaths.begin(), kPaths.end(), in.path) != kPaths.end()) {
      refuse(out, ApiError(405, fmt::format("{} does not know {}", in.path, in.method)));
      return;
    }
    const std::string what = out.status == 404 ? fmt::format("there is no {} here", in.path)
                                               : fmt::format("bad request ({})", out.status);
    refuse(out, ApiError(out.status, what));
  });
  listener.set_exception_handler(
      [this](const Request&, Response& out, const std::exception_ptr& thrown) {
        std::string what = "unknown error";
        try {
          std::rethrow_exception(thrown);
        } catch (const std::exception& error) {
          what = error.what();
        } catch (...) {
        }
        refuse(out, ApiError(500, what));
      });
}

HttpServer::HttpServer(ApiServer& api, HttpOptions options)
    : impl_(std::make_unique<Impl>(api, std::move(options))) {
  impl_->set_limits();
  impl_->add_paths();
  impl_->answer_errors();
  const HttpOptions& wanted = impl_->options;
  if (wanted.port == 0) {
    impl_->port = impl_->listener.bind_to_any_port(wanted.host);
  } else if (impl_->listener.bind_to_port(wanted.host, wanted.port)) {
    impl_->port = wanted.port;
  }
  AERIE_CHECK(impl_->port > 0,
              "cannot listen on {}:{}: another program has the port, or the address is not this "
              "machine's. Try --port 0",
              wanted.host, wanted.port);
  impl_->listener.widen_backlog();
}

HttpServer::~HttpServer() = default;
int HttpServer::port() const { return impl_->port; }
void HttpServer::run() { impl_->listener.listen_after_bind(); }
void HttpServer::stop() {
  // The library forgets a stop that comes before it listens.
  while (!impl_->listener.is_running()) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  impl_->listener.stop();
}

}  // namespace aerie
