//! What protocols require of the models that are called with them.

use super::*;

#[test]
fn a_version_has_one_spelling_in_every_protocol_of_its_model() {
    let model = |protocol: &str, version: &str| {
        json!({
            "backend": "cpu", "versions": ["1", version], "protocols": ["oip-rest", protocol],
            "inputs": [{"name": "x", "datatype": "FP32", "shape": [1]}],
            "outputs": [{"name": "y", "datatype": "FP32", "shape": [1]}]
        })
    };
    for protocol in ["tf-serving-rest", "tf-serving-grpc"] {
        for (version, fix) in [
            ("007", r#"("7")"#),
            ("00", r#"("0")"#),
            ("9223372036854775808", r#"("v9223372036854775808")"#),
        ] {
            let text = format!(
                "{protocol} cannot name version \"{version}\": its versions are 64-bit numbers without leading zeros {fix}"
            );
            check(
                "/models/hidden",
                model(protocol, version),
                "models.hidden.versions[1]",
                &text,
            );
        }
        for version in ["7", "0", "9223372036854775807", "v007", "0x1", "1.0"] {
            accept("/models/hidden", model(protocol, version));
        }
    }
    accept("/models/hidden", model("torchserve-rest", "007"));
}

#[test]
fn half_float_outputs_give_a_warning_if_clients_may_ask_in_json() {
    let model = |protocol: &str, datatype: &str| {
        json!({
            "backend": "cpu", "versions": ["1"], "protocols": [protocol],
            "inputs": [{"name": "x", "datatype": "FP32", "shape": [1]}],
            "outputs": [{"name": "y", "datatype": datatype, "shape": [1]}]
        })
    };
    for (protocol, datatype, warned) in [
        ("oip-rest", "FP16", true),
        ("oip-rest", "BF16", true),
        ("oip-rest", "FP32", false),
        ("oip-grpc", "FP16", false),
    ] {
        let faults = warnings(with("/models/hidden", model(protocol, datatype)));
        let text = format!("models.hidden.outputs: output \"y\" is {datatype}, which JSON");
        let found = faults.iter().any(|fault| fault.starts_with(&text));
        assert_eq!(found, warned, "{protocol} {datatype}: {faults:#?}");
    }
}

#[test]
fn outputs_without_a_common_first_dim_give_a_warning_if_rows_are_possible() {
    let model = |protocol: &str, one: Value, other: Value| {
        json!({
            "backend": "cpu", "versions": ["1"], "protocols": [protocol],
            "inputs": [{"name": "x", "datatype": "FP32", "shape": [1]}],
            "outputs": [
                {"name": "y", "datatype": "FP32", "shape": one},
                {"name": "z", "datatype": "FP32", "shape": other}
            ]
        })
    };
    for (one, other, warned) in [
        (json!([]), json!([1]), true),
        (json!([2]), json!([3]), true),
        (json!([{"min": 4, "max": 8}]), json!([{"max": 3}]), true),
        (json!([{"max": 8}]), json!([{"max": 3}]), false),
        (json!([2, 3]), json!([2]), false),
    ] {
        for (protocol, warned) in [("tf-serving-rest", warned), ("oip-rest", false)] {
            let faults = warnings(with(
                "/models/hidden",
                model(protocol, one.clone(), other.clone()),
            ));
            let told = faults
                .iter()
                .any(|fault| fault.starts_with("models.hidden.outputs: have no common first dim"));
            assert_eq!(told, warned, "{protocol} {one} {other}: {faults:?}");
        }
    }
}

#[test]
fn a_file_without_a_content_type_counts_as_plain_bytes() {
    let at = "/models/picture/protocols";
    for protocols in [
        json!(["oip-rest", "torchserve-rest"]),
        json!(["torchserve-rest"]),
    ] {
        accept(at, protocols);
    }
    check(
        at,
        json!(["torchserve-grpc"]),
        "models.picture.accepts.raw.content_types",
        "does not list application/octet-stream, the type of every file over torchserve-grpc",
    );
    let mut typed = with(at, json!(["torchserve-grpc"]));
    put(
        &mut typed,
        "/models/picture/accepts/raw/content_types/1",
        json!("application/octet-stream"),
    );
    assert_eq!(errors(typed), Vec::<String>::new());
}

#[test]
fn declared_content_types_and_allowed_media_types_must_match() {
    let at = "/models/picture/accepts/raw";
    let raw = |types: Value, kinds: Value| {
        json!({
            "content_types": types, "max_bytes": "64KiB",
            "media": {"types": kinds, "max_width": 9, "max_height": 9, "max_duration_ms": 9}
        })
    };
    warn(
        at,
        raw(json!(["image/png", "image/jpeg"]), json!(["png", "wav"])),
        "models.picture.accepts.raw.content_types[1]",
        "files of type image/jpeg are always rejected: media.types lists only png, wav",
    );
    warn(
        at,
        raw(json!(["image/png"]), json!(["png", "wav"])),
        "models.picture.accepts.raw.media.types[1]",
        "no entry of content_types declares wav",
    );
    for types in [
        json!(["image/png", "audio/x-wav"]),
        json!(["image/png", "application/octet-stream"]),
        json!(["image/x-own"]),
    ] {
        let told = warnings(with(at, raw(types.clone(), json!(["png", "wav"]))));
        assert_eq!(told, Vec::<String>::new(), "{types}");
    }
}
