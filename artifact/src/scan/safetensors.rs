//! The safetensors format: a length, a JSON header that describes tensors, and their bytes.
//!
//! Readers are laxer than the format. This one accepts only what the format defines: unique keys,
//! known types, and tensors that cover the data from its first to its last byte. Further members
//! of a tensor, which the reference passes over, are unknown.

use std::fmt;
use std::io;

use serde::Deserialize;
use serde::de::{
    DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor,
};
use tensorgate_values::unique_members;

use super::source::{Source, Stop, finish};
use super::{Input, Limits, Report};
use crate::scan::rules::{self, Rule};

/// The longest header that the format allows, bytes.
const MAX_HEADER_BYTES: u64 = 100_000_000;
/// The length at the beginning, bytes.
const PREFIX_BYTES: u64 = 8;
const HEADER: &Rule = rules::SAFETENSORS_HEADER;
const OFFSETS: &Rule = rules::SAFETENSORS_OFFSETS;
/// Members of a tensor that the format defines.
const DEFINED_MEMBERS: usize = 3;
/// The most members of a tensor, with those that the format does not define.
const MAX_MEMBERS: usize = 64;

/// Types of elements and their sizes in bits.
const TYPES: [(&str, u64); 22] = [
    ("BOOL", 8),
    ("F4", 4),
    ("F6_E2M3", 6),
    ("F6_E3M2", 6),
    ("U8", 8),
    ("I8", 8),
    ("F8_E5M2", 8),
    ("F8_E4M3", 8),
    ("F8_E8M0", 8),
    ("F8_E4M3FNUZ", 8),
    ("F8_E5M2FNUZ", 8),
    ("I16", 16),
    ("U16", 16),
    ("F16", 16),
    ("BF16", 16),
    ("I32", 32),
    ("U32", 32),
    ("F32", 32),
    ("C64", 64),
    ("F64", 64),
    ("I64", 64),
    ("U64", 64),
];

/// Scans a safetensors file.
///
/// # Errors
/// The input cannot be read.
pub fn scan(input: &mut dyn Input, limits: &Limits) -> io::Result<Report> {
    let mut source = Source::new(input, rules::SAFETENSORS_TRUNCATED)?;
    let walked = walk(&mut source, limits);
    finish(Report::new("safetensors"), walked)
}

fn walk(source: &mut Source<'_>, limits: &Limits) -> Result<(), Stop> {
    let header_bytes = source.u64()?;
    if header_bytes > MAX_HEADER_BYTES || header_bytes > source.left() {
        let detail = format!("a header of {header_bytes} bytes");
        return Err(Stop::malformed(0, HEADER, detail));
    }
    let in_memory = usize::try_from(header_bytes).ok();
    let Some(in_memory) = in_memory.filter(|bytes| *bytes <= limits.header_bytes) else {
        let detail = format!("a header of {header_bytes} bytes is larger than this scan reads");
        return Err(Stop::unknown(0, HEADER, detail));
    };
    let header = source.read_bytes(in_memory)?;
    let (tensors, has_others) = read_header(&header, limits)?;
    drop(header);
    let data_bytes = source.left();
    check_coverage(tensors, data_bytes)?;
    if has_others {
        let detail = "a tensor has a member that the format does not define";
        return Err(Stop::unknown(PREFIX_BYTES, HEADER, detail));
    }
    Ok(())
}

/// The bytes of each tensor: its first, and the one after its last. The second part is whether a
/// tensor has further members.
fn read_header(header: &[u8], limits: &Limits) -> Result<(Vec<(u64, u64)>, bool), Stop> {
    // The format pads with spaces at the end, and has none before the object.
    let padding = header
        .iter()
        .rev()
        .take_while(|byte| **byte == b' ')
        .count();
    let object = header.get(..header.len().saturating_sub(padding));
    let object = object.unwrap_or_default();
    if object.first() != Some(&b'{') || object.last() != Some(&b'}') {
        let detail = "the header is not one JSON object that is followed by spaces";
        return Err(Stop::malformed(PREFIX_BYTES, HEADER, detail));
    }
    let mut is_over = false;
    let mut has_others = false;
    let seed = Header {
        entries: limits.entries,
        is_over: &mut is_over,
        has_others: &mut has_others,
    };
    let mut json = serde_json::Deserializer::from_slice(object);
    let read = seed.deserialize(&mut json);
    let read = read.and_then(|tensors| json.end().map(|()| tensors));
    match read {
        Ok(tensors) => Ok((tensors, has_others)),
        Err(error) if is_over => Err(Stop::unknown(PREFIX_BYTES, HEADER, error.to_string())),
        Err(error) => Err(Stop::malformed(PREFIX_BYTES, HEADER, error.to_string())),
    }
}

/// Tensors lie one after the other, without holes, from the first byte of the data to the last.
fn check_coverage(mut tensors: Vec<(u64, u64)>, data_bytes: u64) -> Result<(), Stop> {
    tensors.sort_unstable();
    let mut next = 0;
    for (start, end) in tensors {
        if start != next {
            let what = if start < next {
                "overlaps"
            } else {
                "leaves a hole after"
            };
            let detail = format!("a tensor at {start} {what} the one that ends at {next}");
            return Err(Stop::malformed(PREFIX_BYTES, OFFSETS, detail));
        }
        next = end;
    }
    if next != data_bytes {
        let detail = format!("the tensors have {next} bytes, and the data {data_bytes}");
        return Err(Stop::malformed(PREFIX_BYTES, OFFSETS, detail));
    }
    Ok(())
}

/// Reads the header: tensors by name, and texts by name under `__metadata__`.
struct Header<'a> {
    entries: usize,
    /// Whether the header has more entries than are read.
    is_over: &'a mut bool,
    /// Whether a tensor has members that the format does not define.
    has_others: &'a mut bool,
}

impl<'de> DeserializeSeed<'de> for Header<'_> {
    type Value = Vec<(u64, u64)>;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Self::Value, D::Error> {
        json.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Header<'_> {
    type Value = Vec<(u64, u64)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("tensors by name")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        let Self {
            entries,
            is_over,
            has_others,
        } = self;
        let mut tensors = Vec::new();
        let twice = |name: &str| format!("the key {name:?} is there twice");
        unique_members(map, twice, |map, name, count| {
            if count >= entries {
                *is_over = true;
                return Err(A::Error::custom(format!("more than {entries} tensors")));
            }
            if name == "__metadata__" {
                let is_over = &mut *is_over;
                return map.next_value_seed(Metadata { entries, is_over });
            }
            let Object(tensor) = map.next_value()?;
            *has_others |= tensor.has_others;
            let fault = |fault: String| A::Error::custom(format!("{name:?}: {fault}"));
            tensors.push(tensor.bytes().map_err(fault)?);
            Ok(())
        })?;
        Ok(tensors)
    }
}

/// Reads texts by name.
struct Metadata<'a> {
    entries: usize,
    is_over: &'a mut bool,
}

impl<'de> DeserializeSeed<'de> for Metadata<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Metadata<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("texts by name")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<(), A::Error> {
        let Self { entries, is_over } = self;
        let twice = |name: &str| format!("metadata {name:?} is there twice");
        let texts = unique_members(map, twice, |map, _, count| {
            if count >= entries {
                *is_over = true;
                return Err(A::Error::custom("more metadata than is read"));
            }
            map.next_value::<String>().map(drop)
        });
        texts.map(drop)
    }
}

/// A tensor as a JSON object. A derived reader would accept a list of the values, too.
struct Object(Tensor);

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
        struct Members;

        impl<'de> Visitor<'de> for Members {
            type Value = Object;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a tensor")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Object, A::Error> {
                let (mut dtype, mut shape, mut data_offsets) = (None, None, None);
                let twice = |name: &str| format!("the member {name:?} is there twice");
                let members = unique_members(map, twice, |map, name, count| {
                    match name {
                        "dtype" => dtype = Some(map.next_value()?),
                        "shape" => shape = Some(map.next_value()?),
                        "data_offsets" => data_offsets = Some(map.next_value()?),
                        _ if count >= MAX_MEMBERS => {
                            return Err(A::Error::custom("a tensor has too many members"));
                        }
                        _ => {
                            map.next_value::<IgnoredAny>()?;
                        }
                    }
                    Ok(())
                })?;
                Ok(Object(Tensor {
                    dtype: dtype.ok_or_else(|| A::Error::missing_field("dtype"))?,
                    shape: shape.ok_or_else(|| A::Error::missing_field("shape"))?,
                    data_offsets: data_offsets
                        .ok_or_else(|| A::Error::missing_field("data_offsets"))?,
                    has_others: members.len() > DEFINED_MEMBERS,
                }))
            }
        }

        json.deserialize_map(Members)
    }
}

struct Tensor {
    dtype: String,
    shape: Elements,
    data_offsets: (u64, u64),
    has_others: bool,
}

impl Tensor {
    /// The bytes that the tensor has in the data, if type, shape and offsets agree.
    fn bytes(&self) -> Result<(u64, u64), String> {
        let known = TYPES.iter().find(|(name, _)| *name == self.dtype);
        let Some((_, bits)) = known else {
            return Err(format!("the type {:?} is unknown", self.dtype));
        };
        let (start, end) = self.data_offsets;
        let length = end
            .checked_sub(start)
            .and_then(|bytes| bytes.checked_mul(8));
        let expected = self.shape.0.checked_mul(*bits);
        if length.is_none() || length != expected {
            return Err(format!(
                "shape and type do not fit the bytes {start} to {end}"
            ));
        }
        Ok((start, end))
    }
}

/// The number of elements of a shape. Dimensions are multiplied as they are read, so that a long
/// shape takes no memory.
struct Elements(u64);

impl<'de> Deserialize<'de> for Elements {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
        struct Shape;

        impl<'de> Visitor<'de> for Shape {
            type Value = Elements;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of dimensions")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Elements, A::Error> {
                let mut elements = 1_u64;
                while let Some(dimension) = seq.next_element::<u64>()? {
                    let product = elements.checked_mul(dimension);
                    elements = product.ok_or_else(|| A::Error::custom("the shape overflows"))?;
                }
                Ok(Elements(elements))
            }
        }

        json.deserialize_seq(Shape)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::scan::Verdict;
    use std::io::Cursor;

    fn verdict(header: &str, data: &[u8]) -> Verdict {
        let mut file = u64::try_from(header.len()).unwrap().to_le_bytes().to_vec();
        file.extend_from_slice(header.as_bytes());
        file.extend_from_slice(data);
        scan(&mut Cursor::new(file), &Limits::default())
            .unwrap()
            .verdict
    }

    #[test]
    fn tensors_that_cover_the_data_are_safe() {
        let header = r#"{"__metadata__":{"format":"pt"},"b":{"dtype":"F32","shape":[1,1],
            "data_offsets":[3,7]},"a":{"dtype":"I8","shape":[3],"data_offsets":[0,3]},
            "empty":{"dtype":"F16","shape":[2,0],"data_offsets":[3,3]},
            "scalar":{"dtype":"U8","shape":[],"data_offsets":[7,8]},
            "half":{"dtype":"F4","shape":[4],"data_offsets":[8,10]}}   "#;
        assert_eq!(verdict(header, &[0; 10]), Verdict::Safe);
        assert_eq!(verdict("{}", b""), Verdict::Safe);
    }

    #[test]
    fn what_the_format_forbids_is_malformed() {
        let one = r#""a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}"#;
        assert_eq!(verdict(&format!("{{{one}}}"), &[0; 2]), Verdict::Safe);
        for (header, data) in [
            (format!(" {{{one}}}"), 2),
            (format!("{{{one},{one}}}"), 2),
            (format!("{{{one}}}\n"), 2),
            (format!("{{{one}}}   payload"), 2),
            (format!("{{{one}}} {{}}"), 2),
            (format!("{{{one}}}"), 3),
            (format!("{{{one}}}"), 1),
            (one.to_owned(), 2),
            (r#"{"a":["U8",[2],[0,2]]}"#.to_owned(), 2),
            (format!("{{{one},\"__metadata__\":{{\"a\":1}}}}"), 2),
            (
                format!("{{{one},\"__metadata__\":{{\"a\":\"\",\"a\":\"\"}}}}"),
                2,
            ),
            (format!("{{{}}}", one.replace("U8", "U9")), 2),
            (format!("{{{}}}", one.replace("U8", "U16")), 2),
            (format!("{{{}}}", one.replace("[2]", "[-2]")), 2),
            (
                format!(
                    "{{{}}}",
                    one.replace("\"shape\"", "\"shape\":[2],\"shape\"")
                ),
                2,
            ),
            (
                format!("{{{}}}", one.replace("\"shape\"", "\"x\":0,\"x\"")),
                2,
            ),
            (format!("{{{}}}", one.replace("\"shape\"", "\"x\"")), 2),
            (format!("{{{}}}", one.replace("[0,2]", "[1,3]")), 3),
            (format!("{{{}}}", one.replace("[0,2]", "[2,0]")), 2),
            (
                format!("{{{}}}", one.replace("[2]", "[4294967296,4294967296,2]")),
                2,
            ),
            // Two tensors with the same bytes, and an empty one in the middle of another.
            (format!("{{{one},{}}}", one.replace("\"a\"", "\"b\"")), 2),
            (
                format!(
                    "{{{one},{}}}",
                    r#""b":{"dtype":"U8","shape":[0],"data_offsets":[1,1]}"#
                ),
                2,
            ),
        ] {
            assert_eq!(
                verdict(&header, &vec![0; data]),
                Verdict::Malformed,
                "{header}"
            );
        }
    }

    #[test]
    fn a_member_that_the_reference_passes_over_is_unknown() {
        let header = r#"{"a":{"dtype":"U8","scale":[{}],"shape":[2],"data_offsets":[0,2]}}"#;
        assert_eq!(verdict(header, &[0; 2]), Verdict::Unknown);
        // It hides nothing else.
        assert_eq!(verdict(header, &[0; 3]), Verdict::Malformed);
        let others: Vec<_> = (0..MAX_MEMBERS).map(|n| format!("\"{n}\":0,")).collect();
        let many = header.replace("\"dtype\"", &format!("{}\"dtype\"", others.concat()));
        assert_eq!(verdict(&many, &[0; 2]), Verdict::Malformed);
    }

    #[test]
    fn lengths_are_bounded() {
        for prefix in [1 << 63, u64::MAX, 3] {
            let mut file = Cursor::new([&prefix.to_le_bytes()[..], b"{}"].concat());
            let report = scan(&mut file, &Limits::default()).unwrap();
            assert_eq!(report.verdict, Verdict::Malformed);
        }
        let limits = Limits {
            header_bytes: 1,
            ..Limits::default()
        };
        let mut file = Cursor::new(b"\x02\0\0\0\0\0\0\0{}");
        assert_eq!(scan(&mut file, &limits).unwrap().verdict, Verdict::Unknown);
        let limits = Limits {
            entries: 0,
            ..Limits::default()
        };
        let mut file = Cursor::new(b"\x14\0\0\0\0\0\0\0{\"__metadata__\":{}} ");
        assert_eq!(scan(&mut file, &limits).unwrap().verdict, Verdict::Unknown);
    }
}
