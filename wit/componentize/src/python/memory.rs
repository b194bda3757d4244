//! The core module that defines the memory of an image.

use wasm_encoder::{ConstExpr, DataSection, ExportKind, ExportSection, MemorySection, Module};

use super::{PAGES, memory_type};

/// The size of a page of WebAssembly.
const PAGE_BYTES: usize = 64 << 10;
/// Memory is stored in blocks of this size, as an operating system maps it.
pub const BLOCK_BYTES: usize = 4 << 10;
/// The most data segments of an image. Engines accept more, but each costs time.
const MAX_SEGMENTS: usize = 10_000;
/// wasmtime maps a span of this size or more only if more than half of it is data. Otherwise it
/// copies the data at each call.
const MIN_DENSE_BLOCKS: usize = (16 << 20) / BLOCK_BYTES;

/// The module with a whole memory.
pub(super) fn module_of(memory: &[u8]) -> Result<Vec<u8>, String> {
    let (pages, rest) = memory.as_chunks::<PAGE_BYTES>();
    match u64::try_from(pages.len()) {
        Ok(count) if count >= PAGES && rest.is_empty() => Ok(module(count, &segments(memory))),
        _ => Err(format!(
            "an image has at least {PAGES} whole pages of memory"
        )),
    }
}

/// A module that exports a memory of this many pages with these segments.
fn module(pages: u64, segments: &[(u32, &[u8])]) -> Vec<u8> {
    let mut memories = MemorySection::new();
    memories.memory(memory_type(pages));
    let mut exports = ExportSection::new();
    exports.export("memory", ExportKind::Memory, 0);
    let mut data = DataSection::new();
    for (offset, bytes) in segments {
        let offset = ConstExpr::i32_const(offset.cast_signed());
        data.active(0, &offset, bytes.iter().copied());
    }
    let mut module = Module::new();
    module.section(&memories).section(&exports).section(&data);
    module.finish()
}

/// The blocks of a memory that are not zero, by their numbers.
pub fn used_blocks(memory: &[u8]) -> impl Iterator<Item = (usize, &[u8; BLOCK_BYTES])> {
    let (blocks, _) = memory.as_chunks();
    let blocks = blocks.iter().enumerate();
    blocks.filter(|(_, block)| **block != [0; BLOCK_BYTES])
}

/// The parts of a memory that are not zero. Parts that are near each other become one where there
/// would be too many.
fn segments(memory: &[u8]) -> Vec<(u32, &[u8])> {
    let used: Vec<usize> = used_blocks(memory).map(|(index, _)| index).collect();
    let mut reach = 1;
    loop {
        let runs: Vec<&[usize]> = used
            .chunk_by(|one, next| next.saturating_sub(*one) <= reach)
            .collect();
        let span = |run: &[usize]| match run {
            [first, .., last] => last.saturating_sub(*first).saturating_add(1),
            other => other.len(),
        };
        let data: usize = runs.iter().map(|run| span(run)).sum();
        let is_sparse = span(&used) >= MIN_DENSE_BLOCKS && data.saturating_mul(2) <= span(&used);
        if runs.len() > MAX_SEGMENTS || is_sparse {
            reach = reach.saturating_mul(2);
            continue;
        }
        let segment = |run: &[usize]| {
            let from = run.first()?.checked_mul(BLOCK_BYTES)?;
            let end = run.last()?.checked_add(1)?.checked_mul(BLOCK_BYTES)?;
            Some((u32::try_from(from).ok()?, memory.get(from..end)?))
        };
        return runs.into_iter().filter_map(segment).collect();
    }
}
