//! Settings of the example handlers, from the policy's `config:`. Invalid settings are the policy's
//! fault and never the caller's: [`Error::Fault`].

use core::fmt::Display;
use core::ops::RangeInclusive;
use core::str::FromStr;

use tensorgate_handler::{Error, Tensor, config};

/// A number within bounds, or the default if it is not set. A bound that is NaN admits no number.
///
/// # Errors
/// A fault if the text is not such a number.
pub fn number<T>(key: &str, otherwise: T, bounds: RangeInclusive<T>) -> Result<T, Error>
where
    T: FromStr + PartialOrd + Display,
{
    let Some(text) = config(key) else {
        return Ok(otherwise);
    };
    one(key, &text, &bounds)
}

/// Numbers separated by commas, as many as `otherwise` has, which is the default.
///
/// # Errors
/// A fault if their count differs, or one is not a number within the bounds.
pub fn numbers<const N: usize>(
    key: &str,
    otherwise: [f32; N],
    bounds: RangeInclusive<f32>,
) -> Result<[f32; N], Error> {
    let Some(text) = config(key) else {
        return Ok(otherwise);
    };
    let read: Result<Vec<f32>, Error> = text
        .split(',')
        .map(|part| one(key, part.trim(), &bounds))
        .collect();
    read?
        .try_into()
        .map_err(|_| Error::fault(format!("config {key}: {text:?} is not {N} numbers")))
}

/// One of several names, or the default if it is not set.
///
/// # Errors
/// A fault if the text is none of the names.
pub fn choice<T: Copy>(key: &str, otherwise: T, names: &[(&str, T)]) -> Result<T, Error> {
    let Some(text) = config(key) else {
        return Ok(otherwise);
    };
    let found = names.iter().find(|(name, _)| *name == text);
    found.map(|(_, value)| *value).ok_or_else(|| {
        let names: Vec<&str> = names.iter().map(|(name, _)| *name).collect();
        Error::fault(format!(
            "config {key}: {text:?} is not one of {}",
            names.join(", ")
        ))
    })
}

/// Names, separated by lines or commas, or `None` if they are not set. A name with a comma requires
/// lines.
#[must_use]
pub fn names(key: &str) -> Option<Vec<String>> {
    let text = config(key)?;
    let text = text.trim();
    let separator = if text.contains('\n') { '\n' } else { ',' };
    let names = text.split(separator).map(|name| name.trim().to_owned());
    Some(names.collect())
}

/// The configured name of one of the model's tensors, or `otherwise`.
#[must_use]
pub fn name(key: &str, otherwise: &str) -> String {
    config(key).unwrap_or_else(|| otherwise.to_owned())
}

/// The tensor of that name among a model's outputs. A missing one is never the caller's fault.
///
/// # Errors
/// A fault if there is none.
pub fn output<'a>(outputs: &'a [Tensor], name: &str) -> Result<&'a Tensor, Error> {
    let found = outputs.iter().find(|output| output.name == name);
    found.ok_or_else(|| Error::fault(format!("the model returned no {name}")))
}

/// Converts an error to a fault, because the client has not sent the model's output.
#[must_use]
pub fn ours(error: Error) -> Error {
    match error {
        Error::BadInput(rejection) => Error::Fault(rejection.log),
        fault @ Error::Fault(_) => fault,
    }
}

fn one<T>(key: &str, text: &str, bounds: &RangeInclusive<T>) -> Result<T, Error>
where
    T: FromStr + PartialOrd + Display,
{
    match text.parse() {
        Ok(value) if bounds.contains(&value) => Ok(value),
        _ => Err(Error::fault(format!(
            "config {key}: {text:?} is not a number from {} to {}",
            bounds.start(),
            bounds.end()
        ))),
    }
}

#[cfg(test)]
mod tests {
    use tensorgate_handler::testing::set_config;

    use super::*;

    #[test]
    fn what_is_not_set_is_as_the_handler_says() {
        set_config([]);
        assert!(matches!(number("size", 224, 1..=4096), Ok(224)));
        assert!(matches!(
            numbers("mean", [0.5, 0.25], 0.0..=1.0),
            Ok([0.5, 0.25])
        ));
        assert!(matches!(choice("mode", 1, &[("a", 1), ("b", 2)]), Ok(1)));
        assert!(names("labels").is_none());
        assert_eq!(name("scores", "logits"), "logits");
    }

    #[test]
    fn what_is_set_is_read() {
        set_config([
            ("size", "32"),
            ("mean", "0.5, 1"),
            ("mode", "b"),
            ("labels", "tench, fish\ngoldfish\n"),
            ("kinds", "a, b"),
        ]);
        assert!(matches!(number("size", 224, 1..=4096), Ok(32)));
        assert!(matches!(
            numbers("mean", [0.0, 0.0], 0.0..=1.0),
            Ok([0.5, 1.0])
        ));
        assert!(matches!(choice("mode", 1, &[("a", 1), ("b", 2)]), Ok(2)));
        let labels = names("labels").unwrap_or_default();
        assert_eq!(labels, ["tench, fish", "goldfish"]);
        assert_eq!(names("kinds").unwrap_or_default(), ["a", "b"]);
    }

    #[test]
    fn what_cannot_be_read_is_the_policys_fault() {
        for text in ["", "0", "4097", "-1", "1e3", " 64", "99999999999999999999"] {
            set_config([("size", text)]);
            let found = number("size", 224, 1..=4096);
            assert!(matches!(found, Err(Error::Fault(_))), "{text:?}");
        }
        for text in ["", "1", "1,1,1", "1,NaN", "1,inf", "1;1", "1,2"] {
            set_config([("mean", text)]);
            let found = numbers("mean", [0.0, 0.0], 0.0..=1.0);
            assert!(matches!(found, Err(Error::Fault(_))), "{text:?}");
        }
        set_config([("mode", "c")]);
        assert!(matches!(
            choice("mode", 1, &[("a", 1)]),
            Err(Error::Fault(_))
        ));
    }
}
