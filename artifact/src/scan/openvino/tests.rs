//! Tests of the scan of OpenVINO's models.
#![allow(clippy::arithmetic_side_effects, clippy::unwrap_used, reason = "tests")]

use std::fmt::Write as _;
use std::io::Cursor;
use std::ops::Range;

use super::*;
use crate::scan::Verdict::{Executable, Malformed, Safe, Unknown};

/// A model as `openvino.save_model` writes it: a constant of two floats that is added to the input,
/// in a condition whose bodies have constants.
const MODEL: &str = r#"<?xml version="1.0"?>
<net name="m" version="11">
	<layers>
		<layer id="0" name="x" type="Parameter" version="opset1">
			<data shape="?,2" element_type="f32" />
			<output>
				<port id="0" precision="FP32" names="x">
					<dim>-1</dim>
					<dim>2</dim>
				</port>
			</output>
		</layer>
		<layer id="1" name="c" type="Const" version="opset1">
			<data element_type="f32" shape="1, 2" offset="4" size="8" />
			<output>
				<port id="0" precision="FP32" />
			</output>
		</layer>
		<layer id="7" name="if" type="If" version="opset8">
			<then_port_map>
				<input external_port_id="1" internal_layer_id="0" />
				<output external_port_id="2" internal_layer_id="4" />
			</then_port_map>
			<input>
				<port id="0" precision="FP32" />
				<port id="1" precision="FP32">
					<dim>2</dim>
					<rt_info>
						<attribute name="fused_names" version="0" value="/a/b" />
					</rt_info>
				</port>
			</input>
			<output>
				<port id="2" precision="FP32" />
			</output>
			<then_body>
				<layers>
					<layer id="0" name="e" type="Const" version="opset17">
						<data element_type="u4" shape="3" offset="12" size="2" />
						<output>
							<port id="0" precision="U4" />
						</output>
					</layer>
					<layer id="1" name="r" type="Result" version="opset1">
						<input>
							<port id="0" precision="U4" />
						</input>
					</layer>
				</layers>
				<edges>
					<edge from-layer="0" from-port="0" to-layer="1" to-port="0" />
				</edges>
				<rt_info />
			</then_body>
		</layer>
	</layers>
	<edges>
		<edge from-layer="0" from-port="0" to-layer="7" to-port="0" />
		<edge from-layer="1" from-port="0" to-layer="7" to-port="1" />
	</edges>
	<rt_info>
		<conversion_parameters>
			<input_model value="/srv/a/model.onnx" />
		</conversion_parameters>
		<info name="OpenVINO Runtime" value="2026.4.1" />
	</rt_info>
</net>
"#;
/// A model without constants.
const PLAIN: &str = r#"<net name="m" version="10"><layers>
<layer id="0" name="x" type="Parameter" version="opset1"><output><port id="0"/></output></layer>
<layer id="1" name="r" type="Result" version="opset1"><input><port id="0"/></input></layer>
</layers><edges><edge from-layer="0" from-port="0" to-layer="1" to-port="0"/></edges></net>"#;

fn scanned(model: &str) -> Report {
    scan(&mut Cursor::new(model), "Model.xml", &Limits::default()).unwrap()
}

/// Where the constants are.
fn found(model: &str) -> Option<Vec<Range<u64>>> {
    let empty = RangesByFile::new(None, 1_000, 1 << 20);
    let ranges = data_ranges(&mut Cursor::new(model), empty, &Limits::default()).unwrap();
    ranges.in_file("")
}

#[test]
fn a_model_is_safe_but_for_its_constants() {
    let report = scanned(MODEL);
    assert_eq!(report.verdict, Unknown, "{report:?}");
    assert_eq!(report.data_files, ["Model.bin"]);
    assert_eq!(report.findings.len(), 1);
    assert_eq!(found(MODEL), Some(vec![0..0, 4..12, 12..14]));
    let report = scanned(PLAIN);
    assert_eq!(report.verdict, Safe, "{report:?}");
    assert!(report.data_files.is_empty());
    assert_eq!(found(PLAIN), Some(vec![0..0]));
}

/// Checks what becomes of the model with one part in place of another.
fn check(cases: &[(&str, &str, Verdict)]) {
    for (part, other, verdict) in cases {
        assert!(MODEL.contains(part), "{part}");
        let model = MODEL.replacen(part, other, 1);
        let report = scanned(&model);
        assert_eq!(report.verdict, *verdict, "{other}: {report:?}");
        let is_followed = *verdict == Unknown && !report.data_files.is_empty();
        assert_eq!(found(&model).is_some(), is_followed, "{other}: {report:?}");
    }
}

#[test]
fn a_constant_has_the_bytes_of_its_shape() {
    check(&[
        ("shape=\"1, 2\"", "shape=\"2\"", Unknown),
        ("shape=\"1, 2\"", "shape=\"3\"", Malformed),
        ("shape=\"1, 2\"", "shape=\"\"", Malformed),
        ("shape=\"1, 2\"", "shape=\"-1,-2\"", Malformed),
        // The loader multiplies lengths without a check.
        ("shape=\"1, 2\"", "shape=\"4611686018427387904\"", Malformed),
        (
            "shape=\"1, 2\"",
            "shape=\"4294967296,4294967296,2\"",
            Malformed,
        ),
        ("offset=\"4\"", "offset=\"9223372036854775807\"", Unknown),
        ("offset=\"4\"", "offset=\"9223372036854775808\"", Malformed),
        ("offset=\"4\"", "offset=\"18446744073709551612\"", Malformed),
        ("offset=\"4\"", "offset=\"-4\"", Malformed),
        ("offset=\"4\"", "offset=\"+4\"", Malformed),
        ("offset=\"4\"", "offset=\"0x4\"", Malformed),
        ("offset=\"4\" ", "", Malformed),
        ("size=\"8\"", "size=\"9\"", Malformed),
        ("size=\"8\"", "size=\"8\" value=\"abc\"", Malformed),
        ("type=\"Const\"", "type=\"Constant\"", Malformed),
        ("type=\"Const\"", "type=\"CONSTANT\"", Malformed),
        ("type=\"Const\"", "type=\"Convert\"", Unknown),
        ("element_type=\"u4\"", "element_type=\"i4\"", Unknown),
        ("element_type=\"u4\"", "element_type=\"u8\"", Malformed),
        (
            "shape=\"3\" offset=\"12\" size=\"2\"",
            "shape=\"0\" offset=\"12\" size=\"1\"",
            Unknown,
        ),
        (
            "shape=\"3\" offset=\"12\" size=\"2\"",
            "shape=\"0\" offset=\"12\" size=\"2\"",
            Malformed,
        ),
    ]);
    for other in ["string", "u3", "u5"] {
        let model = MODEL.replace("element_type=\"u4\"", &format!("element_type=\"{other}\""));
        assert_eq!(scanned(&model).verdict, Unknown);
        assert_eq!(found(&model), None);
    }
}

#[test]
fn elements_are_packed() {
    for (element_type, shape, size) in [
        ("boolean", "3,5", 15),
        ("f4e2m1", "3,5", 8),
        ("u1", "3,5", 2),
        ("u2", "3,5", 4),
        ("f64", "", 8),
    ] {
        let data = format!("element_type=\"{element_type}\" shape=\"{shape}\" offset=\"0\"");
        for (size, is_right) in [(size, true), (size + 1, false)] {
            let data = format!("{data} size=\"{size}\"");
            let part = "element_type=\"u4\" shape=\"3\" offset=\"12\" size=\"2\"";
            let report = scanned(&MODEL.replace(part, &data));
            let verdict = if is_right { Unknown } else { Malformed };
            assert_eq!(report.verdict, verdict, "{data}: {report:?}");
        }
    }
}

#[test]
fn layers_are_those_of_openvino() {
    let version = "type=\"If\" version=\"opset8\"";
    for (other, verdict, rule) in [
        ("type=\"If\" version=\"opset17\"", Unknown, "openvino-data"),
        (
            "type=\"If\" version=\"opset18\"",
            Unknown,
            "openvino-extension",
        ),
        (
            "type=\"If\" version=\"opset08\"",
            Unknown,
            "openvino-extension",
        ),
        (
            "type=\"If\" version=\"opset0\"",
            Unknown,
            "openvino-extension",
        ),
        ("type=\"If\"", Unknown, "openvino-extension"),
        (
            "type=\"BytesToChars\" version=\"extension\"",
            Unknown,
            "openvino-extension",
        ),
        (
            "type=\"Run\" version=\"custom_opset\"",
            Unknown,
            "openvino-extension",
        ),
    ] {
        let model = MODEL.replace(version, other);
        let report = scanned(&model);
        assert_eq!(report.verdict, verdict, "{other}: {report:?}");
        assert_eq!(report.findings.first().unwrap().rule.name, rule, "{other}");
        assert_eq!(found(&model).is_some(), rule == "openvino-data", "{other}");
    }
}

#[test]
fn a_graph_that_readers_understand_differently_is_malformed() {
    check(&[
        ("version=\"11\"", "version=\"12\"", Unknown),
        ("version=\"11\"", "", Unknown),
        ("<layer id=\"7\"", "<layer id=\"1\"", Malformed),
        ("<layer id=\"7\"", "<layer id=\"x\"", Malformed),
        ("to-layer=\"7\"", "to-layer=\"8\"", Malformed),
        ("from-layer=\"1\"", "from-layer=\"2\"", Malformed),
        ("to-layer=\"1\" to-port=\"0\"", "to-port=\"0\"", Malformed),
        ("</net>", "</net><net version=\"11\"/>", Malformed),
        (
            "<net ",
            "<!DOCTYPE net [<!ENTITY a \"b\">]><net ",
            Malformed,
        ),
        ("<net ", "<NET ", Unknown),
        ("<edges>", "<pre-process/><edges>", Unknown),
        ("<dim>2</dim>", "<dim>2<a/></dim>", Unknown),
    ]);
}

#[test]
fn a_path_that_plugins_read_is_executable() {
    for other in [
        "<info name=\"__weights_path\" value=\"/etc/passwd\" /><info name=\"a\"",
        "<__weights_path value=\"other.bin\" /><info name=\"a\"",
    ] {
        let model = MODEL.replace("<info name=\"OpenVINO Runtime\"", other);
        let report = scanned(&model);
        assert_eq!(report.verdict, Executable, "{report:?}");
        assert!(report.data_files.is_empty());
        assert_eq!(found(&model), None);
    }
}

#[test]
fn layers_are_bounded() {
    let limits = Limits {
        entries: 1_000,
        ..Limits::default()
    };
    for count in [998, 10_000] {
        let mut layers = String::new();
        for id in 2..=count {
            let layer = "name=\"x\" type=\"Parameter\" version=\"opset1\"";
            write!(layers, "<layer id=\"{id}\" {layer}/>").unwrap();
        }
        let model = PLAIN.replace("</layers>", &format!("{layers}</layers>"));
        let report = scan(&mut Cursor::new(model), "m.xml", &limits).unwrap();
        let verdict = if count < 1_000 { Safe } else { Unknown };
        assert_eq!(report.verdict, verdict, "{report:?}");
    }
    // The memory for ranges.
    let empty = RangesByFile::new(None, 1_000, 64);
    let ranges = data_ranges(&mut Cursor::new(MODEL), empty, &limits).unwrap();
    assert!(ranges.bytes() > 64);
}

#[test]
fn a_model_is_known_by_its_first_element() {
    for (head, is_one) in [
        (MODEL, true),
        ("<net>", false),
        ("<?xml version=\"1.0\"?><network/>", false),
        ("", false),
    ] {
        assert_eq!(is_model(head.as_bytes()), is_one, "{head}");
    }
}
