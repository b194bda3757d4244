//! Hash trees of transparency logs (RFC 9162, 2.1).

use sha2::{Digest as _, Sha256};

/// First octet of what is hashed for a leaf, and for a node above others.
const LEAF: [u8; 1] = [0];
const NODE: [u8; 1] = [1];

pub(super) type Hash = [u8; 32];

/// The hash of an entry.
pub(super) fn leaf(entry: &[u8]) -> Hash {
    Sha256::new()
        .chain_update(LEAF)
        .chain_update(entry)
        .finalize()
        .into()
}

/// The root of a tree of this size, from a leaf and the siblings on its way to the root (RFC 9162,
/// 2.1.3.2). `None` if there are too many or too few siblings.
pub(super) fn root(leaf: Hash, index: u64, size: u64, siblings: &[Hash]) -> Option<Hash> {
    let mut last = size.checked_sub(1)?;
    let mut position = index;
    if position > last {
        return None;
    }
    let mut hash = leaf;
    for sibling in siblings {
        if last == 0 {
            return None;
        }
        if position & 1 == 1 || position == last {
            hash = node(sibling, &hash);
            // A last node without a sibling stands for its parent, too.
            while position & 1 == 0 && position != 0 {
                position >>= 1;
                last >>= 1;
            }
        } else {
            hash = node(&hash, sibling);
        }
        position >>= 1;
        last >>= 1;
    }
    (last == 0).then_some(hash)
}

fn node(left: &Hash, right: &Hash) -> Hash {
    Sha256::new()
        .chain_update(NODE)
        .chain_update(left)
        .chain_update(right)
        .finalize()
        .into()
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::arithmetic_side_effects,
        clippy::indexing_slicing,
        reason = "tests"
    )]
    use super::*;

    /// The root of a tree with these leaves, as RFC 9162, 2.1.1 defines it.
    fn tree(leaves: &[Hash]) -> Hash {
        match leaves {
            [only] => *only,
            _ => {
                let (left, right) = leaves.split_at(leaves.len().div_ceil(2).next_power_of_two());
                node(&tree(left), &tree(right))
            }
        }
    }

    /// The siblings of a leaf (RFC 9162, 2.1.3.1).
    fn path(leaves: &[Hash], index: usize) -> Vec<Hash> {
        if leaves.len() == 1 {
            return vec![];
        }
        let (left, right) = leaves.split_at(leaves.len().div_ceil(2).next_power_of_two());
        let (mut below, sibling) = if index < left.len() {
            (path(left, index), tree(right))
        } else {
            (path(right, index - left.len()), tree(left))
        };
        below.push(sibling);
        below
    }

    #[test]
    fn each_leaf_of_each_tree_leads_to_its_root_and_to_no_other() {
        for size in 1_u8..=20 {
            let leaves: Vec<Hash> = (0..size).map(|entry| leaf(&[entry])).collect();
            let expected = tree(&leaves);
            for (index, entry) in leaves.iter().enumerate() {
                let siblings = path(&leaves, index);
                let at =
                    |index: usize| root(*entry, index.try_into().unwrap(), size.into(), &siblings);
                assert_eq!(at(index), Some(expected), "{index} of {size}");
                for other in (0..leaves.len() + 2).filter(|other| *other != index) {
                    assert_ne!(at(other), Some(expected), "{other} for {index} of {size}");
                }
                let longer = [siblings.as_slice(), &[expected]].concat();
                let index = index.try_into().unwrap();
                assert_eq!(root(*entry, index, size.into(), &longer), None);
                if let Some(shorter) = siblings.split_last().map(|(_, shorter)| shorter) {
                    assert_ne!(root(*entry, index, size.into(), shorter), Some(expected));
                }
            }
        }
        assert_eq!(root(leaf(b""), 0, 0, &[]), None);
    }
}
