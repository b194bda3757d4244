//! Decodes responses of servers with the protocols of TF Serving and TorchServe.

use tensorgate_base::guard::offload;

use super::BackendError;

/// Decodes a response, on a separate thread if it may be large.
pub(super) async fn decode<T: Send + 'static>(
    bytes: usize,
    read: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> Result<T, BackendError> {
    let read = offload(bytes, read).await;
    read.unwrap_or_else(|| Err("it could not be read".to_owned()))
        .map_err(|cause| BackendError::Fault(format!("its answer: {cause}")))
}
