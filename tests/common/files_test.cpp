#include "common/files.h"

#include <gmock/gmock.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstddef>
#include <fstream>
#include <thread>

#include "common/error.h"
#include "common/replace.h"
#include "tests/testing.h"

namespace aerie {
namespace {

using testing::error_of;
using ::testing::HasSubstr;
using testing::kNoError;
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

/// Runs `body` in a process of its own, which it may restrict. -> the message of its exception
std::string in_restricted_child(const std::function<void()>& body) {
  int ends[2];
  EXPECT_EQ(::pipe(ends), 0);
  const pid_t child = ::fork();
  if (child == 0) {
    std::string message = kNoError;
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

/// This process may write at most `bytes` to a file: the nearest to a full disk that needs no root.
void limit_files(size_t bytes) {
  ::signal(SIGXFSZ, SIG_IGN);  // write() then fails with EFBIG
  const rlimit limit{bytes, bytes};
  ::setrlimit(RLIMIT_FSIZE, &limit);
}

/// As on a file system that cannot exchange names: renameat2 fails with EINVAL from now on.
void refuse_to_exchange() {
  sock_filter program[] = {BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
                           BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_renameat2, 0, 1),
                           BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EINVAL),
                           BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
  const sock_fprog filter{static_cast<unsigned short>(std::size(program)), program};
  AERIE_CHECK(::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
                  ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) == 0,
              "this kernel filters no system calls");
}

/// Makes a directory with one file of this name and content.
void write_directory_of(const fs::path& directory, const std::string& name) {
  write_directory_atomic(directory,
                         [&](const fs::path& into) { write_file_atomic(into / name, name); });
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
  const std::string message = in_restricted_child([&] {
    limit_files(30000);
    write_file_atomic(directory_ / "file", big);
  });
  EXPECT_THAT(message, HasSubstr("cannot write"));
  EXPECT_THAT(message, HasSubstr("30000 of 100000 bytes written; free 70000 bytes"));
  EXPECT_EQ(read_file(directory_ / "file"), "old");
  EXPECT_THAT(names(), UnorderedElementsAre("file"));
}

TEST_F(FilesTest, AnOutputDirectoryIsMadeOrRefusedByItsKey) {
  make_output_directory(directory_ / "a/b", "--output");
  EXPECT_TRUE(fs::is_directory(directory_ / "a/b"));
  make_output_directory(directory_ / "a/b", "--output");
  write_file_atomic(directory_ / "file", "");
  for (const fs::path& wrong :
       {directory_ / "file", directory_ / "file/below", fs::path("/proc/nowhere")}) {
    EXPECT_THAT(error_of([&] { make_output_directory(wrong, "--output"); }),
                HasSubstr("--output " + wrong.string()));
  }
}

TEST_F(FilesTest, DirectoryAppearsWholeOrNotAtAll) {
  const fs::path target = directory_ / "made";
  write_directory_of(target, "first");
  write_directory_of(target, "second");
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

TEST_F(FilesTest, ADirectoryIsThereAllTheWhileItIsReplaced) {
  const fs::path target = directory_ / "made";
  write_directory_of(target, "file");
  std::atomic<bool> done = false;
  std::atomic<int64_t> looks = 0, absent = 0;
  std::thread observer([&] {
    for (; !done; ++looks) absent += !fs::exists(target);
  });
  for (int i = 0; i < 60; ++i) write_directory_of(target, "file");
  done = true;
  observer.join();
  EXPECT_GT(looks, 600);
  EXPECT_EQ(absent, 0);
  EXPECT_THAT(names(), UnorderedElementsAre("made"));
}

TEST_F(FilesTest, ADirectoryIsReplacedByTwoRenamesWhereNamesCannotBeExchanged) {
  const fs::path target = directory_ / "made";
  write_directory_of(target, "first");
  EXPECT_EQ(in_restricted_child([&] {
              refuse_to_exchange();
              write_directory_of(target, "second");
            }),
            kNoError);
  EXPECT_FALSE(fs::exists(target / "first"));
  EXPECT_EQ(read_file(target / "second"), "second");
  EXPECT_THAT(names(), UnorderedElementsAre("made"));
}

TEST_F(FilesTest, AKillBetweenTwoRenamesLosesNothing) {
  const fs::path target = directory_ / "made";
  write_directory_of(target, "first");
  fs::rename(target, directory_ / "made.old");
  restore_replaced(target);
  EXPECT_EQ(read_file(target / "first"), "first");
  restore_replaced(target);  // nothing to do
  EXPECT_THAT(names(), UnorderedElementsAre("made"));

  fs::rename(target, directory_ / "made.old");
  EXPECT_EQ(
      error_of([&] { write_directory_atomic(target, [](const fs::path&) { fail("disk full"); }); }),
      "disk full");
  EXPECT_EQ(read_file(target / "first"), "first") << "a failed write took the only copy";
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
