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
