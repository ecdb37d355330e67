// config.json of the "speculators" library: the draft's body in one section, the target (there
// called the verifier) in another.
#pragma once
#include <string>
#include <vector>

#include "draft_models/draft_config.h"

namespace aerie {

class HfJson;

/// The target as a speculators directory names it, so that a server can start from the draft alone.
struct Verifier {
  std::string name;                        ///< a directory, or a name on the hub
  std::vector<std::string> architectures;  ///< of its config.json; may be empty
  int64_t draft_tokens = 3;                ///< how many tokens a server drafts by default
};

/// Layer ids are written as streams after k layers, as in every such file.
std::string speculators_config_json(const DraftConfig& config, const Verifier& verifier,
                                    const std::string& dtype);

bool is_speculators(const HfJson& file);

/// The same file in the plain dialect's form: the body's keys at the top level. Throws Error for
/// another algorithm than EAGLE-3.
HfJson flatten_speculators(const HfJson& file);

}  // namespace aerie
