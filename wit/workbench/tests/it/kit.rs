//! The tensor kit inside a handler in JavaScript: what it computes, and that it gives an attacker
//! nothing.

use serde_json::{Value, json};
use tensorgate_client::run::tree;

use super::{Project, fuse, lines, story};

const MEAN: [f64; 3] = [0.485, 0.456, 0.406];
const STD: [f64; 3] = [0.229, 0.224, 0.225];

/// Pixels, and the expected planes.
fn photo(height: usize, width: usize) -> (Vec<usize>, Vec<f64>) {
    let pixels: Vec<usize> = (0..height * width * 3).map(|at| at * 7 % 256).collect();
    let planes = (0..3).flat_map(|channel| {
        let own = pixels.iter().skip(channel).step_by(3);
        own.map(move |byte| {
            let share = f64::from(u8::try_from(*byte).unwrap()) / 255.0;
            (share - MEAN[channel]) / STD[channel]
        })
    });
    let planes = planes.collect();
    (pixels, planes)
}

fn case(project: &Project, name: &str, case: &Value) {
    project.write(&format!("cases/{name}.json"), &case.to_string());
}

/// Writes a case: a tensor of pixels, and the same planes under each name.
fn planes_case(project: &Project, name: &str, (height, width): (usize, usize), outputs: &[&str]) {
    let (pixels, planes) = photo(height, width);
    let output = |name: &&str| json!({"name": name, "datatype": "FP32", "shape": [1, 3, height, width], "data": planes});
    let outputs: Vec<Value> = outputs.iter().map(output).collect();
    case(
        project,
        name,
        &json!({
            "config": {"do": "planes"},
            "input": {"tensors": [{"name": "photo", "datatype": "UINT8", "shape": [1, height, width, 3], "data": pixels}]},
            "expect": {"tensors": outputs, "tolerance": 1e-5},
        }),
    );
}

fn refused(project: &Project, name: &str, act: &str, refused: &str, message: &str) {
    case(
        project,
        name,
        &json!({"config": {"do": act}, "input": {"raw": {"content_type": "image/png", "file": "digit.png"}}, "expect": {"refused": refused, "says": message}}),
    );
}

/// Cases of pixels, and of what must fail.
fn cases(project: &Project) {
    let image = std::fs::read_dir(tree().join("examples/images"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.extension().is_some_and(|kind| kind == "png"))
        .unwrap();
    std::fs::copy(&image, project.folder().join("cases/digit.png")).unwrap();
    for (name, size) in [
        ("kit-small", (3, 4)),
        ("kit-large", (40, 56)),
        ("kit-rest", (7, 9)),
    ] {
        planes_case(project, name, size, &["image", "same"]);
    }
    refused(project, "kit-bomb", "bomb", "bad-input", "at most");
    refused(
        project,
        "kit-lie",
        "lie",
        "bad-input",
        "not a PNG, JPEG, WebP or GIF",
    );
    refused(project, "kit-room", "room", "memory", "cannot allocate");
    refused(project, "kit-overflow", "overflow", "reported", "more than");
    refused(project, "kit-endless", "endless", "fuel", "");
    case(
        project,
        "kit-carry",
        &json!({
            "config": {"do": "carry"},
            "input": {"raw": {"content_type": "image/png", "file": "digit.png"}},
            "expect": {"tensors": [{"name": "image", "datatype": "FP32", "shape": [1], "data": [1.0]}]},
        }),
    );
}

/// Checks that bytes go to the kit and back in blocks: 5 MB of them burn 15 million units of fuel.
/// Byte by byte they would burn 100 million, which exceeds `fuel` together with what the language
/// itself burns.
fn carries(project: &Project, fuel: u64) {
    let ran = project.verb("test", &["--only", "kit-carry"]);
    assert_eq!(ran.code, 0, "{}", story(&ran));
    let results = lines(&ran);
    let found = results.iter().find(|line| line["case"] == "kit-carry");
    let burnt = found.unwrap()["fuel"].as_u64().unwrap();
    assert!(burnt < fuel, "{burnt}");
}

/// Checks the built component: no more imports than a host links, and one limit for all its
/// memories.
fn sound(project: &Project) {
    let ran = project.verb("inspect", &[]);
    assert_eq!(ran.code, 0, "{}", story(&ran));
    let report = lines(&ran).remove(0);
    let imports = report["imports"].as_array().unwrap();
    for import in imports {
        assert_eq!(import["given"], true, "{report}");
    }
}

/// Checks that `QuickJS`, its memory and the bindings are one module, beside the two modules
/// through which they call functions that need their memory.
fn is_one_module(project: &Project) {
    let built = std::fs::read(project.component()).unwrap();
    let mut handler = built.as_slice();
    // It stands beside the kit, in a component with the types of its exports.
    for _ in 0..2 {
        let components = fuse::sections(handler).into_iter();
        let largest = components
            .filter(|(id, _)| *id == fuse::COMPONENT)
            .map(|(_, component)| component)
            .max_by_key(|component| component.len());
        handler = largest.unwrap();
    }
    assert_eq!(fuse::modules(handler), 3);
}

#[test]
fn a_handler_in_javascript_computes_in_the_kit() {
    let project = Project::new("kit-js", "js", "preprocess");
    // Fuel ends a call, on a busy machine too.
    project.edit("handler.yaml", "timeout_ms: 200", "timeout_ms: 60000");
    project.write(
        "handler.js",
        r#"import { NdArray, decodeImage, padTokens } from "./kit.js";
import { BadInput, Fault, Tensor, config } from "./tensorgate.js";

const [MEAN, STD] = [[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]];
const is = (found, expected) => {
  if (JSON.stringify(found) !== JSON.stringify(expected)) throw new Fault(`${JSON.stringify(found)}, not ${JSON.stringify(expected)}`);
};

const acts = {
  planes([photo]) {
    const pixels = NdArray.from(photo, "UINT8");
    const [mean, std] = [MEAN, STD].map((values) => NdArray.of("FP32", [3], values));
    const slow = pixels.cast("FP32").div(255).sub(mean).div(std).transpose(0, 3, 1, 2);
    return [pixels.planes({ mean: MEAN, std: STD }).tensor("image"), slow.tensor("same")];
  },
  bomb() {
    // A header that says 65535 by 65535.
    const bytes = "ffd8ffc0001108ffffffff03011100021100031100ffda000c03010002000300003f00".match(/../g);
    decodeImage(Uint8Array.from(bytes, (byte) => parseInt(byte, 16)));
  },
  lie: ({ data }) => decodeImage(Uint8Array.from([73, 73, 42, ...data])),
  room: () => NdArray.full("UINT8", [1 << 27], 0),
  overflow: () => NdArray.full("FP32", [2 ** 32 - 1, 2 ** 32 - 1], 0),
  endless() {
    const scores = NdArray.full("FP32", [10, 100], 1);
    for (;;) scores.topK(100);
  },
  carry() {
    const whole = Uint8Array.from({ length: 251 }, (_, at) => at);
    const many = new Uint8Array(310_000);
    for (let at = 0; at + 251 <= many.length; at += 251) many.set(whole, at);
    for (const length of [0, 1, 511, 512, 519, 520, 640, 300_000]) {
      for (let at = 0; at < 8; at++) {
        const found = NdArray.from(new Tensor("x", "UINT8", [length], many.subarray(at, at + length))).values();
        is(found.length, length);
        for (const place of [0, 5, 127, 128, length - 129, length - 8, length - 1]) is(found[place], many.subarray(at, at + length)[place]);
      }
    }
    return [Tensor.of("image", "FP32", [1], [1])];
  },
  agree({ data }) {
    const a = NdArray.of("INT32", [2, 3], [3, 1, 2, 6, 5, 4]);
    is([...a.add(1).values()], [4, 2, 3, 7, 6, 5]);
    is([a.div(2).datatype, ...a.div(2).values()], ["FP64", 1.5, 0.5, 1, 3, 2.5, 2]);
    is([...a.transpose().values()], [3, 6, 1, 5, 2, 4]);
    is([...a.slice(null, [-2]).values()], [1, 2, 5, 4]);
    is([...a.reshape(-1).take([5, 0]).values()], [4, 3]);
    is([...a.argmax(1).values()].map(Number), [0, 0]);
    is([...a.topK(2)[0].values()], [3, 2, 6, 5]);
    is([...a.operate("greater", 3).values()], [0, 0, 0, 1, 1, 1]);
    is([...a.fit(4, { value: 9 }).values()], [3, 1, 2, 9, 6, 5, 4, 9]);
    is([...a.pad([[0, 0], [1, 0]]).values()], [0, 3, 1, 2, 0, 6, 5, 4]);
    is([...NdArray.stack([a, a]).shape], [2, 2, 3]);
    const mask = a.operate("greater", 3);
    is([...a.compress(mask).values()], [6, 5, 4]);
    is([...a.compress(NdArray.of("BOOL", [2], [0, 1])).values()], [6, 5, 4]);
    is([...NdArray.where(mask, a, 0).values()], [0, 0, 0, 6, 5, 4]);
    is([...NdArray.where(mask, NdArray.of("INT32", [3], [7, 8, 9]), a).values()], [3, 1, 2, 7, 8, 9]);
    is([...a.sum().values()].map(Number), [21]);
    is(a.cast("FP32").softmax().sum(1).values().every((sum) => Math.abs(sum - 1) < 1e-6), true);
    is([...NdArray.of("FP32", [2, 4], [0, 0, 9, 9, 1, 1, 9, 9]).nms(NdArray.of("FP32", [2], [0.5, 0.9]), { overlap: 0.5 }).values()].map(Number), [1]);
    is(decodeImage(data, { channels: "gray" }).resize(4, 5).shape, [4, 5, 1]);
    is([...padTokens([[7, 8, 9], [1]], 2, 5).tokens].map(Number), [7, 8, 1, 5]);
    for (const [type, wrong] of [
      [RangeError, () => a.mul(100).cast("INT8")],
      [RangeError, () => a.div(0)],
      [RangeError, () => a.reshape(7)],
      [TypeError, () => a.resize(2, 2)],
      [TypeError, () => NdArray.where(a, a, 0)],
      [BadInput, () => decodeImage(data.slice(0, 40))],
    ]) {
      try {
        wrong();
      } catch (error) {
        if (error instanceof type) continue;
        throw error;
      }
      throw new Fault(`no ${type.name} of ${wrong}`);
    }
    throw new BadInput("they agree");
  },
};

export const preprocess = (input) => acts[config("do")](input);
"#,
    );
    let ran = project.verb("build", &[]);
    assert_eq!(ran.code, 0, "{}", story(&ran));
    sound(&project);
    is_one_module(&project);
    cases(&project);
    refused(&project, "kit-agree", "agree", "bad-input", "they agree");
    assert_eq!(project.failed("kit-"), Vec::<String>::new());
    carries(&project, 50_000_000);
}

/// A project from before the kit is built as before.
#[test]
fn a_project_without_the_kit_is_built_without_it() {
    let project = Project::new("plain-js", "js", "preprocess");
    let with = std::fs::metadata(project.component()).unwrap().len();
    std::fs::remove_file(project.folder().join("kit.js")).unwrap();
    project.write(
        "handler.js",
        "import { Tensor } from \"./tensorgate.js\";\n\nexport const preprocess = ([only]) => [Tensor.of(\"image\", \"FP32\", only.shape, only.values().map((each) => (each - 0.5) * 2))];\n",
    );
    let ran = project.verb("build", &[]);
    assert_eq!(ran.code, 0, "{}", story(&ran));
    assert!(std::fs::metadata(project.component()).unwrap().len() < with);
    assert_eq!(project.fault("scaled"), None);
}
