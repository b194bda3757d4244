//! What a line says. Field names are stable: tools read them. Whatever a client chose is bounded and cleaned here, so that no
//! line can be as long as a client likes, begin a second one, or drive a terminal.

use serde::{Deserialize, Serialize};

use tensorgate_policy::denial::{MAX_SHADOW_DETAIL_BYTES, Shadowed};

use super::heard::Marks;
use crate::sandbox::Reached;

/// The version of these fields.
pub const FORMAT: u64 = 1;
/// Where the proxy says from which address a request came. It is believed for this log alone: nothing is decided by it.
pub const SOURCE_HEADER: &str = "x-tensorgate-source";
/// A path, bytes; its query is never written.
pub const MAX_PATH_BYTES: usize = 512;
/// A method, bytes: longer than any that is registered.
pub const MAX_METHOD_BYTES: usize = 32;
/// A cause, bytes: as in the filter's own log.
pub const MAX_DETAIL_BYTES: usize = 1024;
/// A name of the policy's, a credential's name or a detail of Envoy's, bytes.
pub const MAX_NAME_BYTES: usize = 256;
/// A request id, bytes: ours are UUIDs.
pub const MAX_ID_BYTES: usize = 64;

/// One line's content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum Event {
    /// A file begins: a host has started, or the file before is full.
    Open(Open),
    /// A policy is in force from here on.
    Policy {
        /// Its generation.
        generation: String,
    },
    /// A request and what became of it.
    Decision(Box<Decision>),
    /// A request ended in another way than its line says.
    Amend(Amend),
    /// What became of a copy of a request, at a version in shadow. Its request has a line of its own.
    Copy(Copied),
    /// A handler is left alone for a while because it failed, or is not any more.
    CutOff(CutOff),
    /// Lines that could not be written.
    Dropped {
        /// How many.
        count: u64,
        /// Where they were lost.
        cause: String,
    },
    /// Outcomes of which only Envoy's access log told, and whose entries never came: of one filter VM, in a row.
    Lost {
        /// The VM's name.
        vm: String,
        /// The first number.
        first: u64,
        /// How many.
        count: u64,
    },
    /// A line that is signed where the log has a chain: what stands before it is as the host wrote it.
    Checkpoint {
        /// Requests that this host has written since it started.
        decisions: u64,
        /// Lines that it dropped.
        dropped: u64,
        /// The last entry of each filter VM that stands before this line, or is told as lost.
        #[serde(default, skip_serializing_if = "Marks::is_empty")]
        heard: Marks,
    },
    /// The host has ended in order.
    Stop,
    /// Not a line of a log: the file beside it that says where the log ends.
    Head {
        /// The log's id.
        log: String,
    },
}

/// The first line of a file, and of a host's life.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Open {
    /// The log's id, 32 hex digits; the same in all its files.
    pub log: String,
    /// `start` or `rotate`.
    pub why: String,
    /// The public key that checkpoints verify under, 64 hex digits; none for a log without a chain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// The first line that is still kept.
    pub oldest_seq: u64,
    /// What a host that started found wrong with the log that it goes on with.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub found: Vec<Found>,
    /// The last entry of each filter VM that stands before this line, or is told as lost.
    #[serde(default, skip_serializing_if = "Marks::is_empty")]
    pub heard: Marks,
}

/// What became of a copy.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Copied {
    /// Our id of the request that it is of.
    pub request_id: String,
    /// The model's public name.
    pub model: String,
    /// The version that got it.
    pub version: String,
    /// `agree`, `differ` or `fail`.
    pub outcome: String,
    /// Where it first differs, or why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// Until it was answered and compared, microseconds.
    pub total_us: u64,
}

/// That a handler is left alone, or is not any more.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CutOff {
    /// The handler.
    pub handler: String,
    /// For this client alone, whose name is empty if it has none; for all if there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
    /// `open` while it is left alone, then `closed`.
    pub state: String,
    /// The time until a call finds out whether it still fails, milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub for_ms: Option<u64>,
}

/// Something wrong that a host found at its start.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    /// `torn`, `truncated`, `damaged`, `rewritten`, `head-missing` or `head-invalid`.
    pub what: String,
    /// In words.
    pub detail: String,
}

/// Who settled what a request got.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum By {
    /// The filter in Envoy.
    Gate,
    /// The sandbox host.
    #[default]
    Host,
    /// Envoy itself.
    Envoy,
}

/// What a request got.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// What it asked for.
    Allow,
    /// A refusal.
    #[default]
    Deny,
    /// Nothing, or not all of it: it ended before its answer did.
    Aborted,
}

impl Verdict {
    /// As it is written.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
            Self::Aborted => "aborted",
        }
    }
}

/// A request and what became of it. Absent fields are unknown or do not apply.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Decision {
    /// Our id; absent where Envoy refused before it made one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// Of a stream's message, the id of the stream.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stream: Option<String>,
    /// Who settled it.
    pub by: By,
    /// What it got.
    pub verdict: Verdict,
    /// `ok`, the refusal's reason, or `incomplete`.
    pub reason: String,
    /// The client's name, once proven.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
    /// Which of its credentials, by name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credential: Option<String>,
    /// The address that it came from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// `HTTP/1.1`, `HTTP/2`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http: Option<String>,
    /// As a policy names it: `oip-rest`, `oip-grpc`, `tf-serving-rest`, `tf-serving-grpc`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol: Option<String>,
    /// The method.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// The path without its query, cut at [`MAX_PATH_BYTES`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// The model's public name, once granted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Its version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// `infer`, `metadata`, `ready`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operation: Option<String>,
    /// The grant that it was judged by.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// The policy that it was judged under.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generation: Option<String>,
    /// The whole cause.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// What would have refused it but for its grant's mode.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub shadow: Vec<Shadowed>,
    /// The HTTP status; 0 where none was sent.
    pub status: u16,
    /// gRPC's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grpc_status: Option<u8>,
    /// The request's body.
    pub request_bytes: u64,
    /// The answer's body; 0 where the host refused.
    pub response_bytes: u64,
    /// From the head to the answer, where it was settled.
    pub total_us: u64,
    /// In handlers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub handler_us: Option<u64>,
    /// At the backend, the wait for a place included.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dispatch_us: Option<u64>,
    /// Of that, the wait for a place.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue_us: Option<u64>,
    /// Fuel of all handler calls.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fuel: Option<u64>,
    /// What handlers had the host bring from elsewhere.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub reached: Vec<Reached>,
    /// Envoy's response flags.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub flags: Vec<String>,
    /// Envoy's response code details.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub envoy: Option<String>,
    /// The number of Envoy's entry, `VM.NUMBER`, where the line was made of one that has a number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entry: Option<String>,
}

/// How a request ended after its line was written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Amend {
    /// Our id.
    pub request_id: String,
    /// Who settled it then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<By>,
    /// What it got.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verdict: Option<Verdict>,
    /// Why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The status that the client got; 0 for none.
    pub status: u16,
    /// gRPC's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grpc_status: Option<u8>,
    /// Bytes of the answer that were sent.
    pub response_bytes: u64,
    /// From Envoy's first byte to its last.
    pub total_us: u64,
    /// Envoy's response flags.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub flags: Vec<String>,
    /// Envoy's response code details.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub envoy: Option<String>,
    /// The number of Envoy's entry, where it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entry: Option<String>,
    /// Of a stream that is over: its messages, each of which has a line of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub messages: Option<u64>,
    /// Of a message that was answered several times: how often.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answers: Option<u64>,
}

/// Text that may stand in a line: within its bound, on one line, in one direction.
pub fn clean(text: &str, max_bytes: usize) -> String {
    let cut = text
        .get(..text.floor_char_boundary(max_bytes))
        .unwrap_or_default();
    // Nearly every text is what it was.
    if !cut.chars().any(misleads) {
        return cut.to_owned();
    }
    cut.chars()
        .map(|c| if misleads(c) { '\u{fffd}' } else { c })
        .collect()
}

/// Control characters, line separators, and what turns the direction of writing or cannot be seen (CVE-2021-42574).
fn misleads(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// What was in shadow, as it is written.
pub fn in_shadow(told: &Shadowed) -> Shadowed {
    Shadowed {
        reason: clean(&told.reason, MAX_NAME_BYTES),
        detail: clean(&told.detail, MAX_SHADOW_DETAIL_BYTES),
    }
}

/// A path as it is written: what follows it, a query with whatever a client put there, is left out.
pub fn path(text: &str) -> String {
    let end = text.find(['?', '#']).unwrap_or(text.len());
    clean(text.get(..end).unwrap_or_default(), MAX_PATH_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_client_chose_is_one_bounded_line_without_tricks() {
        for (text, max, expected) in [
            ("plain", 512, "plain"),
            ("a\nb\r\u{0}", 512, "a\u{fffd}b\u{fffd}\u{fffd}"),
            ("\u{1b}[31m", 512, "\u{fffd}[31m"),
            ("a\u{202e}b\u{2028}", 512, "a\u{fffd}b\u{fffd}"),
            ("ééé", 3, "é"),
            ("abc", 0, ""),
        ] {
            assert_eq!(clean(text, max), expected, "{text:?}");
        }
    }

    #[test]
    fn a_query_is_never_written() {
        for (text, expected) in [
            ("/v2/models/m/infer?key=tg_secret", "/v2/models/m/infer"),
            ("/a#key", "/a"),
            ("?x", ""),
            ("/plain", "/plain"),
        ] {
            assert_eq!(path(text), expected);
        }
    }
}
