// What nearly every source includes; parsed once. torch/types.h, never torch/torch.h (12 s a file).
#pragma once
#include <torch/types.h>

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>
