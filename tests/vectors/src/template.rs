//! An inference request as a model's own clients write it: each tensor at its JSON Pointer. Shares
//! no code with the decoder under test. It is a mistake if the template has no pointer for a value,
//! or JSON cannot express it.

use serde_json::Value;

use crate::file::Tensors;
use crate::lower::Model;
use crate::tf::{no_ids, rows_with_texts, untyped, with_texts};

/// The model's own route.
pub(crate) fn route(model: &Model) -> Option<&str> {
    model.template.get("route")?.as_str()
}

/// The path and the document.
pub(crate) fn request(
    tensors: &Tensors,
    model: Option<&Model>,
) -> Result<(String, Vec<u8>), String> {
    no_ids(tensors)?;
    untyped(tensors, model)?;
    if !tensors.parameters.is_empty() || tensors.version.is_some() {
        return Err("a template has no parameters and no versions: name the protocols".into());
    }
    let model = model.ok_or("no model: name the protocols")?;
    let path = route(model).ok_or("no template: name the protocols")?;
    let mut document = Node::Object(Vec::new());
    for input in &tensors.inputs {
        let place = model
            .template
            .get("inputs")
            .and_then(|all| all.get(&input.name));
        let place = place.ok_or("no place: name the protocols")?;
        let pointer = place.as_str().or_else(|| place.get("pointer")?.as_str());
        let base64 = place.get("bytes").and_then(Value::as_str) == Some("base64");
        let names: Vec<String> = pointer
            .unwrap_or_default()
            .split('/')
            .skip(1)
            .map(|name| name.replace("~1", "/").replace("~0", "~"))
            .collect();
        let mut ways = names.splitn(2, |name| name == "*");
        match (ways.next(), ways.next()) {
            (Some(list), Some(inner)) => {
                document.rows(list, inner, rows_with_texts(input, base64)?)?;
            }
            _ => document.put(&names, with_texts(input, base64)?)?,
        }
    }
    Ok((path.to_owned(), document.text().into_bytes()))
}

/// A document under construction; numbers stay as the vector writes them.
enum Node {
    Object(Vec<(String, Node)>),
    Rows(Vec<Node>),
    Text(String),
}

impl Node {
    fn put(&mut self, names: &[String], value: String) -> Result<(), String> {
        let place = self.at(names)?;
        match place {
            Self::Object(members) if members.is_empty() => *place = Self::Text(value),
            _ => return Err(taken()),
        }
        Ok(())
    }

    /// Puts a value into every row of a list, which must have as many rows.
    fn rows(
        &mut self,
        list: &[String],
        names: &[String],
        values: Vec<String>,
    ) -> Result<(), String> {
        let place = self.at(list)?;
        if matches!(place, Self::Object(members) if members.is_empty()) && !values.is_empty() {
            *place = Self::Rows(values.iter().map(|_| Self::Object(Vec::new())).collect());
        }
        match place {
            Self::Rows(rows) if rows.len() == values.len() => {
                let mut rows = rows.iter_mut().zip(values);
                rows.try_for_each(|(row, value)| row.put(names, value))
            }
            _ => Err("not every input has as many rows: name the protocols".into()),
        }
    }

    /// The node at these names, created if missing.
    fn at(&mut self, names: &[String]) -> Result<&mut Self, String> {
        let Some((first, rest)) = names.split_first() else {
            return Ok(self);
        };
        let Self::Object(members) = self else {
            return Err(taken());
        };
        if !members.iter().any(|(name, _)| name == first) {
            members.push((first.clone(), Self::Object(Vec::new())));
        }
        let member = members.iter_mut().find(|(name, _)| name == first);
        member.ok_or_else(taken)?.1.at(rest)
    }

    fn text(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Rows(rows) => {
                let rows: Vec<_> = rows.iter().map(Self::text).collect();
                format!("[{}]", rows.join(","))
            }
            Self::Object(members) => {
                let members: Vec<_> = members
                    .iter()
                    .map(|(name, node)| format!("{}:{}", Value::from(name.as_str()), node.text()))
                    .collect();
                format!("{{{}}}", members.join(","))
            }
        }
    }
}

fn taken() -> String {
    "a place is taken twice: name the protocols".into()
}
