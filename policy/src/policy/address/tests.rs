//! Every block, its edges, and every way in which one address hides another.
#![allow(clippy::unwrap_used, reason = "tests")]

use alloc::vec;

use super::*;

#[test]
fn an_address_is_classified_by_its_most_specific_block() {
    for (text, expected) in [
        ("1.1.1.1", Public),
        ("9.255.255.255", Public),
        ("11.0.0.0", Public),
        ("172.15.255.255", Public),
        ("172.32.0.0", Public),
        ("100.63.255.255", Public),
        ("100.128.0.0", Public),
        ("198.17.255.255", Public),
        ("198.20.0.0", Public),
        ("223.255.255.255", Public),
        ("168.63.129.17", Public),
        ("0.0.0.0", Never("unspecified")),
        ("0.1.2.3", Never("unspecified")),
        ("10.0.0.1", Private("private")),
        ("172.16.0.0", Private("private")),
        ("172.31.255.255", Private("private")),
        ("192.168.255.255", Private("private")),
        ("100.64.0.0", Private("carrier-grade NAT")),
        ("100.100.100.200", Never("metadata")),
        ("127.0.0.1", Private("loopback")),
        ("127.255.255.255", Private("loopback")),
        ("169.254.0.0", Never("link-local")),
        ("169.254.169.254", Never("link-local")),
        ("168.63.129.16", Never("metadata")),
        ("192.0.0.192", Never("protocol assignments")),
        ("192.0.2.1", Never("documentation")),
        ("198.51.100.1", Never("documentation")),
        ("203.0.113.1", Never("documentation")),
        ("192.88.99.1", Never("6to4 relay")),
        ("198.18.0.1", Never("benchmarking")),
        ("224.0.0.1", Never("multicast")),
        ("239.255.255.255", Never("multicast")),
        ("240.0.0.1", Never("reserved")),
        ("255.255.255.255", Never("broadcast")),
        ("2606:4700::1111", Public),
        ("2001:4860::8888", Public),
        ("3ffe::1", Public),
        ("::", Never("unspecified")),
        ("::1", Private("loopback")),
        ("::2", Never("IPv4-compatible")),
        ("::127.0.0.1", Never("IPv4-compatible")),
        ("::ffff:127.0.0.1", Never("IPv4-mapped")),
        ("::ffff:1.1.1.1", Never("IPv4-mapped")),
        ("::ffff:0:10.0.0.1", Never("IPv4-translated")),
        ("64:ff9b::a9fe:a9fe", Never("NAT64")),
        ("64:ff9b:1:2::7f00:1", Never("NAT64")),
        ("100::1", Never("discard")),
        ("2001::1", Never("Teredo")),
        ("2001:0:4136:e378:8000:63bf:3fff:fdd2", Never("Teredo")),
        ("2001:20::1", Never("protocol assignments")),
        ("2001:db8::1", Never("documentation")),
        ("3fff:0fff::1", Never("documentation")),
        ("2002:7f00:1::", Never("6to4")),
        ("2002:101:101::1", Never("6to4")),
        ("fc00::1", Private("unique local")),
        ("fd12:3456::1", Private("unique local")),
        ("fd00:ec2::254", Never("metadata")),
        ("fd20:ce::254", Never("metadata")),
        ("fe80::1", Never("link-local")),
        ("febf::1", Never("link-local")),
        ("fec0::1", Never("site-local")),
        ("ff02::1", Never("multicast")),
        ("2606:4700::5efe:7f00:1", Never("ISATAP")),
        ("2606:4700::200:5efe:a00:1", Never("ISATAP")),
        ("5f00::1", Never("segment routing")),
        ("4000::1", Never("unassigned")),
        ("1::1", Never("unassigned")),
    ] {
        assert_eq!(classify(text.parse().unwrap()), expected, "{text}");
    }
}

fn network(address: &str, prefix_bits: u8) -> Network {
    Network {
        address: address.parse().unwrap(),
        prefix_bits,
    }
}

#[test]
fn allowing_a_private_network_allows_only_that_network() {
    let allowed = vec![
        network("10.1.0.0", 16),
        network("100.64.0.0", 10),
        network("fd00::", 8),
    ];
    for (text, expected) in [
        ("1.1.1.1", Ok(())),
        ("10.1.2.3", Ok(())),
        ("10.2.0.1", Err("private")),
        ("127.0.0.1", Err("loopback")),
        ("fd00::1", Ok(())),
        ("fd00:ec2::254", Err("metadata")),
        ("100.100.100.200", Err("metadata")),
        ("::ffff:10.1.2.3", Err("IPv4-mapped")),
        ("64:ff9b::a01:203", Err("NAT64")),
    ] {
        assert_eq!(check(text.parse().unwrap(), &allowed), expected, "{text}");
    }
}

#[test]
fn only_networks_within_one_private_block_can_be_allowed() {
    for (address, bits, expected) in [
        ("10.0.0.0", 8, true),
        ("10.1.2.3", 32, true),
        ("127.0.0.1", 32, true),
        ("fd00::", 8, true),
        ("::1", 128, true),
        ("8.0.0.0", 6, false),
        ("0.0.0.0", 0, false),
        ("169.254.169.254", 32, false),
        ("1.1.1.1", 32, false),
        ("::", 0, false),
        ("fe80::", 10, false),
        ("2606:4700::", 32, false),
    ] {
        let found = is_private(&network(address, bits));
        assert_eq!(found, expected, "{address}/{bits}");
    }
}
