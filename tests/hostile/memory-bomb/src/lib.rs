//! A hostile handler that allocates memory until it gets no more. With raw bodies it allocates
//! fallibly, survives and reports it; with tensors it aborts, as a failed Rust allocation does.

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
