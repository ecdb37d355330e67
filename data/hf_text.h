// C side of data/hf_text (Rust). Success is 0 or a non-null pointer; otherwise hf_last_error has
// this thread's message. Texts are UTF-8 with a length, not NUL-terminated. What a call hands out
// is released by the matching *_free. Nothing here keeps a pointer of the caller. Only sources of
// data/ include this.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

extern "C" {

struct HfTokenizer;
struct HfTemplate;

struct HfBytes {
  char* data;
  size_t size;
};
struct HfEncoding {
  uint32_t* ids;           // [size]
  uint32_t (*offsets)[2];  // [size] bytes [begin, end) of the text
  size_t size;
};
struct HfRendered {
  HfBytes text;
  uint64_t (*spans)[2];  // [span_count] bytes [begin, end) of what {% generation %} enclosed
  size_t span_count;
};

void hf_last_error(HfBytes* out);
void hf_bytes_free(HfBytes);
void hf_encoding_free(HfEncoding);
void hf_rendered_free(HfRendered);

HfTokenizer* hf_tokenizer_new(const char* json, size_t size);
void hf_tokenizer_free(HfTokenizer*);
int hf_tokenizer_encode(const HfTokenizer*, const char* text, size_t size, bool add_special,
                        HfEncoding* out);
int hf_tokenizer_encode_batch(const HfTokenizer*, const char* const* texts, const size_t* sizes,
                              size_t count, bool add_special, size_t threads, HfEncoding* out);
int hf_tokenizer_decode(const HfTokenizer*, const uint32_t* ids, size_t count, bool skip_special,
                        HfBytes* out);
size_t hf_tokenizer_vocab_size(const HfTokenizer*);
int64_t hf_tokenizer_token_to_id(const HfTokenizer*, const char* token,
                                 size_t size);  // -1: no such token
int hf_tokenizer_id_to_token(const HfTokenizer*, uint32_t id, HfBytes* out);
int hf_tokenizer_added_tokens(const HfTokenizer*, HfBytes* out);  // JSON

HfTemplate* hf_template_new(const char* source, size_t size);
void hf_template_free(HfTemplate*);
bool hf_template_has_generation(const HfTemplate*);
int hf_template_render(const HfTemplate*, const char* variables_json, size_t size, HfRendered* out);
}

namespace aerie {

/// The bytes as a string; releases them.
std::string hf_string(HfBytes bytes);
/// The message of the last call that failed in this thread.
std::string hf_error();
/// Throws Error "`what`: message" unless `status` is 0.
void hf_check(int status, std::string_view what);

}  // namespace aerie
