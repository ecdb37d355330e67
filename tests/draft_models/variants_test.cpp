// The draft's variants on disk: what each dialect says about them, that they come back, and what an
// engine cannot hold.
#include <gmock/gmock.h>

#include <nlohmann/json.hpp>

#include "draft_models/gguf_draft.h"
#include "draft_models/import_draft.h"
#include "draft_models/servable.h"
#include "tests/draft_models/export_fixture.h"

namespace aerie::testing {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

struct Variant {
  const char* name;
  void (*apply)(DraftConfig&);
};
const Variant kVariants[] = {
    {"plain", [](DraftConfig&) {}},
    {"eagle31", [](DraftConfig& c) { c.fc_norm = c.norm_output = true; }},
    {"qwen3", [](DraftConfig& c) { c.qk_norm = true; }},
    {"deep", [](DraftConfig& c) { c.layers = 3; }},
    {"residual", [](DraftConfig& c) { c.norm_before_residual = true; }},
    {"all",
     [](DraftConfig& c) {
       c.layers = 2;
       c.qk_norm = c.fc_norm = c.norm_output = c.norm_before_residual = true;
     }},
    {"window",
     [](DraftConfig& c) {
       c.layers = 2;
       c.window = 24;
     }},
};

DraftConfig config_of(const Variant& variant) {
  DraftConfig config = golden_config();
  variant.apply(config);
  return config;
}

void expect_same(const LoadedDraft& draft, const DraftConfig& config, const DraftParams& params) {
  EXPECT_EQ(draft.config.layers, config.layers);
  EXPECT_EQ(draft.config.qk_norm, config.qk_norm);
  EXPECT_EQ(draft.config.fc_norm, config.fc_norm);
  EXPECT_EQ(draft.config.norm_output, config.norm_output);
  EXPECT_EQ(draft.config.norm_before_residual, config.norm_before_residual);
  EXPECT_EQ(draft.config.window, config.window);
  ASSERT_EQ(draft.params.tensors.size(), params.tensors.size());
  for (const auto& [name, tensor] : params.tensors) {
    EXPECT_TRUE(draft.params.at(name).equal(tensor)) << name;
  }
}

TEST(DraftVariants, ComeBackFromEveryDirectory) {
  const Scratch scratch;
  for (const Variant& variant : kVariants) {
    SCOPED_TRACE(variant.name);
    const DraftConfig config = config_of(variant);
    const DraftParams params = init_draft(config, {}, 5);
    const fs::path plain = scratch / (std::string("plain-") + variant.name);
    save_draft(plain, config, params, every_second_id(), at::kFloat);
    expect_same(load_draft(plain, target_config()), config, params);
    expect_same(import_draft(plain, target_config(), {}), config, params);
    const fs::path speculators = scratch / (std::string("speculators-") + variant.name);
    save_speculators_draft(speculators, config, params, every_second_id(), {"some/target", {}, 3},
                           at::kFloat);
    expect_same(load_draft(speculators, target_config()), config, params);
  }
}

TEST(DraftVariants, FilesNameThemAsVllmReadsThem) {
  const Scratch scratch;
  const DraftConfig config = config_of(kVariants[5]);
  save_draft(scratch / "draft", config, init_draft(config, {}, 5), every_second_id(), at::kFloat);
  const json written = json::parse(read_file(scratch / "draft/config.json"));
  EXPECT_EQ(written.at("architectures"), json({"Eagle3Qwen3ForCausalLM"}));
  EXPECT_EQ(written.at("model_type"), "qwen3");
  EXPECT_EQ(written.at("num_hidden_layers"), 2);
  for (const char* flag : {"norm_before_residual", "norm_output", "fc_norm"}) {
    EXPECT_EQ(written.at(flag), true) << flag;
  }
  const SafetensorsFile file(scratch / "draft/model.safetensors");
  for (const char* name : {"fc_norm.0.weight", "fc_norm.2.weight",
                           "layers.1.input_layernorm.weight", "midlayer.self_attn.q_norm.weight",
                           "layers.1.self_attn.k_norm.weight", "layers.1.mlp.up_proj.weight"}) {
    EXPECT_TRUE(file.contains(name)) << name;
  }
  EXPECT_FALSE(file.contains("layers.1.hidden_norm.weight"));
  EXPECT_EQ(file.tensor("layers.1.self_attn.q_proj.weight").size(1), config.hidden);
  EXPECT_EQ(file.tensor("midlayer.self_attn.q_proj.weight").size(1), 2 * config.hidden);
}

TEST(DraftVariants, AWindowIsWrittenAsVllmReadsIt) {
  const Scratch scratch;
  DraftConfig config = golden_config();
  const auto written = [&](const std::string& name) {
    save_draft(scratch / name, config, init_draft(config, {}, 5), every_second_id(), at::kFloat);
    return json::parse(read_file(scratch / name / "config.json"));
  };
  const json full = written("full");
  for (const char* key : {"layer_types", "sliding_window"}) EXPECT_FALSE(full.contains(key)) << key;
  config.layers = 2;
  config.window = 24;
  const json windowed = written("windowed");
  EXPECT_EQ(windowed.at("layer_types"), json({"sliding_attention", "sliding_attention"}));
  EXPECT_EQ(windowed.at("sliding_window"), 24);
  EXPECT_EQ(windowed.at("use_sliding_window"), true);
}

TEST(DraftVariants, WindowsOfOthersAreReadOrRefused) {
  const Scratch scratch;
  DraftConfig config = golden_config();
  config.layers = 2;
  const fs::path directory = scratch / "draft";
  save_draft(directory, config, init_draft(config, {}, 5), every_second_id(), at::kFloat);
  const json plain = json::parse(read_file(directory / "config.json"));
  const auto with = [&](const json& keys) {
    json changed = plain;
    changed.update(keys);
    write_text(directory / "config.json", changed.dump());
  };
  const auto refusal = [&] { return error_of([&] { load_draft(directory, target_config()); }); };
  const json sliding(3, "sliding_attention");  // one more than layers: copied from a larger model
  with({{"layer_types", sliding}, {"sliding_window", 7}});
  EXPECT_EQ(load_draft(directory, target_config()).config.window, 7);
  with({{"layer_types", {"full_attention", "full_attention"}}, {"sliding_window", 7}});
  EXPECT_EQ(load_draft(directory, target_config()).config.window, 0);
  with({{"sliding_window", 7}});  // vLLM asks layer_types first
  EXPECT_EQ(load_draft(directory, target_config()).config.window, 0);
  with({{"layer_types", sliding}});
  EXPECT_THAT(refusal(), HasSubstr("\"sliding_window\" is missing"));
  with({{"layer_types", {"sliding_attention", "full_attention"}}, {"sliding_window", 7}});
  EXPECT_THAT(refusal(), AllOf(HasSubstr("[sliding_attention, full_attention]"), HasSubstr("all")));
  with({{"layer_types", {"sliding_attention"}}, {"sliding_window", 7}});
  EXPECT_THAT(refusal(), HasSubstr("names 1 layers, and the draft has 2"));
}

TEST(DraftVariants, AFileWithoutTheTensorsOfItsFlagsIsRefused) {
  const Scratch scratch;
  const DraftConfig plain = golden_config();
  const fs::path directory = scratch / "draft";
  const auto refusal = [&](const char* key, const json& value) {
    save_draft(directory, plain, init_draft(plain, {}, 5), every_second_id(), at::kFloat);
    json config = json::parse(read_file(directory / "config.json"));
    config[key] = value;
    write_text(directory / "config.json", config.dump());
    return error_of([&] { load_draft(directory, target_config()); });
  };
  EXPECT_THAT(refusal("fc_norm", true), HasSubstr("fc_norm.0.weight"));
  EXPECT_THAT(refusal("num_hidden_layers", 2), HasSubstr("layers.1."));
  EXPECT_THAT(refusal("model_type", "qwen3"), HasSubstr("q_norm"));
  EXPECT_THAT(refusal("norm_before_fc", true), HasSubstr("norm_before_fc"));
}

TEST(DraftVariants, ImportFindsTheLayersAndTheBodyByTheirTensors) {
  const Scratch scratch;
  const DraftConfig config = config_of(kVariants[5]);
  const DraftParams params = init_draft(config, {}, 5);
  const fs::path directory = scratch / "draft";
  save_draft(directory, config, params, every_second_id(), at::kFloat);
  json foreign = json::parse(read_file(directory / "config.json"));
  foreign.erase("aerie");
  foreign["num_hidden_layers"] = 30;  // copied from the target
  foreign["model_type"] = "llama";
  foreign["architectures"] = {"LlamaEagle3DraftModel"};
  write_text(directory / "config.json", foreign.dump());
  expect_same(import_draft(directory, target_config(), {}), config, params);
}

TEST(DraftVariants, TheStampKeepsWhatOnlySomeDraftsHave) {
  const Scratch scratch;
  DraftConfig config = config_of(kVariants[0]);
  const DraftParams params = init_draft(config, {}, 5);
  save_draft(scratch / "plain", config, params, every_second_id());
  const json plain = json::parse(read_file(scratch / "plain/config.json"));
  EXPECT_FALSE(plain.at("aerie").contains("text_vocab"));
  EXPECT_FALSE(plain.at("aerie").contains("use_input_embeds"));
  config.text_vocab = 12;
  config.use_input_embeds = true;
  save_draft(scratch / "draft", config, params, every_second_id());
  ModelConfig target = target_config();
  target.text_vocab = 12;
  const DraftConfig read = load_draft(scratch / "draft", target).config;
  EXPECT_EQ(read.text_vocab, 12);
  EXPECT_TRUE(read.use_input_embeds);
  EXPECT_THAT(error_of([&] { load_draft(scratch / "draft", target_config()); }),
              HasSubstr("\"aerie.text_vocab\" is 12, and the target's is 0"));
  EXPECT_THAT(error_of([&] { check_servable(read, "gguf"); }), HasSubstr("draft.use_input_embeds"));
  EXPECT_THAT(fed_otherwise(read), HasSubstr("features of images and audio"));
  EXPECT_EQ(fed_otherwise(config_of(kVariants[0])), "");
}

TEST(Servable, NamesTheOptionAndWhoCanServeIt) {
  const auto refusal = [](const Variant& variant, const std::string& engine) {
    return error_of([&] { check_servable(config_of(variant), engine); });
  };
  for (const Variant& variant : kVariants) {
    EXPECT_EQ(refusal(variant, "any"), kNoError) << variant.name;
    EXPECT_EQ(refusal(variant, "vllm"), kNoError) << variant.name;
    EXPECT_EQ(refusal(variant, "speculators"), kNoError) << variant.name;
  }
  EXPECT_THAT(refusal(kVariants[1], "gguf"),
              AllOf(HasSubstr("draft.fc_norm"), HasSubstr("vllm, sglang, speculators")));
  EXPECT_EQ(refusal(kVariants[1], "sglang"), kNoError);
  EXPECT_THAT(refusal(kVariants[2], "sglang"), HasSubstr("draft.body qwen3"));
  EXPECT_THAT(refusal(kVariants[3], "gguf"),
              AllOf(HasSubstr("draft.layers"), Not(HasSubstr("sglang"))));
  EXPECT_THAT(refusal(kVariants[4], "sglang"), HasSubstr("draft.norm_before_residual"));
  EXPECT_EQ(refusal(kVariants[4], "gguf"), kNoError);
  const Variant window{"window", [](DraftConfig& c) { c.window = 24; }};
  for (const char* engine : {"sglang", "gguf"}) {
    EXPECT_THAT(refusal(window, engine),
                AllOf(HasSubstr("draft.window"), HasSubstr("(one for vllm, speculators can)")));
  }
}

TEST(Servable, LlamaCppReadsTheResidualsFlag) {
  const Scratch scratch;
  const DraftConfig config = config_of(kVariants[4]);
  const DraftParams params = init_draft(config, {}, 5);
  std::vector<std::string> tokens(96, "t");
  const LlamaCppTarget target{
      "llama", 8, 32, {{"tokenizer.ggml.tokens", GgufValue::texts(tokens)}}, "target"};
  const fs::path file = scratch / "draft.gguf";
  save_gguf_draft(file, config, params, every_second_id(), target, at::kFloat);
  expect_same(load_gguf_draft(file), config, params);
  EXPECT_THAT(error_of([&] {
                save_gguf_draft(file, config_of(kVariants[2]), init_draft(config, {}, 5),
                                every_second_id(), target);
              }),
              HasSubstr("gguf"));
}

}  // namespace
}  // namespace aerie::testing
