//! The processes of one `tensorgate up`: started in order, watched, and stopped in reverse order.

pub mod backends;
pub mod certificates;
pub mod child;
pub mod envoy;
pub mod follow;
pub mod front;
<<<<<<< HEAD
mod keep;
=======
pub mod gate_changes;
>>>>>>> 8f74ce4d (cli: say on the terminal and in status what happens)
pub mod options;
pub mod plan;
pub mod ports;
mod presence;
pub mod probe;
pub mod process_event;
mod process_reports;
pub mod progress;
pub mod proof;
mod ready;
pub mod reload;
pub mod requests;
mod restarts;
pub mod run;
pub mod running;
mod service_manager;
pub mod site;
mod status_file;
pub mod terminal;
mod verified_models;
pub mod watch;
