"""`train --dry-run` resolves every recipe; the large models are there as their config.json only."""
import json
import unittest

from program import PROGRAM, ROOT, ProgramTest

SHAPES = {  # public shapes of the models that the recipes name
    "llama-3.1-8b": {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu", "hidden_size": 4096,
        "intermediate_size": 14336, "num_attention_heads": 32, "num_hidden_layers": 32, "num_key_value_heads": 8,
        "rms_norm_eps": 1e-05, "rope_theta": 500000.0, "tie_word_embeddings": False, "vocab_size": 128256,
        "max_position_embeddings": 131072, "eos_token_id": [128001, 128008, 128009],
        "rope_scaling": {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                         "original_max_position_embeddings": 8192, "rope_type": "llama3"}},
    "qwen3-8b": {
        "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "hidden_act": "silu", "hidden_size": 4096,
        "head_dim": 128, "intermediate_size": 12288, "num_attention_heads": 32, "num_hidden_layers": 36,
        "num_key_value_heads": 8, "rms_norm_eps": 1e-06, "rope_theta": 1000000, "rope_scaling": None,
        "tie_word_embeddings": False, "vocab_size": 151936, "max_position_embeddings": 40960, "attention_bias": False,
        "use_sliding_window": False, "sliding_window": None, "eos_token_id": 151645},
}
SHAPES["qwen3-30b-a3b"] = {
    **SHAPES["qwen3-8b"], "architectures": ["Qwen3MoeForCausalLM"], "model_type": "qwen3_moe", "hidden_size": 2048,
    "intermediate_size": 6144, "num_hidden_layers": 48, "num_key_value_heads": 4, "num_experts": 128,
    "num_experts_per_tok": 8, "moe_intermediate_size": 768, "norm_topk_prob": True, "decoder_sparse_step": 1,
    "mlp_only_layers": []}
SHAPES["qwen2.5-vl-7b"] = {
    "architectures": ["Qwen2_5_VLForConditionalGeneration"], "model_type": "qwen2_5_vl", "hidden_act": "silu",
    "hidden_size": 3584, "intermediate_size": 18944, "num_attention_heads": 28, "num_hidden_layers": 28,
    "num_key_value_heads": 4, "rms_norm_eps": 1e-06, "rope_theta": 1000000.0, "tie_word_embeddings": False,
    "rope_scaling": {"type": "mrope", "mrope_section": [16, 24, 24]}, "vocab_size": 152064,
    "max_position_embeddings": 128000, "use_sliding_window": False, "sliding_window": 32768, "eos_token_id": 151645,
    "image_token_id": 151655, "vision_config": {"depth": 32, "hidden_size": 1280, "out_hidden_size": 3584}}
SHAPES["qwen2-audio-7b"] = {  # its text_config leaves out what is Qwen2's default
    "architectures": ["Qwen2AudioForConditionalGeneration"], "model_type": "qwen2_audio", "audio_token_index": 151646,
    "vocab_size": 156032, "audio_config": {"num_mel_bins": 128, "encoder_layers": 32, "d_model": 1280},
    "text_config": {"model_type": "qwen2", "intermediate_size": 11008, "rms_norm_eps": 1e-05, "rope_theta": 10000,
                    "max_position_embeddings": 8192, "sliding_window": 32768, "use_sliding_window": False,
                    "vocab_size": 156032, "bos_token_id": 151643, "eos_token_id": 151645}}
SHAPES["cosyvoice3-0.5b"] = {  # as scripts/convert_cosyvoice3.py writes it
    "architectures": ["CosyVoice3LM"], "model_type": "cosyvoice3", "hidden_act": "silu", "hidden_size": 896,
    "intermediate_size": 4864, "num_attention_heads": 14, "num_hidden_layers": 24, "num_key_value_heads": 2,
    "rms_norm_eps": 1e-06, "rope_theta": 1000000.0, "tie_word_embeddings": False, "max_position_embeddings": 32768,
    "use_sliding_window": False, "sliding_window": 32768, "vocab_size": 6761, "speech_token_size": 6561,
    "text_vocab_size": 151936, "eos_token_id": list(range(6561, 6761))}
SHAPES["qwen3-vl-8b"] = {
    "architectures": ["Qwen3VLForConditionalGeneration"], "model_type": "qwen3_vl", "tie_word_embeddings": False,
    "image_token_id": 151655, "text_config": {
        "model_type": "qwen3_vl_text", "hidden_act": "silu", "hidden_size": 4096, "head_dim": 128,
        "intermediate_size": 12288, "num_attention_heads": 32, "num_hidden_layers": 36, "num_key_value_heads": 8,
        "rms_norm_eps": 1e-06, "rope_theta": 5000000, "vocab_size": 151936, "max_position_embeddings": 262144,
        "rope_scaling": {"mrope_interleaved": True, "mrope_section": [24, 20, 20], "rope_type": "default"},
        "attention_bias": False, "eos_token_id": 151645},
    "vision_config": {"depth": 27, "hidden_size": 1152, "out_hidden_size": 4096, "deepstack_visual_indexes": [8, 16, 24]}}
SHAPES["hunyuan-ocr"] = {  # the published file keeps the decoder's keys among its own
    "architectures": ["HunYuanVLForConditionalGeneration"], "model_type": "hunyuan_vl", "hidden_act": "silu",
    "hidden_size": 1024, "head_dim": 128, "intermediate_size": 3584, "num_attention_heads": 16, "num_hidden_layers": 24,
    "num_key_value_heads": 8, "rms_norm_eps": 1e-05, "rope_theta": 10000.0, "tie_word_embeddings": True,
    "rope_scaling": {"type": "xdrope", "alpha": 1000.0, "beta_fast": 32, "beta_slow": 1, "factor": 1.0, "mscale": 1.0,
                     "mscale_all_dim": 1.0, "xdrope_section": [16, 16, 16, 16]},
    "vocab_size": 120818, "max_position_embeddings": 32768, "attention_bias": False, "eos_token_id": 120020,
    "image_token_id": 120120, "vision_config": {"num_hidden_layers": 27, "hidden_size": 1152, "patch_size": 16}}
SHAPES["llama-3.1-8b-offline"] = SHAPES["llama-3.1-8b"]


class Recipes(ProgramTest):
    def test_every_recipe_of_a_large_model_has_a_shape_here(self):
        recipes = {path.stem for path in (ROOT / "configs").glob("*.yaml")} - {"quickstart", "reader", "recogniser", "wedlm-smollm2"}
        self.assertEqual(recipes, set(SHAPES))

    def test_dry_run_resolves_them(self):
        for name, shape in SHAPES.items():
            with self.subTest(name):
                self.put(f"{name}/config.json", json.dumps(shape))
                done = self.aerie("train", "--config", ROOT / f"configs/{name}.yaml", "--dry-run",
                                  "--set", f"target.path={name}")
                self.assertEqual(done.returncode, 0, done.stderr)
                self.assertIn("memory, estimated from shapes", done.stderr)
                if name.endswith("-offline"):
                    self.assertIn("hidden states on disk: 32777 bytes a token", done.stderr)


if __name__ == "__main__":
    assert PROGRAM.exists(), f"{PROGRAM} is not built: scripts/build.sh"
    unittest.main(verbosity=1)
