//! The host's metrics, its log, and its statistics of models.

pub mod exposition;
pub mod labels;
pub mod logging;
pub mod metrics;
mod model_statistics;
pub mod timings;
