// What the tests of every room share: where the committed files are, a directory of a test's own,
// the message of an error.
#pragma once
#include <filesystem>
#include <string>

#include "common/error.h"
#include "common/files.h"

namespace aerie::testing {

/// The repository and its tests folder; the program itself never asks where its sources are.
const fs::path& source_dir();
const fs::path& test_dir();
inline fs::path golden_dir() { return test_dir() / "golden"; }
/// What scripts/fetch_smollm2.sh makes.
inline fs::path smollm2_dir() { return source_dir() / "models/SmolLM2-135M-Instruct"; }

/// An empty directory that goes away with the test.
class Scratch {
 public:
  Scratch() {
    std::string pattern = (fs::temp_directory_path() / "aerie-test-XXXXXX").string();
    AERIE_CHECK(::mkdtemp(pattern.data()) != nullptr, "cannot make {}", pattern);
    path_ = pattern;
  }
  ~Scratch() { fs::remove_all(path_); }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

  const fs::path& path() const { return path_; }
  fs::path operator/(const fs::path& name) const { return path_ / name; }
  fs::path write(const fs::path& name, const std::string& content) const {
    write_file_atomic(path_ / name, content);
    return path_ / name;
  }

 private:
  fs::path path_;
};

/// What error_of says where nothing was thrown.
inline constexpr char kNoError[] = "no error was thrown";

/// The message of the Error that `action` throws.
template <typename Action>
std::string error_of(const Action& action) {
  try {
    action();
  } catch (const Error& error) {
    return error.what();
  }
  return kNoError;
}

}  // namespace aerie::testing
