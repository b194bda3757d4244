//! Encodes tensors at the locations of a JSON template.

use tensorgate_policy::Tensor;
use tensorgate_policy::contract::MAX_RANK;
use tensorgate_policy::policy::{Step, TensorPointer};
use tensorgate_policy::tensor::InferResponse;

use super::nested_lists::{Elements, Texts, json_overhead};
use super::{AnswerForm, JSON_GROWTH, Unencodable, list, string};

/// Maximum size of a tensor in a document, including the path to it in each row.
pub(crate) fn most_bytes(tensor: &Tensor<'_>, pointers: &[TensorPointer]) -> usize {
    /// Quotes, a colon, a brace or bracket at each end, a comma; a character of a name may take six
    /// in JSON.
    const STEP_BYTES: usize = 6;
    let bytes = tensor.data.as_ref().map_or(0, |data| data.len());
    let elements = bytes
        .saturating_mul(JSON_GROWTH)
        .saturating_add(json_overhead(tensor));
    let Some(pointer) = pointers
        .iter()
        .find(|pointer| pointer.name() == tensor.name)
    else {
        return elements;
    };
    let way = pointer.at().steps().iter().fold(0_usize, |sum, step| {
        let name = match step {
            Step::Member(name) => name.len().saturating_mul(6),
            Step::Rows => 0,
        };
        sum.saturating_add(name).saturating_add(STEP_BYTES)
    });
    let rows = match pointer.at().by_row() {
        true => tensor.shape.first().copied().unwrap_or_default(),
        false => 0,
    };
    // The path to an empty list counts too.
    let ways = usize::try_from(rows)
        .unwrap_or(usize::MAX)
        .saturating_add(1);
    elements.saturating_add(way.saturating_mul(ways))
}

/// Document of a response; outputs without a location are omitted.
pub(super) fn infer_json(
    response: &InferResponse,
    form: &AnswerForm,
) -> Result<Vec<u8>, Unencodable> {
    let template = form.template.as_deref().ok_or(Unencodable::Tensor)?;
    document(&response.outputs, template.outputs())
}

/// Document of consistent tensors; those without a location are omitted.
pub(crate) fn document(
    tensors: &[Tensor<'_>],
    pointers: &[TensorPointer],
) -> Result<Vec<u8>, Unencodable> {
    let mut targets: Vec<Target<'_, '_>> = Vec::new();
    for pointer in pointers {
        if let Some(tensor) = tensors.iter().find(|tensor| tensor.name == pointer.name()) {
            targets.push((pointer.at().steps(), pointer, tensor));
        }
    }
    // Equal names become adjacent.
    targets.sort_by_key(|(steps, ..)| *steps);
    let mut json = String::new();
    node(&targets)?.write(&mut json)?;
    Ok(json.into_bytes())
}

/// Remaining steps to a location, and its tensor.
type Target<'p, 'r> = (&'p [Step], &'p TensorPointer, &'r Tensor<'r>);

/// A node of the document.
enum Node<'p, 'r> {
    /// A tensor, or the part of it in one row, with these dimensions.
    Tensor(Elements<'r>, &'r [i64]),
    Object(Vec<(&'p str, Self)>),
    Rows(i64, Box<Self>),
}

/// The node for these targets, which are sorted, so that equal names are adjacent. The recursion is
/// as deep as a pointer.
fn node<'p, 'r>(targets: &[Target<'p, 'r>]) -> Result<Node<'p, 'r>, Unencodable> {
    if let [([], pointer, output)] = targets {
        if output.shape.len() > MAX_RANK {
            return Err(Unencodable::Tensor);
        }
        let texts = if pointer.base64() {
            Texts::Base64
        } else {
            Texts::Plain
        };
        let elements = Elements::of(output, texts)?;
        let in_rows = usize::from(pointer.at().by_row());
        let shape = match pointer.bare() {
            true => &[],
            false => output.shape.get(in_rows..).ok_or(Unencodable::Tensor)?,
        };
        return Ok(Node::Tensor(elements, shape));
    }
    if let Some(([Step::Rows, ..], _, first)) = targets.first() {
        let rows = first.shape.first().copied();
        if targets
            .iter()
            .any(|(_, _, output)| output.shape.first().copied() != rows)
        {
            return Err(Unencodable::Tensor);
        }
        let rows = rows.ok_or(Unencodable::Tensor)?;
        return Ok(Node::Rows(rows, Box::new(node(&below(targets))?)));
    }
    let mut members = Vec::new();
    let mut rest = targets;
    while let Some(([Step::Member(name), ..], ..)) = rest.first() {
        let same = |(steps, ..): &&Target<'_, '_>| matches!(steps.first(), Some(Step::Member(other)) if other == name);
        let (here, behind) = rest.split_at(rest.iter().take_while(same).count());
        members.push((name.as_str(), node(&below(here))?));
        rest = behind;
    }
    Ok(Node::Object(members))
}

/// The targets after one step.
fn below<'p, 'r>(targets: &[Target<'p, 'r>]) -> Vec<Target<'p, 'r>> {
    let below = targets
        .iter()
        .filter_map(|(steps, pointer, output)| Some((steps.get(1..)?, *pointer, *output)));
    below.collect()
}

impl Node<'_, '_> {
    /// Writes the node with the next values of its tensors.
    fn write(&mut self, json: &mut String) -> Result<(), Unencodable> {
        let mut written = Ok(());
        match self {
            Self::Tensor(elements, shape) => return elements.value(json, shape),
            Self::Object(members) => {
                json.push('{');
                for (index, (name, node)) in members.iter_mut().enumerate() {
                    if index > 0 {
                        json.push(',');
                    }
                    string(json, name);
                    json.push(':');
                    node.write(json)?;
                }
                json.push('}');
            }
            Self::Rows(rows, row) => list(json, 0..*rows, |json, _| {
                if written.is_ok() {
                    written = row.write(json);
                }
            }),
        }
        written
    }
}
