//! What numbers may be beyond one range for all of them. Only [`crate::validate`] makes these; the scans are in `kernels`.

use alloc::vec::Vec;

use super::kernels::Channels;

/// Rules for a tensor's numbers. Where channels have ranges, or values are listed, the rule's own range is among these and no more looked at.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Numbers {
    /// A range for each channel.
    pub(crate) channels: Option<Channels>,
    /// The values that may be, as bits, ascending.
    pub(crate) allowed: Option<Vec<u64>>,
    /// Values that must differ, over the whole tensor.
    pub(crate) min_distinct: Option<usize>,
    /// The part of all elements that may be zero.
    pub(crate) max_zero_fraction: Option<f64>,
}
