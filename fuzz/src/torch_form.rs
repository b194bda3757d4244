//! Fuzz target: a multipart form for TorchServe, compared with a reader that splits it at each
//! boundary. A form that the gate accepts must have the same parts with the same names. No prefix
//! of it may be a form, nor a form with data in front.

use tensorgate_policy::contract::TensorRule;
use tensorgate_policy::decision::BodyFormat;
use tensorgate_policy::policy::Accepts;
use tensorgate_policy::request::Boundary;
use tensorgate_policy::tensor::items;
use tensorgate_policy::{Datatype, InferRequest};
use tensorgate_wire::decode;

use crate::support::{POLICIES, check_body_denial};

/// Models with one input, several inputs, bytes, and many datatypes. One that accepts a file
/// follows them.
pub const MODELS: [&str; 4] = ["vec", "pair", "text", "json"];
/// The boundary of every form here.
pub const BOUNDARY: &str = "x-boundary-1";

/// The tensor rules of a model by its number; none for the model that accepts a file.
pub(crate) fn rules(model: u8) -> &'static [TensorRule] {
    let Some(name) = MODELS.get(usize::from(model) % (MODELS.len() + 1)) else {
        return &[];
    };
    let policy = &POLICIES[0];
    let model = policy.model_id(name).and_then(|id| policy.model(id));
    match model.map(|model| model.accepts()) {
        Some(Accepts::Tensors(contract)) => contract.inputs(),
        _ => panic!("a model of tensors"),
    }
}

/// Runs one input: the model's number, then a body.
pub fn run(data: &[u8]) {
    let Some((model, body)) = data.split_first() else {
        return;
    };
    let rules = rules(*model);
    let boundary = Boundary::new(BOUNDARY).expect("a boundary");
    let format = BodyFormat::TorchForm(boundary);
    let ours = match decode(format, body, rules) {
        Ok(request) => request,
        Err(denial) => return check_body_denial(&denial),
    };
    compare(&ours, &parts(body), rules);
    let cut = &body[..body.len() - 3];
    assert!(
        decode(format, cut, rules).is_err(),
        "accepted a part of a form"
    );
    let behind = [b"\r", body].concat();
    assert!(
        decode(format, &behind, rules).is_err(),
        "accepted with data in front"
    );
}

/// The parts between the boundaries: header and content.
fn parts(body: &[u8]) -> Vec<(String, &[u8])> {
    let delimiter = format!("--{BOUNDARY}");
    let mut pieces = Vec::new();
    let mut rest = body;
    while let Some(at) = position(rest, delimiter.as_bytes()) {
        pieces.push(&rest[..at]);
        rest = &rest[at + delimiter.len()..];
    }
    let front = pieces.first().copied();
    assert!(matches!(front, Some(b"" | b"\r\n")), "nothing in front");
    assert!(matches!(rest, b"--" | b"--\r\n"), "nothing behind");
    pieces[1..]
        .iter()
        .map(|piece| {
            let piece = piece.strip_prefix(b"\r\n").expect("a line of its own");
            let piece = piece.strip_suffix(b"\r\n").expect("a line of its own");
            let end = position(piece, b"\r\n\r\n").expect("a head");
            let head = str::from_utf8(&piece[..end]).expect("text");
            (head.to_ascii_lowercase(), &piece[end + 4..])
        })
        .collect()
}

fn position(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes
        .windows(wanted.len())
        .position(|window| window == wanted)
}

fn compare(ours: &InferRequest<'_>, theirs: &[(String, &[u8])], rules: &[TensorRule]) {
    if rules.is_empty() {
        let [(head, content)] = theirs else {
            panic!("{} files", theirs.len());
        };
        assert!(head.contains("data") || head.contains("body"));
        assert_eq!(ours.body, Some(*content));
        return;
    }
    assert_eq!(ours.body, None);
    let whole = ours.inputs.len() != theirs.len()
        || ours
            .inputs
            .iter()
            .zip(theirs)
            .any(|(tensor, (head, _))| !head.contains(&tensor.name.to_ascii_lowercase()));
    if whole {
        assert_eq!(theirs.len(), 1, "a whole body is one part");
        return;
    }
    for (tensor, (head, content)) in ours.inputs.iter().zip(theirs) {
        let Ok(data) = &tensor.data else { continue };
        if tensor.datatype == Datatype::Bytes.name() && !head.contains("json") {
            let all: Vec<_> = items(data).collect();
            assert_eq!(all, [Ok(*content)], "one element");
            assert!(tensor.shape.iter().all(|dim| *dim == 1));
        }
    }
}
