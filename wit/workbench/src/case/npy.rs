//! Tensors as numpy's arrays: `.npy` files, read and written.

use std::borrow::Cow;

use tensorgate_artifact::scan::Limits;
use tensorgate_artifact::scan::numpy::plain_array;
use tensorgate_policy::{Datatype, Tensor};

/// The dtype of each datatype. A host's tensors are little-endian.
const DTYPES: [(&str, Datatype); 12] = [
    ("|b1", Datatype::Bool),
    ("|u1", Datatype::Uint8),
    ("<u2", Datatype::Uint16),
    ("<u4", Datatype::Uint32),
    ("<u8", Datatype::Uint64),
    ("|i1", Datatype::Int8),
    ("<i2", Datatype::Int16),
    ("<i4", Datatype::Int32),
    ("<i8", Datatype::Int64),
    ("<f2", Datatype::Fp16),
    ("<f4", Datatype::Fp32),
    ("<f8", Datatype::Fp64),
];

/// Bytes of a version 1.0 file before the header's text.
const PREFIX_BYTES: usize = 10;
/// The header ends at a multiple of this.
const ALIGNMENT: usize = 64;

/// Reads an array. Numbers, booleans and texts (`S` and `U`, which become `BYTES`) are known.
///
/// # Errors
/// The file is no array, or has another dtype or order of elements.
pub fn tensor(name: &str, file: &[u8]) -> Result<Tensor<'static>, String> {
    let array = plain_array(file, &Limits::default())?;
    let shape = (array.shape.iter())
        .map(|size| i64::try_from(*size).map_err(|_| "the shape is too large".to_owned()))
        .collect::<Result<Vec<_>, _>>()?;
    if array.is_fortran_order {
        return Err("the array is in Fortran order: save np.ascontiguousarray(array)".to_owned());
    }
    let known = DTYPES.iter().find(|(descr, _)| *descr == array.descr);
    let (datatype, data) = match known {
        Some((_, datatype)) => (*datatype, array.data.to_vec()),
        None => (Datatype::Bytes, texts(&array.descr, array.data)?),
    };
    if datatype == Datatype::Bool && data.iter().any(|value| *value > 1) {
        return Err("a boolean is neither 0 nor 1".to_owned());
    }
    Ok(Tensor {
        name: Cow::Owned(name.to_owned()),
        datatype: Cow::Borrowed(datatype.name()),
        shape,
        parameters: Vec::new(),
        data: Ok(data.into()),
    })
}

/// Elements of a fixed size as items of `BYTES`, without the zeros that fill them up.
fn texts(descr: &str, data: &[u8]) -> Result<Vec<u8>, String> {
    let unknown = || {
        let known: Vec<&str> = DTYPES.iter().map(|(descr, _)| *descr).collect();
        format!(
            "dtype {descr:?} is not known; known are {}, S and U",
            known.join(", ")
        )
    };
    let (letter, length) = match descr.split_at_checked(2) {
        Some((letter @ ("|S" | "<U"), length)) => (letter, length),
        _ => return Err(unknown()),
    };
    let length: usize = length.parse().map_err(|_| unknown())?;
    let size = if letter == "<U" {
        length.saturating_mul(4)
    } else {
        length
    };
    if size == 0 {
        return Err("the dtype has no characters".to_owned());
    }
    let mut blob = Vec::new();
    for element in data.chunks_exact(size) {
        if letter == "<U" {
            let (characters, _) = element.as_chunks::<4>();
            let text = characters
                .iter()
                .map(|character| char::from_u32(u32::from_le_bytes(*character)))
                .collect::<Option<String>>();
            let text = text.ok_or("a character is not Unicode")?;
            push_item(&mut blob, text.trim_end_matches('\0').as_bytes());
        } else {
            let end = element.iter().rposition(|byte| *byte != 0);
            let end = end.map_or(0, |last| last.saturating_add(1));
            push_item(&mut blob, element.get(..end).unwrap_or_default());
        }
    }
    Ok(blob)
}

/// Appends an item of `BYTES` in raw form. Files of cases are far below 4 GiB.
pub fn push_item(blob: &mut Vec<u8>, item: &[u8]) {
    let length = u32::try_from(item.len()).unwrap_or(u32::MAX);
    blob.extend(length.to_le_bytes());
    blob.extend(item);
}

/// The file of a tensor. `BF16` is written as `<u2`, because numpy does not have it. `None` for
/// `BYTES`, whose items have no fixed size.
pub fn file(tensor: &Tensor<'_>) -> Option<Vec<u8>> {
    let datatype = Datatype::from_name(&tensor.datatype)?;
    let stored = match datatype {
        Datatype::Bf16 => Datatype::Uint16,
        datatype => datatype,
    };
    let (descr, _) = DTYPES.iter().find(|(_, known)| *known == stored)?;
    let sizes = tensor.shape.iter().map(|size| format!("{size}, "));
    let sizes: String = sizes.collect();
    let sizes = match tensor.shape.as_slice() {
        [_] => sizes.trim_end(),
        _ => sizes.trim_end().trim_end_matches(','),
    };
    let text = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({sizes}), }}");
    let size = PREFIX_BYTES.saturating_add(text.len()).saturating_add(1);
    let padding = size.next_multiple_of(ALIGNMENT).saturating_sub(size);
    let header = format!("{text}{}\n", " ".repeat(padding));
    let mut file = b"\x93NUMPY\x01\0".to_vec();
    file.extend(u16::try_from(header.len()).ok()?.to_le_bytes());
    file.extend(header.as_bytes());
    file.extend(tensor.data.as_deref().ok()?);
    Some(file)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn array(descr: &str, order: &str, shape: &str, data: &[u8]) -> Vec<u8> {
        let header =
            format!("{{'descr': '{descr}', 'fortran_order': {order}, 'shape': {shape}, }}\n");
        let mut file = b"\x93NUMPY\x01\0".to_vec();
        file.extend(u16::try_from(header.len()).unwrap().to_le_bytes());
        file.extend(header.as_bytes());
        file.extend(data);
        file
    }

    #[test]
    fn arrays_become_tensors_and_files_again() {
        for (descr, shape, dims, datatype) in [
            ("<f4", "(2, 1)", vec![2_i64, 1], "FP32"),
            ("<i8", "(1,)", vec![1], "INT64"),
            ("<f8", "()", vec![], "FP64"),
            ("|b1", "(2, 2, 2)", vec![2, 2, 2], "BOOL"),
        ] {
            let read = tensor("t", &array(descr, "False", shape, &[1; 8])).unwrap();
            assert_eq!((&*read.datatype, &read.shape), (datatype, &dims), "{descr}");
            let written = file(&read).unwrap();
            let header = format!("'shape': {shape}, }}");
            let text = String::from_utf8_lossy(&written).into_owned();
            assert!(text.contains(&header), "{text}");
            assert_eq!(written.len(), 128_usize.saturating_add(8), "{descr}");
            let again = tensor("t", &written).unwrap();
            assert_eq!((again.shape, again.data), (read.shape, read.data));
        }
    }

    #[test]
    fn texts_become_bytes() {
        let bytes = b"\x02\0\0\0ab\x01\0\0\0c";
        let wide: Vec<u8> = ['a', 'b', 'c', '\0']
            .into_iter()
            .flat_map(|character| u32::from(character).to_le_bytes())
            .collect();
        for (descr, data) in [("|S2", b"abc\0".to_vec()), ("<U2", wide)] {
            let read = tensor("t", &array(descr, "False", "(2,)", &data)).unwrap();
            assert_eq!(&*read.datatype, "BYTES");
            assert_eq!(read.data.unwrap().as_ref(), bytes, "{descr}");
        }
    }

    #[test]
    fn other_arrays_are_refused() {
        for (file, text) in [
            (array("<f4", "True", "(2, 1)", &[0; 8]), "ascontiguousarray"),
            (array(">f4", "False", "(2,)", &[0; 8]), "not known"),
            (array("<c8", "False", "(1,)", &[0; 8]), "not known"),
            (array("|b1", "False", "(1,)", &[2]), "boolean"),
            (array("<U1", "False", "(1,)", &[255; 4]), "Unicode"),
            (array("<f4", "False", "(3,)", &[0; 8]), "elements"),
            (b"PK".to_vec(), "shorter than a header"),
        ] {
            let fault = tensor("t", &file).unwrap_err();
            assert!(fault.contains(text), "{fault}");
        }
    }
}
