#include "data/hdf5.h"

#include <cstring>

#include "common/error.h"

namespace aerie::hdf5 {
namespace {

/// Keeps the first (innermost) entry of the error stack.
herr_t take_innermost(unsigned depth, const H5E_error2_t* entry, void* out) {
  if (depth == 0 && entry->desc != nullptr) *static_cast<std::string*>(out) = entry->desc;
  return 0;
}

/// HDF5 describes a failed system call as "..., errno = 28, error message = '...', ...".
int system_error(const std::string& description) {
  constexpr std::string_view kKey = "errno = ";
  const size_t at = description.find(kKey);
  return at == std::string::npos ? 0 : std::atoi(description.c_str() + at + kKey.size());
}

}  // namespace

Quiet::Quiet() {
  H5Eget_auto2(H5E_DEFAULT, &print_, &data_);
  H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr);
}

Quiet::~Quiet() { H5Eset_auto2(H5E_DEFAULT, print_, data_); }

std::string last_failure() {
  std::string reason;
  H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, take_innermost, &reason);
  if (const int error = system_error(reason)) return std::strerror(error);
  return reason.empty() ? "HDF5 gives no reason" : reason;
}

Handle element_type(at::ScalarType dtype) {
  switch (dtype) {
    case at::kFloat:
      return Handle(H5Tcopy(H5T_IEEE_F32LE), H5Tclose);
    case at::kInt:
      return Handle(H5Tcopy(H5T_STD_I32LE), H5Tclose);
    case at::kLong:
      return Handle(H5Tcopy(H5T_STD_I64LE), H5Tclose);
    case at::kByte:
      return Handle(H5Tcopy(H5T_STD_U8LE), H5Tclose);
    case at::kChar:
      return Handle(H5Tcopy(H5T_STD_I8LE), H5Tclose);
    case at::kBFloat16: {
      Handle type(H5Tcopy(H5T_IEEE_F32LE), H5Tclose);
      // sign bit 15, exponent from bit 7, mantissa from bit 0
      H5Tset_fields(type.get(), 15, 7, 8, 0, 7);
      H5Tset_size(type.get(), 2);
      H5Tset_ebias(type.get(), 127);
      return type;
    }
    default:
      fail("hidden states of type {} cannot be stored: use --dtype bfloat16 or float32",
           c10::toString(dtype));
  }
}

void start_library() {
  // At the program's end HDF5 would try again to write files that could not be written, and crash.
  H5dont_atexit();
  hbool_t safe = false;
  H5is_library_threadsafe(&safe);
  AERIE_CHECK(safe,
              "the HDF5 library was built without thread safety, which reading ahead needs: "
              "install one that was (Debian's libhdf5-dev is)");
}

}  // namespace aerie::hdf5
