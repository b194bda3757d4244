//! Small chunks of a body that is forwarded before its end.

use core::fmt;

use tensorgate_policy::{Denial, Reason};

use super::reader::read_body;
use crate::host::{Proxy, cannot_decide};

/// Smallest chunk that is not small, in bytes. HTTP/2 servers count a smaller frame against a
/// connection (h2 0.4.20, `DEFAULT_DATA_FRAME_OVERHEAD_THRESHOLD`).
pub(crate) const MIN_CHUNK_BYTES: usize = 256;
/// Maximum number of small chunks of a request that are forwarded as they are, each of which costs
/// at most 255. The sandbox host allows the unread ones of a connection 128 MiB, half of the
/// windows of its 1,024 streams. They all use up half of that.
const MAX_SMALL_CHUNKS: usize = 256;
/// The same for a body that is streamed to another server. By default, h2 allows a connection 32
/// KiB, half of its window: 8 requests.
const MAX_STREAMED_CHUNKS: usize = 16;

/// Limits the small chunks of one request.
///
/// Each chunk becomes an HTTP/2 frame of a connection that many clients share, and a server closes
/// a connection with too many small ones. The first small chunks of a request are forwarded as they
/// are; later ones are joined. They are joined in this filter's memory: if a filter pauses, Envoy
/// adds its next read to what it holds, and answers 413 if both together exceed the buffer of the
/// stream, even if the filter then continues.
pub(crate) struct SmallChunks {
    /// How many more small chunks are forwarded as they are.
    left: usize,
    /// Bytes that were taken out of the proxy's buffer, to be forwarded with the next ones.
    joined: Vec<u8>,
}

impl Default for SmallChunks {
    fn default() -> Self {
        Self {
            left: MAX_SMALL_CHUNKS,
            joined: Vec::new(),
        }
    }
}

/// Shows nothing of the body.
impl fmt::Debug for SmallChunks {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = formatter.debug_struct("SmallChunks");
        shown.field("left", &self.left).finish_non_exhaustive()
    }
}

impl SmallChunks {
    /// For a body that is streamed to a server other than a sandbox host.
    pub(crate) const fn streamed() -> Self {
        Self {
            left: MAX_STREAMED_CHUNKS,
            joined: Vec::new(),
        }
    }

    /// Prepares the `bytes` in the proxy's buffer to be forwarded; `end`: no more body follows.
    ///
    /// # Errors
    /// A host call failed. Nothing more may be forwarded then.
    pub(crate) fn forward(
        &mut self,
        proxy: &mut dyn Proxy,
        bytes: usize,
        end: bool,
    ) -> Result<(), Denial> {
        let is_small = self.joined.len().saturating_add(bytes) < MIN_CHUNK_BYTES && !end;
        if is_small && bytes == 0 {
            return Ok(());
        }
        if is_small && let Some(left) = self.left.checked_sub(1) {
            self.left = left;
            return Ok(());
        }
        if !is_small && self.joined.is_empty() {
            return Ok(());
        }
        self.joined.extend(read_body(proxy, bytes)?);
        let forwarded = if is_small {
            Vec::new()
        } else {
            core::mem::take(&mut self.joined)
        };
        proxy
            .replace_request_body(&forwarded)
            .map_err(cannot_decide)
    }

    /// Ends the body in trailers, after which a proxy accepts no more body.
    ///
    /// # Errors
    /// Bytes of the body have not been forwarded.
    pub(crate) fn end_in_trailers(&self) -> Result<(), Denial> {
        if self.joined.is_empty() {
            return Ok(());
        }
        let cause = format!(
            "request trailers follow a body in too many chunks below {MIN_CHUNK_BYTES} bytes"
        );
        Err(Denial::new(Reason::Malformed, cause))
    }
}
