#include "target_models/biased_linear.h"

namespace aerie {

BiasedLinear load_biased(ParamStore& store, const std::vector<std::string>& names, int64_t rows,
                         int64_t in, const Placement& placement) {
  std::vector<std::string> weights;
  std::vector<Tensor> biases;
  for (const std::string& name : names) {
    weights.push_back(name + ".weight");
    biases.push_back(load_tensor(store, name + ".bias", {rows}, placement));
  }
  const std::vector<int64_t> sizes(names.size(), rows);
  return {load_linear(store, weights, sizes, in, placement), at::cat(biases)};
}

}  // namespace aerie
