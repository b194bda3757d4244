//! A server's answer that cannot be read is a fault of the server.

use crate::backends::BackendError;

/// The content of a server's answer, or why it is a fault of the server.
pub(super) fn read<T>(found: Result<T, String>) -> Result<T, BackendError> {
    found.map_err(|cause| BackendError::Fault(format!("its answer: {cause}")))
}
