//! Sorts `vocabulary.txt` at build time, so that calls only search it. It has one token a line; the
//! line's number is its ID.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Write as _;
use std::path::Path;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=vocabulary.txt");
    let text = std::fs::read_to_string("vocabulary.txt")?;
    let mut sorted = BTreeMap::new();
    for (id, token) in text.lines().enumerate() {
        if sorted.insert(token, id).is_some() {
            return Err(format!("vocabulary.txt: {token:?} stands twice").into());
        }
    }
    let mut table = format!("[(&str, i64); {}] = [\n", sorted.len());
    for (token, id) in &sorted {
        writeln!(table, "    ({token:?}, {id}),")?;
    }
    table.push(']');
    let out = std::env::var("OUT_DIR")?;
    std::fs::write(
        Path::new(&out).join("vocabulary.rs"),
        format!("static SORTED: {table};\n"),
    )?;
    Ok(())
}
