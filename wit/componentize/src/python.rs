//! Handlers in Python that run on CPython with numpy, compiled into one core module.
//!
//! The runtime file has that module and its library. A handler's component imports the module and
//! brings the memory of an interpreter that has loaded the handler. This works because the memory
//! is the module's whole state while no call is active; `runtime` rejects modules with other state.

mod handler;
mod memory;
mod runtime;
#[cfg(test)]
#[allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::panic,
    reason = "tests"
)]
mod tests;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use wasm_encoder::MemoryType;

use crate::parts::note;

pub use handler::{Image, World, handler};
pub use memory::{BLOCK_BYTES, used_blocks};
pub use runtime::runtime;

/// The custom section at the end of a runtime file, which is the library's zip.
pub const LIBRARY_SECTION: &str = "tensorgate-library";
/// The custom section before it. It has the number of data segments, and for each its address, its
/// length and its bytes. Numbers are little-endian, of 4 bytes.
const MEMORY_SECTION: &str = "tensorgate-memory";
/// The only export of a runtime file: the core module.
pub const CODE_EXPORT: &str = "code";
/// The size of the runtime's first memory, in pages.
const PAGES: u64 = 640;

/// The segments of the first memory in a runtime file, by their addresses; `None` if it is none.
pub fn first_memory(file: &[u8]) -> Option<Vec<(u32, &[u8])>> {
    let mut rest = note(file, MEMORY_SECTION)?;
    let mut segments = Vec::new();
    for _ in 0..number(&mut rest)? {
        let address = number(&mut rest)?;
        let length = usize::try_from(number(&mut rest)?).ok()?;
        let (bytes, after) = rest.split_at_checked(length)?;
        segments.push((address, bytes));
        rest = after;
    }
    Some(segments)
}

fn number(rest: &mut &[u8]) -> Option<u32> {
    let (bytes, after) = rest.split_first_chunk()?;
    *rest = after;
    Some(u32::from_le_bytes(*bytes))
}

/// The name by which a handler imports the core module of a runtime file with this SHA-256.
pub fn import_name(digest: &[u8; 32]) -> String {
    format!("integrity=<sha256-{}>", STANDARD.encode(digest))
}

/// A memory of at least this many pages.
fn memory_type(pages: u64) -> MemoryType {
    MemoryType {
        minimum: pages,
        maximum: None,
        memory64: false,
        shared: false,
        page_size_log2: None,
    }
}
