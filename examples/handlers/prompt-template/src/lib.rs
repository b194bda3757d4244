//! A guardrail that puts the `text` of Agent Router's `POST /analyze` into a template, so that a
//! model sees a client's prompt only inside it.
//!
//! | config | default | |
//! |---|---|---|
//! | `template` | (must be set) | the prompt for the model, with `{text}` once |
//! | `fences` | | texts that a prompt must not have, such as the marks around `{text}` |
//!
//! Fences are separated by lines or commas. A prompt with one is blocked, because it could end the
//! template's part early. The case of ASCII letters does not matter. The responses of a model are
//! left as they are.

use handler_settings::names;
use tensorgate_handler::ndarray::Array1;
use tensorgate_handler::{Error, Payload, Preprocess, Tensor, config, export_preprocess};

/// Where the template has the prompt.
const PLACEHOLDER: &str = "{text}";

struct PromptTemplate;

impl Preprocess for PromptTemplate {
    fn preprocess(input: Payload) -> Result<Vec<Tensor>, Error> {
        let template =
            config("template").ok_or_else(|| Error::fault("config template: not set"))?;
        let parts: Vec<&str> = template.split(PLACEHOLDER).collect();
        let [before, after] = parts.as_slice() else {
            return Err(Error::fault(format!(
                "config template: needs {PLACEHOLDER} once"
            )));
        };
        let Payload::Tensors(tensors) = input else {
            return Err(Error::bad_input("expected tensors, not a body"));
        };
        let text = word(&tensors, "text")?;
        if word(&tensors, "stage")? == "output" {
            return Ok(vec![one("action", "allow")?]);
        }
        let fences = names("fences").unwrap_or_default();
        let fence = fences.iter().filter(|fence| !fence.is_empty());
        let fence = fence.filter_map(|fence| Some((position(text, fence)?, fence)));
        if let Some((start, fence)) = fence.min() {
            let characters =
                |bytes: &str| i64::try_from(bytes.chars().count()).map_err(Error::fault);
            let start = characters(text.get(..start).unwrap_or_default())?;
            let end = start.saturating_add(characters(fence)?);
            return Ok(vec![
                one("action", "block")?,
                one("type", "FENCE")?,
                Tensor::from_array("start", Array1::from_vec(vec![start]))?,
                Tensor::from_array("end", Array1::from_vec(vec![end]))?,
            ]);
        }
        Ok(vec![
            one("action", "modify")?,
            one("replacement", format!("{before}{text}{after}"))?,
        ])
    }
}

/// A tensor of one text.
fn one(name: &str, text: impl AsRef<[u8]>) -> Result<Tensor, Error> {
    Tensor::from_items(name, &[1], [text])
}

/// The only text of a tensor.
fn word<'t>(tensors: &'t [Tensor], name: &str) -> Result<&'t str, Error> {
    let tensor = tensors.iter().find(|tensor| tensor.name == name);
    let missing = || Error::bad_input(format!("expected the tensor {name}"));
    let items = tensor.ok_or_else(missing)?.items()?;
    let [item] = *items.as_slice() else {
        return Err(Error::bad_input("expected one text"));
    };
    core::str::from_utf8(item).map_err(Error::bad_input)
}

/// Where a text first has a fence, in bytes.
fn position(text: &str, fence: &str) -> Option<usize> {
    let mut parts = text.as_bytes().windows(fence.len());
    parts.position(|part| part.eq_ignore_ascii_case(fence.as_bytes()))
}

export_preprocess!(PromptTemplate);
