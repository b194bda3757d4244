//! Decodes JSON with a template: tensors at its locations, and nothing else. Objects lead to
//! locations, one list to rows; other lists belong to tensors. The contract gives the datatypes.

use std::borrow::Cow;
use std::collections::BTreeMap;

use tensorgate_policy::contract::TensorRule;
use tensorgate_policy::policy::{Pointer, Step, Template, TensorPointer};
use tensorgate_policy::{InferRequest, Tensor};

use super::columns::Column;
use super::request::unknown;
use super::scan::Scanner;
use super::tree::Texts;
use crate::fault::{BodyFault, quote};
use crate::raw_contents::Budget;

/// Reads a request.
pub(crate) fn template<'a>(
    body: &'a [u8],
    template: &Template,
    rules: &[TensorRule],
) -> Result<InferRequest<'a>, BodyFault> {
    let form = match template.is_guardrail() {
        true => Form::Guardrail,
        false => Form::Exact,
    };
    Ok(InferRequest {
        by_column: true,
        inputs: tensors(body, template.inputs(), template.ignored(), rules, form)?,
        ..InferRequest::default()
    })
}

/// Reads a response. Other members are ignored.
pub(crate) fn template_answer<'a>(
    body: &'a [u8],
    template: &Template,
    rules: &[TensorRule],
) -> Result<Vec<Tensor<'a>>, BodyFault> {
    tensors(body, template.outputs(), &[], rules, Form::Answer)
}

/// What a document may have beside its tensors.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    /// A request: no other member. A single element may be in a list.
    Exact,
    /// A request of the guardrail contract: other members, which are skipped. A list is no text:
    /// the router that wrote it means something else by it than the handler would read.
    Guardrail,
    /// An answer: other members, which are skipped.
    Answer,
}

/// Reads the tensors in order of appearance.
fn tensors<'a>(
    body: &'a [u8],
    pointers: &[TensorPointer],
    ignored: &[Pointer],
    rules: &[TensorRule],
    form: Form,
) -> Result<Vec<Tensor<'a>>, BodyFault> {
    let tensors = pointers
        .iter()
        .map(|pointer| (pointer.at().steps(), Some(pointer)));
    let unread = ignored.iter().map(|pointer| (pointer.steps(), None));
    let targets: Vec<Target<'_>> = tensors.chain(unread).collect();
    let mut node = node(&targets, rules);
    let mut scanner = Scanner::over(body)?;
    let mut walk = Walk {
        budget: Budget::new(),
        objects: 0,
        tensors: 0,
        form,
    };
    walk.take(&mut scanner, &mut node)?;
    scanner.end()?;
    let mut collected = Vec::new();
    node.finish(false, &mut collected);
    collected.sort_by_key(|(turn, _)| *turn);
    Ok(collected.into_iter().map(|(_, tensor)| tensor).collect())
}

/// Remaining steps to a location, and its tensor; `None` for ignored members.
type Target<'p> = (&'p [Step], Option<&'p TensorPointer>);

/// A node of the document.
enum Node<'a, 'p> {
    /// A tensor, or its part in one row.
    Tensor {
        column: Column<'a>,
        pointer: &'p TensorPointer,
        /// Number of tensors before it.
        turn: usize,
    },
    /// Ignored.
    Ignored,
    /// Members, sorted by name.
    Object(Vec<Member<'a, 'p>>),
    /// Contents of every row.
    Rows(Box<Self>),
}

/// A member of an object.
struct Member<'a, 'p> {
    name: &'p str,
    /// Number of the last object with this member; 0 for none.
    object: u64,
    node: Node<'a, 'p>,
}

/// The node for these targets. The recursion is as deep as a pointer.
fn node<'a, 'p>(targets: &[Target<'p>], rules: &[TensorRule]) -> Node<'a, 'p> {
    match targets {
        [([], Some(pointer))] => {
            let texts = if pointer.base64() {
                Texts::Base64
            } else {
                Texts::Plain
            };
            let name = Cow::Owned(pointer.name().to_owned());
            return Node::Tensor {
                column: Column::of(name, rules, texts),
                pointer,
                turn: 0,
            };
        }
        [([], None)] => return Node::Ignored,
        _ => {}
    }
    let mut members: BTreeMap<&'p str, Vec<Target<'p>>> = BTreeMap::new();
    let mut rows: Vec<Target<'p>> = Vec::new();
    for (steps, pointer) in targets {
        match steps.split_first() {
            Some((Step::Member(name), rest)) => {
                members.entry(name).or_default().push((rest, *pointer));
            }
            Some((Step::Rows, rest)) => rows.push((rest, *pointer)),
            None => {}
        }
    }
    if !rows.is_empty() {
        return Node::Rows(Box::new(node(&rows, rules)));
    }
    let members = members.into_iter().map(|(name, below)| Member {
        name,
        object: 0,
        node: node(&below, rules),
    });
    Node::Object(members.collect())
}

impl<'a> Node<'a, '_> {
    /// Whether every tensor occurs in all of these rows or in none.
    fn is_even(&self, rows: i64) -> bool {
        match self {
            Self::Tensor { column, .. } => column.rows() == 0 || column.rows() == rows,
            Self::Ignored => true,
            Self::Object(members) => members.iter().all(|member| member.node.is_even(rows)),
            Self::Rows(row) => row.is_even(rows),
        }
    }

    /// Collects the tensors.
    fn finish(self, in_rows: bool, collected: &mut Vec<(usize, Tensor<'a>)>) {
        match self {
            Self::Tensor {
                column,
                pointer,
                turn,
            } if column.rows() > 0 => {
                let mut tensor = column.finish(in_rows);
                // A single element needs no list.
                if tensor.shape.len() == usize::from(in_rows) && pointer.scalar() {
                    tensor.shape.push(1);
                }
                collected.push((turn, tensor));
            }
            Self::Tensor { .. } | Self::Ignored => {}
            Self::Object(members) => {
                for member in members {
                    member.node.finish(in_rows, collected);
                }
            }
            Self::Rows(row) => row.finish(true, collected),
        }
    }
}

/// A document in progress.
struct Walk {
    budget: Budget,
    /// Objects so far.
    objects: u64,
    /// Tensors so far.
    tensors: usize,
    form: Form,
}

impl Walk {
    /// Reads the next value. The recursion is as deep as a pointer.
    fn take<'a>(
        &mut self,
        scanner: &mut Scanner<'a>,
        node: &mut Node<'a, '_>,
    ) -> Result<(), BodyFault> {
        match node {
            Node::Tensor {
                column,
                pointer,
                turn,
            } => {
                if self.form == Form::Guardrail && scanner.token() == Some(b'[') {
                    let field = format!("input {}", quote(pointer.name()));
                    return Err(BodyFault::field(field, "is a list: send one text"));
                }
                if column.rows() == 0 {
                    *turn = self.tensors;
                    self.tensors = self.tensors.wrapping_add(1);
                }
                column.read(scanner, &mut self.budget)
            }
            Node::Ignored => scanner.value().map(drop),
            Node::Object(members) => {
                self.objects = self.objects.wrapping_add(1);
                let object = self.objects;
                scanner.object(|scanner, key| {
                    // A client repeats rows of hundreds of members, in any order.
                    let found = members.binary_search_by(|member| member.name.cmp(&*key));
                    let member = found.ok().and_then(|index| members.get_mut(index));
                    let Some(member) = member else {
                        return match self.form {
                            Form::Exact => Err(unknown(scanner, "", &key)),
                            Form::Guardrail | Form::Answer => scanner.value().map(drop),
                        };
                    };
                    if member.object == object {
                        let fault = BodyFault::Duplicate(quote(&key));
                        return Err(scanner.value().err().unwrap_or(fault));
                    }
                    member.object = object;
                    self.take(scanner, &mut member.node)
                })
            }
            Node::Rows(row) => {
                let mut rows = 0_i64;
                scanner.array(|scanner| {
                    rows = rows.saturating_add(1);
                    self.take(scanner, row)
                })?;
                if !row.is_even(rows) {
                    return Err(BodyFault::field(
                        "a list of rows",
                        "does not have the same inputs in every row",
                    ));
                }
                Ok(())
            }
        }
    }
}
