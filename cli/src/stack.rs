//! The processes of one `tensorgate up`: started in order, watched, and stopped in reverse order.

pub mod backends;
pub mod certificates;
pub mod child;
pub mod envoy;
pub mod follow;
pub mod front;
pub mod options;
pub mod plan;
pub mod ports;
pub mod probe;
pub mod progress;
pub mod proof;
mod ready;
pub mod reload;
pub mod requests;
pub mod run;
pub mod running;
pub mod site;
mod status_file;
pub mod terminal;
mod verified_models;
pub mod watch;
