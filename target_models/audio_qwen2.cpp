#include "target_models/audio_qwen2.h"

#include "target_models/audio_tower.h"
#include "target_models/dense.h"
#include "target_models/hf_json.h"

namespace aerie {

std::unique_ptr<TargetModel> make_qwen2_audio(ModelConfig config, ParamStore store,
                                              at::Device device, at::ScalarType dtype) {
  // transformers 5 in memory, and files that it wrote under those names.
  store.rename_prefix("model.language_model.", "model.");
  store.rename_prefix("model.audio_tower.", "audio_tower.");
  store.rename_prefix("model.multi_modal_projector.", "multi_modal_projector.");
  store.rename_prefix("language_model.model.", "model.");
  store.rename_prefix("language_model.lm_head.", "lm_head.");
  const HfJson file = HfJson::read(store.directory() / "config.json");
  const AudioTowerConfig audio = read_audio_tower(file.section("audio_config"), config.hidden);
  MediaTowers towers;
  towers.audio = std::make_unique<AudioTower>(audio, store, Placement{device, dtype});
  MediaProcessors processors = read_media_processors(store.directory());
  return make_multimodal(make_dense(std::move(config), std::move(store), device, dtype),
                         std::move(processors), std::move(towers));
}

}  // namespace aerie
