//! When denied messages end their stream. A denial costs its client a few bytes, and costs the host
//! a judgement, a response and two lines in logs. Accepted messages are bounded by the grant's
//! rates, and so are messages that are denied after a charge.

use tensorgate_judge::request::DeniedRequest;
use tensorgate_policy::Reason;

/// The consecutive denials that end a stream.
pub(super) const MAX_CONSECUTIVE: u32 = 32;
/// The denials before any charge that end a stream: for a model that is not granted, or an
/// unsupported coding. A message that names no model, or cannot be read, ends its stream at once.
pub(super) const MAX_UNCHARGED: u32 = 4;

/// The denied messages of a stream.
#[derive(Debug, Default)]
pub(super) struct Rejections {
    /// Denials since the last accepted message.
    consecutive: u32,
    /// Denials before any charge.
    uncharged: u32,
}

impl Rejections {
    /// Notes an accepted message.
    pub(super) const fn accepted(&mut self) {
        self.consecutive = 0;
    }

    /// Notes a message that was denied, possibly before it was judged. Returns whether it ends the
    /// stream.
    pub(super) fn denied(&mut self, judged: Option<&DeniedRequest>) -> bool {
        self.consecutive = self.consecutive.saturating_add(1);
        let is_last = self.consecutive >= MAX_CONSECUTIVE;
        let Some(denied) = judged.filter(|denied| is_uncharged(denied)) else {
            return is_last;
        };
        self.uncharged = self.uncharged.saturating_add(1);
        is_last || !denied.body.names_model || self.uncharged >= MAX_UNCHARGED
    }
}

/// Whether a message was denied before any charge. Its body names the model, as in all of gRPC. The
/// client does not cause an overload.
fn is_uncharged(denied: &DeniedRequest) -> bool {
    match denied.denial.reason {
        Reason::UnsupportedEncoding => true,
        Reason::Overloaded => false,
        _ => denied.body.model.is_none(),
    }
}

#[cfg(test)]
mod tests {
    use tensorgate_judge::request::{Caller, DenialOrigin, DeniedBody};
    use tensorgate_policy::{Denial, Protocol};

    use super::*;

    fn denied(reason: Reason, names_model: bool, model: Option<&str>) -> DeniedRequest {
        DeniedRequest {
            denial: Denial::new(reason, ""),
            protocol: Protocol::OipGrpc,
            caller: Caller::default(),
            origin: DenialOrigin::FirstCheck,
            body: DeniedBody {
                names_model,
                model: model.map(str::to_owned),
                ..DeniedBody::default()
            },
        }
    }

    /// The number of such denials in a row that end a stream.
    fn last(denied: Option<&DeniedRequest>) -> usize {
        let mut rejections = Rejections::default();
        let ends = (1..=99).find(|_| rejections.denied(denied));
        ends.unwrap_or_default()
    }

    #[test]
    fn denials_before_a_charge_end_a_stream_earlier() {
        for (reason, names_model, model, expected) in [
            (Reason::Shape, true, Some("m"), 32),
            (Reason::RateLimited, true, Some("m"), 32),
            (Reason::NotGranted, true, None, 4),
            (Reason::NotGranted, false, None, 1),
            (Reason::Malformed, false, None, 1),
            (Reason::UnsupportedEncoding, true, Some("m"), 4),
            (Reason::UnsupportedEncoding, false, None, 1),
            (Reason::Overloaded, false, None, 32),
        ] {
            let denied = denied(reason, names_model, model);
            assert_eq!(last(Some(&denied)), expected, "{denied:?}");
        }
        assert_eq!(last(None), 32, "not judged");
    }

    #[test]
    fn an_accepted_message_ends_a_row_but_forgives_no_uncharged_denial() {
        let (charged, foreign) = (
            denied(Reason::Shape, true, Some("m")),
            denied(Reason::NotGranted, true, None),
        );
        let mut rejections = Rejections::default();
        for _ in 0..3 {
            assert!(!rejections.denied(Some(&foreign)));
            for _ in 0..30 {
                assert!(!rejections.denied(Some(&charged)));
            }
            rejections.accepted();
        }
        assert!(rejections.denied(Some(&foreign)), "the fourth");
    }
}
