//! Policy files as trees with source positions.
//!
//! YAML text becomes a bounded [`Tree`] ([`parse`]), and the tree becomes a document of a given
//! type ([`typed`]). Both steps report every fault instead of only the first. Nothing here reads
//! files or validates policies.

pub mod de;
pub mod parse;
pub mod path;
mod syntax;
pub mod tree;
pub mod typed;

pub use tree::{Span, Tree};

/// A fault with its position in the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Located {
    /// Whether the fault prevents loading.
    pub severity: tensorgate_values::Severity,
    /// Position in the text.
    pub span: Span,
    /// Path in the document, for example `models.digits.inputs[0]`.
    pub path: String,
    /// What is wrong.
    pub message: String,
    /// How to fix it.
    pub fix: Option<String>,
}
