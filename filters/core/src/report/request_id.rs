//! Creates the id of a request. The client does not choose any part of it, so audit records,
//! reservations and the choice of a version can rely on it.
//!
//! Without a source of random numbers, an id comes from the VM's id and a count of its requests.
//! Only holders of the context key can compute ids; otherwise a client could count the requests of
//! others. Without that key there is no host, and an id contains the numbers as they are.

use tensorgate_wire::context::Key;
use tensorgate_wire::request_id::uuid_text;

/// Purpose of the name that is computed with the context key.
const PURPOSE: &[u8] = b"request-id";
/// Bits of a UUID of version 8 after its variant (RFC 9562, 5.8).
const LOW_BITS: u32 = 62;
const LOW_MASK: u128 = (1 << LOW_BITS) - 1;
const MIDDLE_MASK: u128 = 0xfff;
const HIGH_MASK: u128 = 0xffff_ffff_ffff;

/// The id of request `number` of the VM `vm`, as a UUID of version 8.
pub fn request_id(key: Option<&Key>, vm: u64, number: u64) -> String {
    let bits = match key {
        Some(key) => {
            let name = key.name(&[PURPOSE, &vm.to_be_bytes(), &number.to_be_bytes()]);
            name.iter()
                .take(size_of::<u128>())
                .fold(0, |bits: u128, byte| (bits << 8) | u128::from(*byte))
        }
        None => (u128::from(vm) << LOW_BITS) | (u128::from(number) & LOW_MASK),
    };
    uuid(bits)
}

/// A UUID of version 8 with the lowest 122 bits.
fn uuid(bits: u128) -> String {
    let low = (bits & LOW_MASK) | (0b10 << LOW_BITS);
    let middle = ((bits >> LOW_BITS) & MIDDLE_MASK) | 0x8000;
    let high = (bits >> (LOW_BITS + 12)) & HIGH_MASK;
    uuid_text((high << 80 | middle << 64 | low).to_be_bytes())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::collections::HashSet;

    use super::*;

    #[test]
    fn ids_are_uuids_and_differ_for_each_request_and_vm() {
        let key = Key::from_hex(&format!("{}f0", "07".repeat(31))).unwrap();
        let mut seen = HashSet::new();
        for key in [None, Some(&key)] {
            for vm in [
                1_790_000_000_000_000_000,
                1_790_000_000_000_000_001,
                u64::MAX,
            ] {
                for number in [1, 2, 1 << 61] {
                    let id = request_id(key, vm, number);
                    let groups: Vec<_> = id.split('-').map(str::len).collect();
                    assert_eq!(groups, [8, 4, 4, 4, 12], "{id}");
                    assert_eq!(id.get(14..15), Some("8"), "{id}");
                    assert!(
                        matches!(id.get(19..20), Some("8" | "9" | "a" | "b")),
                        "{id}"
                    );
                    assert!(seen.insert(id));
                }
            }
        }
    }

    #[test]
    fn an_id_does_not_show_the_number_of_requests_without_the_key() {
        let keys =
            ["07", "08"].map(|byte| Key::from_hex(&format!("{}f0", byte.repeat(31))).unwrap());
        assert_ne!(
            request_id(Some(&keys[0]), 1, 1),
            request_id(Some(&keys[1]), 1, 1)
        );
        for number in [1, 2] {
            let id = request_id(Some(&keys[0]), 1, number);
            let last = u64::from_str_radix(id.rsplit('-').next().unwrap(), 16).unwrap();
            assert_ne!(last, number, "{id}");
        }
        assert_eq!(
            request_id(None, 1, 2),
            "00000000-0000-8001-8000-000000000002"
        );
    }
}
