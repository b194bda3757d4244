//! A signed context is read back unchanged, and every other text is rejected.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "tests"
)]

use hmac::{Hmac, Mac as _};
use sha2::Sha256;
use tensorgate_policy::policy::Wait;
use tensorgate_policy::request::{CallerDigest, HolderDigest};

use super::*;
use crate::limits::MAX_CLAIM_FIELDS;

const NOW: u64 = 1_780_000_000;

fn key(byte: u8) -> Key {
    Key::from_hex(&(format!("{byte:02x}").repeat(31) + "f0")).unwrap()
}

fn context() -> Context {
    Context {
        client: Some("ocr".into()),
        credential: Some("key:0123456789abcdef".into()),
        proofs: Proofs::from_bits(9).unwrap(),
        withheld: Operations::from_bits(8).unwrap(),
        request_id: "0f3c".into(),
        method: "POST".into(),
        path: "/v2/models/m/infer".into(),
        generation: "ab12".into(),
        issued_unix_s: NOW,
        until_unix_s: Some(1_900_000_000),
        work: FilterWork {
            counts: true,
            checks: false,
            buffered: true,
            leaves_charge: false,
            max_body_bytes: 1 << 16,
        },
        quotas: Vec::new(),
        claims: Vec::new(),
        caller: CallerDigests::default(),
    }
}

fn verify(value: &str) -> Result<Context, ContextFault> {
    Context::verify(value, &key(7), "POST", "/v2/models/m/infer", NOW, 30)
}

/// `signed` with a valid signature, whatever it contains.
fn signed(signed: &str) -> String {
    let mut signed = signed.to_owned();
    key(7).sign(&mut signed);
    signed
}

#[test]
fn a_signed_context_verifies_and_is_read_back() {
    for context in [
        context(),
        Context {
            client: None,
            ..context()
        },
        Context {
            credential: None,
            ..context()
        },
        Context {
            work: FilterWork::default(),
            ..context()
        },
        Context {
            client: None,
            credential: None,
            ..context()
        },
        Context {
            client: Some(String::new()),
            ..context()
        },
        Context {
            claims: vec![
                ("x-user".into(), "a".into()),
                ("x-groups".into(), String::new()),
            ],
            ..context()
        },
        Context {
            client: Some("é\n.".into()),
            request_id: String::new(),
            ..context()
        },
    ] {
        assert_eq!(verify(&context.sign(&key(7))), Ok(context));
    }
}

#[test]
fn every_combination_of_work_and_proofs_is_read_back() {
    for flags in 0..=u8::MAX {
        let context = Context {
            work: FilterWork {
                counts: flags & 1 != 0,
                checks: flags & 2 != 0,
                buffered: flags & 4 != 0,
                leaves_charge: flags & 8 != 0,
                max_body_bytes: u64::from(flags) << 56,
            },
            proofs: Proofs::from_bits(flags >> 4).unwrap(),
            withheld: Operations::from_bits(flags & 0x1f).unwrap(),
            ..context()
        };
        assert_eq!(verify(&context.sign(&key(7))), Ok(context));
    }
}

#[test]
fn another_release_with_the_same_format_is_read() {
    let own = context().sign(&key(7));
    let (own, _) = own.rsplit_once('.').unwrap();
    let fields = own.strip_prefix(release::own_prefix()).unwrap();
    let other = signed(&format!("v11;9.9.9;{fields}"));
    assert_eq!(verify(&other), Ok(context()));
}

#[test]
fn no_byte_of_a_context_can_be_changed() {
    let value = context().sign(&key(7));
    for at in 0..value.len() {
        for byte in [b'A', b'B', b'.', b'=', b'-'] {
            let mut bytes = value.clone().into_bytes();
            if bytes[at] != byte {
                bytes[at] = byte;
                assert!(
                    verify(str::from_utf8(&bytes).unwrap()).is_err(),
                    "{at}: {}",
                    char::from(byte)
                );
            }
        }
        assert!(verify(&value[..at]).is_err(), "cut at {at}");
    }
}

#[test]
fn every_other_context_is_refused_with_its_fault() {
    let own = || context().sign(&key(7));
    let fields = URL_SAFE_NO_PAD.encode([0; 60]);
    for (name, value, expected) in [
        (
            "another key's",
            context().sign(&key(8)),
            ContextFault::Signature,
        ),
        ("empty", String::new(), ContextFault::Form),
        ("no signature", "v7.AAAA".into(), ContextFault::Form),
        ("an empty signature", "v7.AAAA.".into(), ContextFault::Form),
        (
            "a cut signature",
            own().get(..own().len() - 2).unwrap().into(),
            ContextFault::Form,
        ),
        (
            "a padded signature",
            format!("{}=", own()),
            ContextFault::Form,
        ),
        ("an early format", signed("v7.AAAA"), ContextFault::Release),
        (
            "a later format",
            signed("v12;1.0.0;AAAA"),
            ContextFault::Release,
        ),
        (
            "a later format, unsigned",
            "v12;1.0.0;A.A".into(),
            ContextFault::Form,
        ),
        (
            "a later format, of another key",
            format!("v12;1.0.0;AAAA.{}", URL_SAFE_NO_PAD.encode([0; 16])),
            ContextFault::Signature,
        ),
        (
            "a name with a line break",
            signed("v11;1\n2;AAAA"),
            ContextFault::Form,
        ),
        ("no format", signed("AAAA"), ContextFault::Form),
        (
            "a blank before it",
            format!(" {}", own()),
            ContextFault::Form,
        ),
        (
            "a signature that is right, over no fields",
            signed(release::own_prefix()),
            ContextFault::Form,
        ),
        (
            "a signature that is right, over no base64",
            signed(&format!("{}!!", release::own_prefix())),
            ContextFault::Form,
        ),
        (
            "a signature that is right, over fields with a rest",
            signed(&format!("{}{fields}", release::own_prefix())),
            ContextFault::Form,
        ),
        (
            "too long",
            Context {
                client: Some("a".repeat(12 << 10)),
                ..context()
            }
            .sign(&key(7)),
            ContextFault::Form,
        ),
        (
            "another method's",
            Context {
                method: "GET".into(),
                ..context()
            }
            .sign(&key(7)),
            ContextFault::Request,
        ),
        (
            "another path's",
            Context {
                path: "/v2/models/n/infer".into(),
                ..context()
            }
            .sign(&key(7)),
            ContextFault::Request,
        ),
        (
            "that of a path with which the request's path begins",
            Context {
                path: "/v2/models/m".into(),
                ..context()
            }
            .sign(&key(7)),
            ContextFault::Request,
        ),
        (
            "that of a path which begins with the request's path",
            Context {
                path: "/v2/models/m/infer?x".into(),
                ..context()
            }
            .sign(&key(7)),
            ContextFault::Request,
        ),
        (
            "too old",
            Context {
                issued_unix_s: NOW - 31,
                ..context()
            }
            .sign(&key(7)),
            ContextFault::Age,
        ),
        (
            "from the future",
            Context {
                issued_unix_s: NOW + CLOCK_SKEW_S + 1,
                ..context()
            }
            .sign(&key(7)),
            ContextFault::Age,
        ),
        (
            "from the end of time",
            Context {
                issued_unix_s: u64::MAX,
                ..context()
            }
            .sign(&key(7)),
            ContextFault::Age,
        ),
    ] {
        assert_eq!(verify(&value), Err(expected), "{name}");
    }
    for issued_unix_s in [NOW - 30, NOW, NOW + CLOCK_SKEW_S] {
        assert!(
            verify(
                &Context {
                    issued_unix_s,
                    ..context()
                }
                .sign(&key(7))
            )
            .is_ok(),
            "{issued_unix_s}"
        );
    }
}

#[test]
fn the_context_of_a_small_request_is_short() {
    let context = Context {
        client: Some("team-a".into()),
        until_unix_s: None,
        request_id: "8f1a2b3c-0000-4000-8000-0000000000aa".into(),
        generation: "0123456789abcdef".into(),
        quotas: vec![RemainingQuota {
            left: 999_999,
            full_after_ns: 60_000_000_000,
            wait: Wait::None,
        }],
        caller: CallerDigests {
            user: CallerDigest::NotLimited,
            source: CallerDigest::NotLimited,
        },
        ..context()
    };
    let value = context.sign(&key(7));
    assert!(value.len() <= 120, "{}: {value}", value.len());
    assert_eq!(verify(&value), Ok(context));
}

#[test]
fn quotas_are_read_back_in_milliseconds() {
    let quota = |left, wait| RemainingQuota {
        left,
        full_after_ns: 7_000_000,
        wait,
    };
    for (quotas, expected) in [
        (vec![], vec![]),
        (
            vec![quota(0, Wait::Ns(1)), quota(u64::MAX, Wait::None)],
            vec![quota(0, Wait::Ns(1_000_000)), quota(u64::MAX, Wait::None)],
        ),
        (vec![quota(1, Wait::Forever)], vec![quota(1, Wait::Forever)]),
        (
            vec![quota(1, Wait::Ns(u64::MAX))],
            vec![quota(1, Wait::Ns(u64::MAX))],
        ),
    ] {
        let with = |quotas| Context {
            quotas,
            ..context()
        };
        assert_eq!(verify(&with(quotas).sign(&key(7))), Ok(with(expected)));
    }
}

#[test]
fn every_combination_of_callers_is_read_back() {
    let digests = [
        CallerDigest::Unknown,
        CallerDigest::Known(HolderDigest::new(7)),
        CallerDigest::NotLimited,
    ];
    for user in digests {
        for source in digests {
            let context = Context {
                caller: CallerDigests { user, source },
                ..context()
            };
            assert_eq!(verify(&context.sign(&key(7))), Ok(context));
        }
    }
}

/// This file's context with another byte at a position of its fields.
fn with_byte(position: usize, byte: u8) -> Result<Context, ContextFault> {
    let mut fields = URL_SAFE_NO_PAD
        .decode(own_fields(&context().sign(&key(7))))
        .unwrap();
    fields[position] = byte;
    let fields = URL_SAFE_NO_PAD.encode(fields);
    verify(&signed(&format!("{}{fields}", release::own_prefix())))
}

#[test]
fn forms_that_no_gate_writes_are_refused() {
    // The time and the digest of the request come first.
    let named = 4 + 8 + 1;
    let (forms, counts) = (named + 1, named + 2);
    // Operation 8, with a client and a key's name as bytes.
    let of_context = 8 | 1 << 5 | 2 << 6;
    assert_eq!(with_byte(named, of_context), Ok(context()));
    for (position, byte) in [
        // There are five operations, and three forms of a credential.
        (named, of_context | 1 << 6),
        // Nothing is of a fourth kind, and there are seven bits.
        (forms, 3 | 1 << 4),
        (forms, 3 << 2 | 1 << 4),
        (forms, 1 << 4 | 1 << 7),
        // Three quotas; or claims that are not there.
        (counts, 3),
        (counts, 1 << 2),
    ] {
        let read = with_byte(position, byte);
        assert_eq!(read, Err(ContextFault::Form), "{position} {byte}");
    }
}

#[test]
fn no_text_and_no_number_has_two_encodings() {
    let fields = |fields: &[&[u8]]| {
        let fields = URL_SAFE_NO_PAD.encode(fields.concat());
        verify(&signed(&format!("{}{fields}", release::own_prefix())))
    };
    let time = u32::try_from(NOW).unwrap().to_be_bytes();
    let request = request_digest(&key(7), "POST", "/v2/models/m/infer");
    let read = |credential: &[u8], id: &[u8], generation: &[u8], body: &[u8]| {
        // A text as the name of the credential, no client, no expiry, no quotas and no claims.
        let forms: [u8; 4] = [0, 1 << 6, 0, 0];
        fields(&[&time, &request, &forms, credential, id, generation, body])
    };
    let [a, b] = [&b"\x01a"[..], &b"\x01b"[..]];
    assert!(read(a, b, a, b"\x07").is_ok());
    for (name, outcome) in [
        (
            "a key's name",
            read(b"\x14key:0123456789abcdef", b, a, b"\x07"),
        ),
        (
            "a UUID",
            read(a, b"\x248f1a2b3c-0000-4000-8000-0000000000aa", a, b"\x07"),
        ),
        ("hex digits", read(a, b, b"\x100123456789abcdef", b"\x07")),
        ("a long number", read(a, b, a, b"\x87\x00")),
        ("a long length", read(b"\x81\x00a", b, a, b"\x07")),
        ("a number beyond 64 bits", read(a, b, a, &[0xff; 10])),
        (
            "the same in ten bytes",
            read(a, b, a, b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02"),
        ),
        ("a text that is cut", read(a, b, b"\x7fa", b"\x07")),
    ] {
        assert_eq!(outcome, Err(ContextFault::Form), "{name}");
    }
    let most = read(a, b, a, b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01");
    assert_eq!(most.unwrap().work.max_body_bytes, u64::MAX);
}

#[test]
fn the_digest_of_a_request_is_the_same_on_every_machine() {
    // HMAC-SHA256 of "name" and of each part with its length before it, in eight bytes.
    let digest = request_digest(&key(7), "POST", "/v2/models/m/infer");
    assert_eq!(tensorgate_policy::hex(&digest), "31e17e795deddba5");
}

#[test]
fn an_expiry_is_read_back() {
    for until_unix_s in [None, Some(0), Some(u64::MAX)] {
        let context = Context {
            until_unix_s,
            ..context()
        };
        assert_eq!(verify(&context.sign(&key(7))), Ok(context));
    }
}

#[test]
fn a_signature_has_one_of_two_lengths() {
    let value = context().sign(&key(7));
    let (text, _) = value.rsplit_once('.').unwrap();
    let mac = key(7).mac(text).finalize().into_bytes();
    for bytes in 0..=mac.len() {
        let cut = format!("{text}.{}", URL_SAFE_NO_PAD.encode(&mac[..bytes]));
        // The whole one is that of releases up to format 10.
        assert_eq!(verify(&cut).is_ok(), matches!(bytes, 16 | 32), "{bytes}");
    }
}

/// The encoded fields of a signed context.
fn own_fields(value: &str) -> &str {
    let signed = value.rsplit_once('.').unwrap().0;
    signed.strip_prefix(release::own_prefix()).unwrap()
}

#[test]
fn fields_do_not_run_into_each_other() {
    let moved = Context {
        client: Some("ocrkey".into()),
        credential: Some(":0123456789abcdef".into()),
        ..context()
    };
    assert_ne!(moved.sign(&key(7)), context().sign(&key(7)));
}

#[test]
fn no_more_claims_are_read_than_an_issuer_may_have() {
    let with = |count: usize| Context {
        claims: vec![("x".into(), "y".into()); count],
        ..context()
    };
    assert!(verify(&with(MAX_CLAIM_FIELDS).sign(&key(7))).is_ok());
    for count in [MAX_CLAIM_FIELDS + 1, 63, 64, 300] {
        let fault = verify(&with(count).sign(&key(7)));
        assert_eq!(fault, Err(ContextFault::Form), "{count}");
    }
}

#[test]
fn a_key_is_64_hex_digits_and_is_never_printed() {
    let digits = "0123456789abcdefABCDEF0123456789abcdefABCDEF0123456789abcdef0123";
    assert!(Key::from_hex(&format!(" {digits}\n")).is_ok());
    let mut bytes = [7; 32];
    bytes[31] = 0xf0;
    let mac = Hmac::<Sha256>::new_from_slice(&bytes).unwrap();
    let (of_seven, mac) = (key(7).mac("a"), mac.chain_update("a"));
    assert_eq!(
        of_seven.finalize().into_bytes(),
        mac.finalize().into_bytes()
    );
    for text in [
        "",
        &digits[1..],
        &format!("{digits}00"),
        &format!("0x{}", &digits[2..]),
        &format!("+{}", &digits[1..]),
    ] {
        assert_eq!(Key::from_hex(text).err(), Some(KeyFault::Form), "{text}");
    }
    for digit in ["0", "f", "A"] {
        let fault = Key::from_hex(&digit.repeat(64)).err();
        assert_eq!(fault, Some(KeyFault::OneByte), "{digit}");
    }
    assert_eq!(format!("{:?}", key(7)), "Key");
}
