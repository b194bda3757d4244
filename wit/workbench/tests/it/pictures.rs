//! Pictures in Python: `decode_image`, and Pillow with the JPEG and WebP that it lacks.

use serde_json::{Value, json};

use super::Project;

/// Compares both ways with the kit's reference, and looks at what is damaged or a bomb.
const HANDLER: &str = r#"import io, json
import numpy as np
import PIL.Image
from tensorgate import BadInput, Fault, decode_image

MODES = {"GRAY": "L", "RGB": "RGB", "RGBA": "RGBA"}
BOMB = bytes.fromhex("ffd8ffc0001108ffffffff03011100021100031100ffda000c03010002000300003f00")
ROWS = json.load(open("reference.json"))
# The decoder is in the component, which is being built.
for _, _, file, _ in ROWS:
    data = bytes.fromhex(file)
    try:
        PIL.Image.open(io.BytesIO(data)).load()
        assert data[:1] not in b"\xffR", file
    except RuntimeError as error:
        assert "belongs to a request" in str(error), error


def ways(data, channels):
    yield BadInput, lambda: decode_image(data, channels)
    if data[:1] in b"\xffR":
        yield OSError, lambda: np.array(PIL.Image.open(io.BytesIO(data)).convert(MODES[channels]))


def preprocess(input):
    for channels, tolerance, file, expected in ROWS:
        data = bytes.fromhex(file)
        pixels = np.frombuffer(bytes.fromhex(expected["hex"]), np.uint8).astype(int)
        for error, way in ways(data, channels):
            found = way()
            is_near = np.abs(found.ravel() - pixels).max() <= tolerance
            if found.shape[:2] != tuple(expected["shape"][:2]) or not is_near:
                raise Fault(f"{channels} {file} {error}")
        for damaged in (b"", data[:3], data[:20], data[: len(data) // 2], b"II*" + data[3:]):
            for error, way in ways(damaged, channels):
                refuses(error, way)
    refuses(BadInput, lambda: decode_image(BOMB))
    refuses(PIL.Image.DecompressionBombError, lambda: PIL.Image.open(io.BytesIO(BOMB)))
    refuses(BadInput, lambda: decode_image(data, max_pixels=98))
    picture = PIL.Image.open(io.BytesIO(bytes.fromhex(ROWS[-1][2])))
    picture.thumbnail((4, 4))
    return {"size": np.int64(picture.size)}


def refuses(kind, function):
    try:
        function()
    except kind:
        return
    raise Fault(f"no {kind.__name__}")
"#;

#[test]
fn both_ways_give_the_kits_pixels_and_refuse_what_is_damaged() {
    let project = Project::unbuilt("pictures", "python", "preprocess");
    let reference = include_str!("../../../kit/tests/reference.json");
    let reference: Vec<Value> = serde_json::from_str(reference).unwrap();
    let images = (reference.iter()).filter(|case| case["call"] == "decode_image");
    let rows: Vec<Value> = images
        .map(|case| {
            let channels = case["arguments"]["channels"].as_str().unwrap();
            json!([
                channels.to_uppercase(),
                case["tolerance"],
                case["file"],
                case["expected"][0]
            ])
        })
        .collect();
    assert!(rows.len() > 40);
    project.write("reference.json", &json!(rows).to_string());
    project.write("handler.py", HANDLER);
    project.edit("handler.yaml", "fuel: 200000000", "fuel: 2000000000");
    project.give_time();
    let ran = project.verb("build", &[]);
    assert_eq!(ran.code, 0, "{}", super::story(&ran));
    let size = json!({"name": "size", "datatype": "INT64", "shape": [2], "data": [4, 3]});
    let case = json!({"input": {"tensors": []}, "expect": {"tensors": [size]}});
    project.write("cases/own-pictures.json", &case.to_string());
    assert_eq!(project.failed("own-"), Vec::<String>::new());
}
