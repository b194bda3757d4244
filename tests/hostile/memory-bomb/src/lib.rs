//! A hostile handler: it hoards memory until it gets no more. Raw bodies make it ask politely, so that it survives the
//! refusal and reports it; tensors make it abort, as Rust does when an allocation fails.

use tensorgate_handler::{Error, Payload, Preprocess, Tensor, export_preprocess};

/// What it asks for at a time, bytes.
const CHUNK_BYTES: usize = 1 << 20;

struct MemoryBomb;

impl Preprocess for MemoryBomb {
    fn preprocess(input: Payload) -> Result<Vec<Tensor>, Error> {
        let polite = matches!(input, Payload::Raw(_));
        let mut hoard: Vec<Vec<u8>> = Vec::new();
        loop {
            let mut chunk = Vec::new();
            if polite {
                chunk
                    .try_reserve_exact(CHUNK_BYTES)
                    .map_err(|_| Error::fault(format!("got {} chunks", hoard.len())))?;
            }
            chunk.resize(CHUNK_BYTES, 1);
            hoard.push(core::hint::black_box(chunk));
        }
    }
}

export_preprocess!(MemoryBomb);
