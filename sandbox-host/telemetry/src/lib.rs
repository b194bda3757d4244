//! The host's metrics, its log, its statistics of models, and the spans of requests.

pub mod exposition;
pub mod handler_statistics;
pub mod labels;
pub mod logging;
pub mod metrics;
mod model_statistics;
pub mod spans;
pub mod timings;
