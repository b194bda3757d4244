//! Tests of which files of a required model are accepted, and how many are counted.

#![allow(clippy::unwrap_used, reason = "tests")]

use serde_json::{Value, json};
use tensorgate_artifact::scan::Report;
use tensorgate_artifact::scan::rules::{self, Rule};
use tensorgate_policy::{Policy, hex};
use tensorgate_policy_compiler::validate::validate;

use super::*;

/// The first second after 2027-01-31.
const END_UNIX_S: u64 = 1_801_440_000;
const PROGRAM: (Verdict, &Rule) = (Verdict::Executable, rules::PROGRAM);
const GLOBAL: (Verdict, &Rule) = (Verdict::Executable, rules::PICKLE_GLOBAL);

/// A policy with a model whose artifact has these members, too.
fn policy(more: &Value) -> Policy {
    let tensor = json!({"name": "x", "datatype": "FP32", "shape": [1]});
    let mut artifact = json!({"path": "m", "manifest": "m.json", "sha256": "01".repeat(32)});
    let members = artifact.as_object_mut().unwrap();
    members.extend(more.as_object().unwrap().clone());
    let policy = json!({
        "version": 1,
        "clients": {"web": {"api_keys": [{"sha256": "01".repeat(32)}]}},
        "backends": {"gpu": {"kind": "open-inference", "endpoints": ["http://127.0.0.1:8001"]}},
        "models": {"m": {
            "backend": "gpu", "versions": ["1"], "protocols": ["oip-rest"],
            "inputs": [tensor], "outputs": [tensor], "artifact": artifact
        }},
        "grants": [{"name": "g", "clients": ["web"], "models": ["m"], "operations": ["infer"]}]
    });
    validate(&serde_json::from_value(policy).unwrap())
        .unwrap()
        .0
}

fn report(format: &'static str, findings: &[(Verdict, &'static Rule)]) -> FileReport {
    let mut report = Report::new(format);
    for (verdict, rule) in findings {
        report.add(*verdict, 0, rule, "x");
    }
    report.into()
}

/// What becomes of a file with this digest.
fn accepted(
    policy: &Policy,
    location: &str,
    sha256: Option<[u8; 32]>,
    report: &FileReport,
    now_unix_s: u64,
) -> Result<Accepted, Cause> {
    let (_, _, artifact) = policy.artifacts().next().unwrap();
    let file = ScannedFile {
        location,
        sha256: sha256.as_ref(),
        report,
    };
    let mut accepted = Accepted::default();
    accept(artifact, &file, &mut accepted, now_unix_s)?;
    Ok(accepted)
}

#[test]
fn an_exception_accepts_one_file_until_its_last_day() {
    let policy = policy(&json!({
        "formats": ["onnx"],
        "exceptions": [{
            "sha256": hex(&[3; 32]), "path": "1/model.pkl", "reason": "read by hand",
            "until": "2027-01-31"
        }]
    }));
    let pickle = report("pickle", &[GLOBAL]);
    let at = |sha256: Option<[u8; 32]>, now_unix_s: u64| {
        accepted(&policy, "1/model.pkl", sha256, &pickle, now_unix_s)
    };
    let last = END_UNIX_S.saturating_sub(1);
    let found = at(Some([3; 32]), last).unwrap();
    assert_eq!((found.excepted, found.code), (1, 0));
    assert!(found.has_ended(END_UNIX_S));
    // Once it has ended, the operator knows which one.
    let ended = at(Some([3; 32]), END_UNIX_S).unwrap_err();
    assert!(matches!(ended, Cause::Ended(_)), "{ended:?}");
    for part in ["1/model.pkl", "read by hand", "2027-01-31", "later `until`"] {
        assert!(ended.text().contains(part), "{ended:?}");
    }
    // The same content elsewhere may run where it did not.
    for elsewhere in ["model.pkl", "1/sitecustomize.py", "2/model.pkl"] {
        let cause = accepted(&policy, elsewhere, Some([3; 32]), &pickle, last).unwrap_err();
        let is_named = cause.text().contains("accepted at \"1/model.pkl\" only");
        assert!(is_named && matches!(cause, Cause::Files(_)), "{cause:?}");
    }
    // Another byte is another file.
    let other = at(Some([4; 32]), last).unwrap_err();
    assert!(matches!(other, Cause::Files(_)), "{other:?}");
    let shards = at(None, last).unwrap_err();
    assert!(matches!(shards, Cause::Files(_)), "{shards:?}");
    assert!(
        shards.text().contains("without --shard-bytes"),
        "{shards:?}"
    );
    // A safe file needs none, and must have an allowed format.
    let onnx = report("onnx", &[]);
    let safe = accepted(&policy, "1/a.onnx", Some([3; 32]), &onnx, END_UNIX_S);
    assert_eq!(safe, Ok(Accepted::default()));
    let text = report("text", &[]);
    let format = accepted(&policy, "a.md", Some([3; 32]), &text, last).unwrap_err();
    assert!(format.text().contains("not among `formats`"), "{format:?}");
}

#[test]
fn a_failed_scan_is_repeated_and_no_verdict_of_an_ended_exception() {
    let policy = policy(&json!({
        "exceptions": [{
            "sha256": hex(&[3; 32]), "path": "a", "reason": "r", "until": "2027-01-31"
        }]
    }));
    let failed = FileReport::unscanned(rules::UNREADABLE, "no");
    let cause = accepted(&policy, "a", Some([3; 32]), &failed, END_UNIX_S).unwrap_err();
    assert!(matches!(cause, Cause::Other(_)), "{cause:?}");
}

#[test]
fn code_of_an_allowed_kind_is_accepted_and_nothing_beside_it() {
    let policies = [
        policy(&json!({})),
        policy(&json!({"allow": ["triton-python"], "formats": ["onnx"]})),
        policy(&json!({"allow": ["torchscript"], "formats": ["torchscript"]})),
        policy(&json!({"allow": ["torchscript"], "formats": ["onnx"]})),
    ];
    let python = report("script", &[PROGRAM]);
    let native = report("elf", &[PROGRAM]);
    let polyglot = report("script", &[PROGRAM, (Verdict::Malformed, rules::POLYGLOT)]);
    let pickle = report("pickle", &[GLOBAL]);
    let script = report("torchscript", &[(Verdict::Executable, rules::TORCHSCRIPT)]);
    for (name, report, expected) in [
        ("m/1/model.py", &python, [false, true, false, false]),
        ("m/1/model.py", &native, [false; 4]),
        ("m/1/lib.so", &native, [false; 4]),
        ("m/1/model.py", &polyglot, [false; 4]),
        ("m/1/model.pkl", &pickle, [false; 4]),
        ("m/1/model.pt", &script, [false, false, true, false]),
    ] {
        let found = policies.each_ref().map(|policy| {
            let found = accepted(policy, name, Some([3; 32]), report, 0);
            found.is_ok_and(|accepted| accepted.code == 1 && accepted.excepted == 0)
        });
        assert_eq!(found, expected, "{name} {report:?}");
    }
    // The operator of a model that is code learns of the option, and of no other model.
    let [none, ..] = &policies;
    for (report, expected) in [(&python, true), (&pickle, false)] {
        let refused = accepted(none, "m/1/model.py", None, report, 0).unwrap_err();
        let is_named = refused.text().contains("`allow: [triton-python]`");
        assert_eq!(is_named, expected, "{refused:?}");
    }
}
