//! A guardrail that redacts long numbers, such as those of cards.

use tensorgate_handler::{Error, Payload, Preprocess, Tensor, export_preprocess};

/// Digits of the shortest number that is redacted.
const MIN_DIGITS: usize = 12;

struct Redact;

impl Preprocess for Redact {
    fn preprocess(input: Payload) -> Result<Vec<Tensor>, Error> {
        let Payload::Tensors(tensors) = input else {
            return Err(Error::bad_input("expected tensors, not a body"));
        };
        let text = tensors
            .iter()
            .find(|tensor| tensor.name == "text")
            .ok_or_else(|| Error::bad_input("expected a text"))?;
        let items = text.items()?;
        let text = items.first().copied().unwrap_or_default();
        let text = std::str::from_utf8(text).map_err(Error::bad_input)?;
        let redacted = redacted(text);
        let action = if redacted == text { "allow" } else { "modify" };
        Ok(vec![
            Tensor::from_items("action", &[1], [action])?,
            Tensor::from_items("replacement", &[1], [redacted])?,
        ])
    }
}

export_preprocess!(Redact);

fn redacted(text: &str) -> String {
    let mut redacted = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find(|c: char| c.is_ascii_digit()) {
        let (before, number) = rest.split_at(start);
        let end = number.find(|c: char| !c.is_ascii_digit());
        let (number, after) = number.split_at(end.unwrap_or(number.len()));
        redacted.push_str(before);
        redacted.push_str(if number.len() < MIN_DIGITS {
            number
        } else {
            "[number]"
        });
        rest = after;
    }
    redacted.push_str(rest);
    redacted
}
