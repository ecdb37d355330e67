// A checkpoint becomes a directory that loads, and a damaged one is refused with the reason.
#include <gmock/gmock.h>

#include "common/error.h"
#include "common/files.h"
#include "common/log.h"
#include "draft_models/dialects.h"
#include "tests/trainer/tiny_run.h"
#include "trainer/commands.h"

namespace aerie {
namespace {

using ::testing::HasSubstr;
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
    return testing::error_of([&] { check(draft); });
  }
  /// Writes a file of tensors again: `change` edits each, and says whether it stays.
  static void rewrite(const fs::path& file,
                      const std::function<bool(const std::string&, at::Tensor&)>& change) {
    std::vector<std::pair<std::string, at::Tensor>> tensors;
    {
      const SafetensorsFile opened(file);
      for (const std::string& name : opened.names()) {
        at::Tensor tensor = opened.tensor(name).clone();
        if (change(name, tensor)) tensors.emplace_back(name, tensor);
      }
    }
    write_safetensors(file, tensors);
  }
  Scratch directory_;
};

/// The dialects that are a directory; tests/draft_models has the single file of llama.cpp.
class ExportTo : public Export, public ::testing::WithParamInterface<const char*> {
 protected:
  ExportTo() { export_command(flags("draft", GetParam())); }
  const fs::path draft_ = directory_ / "draft", weights_ = draft_ / "model.safetensors";
};
INSTANTIATE_TEST_SUITE_P(Formats, ExportTo, ::testing::Values("vllm", "sglang", "speculators"),
                         [](const auto& format) { return std::string(format.param); });

TEST_P(ExportTo, ReadsBackAsTheCheckpointsDraft) {
  check(draft_);
  const ModelConfig target = read_model_config(directory_ / "target");
  const LoadedDraft own = load_draft(directory_ / "run/latest/draft", target);
  const LoadedDraft exported = load_draft(draft_, target);
  EXPECT_EQ(exported.config.capture_layers, own.config.capture_layers);
  EXPECT_TRUE(exported.vocab.draft_to_target.equal(own.vocab.draft_to_target));
  for (const auto& [name, tensor] : own.params.tensors) {
    EXPECT_TRUE(tensor.equal(exported.params.at(name))) << name;
  }
}

TEST_P(ExportTo, ATruncatedFileIsRefused) {
  fs::resize_file(weights_, fs::file_size(weights_) - 100);
  EXPECT_THAT(refusal(draft_), HasSubstr("model.safetensors"));
}

TEST_P(ExportTo, NotANumberIsRefused) {
  rewrite(weights_, [](const std::string& name, at::Tensor& tensor) {
    if (name == "norm.weight") tensor[3] = std::nan("");
    return true;
  });
  EXPECT_THAT(refusal(draft_), HasSubstr("norm.weight"));
}

TEST_P(ExportTo, AMissingTensorIsRefused) {
  rewrite(weights_, [](const std::string& name, at::Tensor&) { return name != "lm_head.weight"; });
  EXPECT_THAT(refusal(draft_), HasSubstr("lm_head.weight"));
}

TEST_P(ExportTo, AnotherVocabularyIsRefused) {
  auto config = nlohmann::json::parse(read_file(draft_ / "config.json"));
  config["draft_vocab_size"] = 63;
  write_file_atomic(draft_ / "config.json", config.dump());
  EXPECT_THAT(refusal(draft_), HasSubstr("63"));
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

TEST_F(Export, WhatIsNoCheckpointIsRefused) {
  ExportFlags wrong = flags("draft");
  wrong.checkpoint = directory_ / "target";
  EXPECT_THAT(testing::error_of([&] { export_command(wrong); }),
              HasSubstr("\"architectures\" names \"LlamaForCausalLM\"; an EAGLE-3 draft"));
  EXPECT_FALSE(fs::exists(wrong.output));
}

TEST_F(Export, ReplacesAnEarlierExportAndNothingElse) {
  export_command(flags("draft", "sglang"));
  export_command(flags("draft/"));  // as a shell completes it
  check(directory_ / "draft");
  fs::create_directories(directory_ / "thesis");
  write_file_atomic(directory_ / "thesis/chapter.txt", "years of work");
  write_file_atomic(directory_ / "file", "one");
  for (const auto& [output, reason] :
       {std::pair("run", "which would be lost"), std::pair("run/latest", "which would be lost"),
        std::pair("run/latest/draft", "is a part of the checkpoint"),
        std::pair("thesis", "(chapter.txt), which would be lost"),
        std::pair("file", "is a file")}) {
    EXPECT_THAT(testing::error_of([&] { export_command(flags(output)); }), HasSubstr(reason));
  }
  EXPECT_TRUE(fs::exists(directory_ / "run/latest/state.json"));
  EXPECT_EQ(read_file(directory_ / "thesis/chapter.txt"), "years of work");
  EXPECT_EQ(read_file(directory_ / "file"), "one");
}

TEST_F(Export, AnUnknownFormatIsRefused) {
  EXPECT_THAT(testing::error_of([&] { export_command(flags("draft", "onnx")); }),
              HasSubstr("--format onnx is not known: choose one of vllm"));
}

}  // namespace
}  // namespace aerie
