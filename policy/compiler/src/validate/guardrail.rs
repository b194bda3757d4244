//! Models that serve the guardrail contract: their route, their bounds, and the model of tensors
//! that the contract makes of them.
//!
//! The request `{"text", "context": {"stage"}}` becomes the tensors `text` and `stage`. The
//! handler's tensors `action`, `replacement`, `type`, `start`, `end` and `score` become the
//! response `{"action", "replacement", "findings": [{"type", "start", "end", "score"}]}`.

use tensorgate_policy::contract::guardrail::{
    ACTION, ACTIONS, END, MAX_FINDINGS, REPLACEMENT, SCORE, STAGE, STAGES, START, TEXT, TYPE,
};
use tensorgate_policy::report::Path;
use tensorgate_policy::request::Protocol;
use tensorgate_policy::values::datatype::Datatype;

use super::template;
use crate::raw::{
    Accepts, ByteSize, BytesAs, Dim, Guardrail, Input, Json, Model, Scalar, TensorPointer, Versions,
};

/// Default route.
const ROUTE: &str = "/analyze";
/// Default maximum size of a text.
const MAX_TEXT_BYTES: u64 = 64 << 10;
/// Size of a request besides its text.
const ENVELOPE_BYTES: u64 = 128;
/// Maximum size of an action, of a stage, and of the type of a finding.
const MAX_WORD_BYTES: u64 = 64;
/// The dim that counts findings.
const FINDINGS: &str = "findings";

/// The model of tensors of a guardrail. `body_bytes` is the listener's.
pub(super) fn expanded(
    path: &Path,
    raw: &Model,
    rule: &Guardrail,
    body_bytes: u64,
) -> Option<Model> {
    let own = path.field("guardrail");
    let mut valid = meaningless(path, raw);
    if raw.preprocess.is_none() {
        valid = path.field("preprocess").fail_with_fix(
            "is missing: a guardrail needs the handler that answers",
            "preprocess: the name of a handler",
        );
    }
    let most = body_bytes.saturating_sub(ENVELOPE_BYTES);
    let max_text = rule
        .max_text_bytes
        .unwrap_or(ByteSize(MAX_TEXT_BYTES.min(most)));
    let size_path = own.field("max_text_bytes");
    let max_bytes: Option<u32> = size_path.within(max_text.0, 1, most, "bytes");
    let route = rule.route.as_deref().unwrap_or(ROUTE);
    let route = template::route(&own.field("route"), Some(route), true);
    valid?;
    let (max_bytes, route) = (max_bytes?, route?);
    // A text has at most as many characters as bytes.
    let offset = |name| {
        of_findings(Input {
            range: Some((0.0, f64::from(max_bytes))),
            ..tensor(name, Datatype::Int64)
        })
    };
    let word = ByteSize(MAX_WORD_BYTES);
    Some(Model {
        protocols: vec![Protocol::Json.name().into()],
        accepts: Some(Accepts {
            inputs: vec![texts(TEXT, max_text), one_of(STAGE, &STAGES)],
            raw: None,
        }),
        inputs: vec![
            one_of(ACTION, &ACTIONS),
            Input {
                optional: true,
                ..texts(REPLACEMENT, max_text)
            },
            of_findings(Input {
                max_item_bytes: Some(word),
                utf8: true,
                ..tensor(TYPE, Datatype::Bytes)
            }),
            offset(START),
            offset(END),
            of_findings(Input {
                range: Some((0.0, 1.0)),
                ..tensor(SCORE, Datatype::Fp32)
            }),
        ],
        json: Some(json(route)),
        ..raw.clone()
    })
}

/// Rejects fields whose meaning the contract fixes.
fn meaningless(path: &Path, raw: &Model) -> Option<()> {
    let mut valid = Some(());
    let one_version = match &raw.versions {
        Versions::Listed(versions) => versions.len() == 1,
        Versions::Ruled(_) => false,
    };
    if !one_version {
        valid = path
            .field("versions")
            .fail_with_fix("a guardrail has one version", "[\"1\"]");
    }
    for (name, is_there) in [
        ("backend", raw.backend.is_some()),
        ("ensemble", raw.ensemble.is_some()),
        ("backend_model", raw.backend_model.is_some()),
        ("protocols", !raw.protocols.is_empty()),
        ("inputs", !raw.inputs.is_empty()),
        ("outputs", !raw.outputs.is_empty()),
        ("parameters", !raw.parameters.is_empty()),
        ("ignored", !raw.ignored.is_empty()),
        ("json", raw.json.is_some()),
        ("decoupled", raw.decoupled.is_some()),
        ("accepts", raw.accepts.is_some()),
        ("postprocess", raw.postprocess.is_some()),
        ("returns", raw.returns.is_some()),
        ("artifact", raw.artifact.is_some()),
    ] {
        if is_there {
            let message = "is not for a guardrail: its contract fixes what it gets and returns";
            valid = path.field(name).fail_with_fix(message, "remove it");
        }
    }
    valid
}

fn tensor(name: &str, datatype: Datatype) -> Input {
    Input {
        name: Some(name.into()),
        datatype: Some(datatype.name().into()),
        shape: Some(vec![Dim::Fixed(1)]),
        ..Input::default()
    }
}

/// One text.
fn texts(name: &str, max_bytes: ByteSize) -> Input {
    Input {
        max_item_bytes: Some(max_bytes),
        utf8: true,
        ..tensor(name, Datatype::Bytes)
    }
}

/// One of a few words.
fn one_of(name: &str, words: &[&str]) -> Input {
    let words = words.iter().map(|word| Scalar::Text((*word).into()));
    Input {
        max_item_bytes: Some(ByteSize(MAX_WORD_BYTES)),
        allowed: Some(words.collect()),
        ..tensor(name, Datatype::Bytes)
    }
}

/// The same tensor with an element for each finding. A handler may leave it out.
fn of_findings(input: Input) -> Input {
    Input {
        shape: Some(vec![Dim::Bounded {
            name: Some(FINDINGS.into()),
            min: Some(0),
            max: Some(MAX_FINDINGS),
        }]),
        optional: true,
        ..input
    }
}

/// Where the contract has each tensor.
fn json(route: String) -> Json {
    let at = |name: &str, pointer: String| {
        let pointer = TensorPointer {
            pointer,
            bytes: BytesAs::Text,
        };
        (String::from(name), pointer)
    };
    let of_findings =
        [TYPE, START, END, SCORE].map(|name| at(name, format!("/{FINDINGS}/*/{name}")));
    let others = [ACTION, REPLACEMENT].map(|name| at(name, format!("/{name}")));
    Json {
        route: Some(route),
        inputs: [
            at(TEXT, format!("/{TEXT}")),
            at(STAGE, format!("/context/{STAGE}")),
        ]
        .into(),
        outputs: others.into_iter().chain(of_findings).collect(),
        ignored: vec![],
    }
}
