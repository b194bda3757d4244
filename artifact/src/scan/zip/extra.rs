//! Extra fields of zip records. Those that change what a reader does are compared with the record.

use flate2::Crc;

use super::fields::Fields;
use crate::scan::{Report, Verdict, rules};

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

/// Reports the fields of the record at `at` that are not followed, apart from the zip64 field. One
/// with another name contradicts the record.
pub(super) fn check(fields: &[(u16, &[u8])], name: &[u8], at: u64, report: &mut Report) {
    for (id, bytes) in fields {
        let (is_followed, verdict) = match *id {
            ZIP64 => (true, Verdict::Safe),
            UNICODE_NAME => (is_name(bytes, name), Verdict::Malformed),
            PADDING => (bytes.iter().all(|byte| *byte == b'Z'), Verdict::Unknown),
            id => {
                let is_known = TIMES_AND_OWNERS.contains(&id) && bytes.len() <= MAX_TIMES_BYTES;
                (is_known, Verdict::Unknown)
            }
        };
        if !is_followed {
            let name = String::from_utf8_lossy(name);
            let fault = if *id == UNICODE_NAME {
                "whose name is another one"
            } else {
                "which is not followed"
            };
            let detail = format!("{name:?} has the extra field {id:#06x}, {fault}");
            report.add(verdict, at, rules::ZIP_EXTRA, &detail);
        }
    }
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
        let checked = |extra: &[u8]| {
            let mut report = Report::new("zip");
            check(&parse(extra).unwrap_or_default(), b"a", 0, &mut report);
            report.verdict
        };
        assert_eq!(checked(b"FB\x02\0ZZ"), Verdict::Safe);
        assert_eq!(checked(b"FB\x02\0Z\x80"), Verdict::Unknown);
        assert_eq!(checked(b"UT\x05\0\x01abcd"), Verdict::Safe);
        assert_eq!(checked(b"\xfe\xca\0\0"), Verdict::Unknown);
        // The CRC-32 of "a" is e8b7be43.
        assert_eq!(checked(b"up\x06\0\x01\x43\xbe\xb7\xe8a"), Verdict::Safe);
        assert_eq!(
            checked(b"up\x06\0\x01\x43\xbe\xb7\xe8b"),
            Verdict::Malformed
        );
    }
}
