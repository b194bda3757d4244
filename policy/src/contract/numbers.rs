//! Rules of numbers beyond a single range, which is `TensorRule::range`. Only the compiler
//! creates them; the scans are in `kernels`.

use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

use super::kernels::Channels;

/// Rules of a tensor's numbers. With channel ranges or allowed values, the rule's own range is
/// already included and not checked separately.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Numbers {
    /// Range of each channel.
    pub channels: Option<Channels>,
    /// Allowed values as bits, in ascending order.
    pub allowed: Option<Vec<u64>>,
    /// Minimum number of distinct values in the tensor.
    pub min_distinct: Option<usize>,
    /// Maximum fraction of zeros.
    pub max_zero_fraction: Option<f64>,
}
