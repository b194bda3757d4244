//! A second implementation that converts tensor elements from other readers to raw form, for
//! comparison with the gate's.

use serde_json::Value;

use crate::messages::Contents;

/// JSON values, nested or not, as raw bytes. `None` for a value that is not plainly of the
/// datatype.
pub fn of_json(datatype: &str, data: &Value) -> Option<Vec<u8>> {
    let mut raw = Vec::new();
    flatten(data, &mut |value| append(datatype, value, &mut raw))?;
    Some(raw)
}

fn flatten(data: &Value, leaf: &mut impl FnMut(&Value) -> Option<()>) -> Option<()> {
    match data {
        Value::Array(items) => items.iter().try_for_each(|item| flatten(item, leaf)),
        value => leaf(value),
    }
}

fn append(datatype: &str, value: &Value, raw: &mut Vec<u8>) -> Option<()> {
    match datatype {
        "BOOL" => raw.push(u8::from(value.as_bool()?)),
        "INT8" => raw.extend(i8::try_from(value.as_i64()?).ok()?.to_le_bytes()),
        "INT16" => raw.extend(i16::try_from(value.as_i64()?).ok()?.to_le_bytes()),
        "INT32" => raw.extend(i32::try_from(value.as_i64()?).ok()?.to_le_bytes()),
        "INT64" => raw.extend(value.as_i64()?.to_le_bytes()),
        "UINT8" => raw.push(u8::try_from(value.as_u64()?).ok()?),
        "UINT16" => raw.extend(u16::try_from(value.as_u64()?).ok()?.to_le_bytes()),
        "UINT32" => raw.extend(u32::try_from(value.as_u64()?).ok()?.to_le_bytes()),
        "UINT64" => raw.extend(value.as_u64()?.to_le_bytes()),
        "FP64" => raw.extend(value.as_f64()?.to_le_bytes()),
        "BYTES" => {
            let text = value.as_str()?;
            raw.extend(u32::try_from(text.len()).ok()?.to_le_bytes());
            raw.extend_from_slice(text.as_bytes());
        }
        // A float read through f64 is rounded twice. The caller compares floats where it can.
        _ => return None,
    }
    Some(())
}

/// Typed contents as raw bytes; `None` for a datatype that they cannot carry.
pub fn of_contents(datatype: &str, contents: &Contents) -> Option<Vec<u8>> {
    let ints = || contents.ints.iter();
    let uints = || contents.uints.iter();
    Some(match datatype {
        "BOOL" => contents
            .bools
            .iter()
            .map(|value| u8::from(*value))
            .collect(),
        "INT8" => ints()
            .map(|value| i8::try_from(*value).ok().map(i8::cast_unsigned))
            .collect::<Option<_>>()?,
        "INT16" => small(ints().map(|value| Some(i16::try_from(*value).ok()?.to_le_bytes())))?,
        "INT32" => ints().flat_map(|value| value.to_le_bytes()).collect(),
        "INT64" => contents
            .int64s
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect(),
        "UINT8" => uints()
            .map(|value| u8::try_from(*value).ok())
            .collect::<Option<_>>()?,
        "UINT16" => small(uints().map(|value| Some(u16::try_from(*value).ok()?.to_le_bytes())))?,
        "UINT32" => uints().flat_map(|value| value.to_le_bytes()).collect(),
        "UINT64" => contents
            .uint64s
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect(),
        "FP32" => contents
            .floats
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect(),
        "FP64" => contents
            .doubles
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect(),
        "BYTES" => {
            let mut raw = Vec::new();
            for item in &contents.bytes {
                raw.extend(u32::try_from(item.len()).ok()?.to_le_bytes());
                raw.extend_from_slice(item);
            }
            raw
        }
        _ => return None,
    })
}

fn small(values: impl Iterator<Item = Option<[u8; 2]>>) -> Option<Vec<u8>> {
    let pairs: Vec<[u8; 2]> = values.collect::<Option<_>>()?;
    Some(pairs.concat())
}
