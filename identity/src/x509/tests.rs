//! Reading a real certificate, and rejecting malformed ones.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "tests"
)]

use super::*;
use alloc::format;
use alloc::vec;
use tensorgate_policy::values::der::element;

/// The certificate of `engine`. Its authority signed nothing else, and its key was deleted.
const PEM: &str = "-----BEGIN CERTIFICATE-----\nMIIBqDCCAU6gAwIBAgIUChssPU5fYHGCk6S1xtfo+QECAwQwCgYIKoZIzj0EAwIw\nEjEQMA4GA1UEAwwHY2xpZW50czAgFw0yNTAxMDEwMDAwMDBaGA8yMTI1MDEwMTAw\nMDAwMFowETEPMA0GA1UEAwwGZW5naW5lMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcD\nQgAEHRhZwHebrNt/hleZCxZ5XQyZSkcb6ZjNIWEVJofM4OyXQb+hBf4SGL1TO8+z\n81U3JQuXmTDzj/F93fJZJ0FrwqOBgDB+ME0GA1UdEQRGMESGH3NwaWZmZTovL3By\nb2QvbnMvcmlzay9zYS9lbmdpbmWCEmVuZ2luZS5leGFtcGxlLmNvbYINYi5leGFt\ncGxlLmNvbTAfBgNVHSMEGDAWgBQesiGv6CJ1hxIGqSVg10w2FZFcFDAMBgNVHRMB\nAf8EAjAAMAoGCCqGSM49BAMCA0gAMEUCIQD5cZoKjS/XwwaBBVjZxa/GBp9vJU6W\nG6V6wf1zd0TcIAIgf4kYQ8XOmF0BH33JmlWFuSBaZzIVC0sDiNhQZafP0ys=\n-----END CERTIFICATE-----\n";
const SHA256: &str = "d168ca131fe82368143c0b0c2af18be534cb0efe0a1d1782ff94560fa4cbb0c3";
const SERIAL: &str = "0a1b2c3d4e5f60718293a4b5c6d7e8f901020304";
const AUTHORITY_KEY: &str = "1eb221afe82275871206a92560d74c3615915c14";

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn tlv(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    element(tag, &parts.concat())
}

fn extension(id: &[u8], value: &[u8]) -> Vec<u8> {
    tlv(
        SEQUENCE,
        &[&tlv(OBJECT_ID, &[id]), &tlv(OCTET_STRING, &[value])],
    )
}

pub(crate) fn names(names: &[(u8, &[u8])]) -> Vec<u8> {
    let names: Vec<_> = names.iter().map(|(tag, name)| tlv(*tag, &[name])).collect();
    extension(ALTERNATIVE_NAMES, &tlv(SEQUENCE, &[&names.concat()]))
}

pub(crate) fn key(id: &[u8]) -> Vec<u8> {
    extension(super::AUTHORITY_KEY, &tlv(SEQUENCE, &[&tlv(KEY_ID, &[id])]))
}

/// A certificate with these bytes as its serial number, and these extensions.
pub(crate) fn certificate(serial: &[u8], extensions: &[Vec<u8>]) -> Vec<u8> {
    let empty = tlv(SEQUENCE, &[]);
    let version = tlv(VERSION, &[&tlv(INTEGER, &[&[2]])]);
    let mut body = vec![version, tlv(INTEGER, &[serial])];
    body.extend((0..5).map(|_| empty.clone()));
    if !extensions.is_empty() {
        let list = tlv(SEQUENCE, &[&extensions.concat()]);
        body.push(tlv(EXTENSIONS, &[&list]));
    }
    let body = tlv(SEQUENCE, &[&body.concat()]);
    tlv(SEQUENCE, &[&body, &empty, &tlv(BIT_STRING, &[&[0]])])
}

#[test]
fn a_real_certificate_is_read_in_each_of_its_forms() {
    let read = from_pem(PEM).unwrap();
    assert_eq!(hex(&read.sha256), SHA256);
    assert_eq!(hex(&read.serial), SERIAL);
    assert_eq!(
        read.authority_key.as_deref().map(hex).as_deref(),
        Some(AUTHORITY_KEY)
    );
    assert_eq!(read.uris, ["spiffe://prod/ns/risk/sa/engine"]);
    assert_eq!(read.dns, ["engine.example.com", "b.example.com"]);
    // In Envoy's form.
    let escaped = PEM
        .replace('\n', "%0A")
        .replace(' ', "%20")
        .replace('+', "%2B")
        .replace('/', "%2F")
        .replace('=', "%3D");
    assert_eq!(from_escaped_pem(&escaped), Some(read.clone()));
    assert_eq!(from_escaped_pem(&escaped.replace("%2F", "%2f")), Some(read));
}

#[test]
fn a_text_that_is_not_one_certificate_is_none() {
    for text in [
        "",
        BEGIN,
        &format!("{BEGIN}{END}"),
        &format!(" {PEM}"),
        &format!("{PEM}{PEM}"),
        &format!("{PEM}x"),
        &PEM.replace("CERTIFICATE", "PRIVATE KEY"),
        &PEM.replacen("MII", "MI", 1),
        &PEM.replacen('M', "M ", 2),
        &format!("{BEGIN}{}{END}", "A".repeat(MAX_TEXT_BYTES)),
    ] {
        let start: String = text.chars().take(40).collect();
        assert_eq!(from_pem(text), None, "{start}");
    }
    for text in ["%", "%2", "%zz", "%C3%A9", "%+1"] {
        assert_eq!(from_escaped_pem(&format!("{text}{PEM}")), None, "{text}");
        assert_eq!(from_escaped_pem(&format!("{PEM}{text}")), None, "{text}");
    }
}

#[test]
fn truncated_or_extended_certificates_are_rejected() {
    let digits: String = PEM.lines().filter(|line| !line.starts_with('-')).collect();
    let der = STANDARD.decode(digits).unwrap();
    assert!(from_der(&der).is_some());
    for end in 0..der.len() {
        assert_eq!(from_der(&der[..end]), None, "cut at {end}");
    }
    assert_eq!(from_der(&[der.as_slice(), &[0]].concat()), None);
}

#[test]
fn a_serial_number_is_a_number_in_its_shortest_form() {
    for (octets, expected) in [
        (&[0][..], Some(&[][..])),
        (&[1], Some(&[1])),
        (&[0x7f], Some(&[0x7f])),
        (&[0, 0x80], Some(&[0x80])),
        (&[0, 0xff, 0], Some(&[0xff, 0])),
        (&[1; 21], Some(&[1; 21])),
        (&[], None),
        (&[0x80], None),
        (&[0xff, 1], None),
        (&[0, 1], None),
        (&[0, 0], None),
        (&[1; 22], None),
    ] {
        let read = from_der(&certificate(octets, &[]));
        assert_eq!(read.map(|it| it.serial).as_deref(), expected, "{octets:?}");
    }
}

#[test]
fn repeated_or_truncated_extensions_are_rejected() {
    let read = |extensions: &[Vec<u8>]| from_der(&certificate(&[1], extensions));
    let odd = extension(&[0x55, 0x1d, 0x0f], &[1, 2, 3]);
    let all = [
        odd,
        names(&[
            (URI, b"spiffe://a/b"),
            (0x87, b"\x7f\0\0\x01"),
            (DNS_NAME, b"a"),
        ]),
        key(&[7; 20]),
    ];
    let found = read(&all).unwrap();
    assert_eq!(found.uris, ["spiffe://a/b"]);
    assert_eq!(found.dns, ["a"]);
    assert_eq!(found.authority_key.as_deref(), Some(&[7; 20][..]));
    let none = read(&[]).unwrap();
    assert_eq!(
        (none.uris.len(), none.dns.len(), none.authority_key),
        (0, 0, None)
    );
    let many: Vec<(u8, &[u8])> = vec![(DNS_NAME, b"a".as_slice()); MAX_NAMES];
    assert!(read(&[names(&many)]).is_some());
    let more = [many.as_slice(), &[(DNS_NAME, b"a".as_slice())]].concat();
    let without_key = extension(super::AUTHORITY_KEY, &tlv(SEQUENCE, &[]));
    assert_eq!(read(&[without_key]).unwrap().authority_key, None);
    for broken in [
        vec![names(&[]), names(&[])],
        vec![key(&[1]), key(&[1])],
        vec![key(&[])],
        vec![key(&[1; 65])],
        vec![names(&more)],
        vec![names(&[(URI, b"a b")])],
        vec![names(&[(URI, b"a\0b")])],
        vec![names(&[(DNS_NAME, b"\xff")])],
        vec![extension(ALTERNATIVE_NAMES, &[])],
        vec![extension(ALTERNATIVE_NAMES, &[SEQUENCE, 0, 0])],
        vec![extension(
            ALTERNATIVE_NAMES,
            &tlv(SEQUENCE, &[&[URI, 9, 1]]),
        )],
        vec![extension(super::AUTHORITY_KEY, &tlv(OCTET_STRING, &[]))],
        vec![vec![SEQUENCE, 1, OBJECT_ID]],
        vec![tlv(SEQUENCE, &[&tlv(OBJECT_ID, &[b"a"])])],
    ] {
        assert_eq!(read(&broken), None, "{broken:?}");
    }
}
