//! The sections of a component: replaces one core module, leaving all other bytes unchanged, and
//! appends custom sections.

use core::ops::Range;

use wasmparser::{Parser, Payload};

/// The header of a component: magic, version, layer.
const HEADER: [u8; 8] = *b"\0asm\x0d\0\x01\0";
/// Sections of a component's binary format.
const CUSTOM: u8 = 0;
const CORE_MODULE: u8 = 1;

/// A core module within a component.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// The range of the section, with its header.
    section: Range<usize>,
    module: Range<usize>,
}

impl Part {
    /// The module's bytes.
    pub fn module<'c>(&self, component: &'c [u8]) -> &'c [u8] {
        component.get(self.module.clone()).unwrap_or_default()
    }

    /// The component with another module in place of this one. It must have the imports and exports
    /// that the component uses.
    pub fn replaced(&self, component: &[u8], module: &[u8]) -> Vec<u8> {
        let before = component.get(..self.section.start).unwrap_or_default();
        let after = component.get(self.section.end..).unwrap_or_default();
        [before, &section(CORE_MODULE, module), after].concat()
    }
}

/// The outermost core module that exports this name; `None` if there is none.
///
/// # Errors
/// If it is not a valid component, or is truncated.
pub fn part(component: &[u8], export: &str) -> Result<Option<Part>, String> {
    for (id, section, content) in sections(component)? {
        let module = component.get(content.clone()).unwrap_or_default();
        if id == CORE_MODULE && exports(module, export)? {
            let module = content;
            return Ok(Some(Part { section, module }));
        }
    }
    Ok(None)
}

/// Appends a custom section to a component, which does not change its behaviour.
pub fn noted(component: &[u8], name: &str, note: &[u8]) -> Vec<u8> {
    let content = [&leb(name.len()), name.as_bytes(), note].concat();
    [component, &section(CUSTOM, &content)].concat()
}

/// The content of the last custom section of this name; `None` if there is none, or if it is not a
/// component.
pub fn note<'c>(component: &'c [u8], name: &str) -> Option<&'c [u8]> {
    let notes = sections(component).ok()?.into_iter().rev();
    notes
        .filter(|(id, ..)| *id == CUSTOM)
        .find_map(|(.., content)| {
            let content = component.get(content)?;
            content
                .strip_prefix(leb(name.len()).as_slice())?
                .strip_prefix(name.as_bytes())
        })
}

fn exports(module: &[u8], export: &str) -> Result<bool, String> {
    for payload in Parser::new(0).parse_all(module) {
        if let Payload::ExportSection(section) = payload.map_err(|error| error.to_string())? {
            for found in section {
                if found.map_err(|error| error.to_string())?.name == export {
                    return Ok(true);
                }
            }
            return Ok(false);
        }
    }
    Ok(false)
}

/// A section's ID, its range with the header, and its range without.
pub(crate) type Section = (u8, Range<usize>, Range<usize>);

pub(crate) fn sections(component: &[u8]) -> Result<Vec<Section>, String> {
    if !component.starts_with(&HEADER) {
        return Err("not a component".to_owned());
    }
    let cut_off = || "a truncated component".to_owned();
    let mut found = Vec::new();
    let mut from = HEADER.len();
    while from < component.len() {
        let rest = component.get(from..).unwrap_or_default();
        let (id, rest) = rest.split_first().ok_or_else(cut_off)?;
        let (length, head) = number(rest).ok_or_else(cut_off)?;
        let begin = from.saturating_add(1).saturating_add(head);
        let end = begin.checked_add(length).ok_or_else(cut_off)?;
        if end > component.len() {
            return Err(cut_off());
        }
        found.push((*id, from..end, begin..end));
        from = end;
    }
    Ok(found)
}

pub(crate) fn section(id: u8, content: &[u8]) -> Vec<u8> {
    [&[id], leb(content.len()).as_slice(), content].concat()
}

/// A number in LEB128, in its shortest form.
pub(crate) fn leb(mut number: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = u8::try_from(number & 0x7f).unwrap_or_default();
        number >>= 7;
        if number == 0 {
            bytes.push(low);
            return bytes;
        }
        bytes.push(low | 0x80);
    }
}

/// Decodes a u32 in LEB128, and the number of its bytes.
fn number(bytes: &[u8]) -> Option<(usize, usize)> {
    let mut value = 0_u64;
    for (at, byte) in bytes.iter().take(5).enumerate() {
        let shift = u32::try_from(at).ok()?.checked_mul(7)?;
        value |= u64::from(byte & 0x7f).checked_shl(shift)?;
        if byte & 0x80 == 0 {
            let value = u32::try_from(value).ok()?;
            return Some((usize::try_from(value).ok()?, at.checked_add(1)?));
        }
    }
    None
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    /// A module without exports, and one that exports its memory under this name.
    const EMPTY: &[u8] = b"\0asm\x01\0\0\0";
    fn exporting(name: &str) -> Vec<u8> {
        let export = [&[1], leb(name.len()).as_slice(), name.as_bytes(), &[2, 0]].concat();
        [EMPTY, &section(5, &[1, 0, 1]), &section(7, &export)].concat()
    }

    fn component(modules: &[&[u8]]) -> Vec<u8> {
        let modules = modules.iter().map(|module| section(CORE_MODULE, module));
        [HEADER.to_vec(), modules.collect::<Vec<_>>().concat()].concat()
    }

    #[test]
    fn a_module_replaces_the_one_that_exports_a_name() {
        let (one, other) = (exporting("one"), exporting(&"o".repeat(300)));
        let original = component(&[EMPTY, &one, EMPTY]);
        let found = part(&original, "one").unwrap().unwrap();
        assert_eq!(found.module(&original), one);
        assert_eq!(
            found.replaced(&original, &other),
            component(&[EMPTY, &other, EMPTY])
        );
        assert_eq!(found.replaced(&original, &one), original);
        assert_eq!(part(&original, "two").unwrap(), None);
    }

    #[test]
    fn the_last_note_of_a_name_counts() {
        let original = component(&[EMPTY]);
        assert_eq!(note(&original, "n"), None);
        let noted_once = noted(&original, "n", b"first");
        let noted_twice = noted(&noted(&noted_once, "n", b"second"), "m", b"third");
        assert_eq!(note(&noted_once, "n"), Some(b"first".as_slice()));
        assert_eq!(note(&noted_twice, "n"), Some(b"second".as_slice()));
    }

    #[test]
    fn what_is_no_component_is_none() {
        let complete = component(&[EMPTY]);
        assert!(part(EMPTY, "one").is_err());
        assert!(part(b"", "one").is_err());
        for end in HEADER.len().saturating_add(1)..complete.len() {
            assert!(part(complete.get(..end).unwrap(), "one").is_err(), "{end}");
        }
        let endless = [HEADER.as_slice(), &[1, 0xff, 0xff, 0xff, 0xff, 0xff, 1]].concat();
        assert!(part(&endless, "one").is_err());
    }
}
