// A checkpoint becomes a directory that loads, and a damaged one is refused with the reason.
#include <gmock/gmock.h>

#include "common/error.h"
#include "common/log.h"
#include "draft_models/dialects.h"
#include "tests/trainer/tiny_run.h"
#include "trainer/commands.h"

namespace aerie {
namespace {

using testing::Scratch;
using testing::tiny_run;

class Export : public ::testing::Test {
 protected:
  Export() {
    log_quiet();
    RunConfig config = tiny_run(directory_.path(), "run");
    config.train.max_steps = 2;
    train_command(config, {}, {});
  }
  ExportFlags flags(const char* output, const char* format = "vllm") const {
    ExportFlags flags;
    flags.checkpoint = directory_ / "run" / "latest";
    flags.output = directory_ / output;
    flags.format = format;
    return flags;
  }
  void check(const fs::path& draft) const {
    ExportFlags flags;
    flags.check = draft;
    export_command(flags);
  }
  std::string refusal(const fs::path& draft) const {
    try {
      check(draft);
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  }
  Scratch directory_;
};

TEST_F(Export, ReadsBackAsTheCheckpointsDraft) {
  export_command(flags("draft"));
  check(directory_ / "draft");
  const ModelConfig target = read_model_config(directory_ / "target");
  const LoadedDraft own = load_draft(directory_ / "run/latest/draft", target);
  const LoadedDraft exported = load_draft(directory_ / "draft", target);
  for (const auto& [name, tensor] : own.params.tensors) {
    EXPECT_TRUE(tensor.equal(exported.params.at(name))) << name;
  }
}

TEST_F(Export, SglangsDialectNamesTheSameLayers) {
  export_command(flags("vllm", "vllm"));
  export_command(flags("sglang", "sglang"));
  const auto ids = [&](const char* name) {
    return nlohmann::json::parse(read_file(directory_ / name / "config.json"))
        .at("eagle_config")
        .at("eagle_aux_hidden_state_layer_ids");
  };
  EXPECT_EQ(ids("vllm"), nlohmann::json({2, 4, 5}));
  EXPECT_EQ(ids("sglang"), nlohmann::json({1, 3, 4}));
  EXPECT_EQ(read_draft_config(directory_ / "sglang").capture_layers,
            read_draft_config(directory_ / "vllm").capture_layers);
}

TEST_F(Export, ATruncatedFileIsRefused) {
  export_command(flags("draft"));
  const fs::path file = directory_ / "draft" / "model.safetensors";
  fs::resize_file(file, fs::file_size(file) - 100);
  EXPECT_NE(refusal(directory_ / "draft").find("model.safetensors"), std::string::npos);
}

TEST_F(Export, NotANumberIsRefused) {
  export_command(flags("draft"));
  const fs::path file = directory_ / "draft" / "model.safetensors";
  std::vector<std::pair<std::string, at::Tensor>> tensors;
  {
    const SafetensorsFile opened(file);
    for (const std::string& name : opened.names()) {
      tensors.emplace_back(name, opened.tensor(name).clone());
      if (name == "norm.weight") tensors.back().second[3] = std::nan("");
    }
  }
  write_safetensors(file, tensors);
  EXPECT_NE(refusal(directory_ / "draft").find("norm.weight"), std::string::npos);
}

TEST_F(Export, WhatIsNoCheckpointIsRefused) {
  ExportFlags wrong = flags("draft");
  wrong.checkpoint = directory_ / "target";
  EXPECT_THAT(
      testing::error_of([&] { export_command(wrong); }),
      ::testing::HasSubstr("\"architectures\" names \"LlamaForCausalLM\"; an EAGLE-3 draft"));
  EXPECT_FALSE(fs::exists(wrong.output));
}

TEST_F(Export, AnUnknownFormatIsRefused) {
  EXPECT_THAT(testing::error_of([&] { export_command(flags("draft", "onnx")); }),
              ::testing::HasSubstr("--format onnx is not known: choose one of vllm"));
}

}  // namespace
}  // namespace aerie
