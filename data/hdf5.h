// The few HDF5 calls that the hidden-state store needs: handles that close themselves, errors that
// say why.
#pragma once
#include <hdf5.h>
#include <torch/types.h>

#include <string>
#include <utility>

namespace aerie::hdf5 {

/// An HDF5 identifier that closes itself.
class Handle {
 public:
  using Close = herr_t (*)(hid_t);
  Handle() = default;
  Handle(hid_t id, Close with) : id_(id), close_(with) {}
  ~Handle() { close(); }
  Handle(Handle&& other) noexcept : id_(std::exchange(other.id_, -1)), close_(other.close_) {}
  Handle& operator=(Handle&& other) noexcept {
    std::swap(id_, other.id_);
    std::swap(close_, other.close_);
    return *this;
  }
  hid_t get() const { return id_; }
  explicit operator bool() const { return id_ >= 0; }
  /// Lets go of it without closing: for a file that can no longer be written.
  void abandon() { id_ = -1; }
  /// Closes now. False where HDF5 could not: for a file being written, data are missing.
  bool close() { return id_ < 0 || close_(std::exchange(id_, -1)) >= 0; }

 private:
  hid_t id_ = -1;
  Close close_ = nullptr;
};

/// While it lives, HDF5 prints nothing in this thread: errors are ours to report.
class Quiet {
 public:
  Quiet();
  ~Quiet();
  Quiet(const Quiet&) = delete;
  Quiet& operator=(const Quiet&) = delete;

 private:
  H5E_auto2_t print_ = nullptr;
  void* data_ = nullptr;
};

/// Why this thread's last call failed: the system's word for it, or HDF5's innermost description.
/// Ask at once: the next call, were it the closing of a handle, forgets it.
std::string last_failure();

/// The file type of a tensor's elements. bf16 becomes a float of 8 exponent and 7 mantissa bits,
/// which h5py and h5dump show as numbers. Throws Error for a type that the store has no use for.
Handle element_type(at::ScalarType dtype);

/// To be called before anything else. Throws Error where the library is not safe to be used from
/// two threads.
void start_library();

}  // namespace aerie::hdf5
