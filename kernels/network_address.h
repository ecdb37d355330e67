// Under which address the other machines of a run reach this one.
#pragma once
#include <string>

#include "kernels/rank_place.h"

namespace aerie {

/// The numeric address that this machine uses towards place.master. Throws Error where that is a
/// loopback address though the run has several machines: the others would not get through.
std::string own_address(const RankPlace& place);

}  // namespace aerie
