//! Classifies IP addresses that the host may connect to on behalf of a handler. Only public unicast
//! addresses are allowed by default. A name may resolve to any address, and some addresses embed
//! another one.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::policy::Network;

/// Class of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressClass {
    /// A public unicast address.
    Public,
    /// An address of a private network, with the network's name. A policy may allow that network.
    Private(&'static str),
    /// An address that is never allowed, with its name.
    Never(&'static str),
}

use AddressClass::{Never, Private, Public};

/// A block: its first address, its prefix length and its class.
type Block = (u128, u8, AddressClass);

const fn v4(address: [u8; 4], bits: u8, classify: AddressClass) -> Block {
    let [a, b, c, d] = address;
    let wide = u128::from_be_bytes([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, a, b, c, d]);
    (wide, bits, classify)
}

/// IPv4 blocks, more specific ones first: IANA's registry of special-purpose addresses (RFC 6890)
/// and addresses with a special meaning in clouds.
const V4: [Block; 21] = [
    v4([168, 63, 129, 16], 32, Never("metadata")),
    v4([100, 100, 100, 200], 32, Never("metadata")),
    v4([169, 254, 0, 0], 16, Never("link-local")),
    v4([0, 0, 0, 0], 8, Never("unspecified")),
    v4([10, 0, 0, 0], 8, Private("private")),
    v4([172, 16, 0, 0], 12, Private("private")),
    v4([192, 168, 0, 0], 16, Private("private")),
    v4([100, 64, 0, 0], 10, Private("carrier-grade NAT")),
    v4([127, 0, 0, 0], 8, Private("loopback")),
    v4([192, 0, 0, 0], 24, Never("protocol assignments")),
    v4([192, 0, 2, 0], 24, Never("documentation")),
    v4([198, 51, 100, 0], 24, Never("documentation")),
    v4([203, 0, 113, 0], 24, Never("documentation")),
    v4([192, 31, 196, 0], 24, Never("AS112")),
    v4([192, 175, 48, 0], 24, Never("AS112")),
    v4([192, 52, 193, 0], 24, Never("AMT")),
    v4([192, 88, 99, 0], 24, Never("6to4 relay")),
    v4([198, 18, 0, 0], 15, Never("benchmarking")),
    v4([224, 0, 0, 0], 4, Never("multicast")),
    v4([255, 255, 255, 255], 32, Never("broadcast")),
    v4([240, 0, 0, 0], 4, Never("reserved")),
];

const fn v6(segments: [u16; 8], bits: u8, classify: AddressClass) -> Block {
    let [a, b, c, d, e, f, g, h] = segments;
    let address = Ipv6Addr::new(a, b, c, d, e, f, g, h);
    (address.to_bits(), bits, classify)
}

/// IPv6 blocks, more specific ones first. Only global unicast, the last block, is allowed.
const V6: [Block; 22] = [
    v6([0, 0, 0, 0, 0, 0, 0, 0], 128, Never("unspecified")),
    v6([0, 0, 0, 0, 0, 0, 0, 1], 128, Private("loopback")),
    v6([0, 0, 0, 0, 0, 0xffff, 0, 0], 96, Never("IPv4-mapped")),
    v6([0, 0, 0, 0, 0xffff, 0, 0, 0], 96, Never("IPv4-translated")),
    v6([0, 0, 0, 0, 0, 0, 0, 0], 96, Never("IPv4-compatible")),
    v6([0x64, 0xff9b, 0, 0, 0, 0, 0, 0], 96, Never("NAT64")),
    v6([0x64, 0xff9b, 1, 0, 0, 0, 0, 0], 48, Never("NAT64")),
    v6([0x100, 0, 0, 0, 0, 0, 0, 0], 64, Never("discard")),
    v6(
        [0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254],
        128,
        Never("metadata"),
    ),
    v6([0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254], 128, Never("metadata")),
    v6([0xfc00, 0, 0, 0, 0, 0, 0, 0], 7, Private("unique local")),
    v6([0xfe80, 0, 0, 0, 0, 0, 0, 0], 10, Never("link-local")),
    v6([0xfec0, 0, 0, 0, 0, 0, 0, 0], 10, Never("site-local")),
    v6([0xff00, 0, 0, 0, 0, 0, 0, 0], 8, Never("multicast")),
    v6([0x2001, 0, 0, 0, 0, 0, 0, 0], 32, Never("Teredo")),
    v6(
        [0x2001, 0, 0, 0, 0, 0, 0, 0],
        23,
        Never("protocol assignments"),
    ),
    v6(
        [0x2001, 0xdb8, 0, 0, 0, 0, 0, 0],
        32,
        Never("documentation"),
    ),
    v6([0x3fff, 0, 0, 0, 0, 0, 0, 0], 20, Never("documentation")),
    v6([0x2002, 0, 0, 0, 0, 0, 0, 0], 16, Never("6to4")),
    v6([0x2620, 0x4f, 0x8000, 0, 0, 0, 0, 0], 48, Never("AS112")),
    v6([0x5f00, 0, 0, 0, 0, 0, 0, 0], 16, Never("segment routing")),
    v6([0x2000, 0, 0, 0, 0, 0, 0, 0], 3, Public),
];

/// Classifies an address.
pub fn classify(address: IpAddr) -> AddressClass {
    match address {
        IpAddr::V4(address) => find_class(&V4, bits_of(address), V4_BITS, Public),
        // In any network, the lower half may embed an IPv4 address (ISATAP, RFC 5214, 6.1).
        IpAddr::V6(address) if is_isatap(address) => Never("ISATAP"),
        IpAddr::V6(address) => find_class(&V6, address.to_bits(), V6_BITS, Never("unassigned")),
    }
}

const V4_BITS: u8 = 32;
const V6_BITS: u8 = 128;

fn bits_of(address: Ipv4Addr) -> u128 {
    address.to_bits().into()
}

const fn is_isatap(address: Ipv6Addr) -> bool {
    matches!(address.segments(), [_, _, _, _, 0 | 0x200, 0x5efe, _, _])
}

fn find_class(blocks: &[Block], address: u128, width: u8, other: AddressClass) -> AddressClass {
    blocks
        .iter()
        .find(|(base, bits, _)| same(*base, address, width, *bits))
        .map_or(other, |(_, _, classify)| *classify)
}

fn same(left: u128, right: u128, width: u8, bits: u8) -> bool {
    let shift = u32::from(width.saturating_sub(bits));
    // A shift by all bits leaves nothing on either side.
    left.checked_shr(shift) == right.checked_shr(shift)
}

/// Whether a whole network lies in one private block, so that a policy may allow it.
pub fn is_private(network: &Network) -> bool {
    let (blocks, address, width): (&[Block], u128, u8) = match network.address {
        IpAddr::V4(address) => (&V4, bits_of(address), V4_BITS),
        IpAddr::V6(address) => (&V6, address.to_bits(), V6_BITS),
    };
    blocks.iter().any(|(base, bits, classify)| {
        matches!(classify, Private(_))
            && network.prefix_bits >= *bits
            && same(*base, address, width, *bits)
    })
}

/// Checks that an address is public, or private and in an allowed network.
///
/// # Errors
/// The name of the address's class.
pub fn check(address: IpAddr, private: &[Network]) -> Result<(), &'static str> {
    match classify(address) {
        Public => Ok(()),
        Private(_) if private.iter().any(|network| network.contains(address)) => Ok(()),
        Private(what) | Never(what) => Err(what),
    }
}

#[cfg(test)]
mod tests;
