//! Shortens the record of a request whose line would be too long. The record itself says which of
//! its members were cut, so the hash chain covers what is in the log.

use serde::Serialize;

use super::Decision;

/// The size in bytes of the member that names all others that were cut.
const CUT_MEMBER_BYTES: usize = 128;

/// Removes a part of a member. Returns the size of its JSON in bytes, 0 if nothing is left.
type Shorten = fn(&mut Decision) -> usize;

/// The members that may be long, in the order in which they are cut. All others have a bound that
/// leaves room in a line.
const MEMBERS: [(&str, Shorten); 8] = [
    ("reached", |decision| json_bytes(decision.reached.pop())),
    ("shadow", |decision| json_bytes(decision.shadow.pop())),
    ("flags", |decision| json_bytes(decision.flags.pop())),
    ("detail", |decision| json_bytes(decision.detail.take())),
    ("path", |decision| json_bytes(decision.path.take())),
    ("envoy", |decision| json_bytes(decision.envoy.take())),
    ("client_request_id", |decision| {
        json_bytes(decision.client_request_id.take())
    }),
    ("message_id", |decision| {
        json_bytes(decision.message_id.take())
    }),
];

/// The record with at least `excess` bytes less of JSON, as far as its members can be cut.
pub(crate) fn shortened(decision: &Decision, excess: usize) -> Decision {
    let mut decision = decision.clone();
    let mut excess = excess.saturating_add(CUT_MEMBER_BYTES);
    for (member, shorten) in MEMBERS {
        let before = excess;
        while excess > 0 {
            let removed = shorten(&mut decision);
            if removed == 0 {
                break;
            }
            excess = excess.saturating_sub(removed);
        }
        if excess < before {
            decision.cut.push(member.to_owned());
        }
    }
    decision
}

fn json_bytes(removed: Option<impl Serialize>) -> usize {
    let json = removed.and_then(|removed| serde_json::to_vec(&removed).ok());
    json.map_or(0, |json| json.len())
}
