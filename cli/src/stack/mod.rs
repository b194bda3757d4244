//! The processes behind one `up`: started in order, watched, stopped in the opposite order, and nothing of them left.

pub mod backends;
mod board;
pub mod certificates;
pub mod child;
pub mod envoy;
pub mod follow;
pub mod plan;
pub mod private_dir;
pub mod probe;
pub mod proof;
pub mod reload;
pub mod run;
pub mod site;
pub mod terminal;
pub mod watch;
