//! A guardrail that puts the `text` of Agent Router's `POST /analyze` into a template, so that a
//! model sees a client's prompt only inside it.
//!
//! | config | default | |
//! |---|---|---|
//! | `template` | (must be set) | the prompt for the model, with `{text}` once |
//! | `fences` | | texts that a prompt must not have, such as the marks around `{text}` |
//!
//! Fences are separated by lines or commas. A prompt with one is blocked, because it could end the
//! template's part early. A model also takes `</ Question >` for `</question>`, so what does not
//! matter is: the case and width of letters, blanks, characters that are not shown, and what a tag
//! has behind its name. The responses of a model are left as they are.

use handler_settings::names;
use tensorgate_handler::ndarray::Array1;
use tensorgate_handler::{Error, Payload, Preprocess, Tensor, config, export_preprocess};

/// Where the template has the prompt.
const PLACEHOLDER: &str = "{text}";
/// Characters that are not shown, as first and last: fillers, joiners, marks of direction,
/// variation selectors and tags.
const HIDDEN: [(char, char); 15] = [
    ('\u{ad}', '\u{ad}'),
    ('\u{34f}', '\u{34f}'),
    ('\u{61c}', '\u{61c}'),
    ('\u{115f}', '\u{1160}'),
    ('\u{17b4}', '\u{17b5}'),
    ('\u{180b}', '\u{180f}'),
    ('\u{200b}', '\u{200f}'),
    ('\u{202a}', '\u{202e}'),
    ('\u{2060}', '\u{206f}'),
    ('\u{3164}', '\u{3164}'),
    ('\u{fe00}', '\u{fe0f}'),
    ('\u{feff}', '\u{feff}'),
    ('\u{ffa0}', '\u{ffa0}'),
    ('\u{fff0}', '\u{fffb}'),
    ('\u{e0000}', '\u{e0fff}'),
];

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
        let seen: Vec<(usize, char)> = seen(text).collect();
        let found = fences.iter().filter_map(|fence| position(&seen, fence));
        if let Some((start, end)) = found.min() {
            let offset = |name: &str, at: usize| {
                let at = i64::try_from(at).map_err(Error::fault)?;
                Tensor::from_array(name, Array1::from_vec(vec![at]))
            };
            return Ok(vec![
                one("action", "block")?,
                one("type", "FENCE")?,
                offset("start", start)?,
                offset("end", end)?,
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

/// Where a text first has a fence: its first character, and the one after it.
fn position(text: &[(usize, char)], fence: &str) -> Option<(usize, usize)> {
    let mut fence: Vec<char> = seen(fence).map(|(_, c)| c).collect();
    // A tag ends with its name.
    let is_tag = matches!(fence.as_slice(), ['<', _, .., '>']);
    if is_tag {
        fence.pop();
    }
    if fence.is_empty() {
        return None;
    }
    let mut parts = text.windows(fence.len()).enumerate();
    parts.find_map(|(at, part)| {
        let (&(start, _), &(last, _)) = (part.first()?, part.last()?);
        if !part.iter().map(|(_, c)| c).eq(&fence) {
            return None;
        }
        let end = last.saturating_add(1);
        match text.get(at.saturating_add(fence.len())) {
            Some(&(next, '>')) if is_tag => Some((start, next.saturating_add(1))),
            // A longer name.
            Some(&(next, c)) if is_tag && next == end && is_of_name(c) => None,
            _ => Some((start, end)),
        }
    })
}

/// The characters of a text as a model may see them, with their places.
fn seen(text: &str) -> impl Iterator<Item = (usize, char)> {
    let shown = text.chars().enumerate().filter(|(_, c)| !is_blank(*c));
    shown.map(|(at, c)| (at, folded(c)))
}

/// Whether a character is a blank, or is not shown.
fn is_blank(c: char) -> bool {
    if c.is_ascii() {
        return c.is_ascii_whitespace() || c.is_ascii_control();
    }
    let within = |(first, last): &(char, char)| (*first..=*last).contains(&c);
    c.is_whitespace() || c.is_control() || HIDDEN.iter().any(within)
}

/// A letter in lower case, and of usual width.
fn folded(c: char) -> char {
    if c.is_ascii() {
        return c.to_ascii_lowercase();
    }
    let usual = match c {
        '\u{ff01}'..='\u{ff5e}' => u32::from(c).saturating_sub(0xfee0),
        _ => u32::from(c),
    };
    let usual = char::from_u32(usual).unwrap_or(c);
    // Some letters have the small one of another as theirs, such as the long s.
    let large = usual.to_uppercase().next().unwrap_or(usual);
    large.to_lowercase().next().unwrap_or(large)
}

/// Whether the name of a tag goes on with this character.
fn is_of_name(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '-' | '_')
}

export_preprocess!(PromptTemplate);
