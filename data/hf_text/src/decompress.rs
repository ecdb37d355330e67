//! Whole `.gz` and `.zst` files into memory.

use std::io::Read;

pub fn decompress(path: &str) -> Result<Vec<u8>, String> {
    let file = std::fs::File::open(path).map_err(|e| e.to_string())?;
    let mut input = std::io::BufReader::new(file);
    let mut out = Vec::new();
    if path.ends_with(".gz") {
        flate2::read::MultiGzDecoder::new(input).read_to_end(&mut out).map_err(|e| e.to_string())?;
        return Ok(out);
    }
    // A zstd file may be several frames one after the other.
    loop {
        let rest = std::io::BufRead::fill_buf(&mut input).map_err(|e| e.to_string())?;
        if rest.is_empty() {
            return Ok(out);
        }
        let mut frame = ruzstd::decoding::StreamingDecoder::new(&mut input).map_err(|e| e.to_string())?;
        frame.read_to_end(&mut out).map_err(|e| e.to_string())?;
    }
}
