//! What counts as one source: an IPv4 address, or a /64 of IPv6.

use std::net::{IpAddr, Ipv6Addr};

/// The part of an IPv6 address that names a source: a site has a /64 at least, and one host has as
/// many addresses in it as it likes.
const IPV6_NETWORK: u128 = u128::MAX << IPV6_BITS;
/// The bits of an IPv6 address that name a source.
pub const IPV6_BITS: u32 = 64;

/// The source of an address: an IPv4 address as such, or the first address of the /64 of IPv6.
pub fn source_host(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & IPV6_NETWORK).into(),
        address @ IpAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_has_one_source_with_every_address_of_its_network() {
        let read = |text: &str| text.parse::<IpAddr>().ok();
        for (address, expected) in [
            ("192.0.2.7", "192.0.2.7"),
            ("::ffff:192.0.2.7", "192.0.2.7"),
            ("2001:db8:0:1:2:3:4:5", "2001:db8:0:1::"),
            ("2001:db8::1", "2001:db8::"),
        ] {
            let source = read(address).map(source_host);
            assert_eq!(source, read(expected), "{address}");
        }
    }
}
