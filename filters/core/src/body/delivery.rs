//! What is known about the proxy: whether it delivers bodies while headers are held.

/// Whether the proxy delivers bodies while headers are held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Delivery {
    /// No body has come yet.
    #[default]
    Unknown,
    /// It does.
    Works,
    /// It does not.
    Missing,
}
