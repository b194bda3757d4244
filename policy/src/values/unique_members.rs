//! Reads an object in which each member is there once.
//!
//! Readers disagree about an object that has a member twice, so it is refused, whatever the member
//! is.

use alloc::collections::BTreeMap;
use alloc::string::String;
use core::fmt::Display;

use serde::de::{Error as _, MapAccess};

/// The members of an object by their names. `read` takes the value of the member with this name
/// and knows how many members came before; `twice` is the fault of a name that is there again.
///
/// # Errors
/// A member is there twice, or cannot be read.
pub fn unique_members<'de, A, V, F>(
    mut object: A,
    twice: impl Fn(&str) -> F,
    mut read: impl FnMut(&mut A, &str, usize) -> Result<V, A::Error>,
) -> Result<BTreeMap<String, V>, A::Error>
where
    A: MapAccess<'de>,
    F: Display,
{
    let mut members = BTreeMap::new();
    while let Some(name) = object.next_key::<String>()? {
        if members.contains_key(&name) {
            return Err(A::Error::custom(twice(&name)));
        }
        let value = read(&mut object, &name, members.len())?;
        members.insert(name, value);
    }
    Ok(members)
}

#[cfg(test)]
mod tests {
    use alloc::format;
    use alloc::string::ToString as _;

    use serde::de::value::{Error, MapDeserializer};

    use super::*;

    #[test]
    fn a_member_that_is_there_twice_is_not_read() {
        let read = |members: &[(&'static str, u8)]| -> Result<usize, Error> {
            let object = MapDeserializer::<_, Error>::new(members.iter().copied());
            let twice = |name: &str| format!("{name} twice");
            let mut values = 0_usize;
            unique_members(object, twice, |object, _, count| {
                assert_eq!(count, values);
                values = values.saturating_add(1);
                object.next_value::<u8>()
            })
            .map(|members| members.len())
        };
        assert_eq!(read(&[]), Ok(0));
        assert_eq!(read(&[("a", 1), ("b", 1), ("A", 1)]), Ok(3));
        let fault = read(&[("a", 1), ("b", 1), ("a", 2)]).map_err(|error| error.to_string());
        assert_eq!(fault, Err("a twice".into()));
    }
}
