//! Loads a policy: its text, the files that it names, and every fault with its position.

mod divide;
mod inline;
pub mod lists;
pub mod load;
