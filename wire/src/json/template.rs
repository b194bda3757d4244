//! A JSON body of a model's own route: tensors where its template has them, and nothing that it does not name. Objects lead to places, lists
//! are tensors; datatypes are the contract's.

use std::borrow::Cow;

use tensorgate_policy::InferRequest;
use tensorgate_policy::contract::TensorRule;
use tensorgate_policy::policy::{Place, Template};

use super::column::Column;
use super::request::unknown;
use super::scan::Scanner;
use super::tree::Texts;
use crate::fault::{BodyFault, quote};
use crate::raw::Budget;

/// Reads a request.
pub(crate) fn template<'a>(
    body: &'a [u8],
    template: &Template,
    rules: &[TensorRule],
) -> Result<InferRequest<'a>, BodyFault> {
    let mut scanner = Scanner::over(body)?;
    let inputs = template
        .inputs()
        .iter()
        .map(|place| (place.at().names(), Some(place)));
    let ignored = template
        .ignored()
        .iter()
        .map(|pointer| (pointer.names(), None));
    let targets: Vec<Target<'_>> = inputs.chain(ignored).collect();
    let mut walk = Walk {
        rules,
        budget: Budget::new(),
        request: InferRequest {
            by_column: true,
            ..InferRequest::default()
        },
    };
    walk.value(&mut scanner, &targets)?;
    scanner.end()?;
    Ok(walk.request)
}

/// The names that are left of the way to a place, and what sits there; nothing that is read.
type Target<'p> = (&'p [String], Option<&'p Place>);

/// A document on its way.
struct Walk<'a, 'r> {
    rules: &'r [TensorRule],
    budget: Budget,
    request: InferRequest<'a>,
}

impl<'a> Walk<'a, '_> {
    /// Takes the value at which these targets' ways have come together. The recursion is as deep as a pointer has names.
    fn value(
        &mut self,
        scanner: &mut Scanner<'a>,
        targets: &[Target<'_>],
    ) -> Result<(), BodyFault> {
        if let [([], place)] = targets {
            return match place {
                Some(place) => self.tensor(scanner, place),
                None => scanner.value().map(drop),
            };
        }
        let mut seen: Vec<Cow<'a, str>> = Vec::new();
        scanner.object(|scanner, key| {
            let below: Vec<Target<'_>> = targets
                .iter()
                .filter_map(|(names, place)| {
                    let (first, rest) = names.split_first()?;
                    (*first == key).then_some((rest, *place))
                })
                .collect();
            if below.is_empty() {
                return Err(unknown(scanner, "", &key));
            }
            if seen.contains(&key) {
                let fault = BodyFault::Duplicate(quote(&key));
                return Err(scanner.value().err().unwrap_or(fault));
            }
            seen.push(key);
            self.value(scanner, &below)
        })
    }

    fn tensor(&mut self, scanner: &mut Scanner<'a>, place: &Place) -> Result<(), BodyFault> {
        let texts = if place.base64() {
            Texts::Base64
        } else {
            Texts::Plain
        };
        let name = Cow::Owned(place.name().to_owned());
        let mut column = Column::of(name, self.rules, texts);
        column.read(scanner, &mut self.budget)?;
        let mut tensor = column.finish(false);
        // One element needs no list.
        if tensor.shape.is_empty() && place.scalar() {
            tensor.shape.push(1);
        }
        self.request.inputs.push(tensor);
        Ok(())
    }
}
