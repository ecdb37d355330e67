// Text that every rank can leave and read by name.
#pragma once
#include <optional>
#include <string>

namespace aerie {

/// Calls may come from several threads. All throw std::exception where the store is out of reach.
class RankStore {
 public:
  virtual ~RankStore() = default;
  virtual void put(const std::string& key, const std::string& text) = 0;
  /// Nothing if no rank has put it yet. Does not wait.
  virtual std::optional<std::string> look(const std::string& key) = 0;
};

}  // namespace aerie
