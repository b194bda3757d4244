//! The events of records, as `vectors.json` has them. A validator that is not ours checks the same
//! file against OCSF's schema (`make test-monitoring`).
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use serde::Deserialize;
use serde_json::json;

use super::*;

#[derive(Deserialize)]
struct Vector {
    name: String,
    ocsf_version: OcsfVersion,
    log: String,
    seq: u64,
    lost: u64,
    line: String,
    event: Json,
}

fn record(seq: u64, lost: u64, text: &str) -> Record {
    Record {
        seq,
        text: text.to_owned(),
        lost,
    }
}

#[test]
fn every_record_is_the_event_of_its_vector() {
    let vectors: Vec<Vector> = serde_json::from_str(include_str!("vectors.json")).unwrap();
    assert!(vectors.len() > 9);
    for vector in vectors {
        let record = record(vector.seq, vector.lost, &vector.line);
        let text = text(&record, &vector.log, vector.ocsf_version);
        let mut found: Json = serde_json::from_str(&text).unwrap();
        let release = &mut found["metadata"]["product"]["version"];
        assert_eq!(*release, env!("CARGO_PKG_VERSION"));
        *release = "0.0.0".into();
        assert_eq!(found, vector.event, "{}", vector.name);
    }
}

#[test]
fn no_member_of_a_line_is_missing_in_its_event() {
    let line = json!({
        "v": 1, "seq": 3, "time": "2026-11-27T09:30:00Z", "type": "decision", "verdict": "deny",
        "reason": "rate", "new_member": {"a": [1]}, "status": 0, "method": "BREW",
    });
    let found = event(&record(3, 0, &line.to_string()), "log", OcsfVersion::V1_8);
    let expected = json!({"new_member": {"a": [1]}, "status": 0, "method": "BREW"});
    assert_eq!(found["unmapped"], expected);
}

#[test]
fn a_long_event_fits_a_line_of_a_container_runtime() {
    let line = json!({
        "v": 1, "seq": 3, "time": "2026-11-27T09:30:00Z", "type": "decision", "verdict": "deny",
        "reason": "rate", "shadow": vec!["x".repeat(100); 170],
    });
    let sealed = {
        let mut sealed = line.clone();
        sealed["prev"] = "a".repeat(64).into();
        sealed["hash"] = "b".repeat(64).into();
        sealed["signature"] = "c".repeat(128).into();
        sealed
    };
    for (line, version, members) in [
        (&line, OcsfVersion::V1_9, None),
        (&sealed, OcsfVersion::V1_8, Some(3)),
        (&sealed, OcsfVersion::V1_9, Some(1)),
    ] {
        let text = text(&record(3, 0, &line.to_string()), "log", version);
        assert!(text.len() <= MAX_EVENT_BYTES);
        let found: Json = serde_json::from_str(&text).unwrap();
        assert_eq!(found["metadata"]["is_truncated"], true);
        assert_eq!(found["status_code"], "rate");
        let unmapped = found.get("unmapped").and_then(Json::as_object);
        assert_eq!(unmapped.map(Map::len), members, "{text}");
        assert_eq!(unmapped.and_then(|it| it.get("shadow")), None);
    }
}
