//! Metrics, logs, statistics of models and the timings of a request.

pub mod logging;
pub mod metrics;
