//! The text classifier's reader of a `tokenizer.json`, compiled from its own source files. The
//! handler crate depends on bindings that need no instrumentation.
#![allow(
    missing_docs,
    dead_code,
    unreachable_pub,
    reason = "another crate's files, of which a part is used"
)]

#[path = "../../examples/handlers/text-classifier/src/added.rs"]
mod added;
#[path = "../../examples/handlers/text-classifier/src/bpe.rs"]
mod bpe;
#[path = "../../examples/handlers/text-classifier/src/compile.rs"]
mod compile;
#[path = "../../examples/handlers/text-classifier/src/file.rs"]
mod file;
#[path = "../../examples/handlers/text-classifier/src/normalise.rs"]
mod normalise;
#[path = "../../examples/handlers/text-classifier/src/settings.rs"]
mod settings;
#[path = "../../examples/handlers/text-classifier/src/split.rs"]
mod split;
#[path = "../../examples/handlers/text-classifier/src/table.rs"]
mod table;
#[path = "../../examples/handlers/text-classifier/src/tokenizer.rs"]
mod tokenizer;
#[path = "../../examples/handlers/text-classifier/src/wordpiece.rs"]
mod wordpiece;

pub use compile::compile;
pub use tokenizer::Tokenizer;
