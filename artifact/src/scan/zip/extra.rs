//! Extra fields of zip records. Those that change what a reader does are compared with the record.

use flate2::Crc;

use super::fields::Fields;

/// APPNOTE 4.5.3.
pub(super) const ZIP64: u16 = 0x0001;
/// APPNOTE 4.6.9.
const UNICODE_NAME: u16 = 0x7075;
/// What PyTorch fills local headers with, so that storages are aligned: `FB`, then `Z`s.
const PADDING: u16 = u16::from_le_bytes(*b"FB");
/// NTFS times, two kinds of Unix times, and owners: no reader of models uses them.
const TIMES_AND_OWNERS: [u16; 4] = [0x000a, 0x5455, 0x5855, 0x7875];
/// The longest of them.
const MAX_TIMES_BYTES: usize = 36;

/// A field that is not followed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// It contradicts the record.
    Wrong(&'static str),
    /// Its meaning is not known.
    Unknown(u16),
}

/// The fields of an extra block, with their numbers.
pub(super) fn parse(extra: &[u8]) -> Result<Vec<(u16, &[u8])>, &'static str> {
    let mut found: Vec<(u16, &[u8])> = Vec::new();
    let mut fields = Fields(extra);
    while !fields.0.is_empty() {
        let id = fields.u16();
        let bytes = fields.u16().and_then(|length| fields.take(length.into()));
        let (Some(id), Some(bytes)) = (id, bytes) else {
            return Err("an extra field is longer than its block");
        };
        found.push((id, bytes));
    }
    // 16,000 empty fields fit into a block.
    let mut ids: Vec<u16> = found.iter().map(|(id, _)| *id).collect();
    ids.sort_unstable();
    if ids.windows(2).any(|pair| pair.first() == pair.last()) {
        return Err("an extra field occurs twice");
    }
    Ok(found)
}

/// The first field that is not followed, apart from the zip64 field.
pub(super) fn check(fields: &[(u16, &[u8])], name: &[u8]) -> Option<Fault> {
    fields.iter().find_map(|(id, bytes)| match *id {
        ZIP64 => None,
        UNICODE_NAME if is_name(bytes, name) => None,
        UNICODE_NAME => Some(Fault::Wrong("the Unicode name is not the name")),
        PADDING if bytes.iter().all(|byte| *byte == b'Z') => None,
        id if TIMES_AND_OWNERS.contains(&id) && bytes.len() <= MAX_TIMES_BYTES => None,
        id => Some(Fault::Unknown(id)),
    })
}

/// Whether a Unicode name is `name`: version 1, the checksum of the name, then the same name.
fn is_name(bytes: &[u8], name: &[u8]) -> bool {
    let mut crc = Crc::new();
    crc.update(name);
    let mut fields = Fields(bytes);
    fields.take(1) == Some([1].as_slice()) && fields.u32() == Some(crc.sum()) && fields.0 == name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_known_and_occur_once() {
        assert_eq!(parse(b""), Ok(Vec::new()));
        assert!(parse(b"FB\x01").is_err());
        assert!(parse(b"FB\x02\0Z").is_err());
        assert!(parse(b"FB\0\0FB\0\0").is_err());
        let checked = |extra: &[u8]| parse(extra).ok().and_then(|fields| check(&fields, b"a"));
        assert_eq!(checked(b"FB\x02\0ZZ"), None);
        assert_eq!(checked(b"FB\x02\0Z\x80"), Some(Fault::Unknown(PADDING)));
        assert_eq!(checked(b"UT\x05\0\x01abcd"), None);
        assert_eq!(checked(b"\xfe\xca\0\0"), Some(Fault::Unknown(0xcafe)));
        // The CRC-32 of "a" is e8b7be43.
        assert_eq!(checked(b"up\x06\0\x01\x43\xbe\xb7\xe8a"), None);
        let other = checked(b"up\x06\0\x01\x43\xbe\xb7\xe8b");
        assert!(matches!(other, Some(Fault::Wrong(_))));
    }
}
