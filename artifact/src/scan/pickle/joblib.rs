//! Arrays in files of joblib, whose bytes stand between the operations of the pickle.
//!
//! The pickle describes an array by a wrapper object. When BUILD has set the wrapper's attributes,
//! joblib reads padding and the elements, and goes on behind them. Other unpicklers would read them
//! as operations. They stop at the first byte, the length of the padding, which is no opcode.

use super::super::reader::Reader;
use super::allowed::Global;
use super::operation::Stop;
use super::value::Value;

/// Elements begin at a multiple of this since joblib 1.2.
const ALIGNMENT_BYTES: u64 = 16;
/// The attribute with that number.
const ALIGNMENT: &str = "numpy_array_alignment_bytes";
/// The other attributes of a wrapper.
const ATTRIBUTES: usize = 5;

/// The elements of an array, which follow its description.
pub(super) struct Elements {
    bytes: u64,
    /// Whether padding comes before them. Without it, they can be operations for other unpicklers.
    pub(super) is_padded: bool,
}

/// The elements of an array; nothing if the attributes are not those of a plain array.
pub(super) fn elements(attributes: &[Value]) -> Option<Elements> {
    let mut dtype = None;
    let mut shape = None;
    let mut known = Vec::with_capacity(ATTRIBUTES.saturating_add(1));
    for [key, value] in attributes.as_chunks::<2>().0 {
        let key = key.text()?;
        let has_form = match (key, value) {
            ("subclass", Value::Global(Global::NdArray)) => true,
            ("shape", _) => {
                shape = value.is_shape().then(|| value.items()).flatten();
                shape.is_some()
            }
            ("order", _) => matches!(value.text(), Some("C" | "F")),
            // joblib unpickles elements that are objects. A structure could have such fields.
            ("dtype", Value::Dtype(kind)) => {
                dtype = Some(kind);
                !matches!(kind.letter, b'O' | b'V') && kind.size > 0
            }
            ("allow_mmap", Value::Bool(_)) => true,
            (ALIGNMENT, Value::Int(bytes)) => u64::try_from(*bytes) == Ok(ALIGNMENT_BYTES),
            _ => false,
        };
        if !has_form || known.contains(&key) {
            return None;
        }
        known.push(key);
    }
    let is_padded = known.contains(&ALIGNMENT);
    if known.len() != ATTRIBUTES.saturating_add(usize::from(is_padded)) {
        return None;
    }
    let dtype = dtype?;
    let character_bytes = if dtype.letter == b'U' { 4 } else { 1 };
    let mut bytes = u64::from(dtype.size).checked_mul(character_bytes)?;
    for length in shape? {
        let Value::Int(length) = length else {
            return None;
        };
        bytes = bytes.checked_mul(u64::try_from(*length).ok()?)?;
    }
    Some(Elements { bytes, is_padded })
}

/// Passes over the padding and the elements of an array.
pub(super) fn skip_array(reader: &mut Reader<'_>, elements: &Elements) -> Result<(), Stop> {
    if elements.is_padded {
        skip_padding(reader)?;
    }
    if !reader.skip(elements.bytes) {
        return Err(Stop::Malformed("an array goes beyond the end of the file"));
    }
    Ok(())
}

fn skip_padding(reader: &mut Reader<'_>) -> Result<(), Stop> {
    // From 1 to the alignment: the byte with this length comes before the padding.
    let behind = reader.position().saturating_add(1) % ALIGNMENT_BYTES;
    let padding = ALIGNMENT_BYTES.saturating_sub(behind);
    let length = usize::try_from(padding.saturating_add(1)).unwrap_or(usize::MAX);
    let head = reader.read_bytes(length)?;
    let is_padding = head.is_some_and(|head| match head.as_slice() {
        [length, rest @ ..] => {
            u64::from(*length) == padding && rest.iter().all(|byte| *byte == 0xff)
        }
        [] => false,
    });
    if is_padding {
        Ok(())
    } else {
        Err(Stop::Malformed("the padding of an array is not joblib's"))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
    use std::io::Cursor;

    use super::super::super::finding::Verdict;
    use super::super::super::limits::Limits;
    use super::super::scan;

    const BEGIN: &[u8] = b"\x80\x02cjoblib.numpy_pickle\nNumpyArrayWrapper\n)\x81}(";
    const DTYPE: &[u8] = b"\x8c\x05dtypecnumpy\ndtype\n\x8c\x02f4\x89\x88\x87R";
    const SHAPE: &[u8] = b"\x8c\x05shapeK\x02K\x01\x86";
    const ORDER: &[u8] = b"\x8c\x05order\x8c\x01C";
    const REST: &[u8] = b"\x8c\nallow_mmap\x88\x8c\x1bnumpy_array_alignment_bytesK\x10";
    const CLASS: &[u8] = b"\x8c\x08subclasscnumpy\nndarray\n";
    const DATA: &[u8] = b"abcdefgh";

    /// A file with these attributes. `wrong` is added to the length of its padding.
    fn verdict(attributes: &[&[u8]], data: &[u8], wrong: u8) -> Verdict {
        let mut file = [BEGIN, &attributes.concat(), b"ub"].concat();
        let behind = file.len().wrapping_add(1) % 16;
        let padding = 16_usize.wrapping_sub(behind);
        file.push(u8::try_from(padding).unwrap().wrapping_add(wrong));
        file.resize(file.len().wrapping_add(padding), 0xff);
        file.extend_from_slice(data);
        file.push(b'.');
        let report = scan(&mut Cursor::new(file), &Limits::default()).unwrap();
        report.verdict
    }

    #[test]
    fn arrays_between_operations_are_data() {
        let plain = [CLASS, SHAPE, ORDER, DTYPE, REST];
        assert_eq!(verdict(&plain, DATA, 0), Verdict::Safe);
        // Operations follow where the elements end, not where another length would end them.
        let data = b"abcdefghcos\nsystem\n";
        assert_eq!(verdict(&plain, data, 0), Verdict::Executable);
        assert_eq!(verdict(&plain, b"abcd", 0), Verdict::Malformed);
        assert_eq!(verdict(&plain, DATA, 1), Verdict::Malformed);
    }

    #[test]
    fn arrays_without_padding_are_named_and_what_follows_them_is_scanned() {
        let unaligned = b"\x8c\nallow_mmap\x88";
        let begin = [BEGIN, CLASS, SHAPE, ORDER, DTYPE, unaligned, b"ub"].concat();
        let cases: [(&[u8], Verdict); 4] = [
            (b"abcdefgh.", Verdict::Unknown),
            (b"cos\nsyst.", Verdict::Unknown),
            (b"abcdefgh0cos\nsystem\n.", Verdict::Executable),
            (b"abcd.", Verdict::Malformed),
        ];
        for (rest, expected) in cases {
            let mut file = Cursor::new([begin.as_slice(), rest].concat());
            let report = scan(&mut file, &Limits::default()).unwrap();
            assert_eq!(report.verdict, expected, "{rest:?}");
            assert_eq!(report.findings[0].rule, "pickle-joblib");
        }
    }

    #[test]
    fn other_wrappers_are_executable() {
        let objects = b"\x8c\x05dtypecnumpy\ndtype\n\x8c\x02O8\x89\x88\x87R";
        let structure = b"\x8c\x05dtypecnumpy\ndtype\n\x8c\x02V4\x89\x88\x87R";
        let method = b"\x8c\x04readcnumpy\nndarray\n";
        let shape = b"\x8c\x05shapeJ\xff\xff\xff\xff\x85";
        let attributes: [&[&[u8]]; 6] = [
            &[CLASS, SHAPE, ORDER, objects, REST],
            &[CLASS, SHAPE, ORDER, structure, REST],
            &[CLASS, SHAPE, ORDER, DTYPE, REST, method],
            &[CLASS, shape, ORDER, DTYPE, REST],
            &[CLASS, SHAPE, ORDER, DTYPE, REST, SHAPE],
            &[SHAPE, ORDER, DTYPE, REST],
        ];
        for attributes in attributes {
            let found = verdict(attributes, DATA, 0);
            assert_eq!(found, Verdict::Executable, "{attributes:?}");
        }
    }
}
