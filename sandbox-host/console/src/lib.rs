//! The console of the admin server: what a host does, what it refuses, and what is wrong, as a page
//! for people.
//!
//! The [`Recorder`] keeps the last records of the audit log in bounded memory. The service collects
//! it and the rest of a host's state in a [`snapshot`], and [`page()`] turns that into HTML.
//! Nothing here answers a request or reads a file. Markup is constant; all else is escaped.

mod assets;
mod html;
pub mod latency;
pub mod minutes;
mod page;
mod plot;
mod recorder;
pub mod rows;
pub mod snapshot;
mod table;
mod units;
pub mod window;

pub use assets::{ICON, SCRIPT, STYLE};
pub use page::{page, sections};
pub use recorder::{Recent, Recorder, Streak};
