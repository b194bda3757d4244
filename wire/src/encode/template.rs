//! Answers in JSON of a model's own: each output where its template has it, and nothing else.

use tensorgate_policy::Tensor;
use tensorgate_policy::contract::MAX_RANK;
use tensorgate_policy::policy::Place;
use tensorgate_policy::tensor::InferResponse;

use super::AnswerForm;
use super::predict::{Elements, Texts};
use crate::json_text::string;

/// The most bytes of the way to one place: 256 bytes of a pointer, six for each in a string, and what stands around its names.
pub(super) const MOST_OF_A_PLACE: usize = 2048;

/// The names that are left of the way to a place, and what goes there.
type Target<'p, 'r> = (&'p [String], &'p Place, &'r Tensor<'static>);

/// The answer's document; outputs without a place are none of it.
pub(super) fn infer_json(response: &InferResponse, form: &AnswerForm) -> Option<Vec<u8>> {
    let template = form.template.as_deref()?;
    let targets: Vec<Target<'_, '_>> = template
        .outputs()
        .iter()
        .filter_map(|place| {
            let mut outputs = response.outputs.iter();
            let output = outputs.find(|output| output.name == place.name())?;
            Some((place.at().names(), place, output))
        })
        .collect();
    let mut json = String::new();
    write(&mut json, &targets)?;
    Some(json.into_bytes())
}

/// Writes the value at which these targets' ways have come together. They are in order, so that those of one name stand together; the
/// recursion is as deep as a pointer has names.
fn write(json: &mut String, targets: &[Target<'_, '_>]) -> Option<()> {
    if let [([], place, output)] = targets {
        if output.shape.len() > MAX_RANK {
            return None;
        }
        let texts = if place.base64() {
            Texts::Base64
        } else {
            Texts::Plain
        };
        let shape: &[i64] = match place.scalar() {
            true => &[],
            false => &output.shape,
        };
        return Elements::of(output, texts)?.value(json, shape);
    }
    json.push('{');
    let mut rest = targets;
    while let Some((name, _)) = rest.first().and_then(|(names, ..)| names.split_first()) {
        let same = |(names, ..): &&Target<'_, '_>| names.first() == Some(name);
        let (here, behind) = rest.split_at_checked(rest.iter().take_while(same).count())?;
        let below: Vec<Target<'_, '_>> = here
            .iter()
            .filter_map(|(names, place, output)| Some((names.get(1..)?, *place, *output)))
            .collect();
        string(json, name);
        json.push(':');
        write(json, &below)?;
        rest = behind;
        if !rest.is_empty() {
            json.push(',');
        }
    }
    json.push('}');
    Some(())
}
