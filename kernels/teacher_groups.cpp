// Which student rows share a teacher row. A file of its own: the CPU side and the CUDA module both
// build it.
#include <numeric>

#include "kernels/training.h"

namespace aerie::ops {

TeacherGroups group_by_teacher(const Tensor& teacher_row) {
  const Tensor host = teacher_row.cpu().contiguous();
  const int64_t* row = host.const_data_ptr<int64_t>();
  TeacherGroups groups;
  groups.order.resize(static_cast<size_t>(host.numel()));
  std::iota(groups.order.begin(), groups.order.end(), 0);
  std::stable_sort(groups.order.begin(), groups.order.end(),
                   [row](int64_t a, int64_t b) { return row[a] < row[b]; });
  for (size_t i = 0; i < groups.order.size(); ++i) {
    const int64_t teacher = row[groups.order[i]];
    if (!groups.teacher.empty() && groups.teacher.back() == teacher) continue;
    groups.teacher.push_back(teacher);
    groups.start.push_back(static_cast<int64_t>(i));
  }
  groups.start.push_back(host.numel());
  return groups;
}

}  // namespace aerie::ops
