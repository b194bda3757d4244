//! The files that the page needs, which the program contains.

/// The script that refreshes the page.
pub const SCRIPT: &str = include_str!("assets/console.js");
/// The style of the page.
pub const STYLE: &str = include_str!("assets/console.css");
/// The icon of the page.
pub const ICON: &str = include_str!("assets/icon.svg");
