//! Health checks for servers with the protocol of TorchServe, which only reports its overall health
//! on this port.

use tensorgate_wire::upstream::torchserve;
use tokio::time::Instant;

use super::answer_fault::read;
use crate::backends::BackendError;
use crate::backends::oip::Channel;

/// Whether a TorchServe server is healthy.
pub(super) async fn probe_server(line: &Channel, deadline: Instant) -> Result<(), BackendError> {
    let answer = line.ping(deadline).await?;
    if read(torchserve::is_healthy(&answer))? {
        Ok(())
    } else {
        Err(BackendError::Busy(
            "the server reports that it is not healthy".to_owned(),
        ))
    }
}
