//! A policy file as a tree that remembers where everything stands.
//!
//! YAML text becomes a bounded [`Tree`] ([`parse`]); the tree becomes `raw::Policy` ([`typed`]) with every fault kept,
//! not the first. Nothing here knows what a policy means.

pub mod de;
pub mod parse;
pub mod path;
pub mod tree;
pub mod typed;

pub use tree::{Span, Tree};

/// A fault with its place in the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Located {
    /// Whether it stops the policy.
    pub severity: tensorgate_policy::Severity,
    /// Where in the text.
    pub span: Span,
    /// Where in the document: `models.digits.inputs[0]`.
    pub path: String,
    /// What is wrong.
    pub message: String,
    /// What to write instead.
    pub fix: Option<String>,
}
