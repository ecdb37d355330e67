//! Tokenizers and chat templates behind a C ABI; data/hf_text.h is its C side and documents every function.
//! Conventions: 0 or a non-null pointer is success; otherwise `hf_last_error` has the message of this thread. A panic
//! never crosses the boundary. What a call allocates is released by the matching `*_free`.

mod ffi;
mod python;
mod template;
mod text;

pub use ffi::*;
