//! Maps with bytes as keys. Formats for readers, such as JSON, have texts as keys, so bytes are
//! hexadecimal digits there.

use alloc::collections::BTreeMap;
use serde::{Serialize, Serializer};

use crate::hex;

/// Writes a map.
pub fn serialize<K, V, S>(map: &BTreeMap<K, V>, to: S) -> Result<S::Ok, S::Error>
where
    K: AsRef<[u8]> + Serialize,
    V: Serialize,
    S: Serializer,
{
    if to.is_human_readable() {
        to.collect_map(map.iter().map(|(key, value)| (hex(key.as_ref()), value)))
    } else {
        map.serialize(to)
    }
}
