//! Metrics, logs, statistics of models and the timings of a request.

pub mod exposition;
pub mod labels;
pub mod logging;
pub mod metrics;
pub mod model_statistics;
pub mod timings;
