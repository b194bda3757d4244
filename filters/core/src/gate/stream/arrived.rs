//! The data of a request that arrives while the request waits, and how the request continues.
//!
//! While a request waits, every callback returns `Pause`, and the proxy buffers the data. A
//! callback of another context ends the wait, evaluates the data and resumes the stream. After part
//! of a body was buffered, the stream must not be resumed while more body is to come: Envoy before
//! 1.40 then loses the next chunk ([`Arrived::continues_by_itself`]). The callback of that next
//! chunk applies the verdict instead.

/// How much of a request has arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// More may follow.
    Open,
    /// The head was the whole request.
    Head,
    /// The body is complete.
    Body,
    /// The trailers have arrived.
    Trailers,
    /// Everything had arrived and was evaluated before the wait. Nothing more is expected.
    Evaluated,
}

/// The part of a request that has arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Arrived {
    /// Body bytes in the proxy's buffer that were not evaluated.
    pub(super) bytes: usize,
    /// How much has arrived.
    pub(super) end: End,
}

impl Arrived {
    /// A head and nothing else so far.
    pub(super) const fn head(end_of_stream: bool) -> Self {
        let end = if end_of_stream { End::Head } else { End::Open };
        Self { bytes: 0, end }
    }

    /// A request that was evaluated whole.
    pub(super) const EVALUATED: Self = Self {
        bytes: 0,
        end: End::Evaluated,
    };

    /// More of the body: `bytes` is the total in the buffer.
    pub(super) const fn body(self, bytes: usize, end_of_stream: bool) -> Self {
        let end = match self.end {
            End::Evaluated => return self,
            _ if end_of_stream => End::Body,
            _ => End::Open,
        };
        Self { bytes, end }
    }

    /// The trailers have arrived.
    pub(super) const fn trailers(self) -> Self {
        let end = match self.end {
            End::Evaluated => return self,
            _ => End::Trailers,
        };
        Self { end, ..self }
    }

    /// Whether a later callback of the stream itself will apply the verdict.
    pub(super) const fn continues_by_itself(self) -> bool {
        matches!(self.end, End::Open) && self.bytes > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_resumed_stream_continues() {
        for (arrived, expected) in [
            (Arrived::head(true), false),
            (Arrived::head(false), false),
            (Arrived::head(false).body(0, false), false),
            (Arrived::head(false).body(1, false), true),
            (Arrived::head(false).body(1, true), false),
            (Arrived::head(false).body(0, true), false),
            (Arrived::head(false).body(1, false).trailers(), false),
            (Arrived::head(false).trailers(), false),
            (Arrived::EVALUATED.body(1, false), false),
            (Arrived::EVALUATED.trailers(), false),
        ] {
            assert_eq!(arrived.continues_by_itself(), expected, "{arrived:?}");
        }
    }
}
