// JSON that keeps the order of keys: chat templates print tools and tool calls, and their bytes
// must be the input's.
#pragma once
#include <nlohmann/json_fwd.hpp>

namespace aerie {

using Json = nlohmann::ordered_json;

}  // namespace aerie
