"""A target that hears and is small enough to train here: Qwen2-Audio in shape, two million parameters, it writes down
what espeak-ng says. With it come the rows that a draft is trained and measured on.

usage: .venv/bin/python scripts/train_recogniser.py --output runs/recogniser [--tower-steps 1500] [--steps 1500] [--lines 1500]
writes target/ (a Hugging Face directory), media/*.wav, train_prompts.jsonl, heldout_prompts.jsonl, bench_prompts.jsonl
needs libespeak-ng (Debian: espeak-ng)
"""
import ctypes
import math
import random
import wave
import zlib
from pathlib import Path

import numpy as np
import torch

import small_target
import tiny_media

RATE, SECONDS, MOST_WORDS = 16000, 3, 5
WORDS = ("zero one two three four five six seven eight nine ten red green blue white black north south east west left right up "
         "down open close start stop play pause light door window music water coffee morning evening today please").split()
HELD_OUT = 8  # one sentence of so many is never trained on


class Speaker:
    """espeak-ng through its C interface: text to samples, without a process each."""
    SYNCHRONOUS, RATE_WPM, PITCH = 2, 1, 3  # of speak_lib.h

    def __init__(self):
        try:
            self.library = ctypes.CDLL("libespeak-ng.so.1")
        except OSError as error:
            raise SystemExit("libespeak-ng.so.1 is missing: apt-get install espeak-ng") from error
        self.rate = self.library.espeak_Initialize(self.SYNCHRONOUS, 0, None, 0)
        self.library.espeak_SetVoiceByName(b"en")
        callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)
        self.callback = callback(self.take)  # kept alive as long as the library may call it
        self.library.espeak_SetSynthCallback(self.callback)
        self.library.espeak_Synth.argtypes = [ctypes.c_char_p, ctypes.c_size_t, ctypes.c_uint, ctypes.c_int, ctypes.c_uint,
                                              ctypes.c_uint, ctypes.c_void_p, ctypes.c_void_p]
        self.parts = []

    def take(self, samples, count, _events) -> int:
        if samples and count > 0:
            self.parts.append(np.ctypeslib.as_array(samples, (count,)).astype(np.float64))
        return 0

    def say(self, text: str, words_per_minute: int, pitch: int) -> np.ndarray:
        """-> [T] i16 at 16 kHz"""
        self.parts = []
        self.library.espeak_SetParameter(self.RATE_WPM, words_per_minute, 0)
        self.library.espeak_SetParameter(self.PITCH, pitch, 0)
        self.library.espeak_Synth(text.encode(), len(text) + 1, 0, 1, 0, 1, None, None)
        self.library.espeak_Synchronize()
        samples = np.concatenate(self.parts)
        loud = np.flatnonzero(np.abs(samples) > 200)
        samples = samples[loud[0]:loud[-1] + 1]
        length = len(samples) * RATE // self.rate  # another rate: the same spectrum, cut off
        spectrum = np.fft.rfft(samples)[:length // 2 + 1]
        return np.clip(np.fft.irfft(spectrum, length) * length / len(samples), -32768, 32767).astype(np.int16)


class Recogniser(small_target.Task):
    dialect = tiny_media.AUDIO
    suffix = ".wav"

    def __init__(self):
        from transformers import WhisperFeatureExtractor
        self.speaker = Speaker()
        self.extractor = WhisperFeatureExtractor(feature_size=128, chunk_length=SECONDS)

    def draw(self, split: str, share: float, rng: random.Random) -> str:
        while True:
            count = rng.randrange(1, 1 + max(1, round(share * MOST_WORDS)))
            text = " ".join(rng.choices(WORDS, k=count))
            # Single words must be learnt; of longer sentences some are for the measurements.
            held_out = count > 1 and zlib.crc32(text.encode()) % HELD_OUT == 0
            if held_out == (split != "train"):
                return text

    def make(self, text: str, rng: random.Random) -> np.ndarray:
        """-> [T] i16: at varying speed and pitch, with some noise; what would not fit in the window is said faster."""
        speed, pitch = rng.randrange(180, 221), rng.randrange(35, 66)
        samples = self.speaker.say(text, speed, pitch)
        while len(samples) > RATE * SECONDS:
            speed += 30
            samples = self.speaker.say(text, speed, pitch)
        noise = np.random.default_rng(rng.randrange(1 << 30)).normal(0, 60, len(samples))
        return np.clip(samples + noise, -32768, 32767).astype(np.int16)

    def save(self, medium: np.ndarray, path: Path) -> None:
        with wave.open(str(path), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(RATE)
            file.writeframes(medium.tobytes())

    def inputs(self, media: list) -> tuple[dict, list[int]]:
        made = self.extractor([samples.astype(np.float32) / 32768 for samples in media], sampling_rate=RATE,
                              padding="max_length", return_attention_mask=True, return_tensors="pt")
        heard = made["attention_mask"].sum(-1).tolist()
        return (dict(input_features=made["input_features"], feature_attention_mask=made["attention_mask"]),
                [(frames + 1) // 4 for frames in heard])

    def write_preprocessor(self, directory: Path) -> None:
        self.extractor.save_pretrained(directory)

    def make_model(self) -> torch.nn.Module:
        from transformers import Qwen2AudioConfig, Qwen2AudioForConditionalGeneration, Qwen2Config
        from transformers.models.qwen2_audio.configuration_qwen2_audio import Qwen2AudioEncoderConfig
        ids, rows, width = self.dialect.ids(), SECONDS * 50, 128
        text = Qwen2Config(vocab_size=264, hidden_size=128, intermediate_size=384, num_hidden_layers=8,
                           num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=512, rms_norm_eps=1e-6,
                           bos_token_id=None, eos_token_id=ids["<|im_end|>"], tie_word_embeddings=False,
                           rope_parameters=dict(rope_type="default", rope_theta=1000.0))
        audio = Qwen2AudioEncoderConfig(num_mel_bins=128, encoder_layers=3, encoder_attention_heads=4,
                                        encoder_ffn_dim=384, d_model=width, max_source_positions=rows)
        model = Qwen2AudioForConditionalGeneration(Qwen2AudioConfig(
            audio_config=audio, text_config=text, audio_token_index=ids[self.dialect.placeholder]))
        angle = torch.arange(rows)[:, None] * torch.exp(-math.log(1000) * torch.arange(width // 2) / (width // 2 - 1))
        with torch.no_grad():  # they are not trained: sines, as Whisper has them
            model.model.audio_tower.embed_positions.weight.copy_(torch.cat([angle.sin(), angle.cos()], -1))
        return model

    def tower_loss(self, model, media: dict, texts: list[list[int]], counts: list[int]) -> torch.Tensor:
        """Connectionist temporal classification, since nobody says when a character is heard."""
        rows = (media["feature_attention_mask"].sum(-1) + 1) // 2
        heard = torch.arange(SECONDS * 50)[None, None, None] < rows[:, None, None, None]
        tower = model.model.audio_tower(media["input_features"], attention_mask=heard).last_hidden_state
        scores = model.lm_head(model.model.multi_modal_projector(tower)).log_softmax(-1)
        truth = torch.tensor([token for text in texts for token in text])
        return torch.nn.functional.ctc_loss(scores.transpose(0, 1), truth, torch.tensor(counts),
                                            torch.tensor([len(text) for text in texts]), zero_infinity=True,
                                            blank=self.dialect.ids()["<|endoftext|>"])


if __name__ == "__main__":
    small_target.main(Recogniser(), __doc__.splitlines()[0], tower_steps=1500, steps=1500, lines=1500)
