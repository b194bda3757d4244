//! Escapes links to pictures: a JSON list of texts on standard input becomes a list of
//! `[escaped, in pieces, is a link in a request]` on standard output. A renderer of Markdown reads
//! the results (`tests/vectors/picture_links.py`).

use std::error::Error;
use std::io::{stdin, stdout};

use tensorgate_policy::contract::openai::{LinkScanner, PictureLink};

fn main() -> Result<(), Box<dyn Error>> {
    let texts: Vec<String> = serde_json::from_reader(stdin().lock())?;
    let results: Vec<_> = texts.iter().map(|text| scan(text)).collect();
    serde_json::to_writer(stdout().lock(), &results)?;
    Ok(())
}

/// The text with its links escaped, the same if each character is a piece, and whether a link is of
/// the form that is refused in requests.
fn scan(text: &str) -> (String, String, bool) {
    let (mut scanner, mut escaped) = (LinkScanner::default(), String::new());
    let found = scanner.push(text, &mut |piece: &str| escaped.push_str(piece));
    scanner.finish(&mut |piece: &str| escaped.push_str(piece));
    let (mut scanner, mut joined) = (LinkScanner::default(), String::new());
    for character in text.chars() {
        let mut bytes = [0; 4];
        let piece = character.encode_utf8(&mut bytes);
        scanner.push(piece, &mut |emitted: &str| joined.push_str(emitted));
    }
    scanner.finish(&mut |piece: &str| joined.push_str(piece));
    (escaped, joined, found == Some(PictureLink::Inline))
}
