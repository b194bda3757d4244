//! The hash chain of the audit log as OCSF's profile `record_integrity`, which is in 1.9.0.

use serde_json::Value as Json;
use tensorgate_policy::values::OcsfVersion;

use super::parts::{Line, OTHER, object};
use crate::export::spool::Record;

/// The algorithm of a hash in OCSF, and its caption.
const SHA_256: (u64, &str) = (3, "SHA-256");
/// The encoding of a hash in OCSF, and its caption.
const HEX: (u64, &str) = (1, "Hex");
/// What a hash is over: the bytes of the audit log's line before its member `hash`.
const SERIALIZATION: &str = "tensorgate audit log line, all bytes before its member hash";

/// The attestation of a record of a log with a chain. The hashes then are not `unmapped`. The
/// signature of a record stays there, because `digital_signature` has no attribute for its value.
pub(super) fn attestations(
    line: &Line<'_>,
    record: &Record,
    log: &str,
    version: OcsfVersion,
) -> Option<Json> {
    if version == OcsfVersion::V1_8 {
        return None;
    }
    let hash = line.take("hash")?;
    let previous_seq = record.seq.checked_sub(1).filter(|seq| *seq > 0);
    let previous = previous_seq.zip(line.take("prev")).map(|(seq, hash)| {
        object([
            ("uid", Some(format!("{log}-{seq}").into())),
            ("fingerprint", Some(fingerprint(hash))),
        ])
    });
    let attestation = object([
        ("uid", Some(record.uid(log).into())),
        ("chain_uid", Some(log.into())),
        ("fingerprint", Some(fingerprint(hash))),
        ("prev_event", previous.map(Json::Object)),
    ]);
    Some(Json::Array(vec![Json::Object(attestation)]))
}

fn fingerprint(hash: &str) -> Json {
    Json::Object(object([
        ("algorithm", Some(SHA_256.1.into())),
        ("algorithm_id", Some(SHA_256.0.into())),
        ("encoding", Some(HEX.1.into())),
        ("encoding_id", Some(HEX.0.into())),
        ("serialization", Some(SERIALIZATION.into())),
        ("serialization_id", Some(OTHER.into())),
        ("value", Some(hash.into())),
    ]))
}
