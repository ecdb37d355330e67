// "did you mean ...?" for mistyped names.
#pragma once
#include <string>
#include <vector>

namespace aerie {

/// The `known` name nearest to `name`: one with the same part after the dot ("optim.lr" for
/// "train.lr"), else the one with the smallest edit distance. "" where none is near.
std::string nearest_name(const std::string& name, const std::vector<std::string>& known);

}  // namespace aerie
