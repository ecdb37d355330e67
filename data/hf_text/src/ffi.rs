//! The C ABI. Safety, for every function: pointers are valid for the call, lengths are in bytes or elements, handles
//! come from the matching `*_new` and are freed once.
#![allow(clippy::missing_safety_doc)]

use crate::template::Template;
use crate::text::{Encoded, Text};
use std::cell::RefCell;
use std::panic::{catch_unwind, AssertUnwindSafe};

thread_local! {
    static LAST_ERROR: RefCell<String> = const { RefCell::new(String::new()) };
}

#[repr(C)]
pub struct HfBytes {
    data: *mut u8,
    size: usize,
}

#[repr(C)]
pub struct HfEncoding {
    ids: *mut u32,
    offsets: *mut [u32; 2],
    size: usize,
}

#[repr(C)]
pub struct HfRendered {
    text: HfBytes,
    spans: *mut [u64; 2],
    span_count: usize,
}

fn leak<T>(items: Vec<T>) -> (*mut T, usize) {
    let items = Box::leak(items.into_boxed_slice());
    (items.as_mut_ptr(), items.len())
}

/// # Safety: `data`, `size` come from `leak`, or `data` is null.
unsafe fn unleak<T>(data: *mut T, size: usize) {
    if !data.is_null() {
        drop(Box::from_raw(std::ptr::slice_from_raw_parts_mut(data, size)));
    }
}

impl From<Vec<u8>> for HfBytes {
    fn from(bytes: Vec<u8>) -> Self {
        let (data, size) = leak(bytes);
        HfBytes { data, size }
    }
}

impl From<Encoded> for HfEncoding {
    fn from(encoded: Encoded) -> Self {
        let (ids, size) = leak(encoded.ids);
        HfEncoding { ids, offsets: leak(encoded.offsets).0, size }
    }
}

/// Runs `body`; an error or a panic becomes `failed` and a message.
fn guard<T>(failed: T, body: impl FnOnce() -> Result<T, String>) -> T {
    static QUIET: std::sync::Once = std::sync::Once::new();
    QUIET.call_once(|| std::panic::set_hook(Box::new(|_| {}))); // the message is returned, not printed
    let message = match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(value)) => return value,
        Ok(Err(message)) => message,
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|s| s.to_string()));
            format!("internal error in the text library: {}", text.unwrap_or_default())
        }
    };
    LAST_ERROR.with(|last| *last.borrow_mut() = message);
    failed
}

unsafe fn bytes<'a>(data: *const u8, size: usize) -> &'a [u8] {
    if size == 0 {
        &[]
    } else {
        std::slice::from_raw_parts(data, size)
    }
}

unsafe fn utf8<'a>(data: *const u8, size: usize) -> Result<&'a str, String> {
    std::str::from_utf8(bytes(data, size)).map_err(|e| format!("not UTF-8 at byte {}", e.valid_up_to()))
}

#[no_mangle]
pub unsafe extern "C" fn hf_last_error(out: *mut HfBytes) {
    *out = LAST_ERROR.with(|last| last.borrow().clone()).into_bytes().into();
}

#[no_mangle]
pub unsafe extern "C" fn hf_bytes_free(b: HfBytes) {
    unleak(b.data, b.size);
}

#[no_mangle]
pub unsafe extern "C" fn hf_encoding_free(e: HfEncoding) {
    unleak(e.ids, e.size);
    unleak(e.offsets, e.size);
}

#[no_mangle]
pub unsafe extern "C" fn hf_rendered_free(r: HfRendered) {
    hf_bytes_free(r.text);
    unleak(r.spans, r.span_count);
}

#[no_mangle]
pub unsafe extern "C" fn hf_tokenizer_new(json: *const u8, size: usize) -> *mut Text {
    guard(std::ptr::null_mut(), || Ok(Box::into_raw(Box::new(Text::load(bytes(json, size))?))))
}

#[no_mangle]
pub unsafe extern "C" fn hf_tokenizer_free(t: *mut Text) {
    drop(Box::from_raw(t));
}

#[no_mangle]
pub unsafe extern "C" fn hf_tokenizer_encode(
    t: *const Text,
    text: *const u8,
    size: usize,
    add_special: bool,
    out: *mut HfEncoding,
) -> i32 {
    guard(1, || {
        *out = (*t).encode(utf8(text, size)?, add_special)?.into();
        Ok(0)
    })
}

/// `out` has room for `count` encodings; nothing is written to it on failure.
#[no_mangle]
pub unsafe extern "C" fn hf_tokenizer_encode_batch(
    t: *const Text,
    texts: *const *const u8,
    sizes: *const usize,
    count: usize,
    add_special: bool,
    threads: usize,
    out: *mut HfEncoding,
) -> i32 {
    guard(1, || {
        let texts: Result<Vec<&str>, String> = (0..count)
            .map(|i| utf8(*texts.add(i), *sizes.add(i)).map_err(|e| format!("text {i} of the batch: {e}")))
            .collect();
        for (i, encoded) in (*t).encode_batch(&texts?, add_special, threads)?.into_iter().enumerate() {
            out.add(i).write(encoded.into());
        }
        Ok(0)
    })
}

#[no_mangle]
pub unsafe extern "C" fn hf_tokenizer_decode(
    t: *const Text,
    ids: *const u32,
    count: usize,
    skip_special: bool,
    out: *mut HfBytes,
) -> i32 {
    guard(1, || {
        let ids = if count == 0 { &[] } else { std::slice::from_raw_parts(ids, count) };
        *out = (*t).decode(ids, skip_special)?.into_bytes().into();
        Ok(0)
    })
}

#[no_mangle]
pub unsafe extern "C" fn hf_tokenizer_vocab_size(t: *const Text) -> usize {
    guard(0, || Ok((*t).vocab_size()))
}

/// The id, or -1.
#[no_mangle]
pub unsafe extern "C" fn hf_tokenizer_token_to_id(t: *const Text, token: *const u8, size: usize) -> i64 {
    guard(-1, || Ok((*t).token_to_id(utf8(token, size)?).map_or(-1, i64::from)))
}

#[no_mangle]
pub unsafe extern "C" fn hf_tokenizer_id_to_token(t: *const Text, id: u32, out: *mut HfBytes) -> i32 {
    guard(1, || {
        let token = (*t).id_to_token(id).ok_or_else(|| format!("no token has the id {id}"))?;
        *out = token.into_bytes().into();
        Ok(0)
    })
}

#[no_mangle]
pub unsafe extern "C" fn hf_tokenizer_added_tokens(t: *const Text, out: *mut HfBytes) -> i32 {
    guard(1, || {
        *out = (*t).added_tokens().into_bytes().into();
        Ok(0)
    })
}

#[no_mangle]
pub unsafe extern "C" fn hf_template_new(source: *const u8, size: usize) -> *mut Template {
    guard(std::ptr::null_mut(), || Ok(Box::into_raw(Box::new(Template::new(utf8(source, size)?)?))))
}

#[no_mangle]
pub unsafe extern "C" fn hf_template_free(t: *mut Template) {
    drop(Box::from_raw(t));
}

#[no_mangle]
pub unsafe extern "C" fn hf_template_has_generation(t: *const Template) -> bool {
    (*t).has_generation()
}

#[no_mangle]
pub unsafe extern "C" fn hf_template_render(
    t: *const Template,
    variables: *const u8,
    size: usize,
    out: *mut HfRendered,
) -> i32 {
    guard(1, || {
        let rendered = (*t).render(utf8(variables, size)?)?;
        let (spans, span_count) = leak(rendered.spans);
        *out = HfRendered { text: rendered.text.into_bytes().into(), spans, span_count };
        Ok(0)
    })
}
