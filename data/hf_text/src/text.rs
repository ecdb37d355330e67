//! The tokenizer: ids with byte offsets into the original text, and back.

use tokenizers::processors::PostProcessorWrapper;
use tokenizers::Tokenizer;

pub struct Text {
    tokenizer: Tokenizer,
}

/// Token ids and, per token, the [begin, end) bytes of the text it came from.
pub struct Encoded {
    pub ids: Vec<u32>,
    pub offsets: Vec<[u32; 2]>,
}

/// Some processors cut blanks off the reported offsets; a loss mask needs the bytes a token really covers.
fn keep_blanks_in_offsets(processor: &mut PostProcessorWrapper) {
    match processor {
        PostProcessorWrapper::ByteLevel(p) => p.trim_offsets = false,
        PostProcessorWrapper::Roberta(p) => p.trim_offsets = false,
        PostProcessorWrapper::Sequence(s) => s.as_mut().iter_mut().for_each(keep_blanks_in_offsets),
        _ => {}
    }
}

impl Text {
    pub fn load(json: &[u8]) -> Result<Self, String> {
        let mut tokenizer = Tokenizer::from_bytes(json).map_err(|e| e.to_string())?;
        // Length limits belong to the caller: a file may carry those of the run it was saved from.
        tokenizer.with_truncation(None).map_err(|e| e.to_string())?;
        tokenizer.with_padding(None);
        if let Some(mut processor) = tokenizer.get_post_processor().cloned() {
            keep_blanks_in_offsets(&mut processor);
            tokenizer.with_post_processor(Some(processor));
        }
        Ok(Text { tokenizer })
    }

    pub fn encode(&self, text: &str, add_special: bool) -> Result<Encoded, String> {
        let encoding = self.tokenizer.encode(text, add_special).map_err(|e| e.to_string())?;
        Ok(Encoded {
            ids: encoding.get_ids().to_vec(),
            offsets: encoding.get_offsets().iter().map(|&(b, e)| [b as u32, e as u32]).collect(),
        })
    }

    /// Encodes on `threads` threads; results in the order of `texts`.
    pub fn encode_batch(&self, texts: &[&str], add_special: bool, threads: usize) -> Result<Vec<Encoded>, String> {
        let threads = threads.clamp(1, texts.len().max(1));
        if threads == 1 {
            return texts.iter().map(|text| self.encode(text, add_special)).collect();
        }
        let next = std::sync::atomic::AtomicUsize::new(0);
        let work = || {
            let mut done = Vec::new();
            loop {
                let index = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                let Some(text) = texts.get(index) else { return done };
                done.push((index, self.encode(text, add_special)));
            }
        };
        let mut results: Vec<(usize, Result<Encoded, String>)> = std::thread::scope(|scope| {
            let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
            workers.into_iter().flat_map(|worker| worker.join().expect("an encoding thread panicked")).collect()
        });
        results.sort_by_key(|&(index, _)| index);
        results.into_iter().map(|(_, result)| result).collect()
    }

    pub fn decode(&self, ids: &[u32], skip_special: bool) -> Result<String, String> {
        self.tokenizer.decode(ids, skip_special).map_err(|e| e.to_string())
    }

    /// One more than the largest id: what an embedding matrix must have at least.
    pub fn vocab_size(&self) -> usize {
        let largest = self.tokenizer.get_vocab(true).into_values().max();
        largest.map_or(0, |id| id as usize + 1)
    }

    pub fn token_to_id(&self, token: &str) -> Option<u32> {
        self.tokenizer.token_to_id(token)
    }

    pub fn id_to_token(&self, id: u32) -> Option<String> {
        self.tokenizer.id_to_token(id)
    }

    /// The added tokens by ascending id: `[{"id", "content", "special"}]`.
    pub fn added_tokens(&self) -> String {
        let mut tokens: Vec<_> = self.tokenizer.get_added_tokens_decoder().into_iter().collect();
        tokens.sort_by_key(|&(id, _)| id);
        let rows =
            tokens.into_iter().map(|(id, t)| serde_json::json!({"id": id, "content": t.content, "special": t.special}));
        serde_json::Value::Array(rows.collect()).to_string()
    }
}
