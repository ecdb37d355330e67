#include "common/files.h"

#include <gmock/gmock.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>

#include "tests/testing.h"

namespace aerie {
namespace {

using testing::error_of;
using ::testing::HasSubstr;
using ::testing::UnorderedElementsAre;

class FilesTest : public ::testing::Test {
 protected:
  void put(const std::string& name, const std::string& content) const {
    std::ofstream(directory_ / name, std::ios::binary) << content;
  }
  std::vector<std::string> names() const {
    std::vector<std::string> found;
    for (const auto& entry : fs::directory_iterator(directory_)) {
      found.push_back(entry.path().filename().string());
    }
    return found;
  }
  const testing::Scratch scratch_;
  const fs::path& directory_ = scratch_.path();
};

/// Runs `body` in a child that may write at most `bytes` to a file: the nearest to a full disk
/// that needs no root. Returns the message of its exception.
std::string with_file_limit(size_t bytes, const std::function<void()>& body) {
  int ends[2];
  EXPECT_EQ(::pipe(ends), 0);
  const pid_t child = ::fork();
  if (child == 0) {
    ::signal(SIGXFSZ, SIG_IGN);  // write() then fails with EFBIG
    const rlimit limit{bytes, bytes};
    ::setrlimit(RLIMIT_FSIZE, &limit);
    std::string message = "(no error)";
    try {
      body();
    } catch (const std::exception& error) {
      message = error.what();
    }
    const ssize_t written = ::write(ends[1], message.data(), message.size());
    ::_exit(written == static_cast<ssize_t>(message.size()) ? 0 : 1);
  }
  ::close(ends[1]);
  std::string message(4096, '\0');
  message.resize(static_cast<size_t>(std::max<ssize_t>(0, ::read(ends[0], message.data(), 4096))));
  ::close(ends[0]);
  int status = 0;
  ::waitpid(child, &status, 0);
  EXPECT_EQ(status, 0);
  return message;
}

TEST_F(FilesTest, ReadsWholeFilesAndNamesWhatIsNotOne) {
  const std::string content("a\0b\n", 4);
  put("file", content);
  EXPECT_EQ(read_file(directory_ / "file"), content);
  EXPECT_EQ(error_of([&] { read_file(directory_ / "absent"); }),
            (directory_ / "absent").string() + " does not exist");
  EXPECT_EQ(error_of([&] { read_file(directory_); }), directory_.string() + " is not a file");
}

TEST_F(FilesTest, AtomicWriteReplacesAndLeavesNoTemporary) {
  write_file_atomic(directory_ / "file", "old");
  write_file_atomic(directory_ / "file", "new");
  EXPECT_EQ(read_file(directory_ / "file"), "new");
  EXPECT_THAT(names(), UnorderedElementsAre("file"));
}

TEST_F(FilesTest, FullDiskKeepsTheOldFileAndSaysWhatIsMissing) {
  put("file", "old");
  const std::string big(100000, 'x');
  const std::string message =
      with_file_limit(30000, [&] { write_file_atomic(directory_ / "file", big); });
  EXPECT_THAT(message, HasSubstr("cannot write"));
  EXPECT_THAT(message, HasSubstr("30000 of 100000 bytes written; free 70000 bytes"));
  EXPECT_EQ(read_file(directory_ / "file"), "old");
  EXPECT_THAT(names(), UnorderedElementsAre("file"));
}

TEST_F(FilesTest, DirectoryAppearsWholeOrNotAtAll) {
  const fs::path target = directory_ / "made";
  const auto fill_with = [](const std::string& name) {
    return [name](const fs::path& into) { write_file_atomic(into / name, name); };
  };
  write_directory_atomic(target, fill_with("first"));
  write_directory_atomic(target, fill_with("second"));
  EXPECT_FALSE(fs::exists(target / "first"));
  EXPECT_EQ(read_file(target / "second"), "second");

  EXPECT_EQ(error_of([&] {
              write_directory_atomic(target, [](const fs::path& into) {
                write_file_atomic(into / "third", "half");
                fail("disk full");
              });
            }),
            "disk full");
  EXPECT_EQ(read_file(target / "second"), "second");
  EXPECT_THAT(names(), UnorderedElementsAre("made"));
}

TEST_F(FilesTest, SymlinkIsSwapped) {
  replace_symlink(directory_ / "latest", "step-1");
  replace_symlink(directory_ / "latest", "step-2");
  EXPECT_EQ(fs::read_symlink(directory_ / "latest"), "step-2");
  EXPECT_THAT(names(), UnorderedElementsAre("latest"));
}

TEST_F(FilesTest, HashIsFnv1a) {
  EXPECT_EQ(hash_hex(""), "cbf29ce484222325");
  EXPECT_EQ(hash_hex("a"), "af63dc4c8601ec8c");  // published test vector
  EXPECT_EQ(hash_bytes("b", hash_bytes("a")), hash_bytes("ab"));
}

TEST_F(FilesTest, MapsMovesAndDropsPages) {
  const std::string content(3 * 4096, 'm');
  put("file", content);
  MappedFile first(directory_ / "file");
  const MappedFile second = std::move(first);
  ASSERT_EQ(second.size(), content.size());
  second.drop(0, second.size());  // read again from the file
  EXPECT_EQ(std::string(reinterpret_cast<const char*>(second.data()), second.size()), content);
  put("empty", "");
  EXPECT_EQ(MappedFile(directory_ / "empty").size(), 0u);
  EXPECT_EQ(error_of([&] { MappedFile(directory_ / "absent"); }),
            (directory_ / "absent").string() + " does not exist");
}

}  // namespace
}  // namespace aerie
