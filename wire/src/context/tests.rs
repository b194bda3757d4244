//! A signed context is read back unchanged, and every other text is rejected.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "tests"
)]

use hmac::Hmac;
use sha2::Sha256;

use super::*;

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
    let mac = key(7).mac(signed).finalize().into_bytes();
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(mac))
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
        let max_body_bytes = u64::from(flags) << 56;
        let context = Context {
            work: work_of(flags, max_body_bytes),
            proofs: Proofs::from_bits(flags >> WORK_BITS).unwrap(),
            withheld: Operations::from_bits(flags & 0x1f).unwrap(),
            ..context()
        };
        assert_eq!(work_bits(&context.work), flags & 0xf);
        assert_eq!(verify(&context.sign(&key(7))), Ok(context));
    }
}

#[test]
fn another_release_with_the_same_format_is_read() {
    let own = context().sign(&key(7));
    let (own, _) = own.rsplit_once('.').unwrap();
    let fields = own.strip_prefix(release::own_prefix()).unwrap();
    let other = signed(&format!("v10;9.9.9;{fields}"));
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
        (
            "an empty signature",
            "v7.AAAA.".into(),
            ContextFault::Signature,
        ),
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
            signed("v11;1.0.0;AAAA"),
            ContextFault::Release,
        ),
        (
            "a later format, unsigned",
            "v10;1.0.0;A.A".into(),
            ContextFault::Form,
        ),
        (
            "a later format, of another key",
            format!("v10;1.0.0;AAAA.{}", URL_SAFE_NO_PAD.encode([0; 32])),
            ContextFault::Signature,
        ),
        (
            "a name with a line break",
            signed("v10;1\n2;AAAA"),
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
                path: "/".repeat(12 << 10),
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
fn a_client_is_named_or_not_but_not_both() {
    let of = |named: u8, client: &str, withheld: u8| {
        let mut fields = NOW.to_be_bytes().to_vec();
        fields.push(1);
        fields.extend(1_900_000_000_u64.to_be_bytes());
        // Work 1 and 4, with credential kinds 9.
        fields.extend([named, 1, 1 | 4 | 9 << 4, withheld]);
        fields.extend(65_536_u64.to_be_bytes());
        let credential = "key:0123456789abcdef";
        for field in [
            client,
            credential,
            "0f3c",
            "POST",
            "/v2/models/m/infer",
            "ab12",
        ] {
            fields.extend_from_slice(&u32::try_from(field.len()).unwrap().to_be_bytes());
            fields.extend_from_slice(field.as_bytes());
        }
        // No quotas, no claims, and neither a user nor a source.
        fields.extend([0, 0, 0, 0]);
        let fields = URL_SAFE_NO_PAD.encode(fields);
        signed(&format!("{}{fields}", release::own_prefix()))
    };
    let fields = |named: u8, client: &str| of(named, client, 8);
    assert_eq!(verify(&fields(1, "ocr")), Ok(context()));
    // There are five operations.
    assert_eq!(verify(&of(1, "ocr", 32)), Err(ContextFault::Form));
    let no_client = Context {
        client: None,
        ..context()
    };
    assert_eq!(verify(&fields(0, "")), Ok(no_client));
    assert_eq!(verify(&fields(0, "ocr")), Err(ContextFault::Form));
    assert_eq!(verify(&fields(2, "ocr")), Err(ContextFault::Form));
}

#[test]
fn an_expiry_is_there_or_not_but_not_both() {
    let with = |until_unix_s| Context {
        until_unix_s,
        ..context()
    };
    for until_unix_s in [None, Some(0), Some(u64::MAX)] {
        let context = with(until_unix_s);
        assert_eq!(verify(&context.sign(&key(7))), Ok(context));
    }
    let of = |expires: u8, until_unix_s: u64| {
        let mut fields = URL_SAFE_NO_PAD
            .decode(own_fields(&context().sign(&key(7))))
            .unwrap();
        let at = NOW.to_be_bytes().len();
        fields[at] = expires;
        fields[at + 1..at + 9].copy_from_slice(&until_unix_s.to_be_bytes());
        let fields = URL_SAFE_NO_PAD.encode(fields);
        signed(&format!("{}{fields}", release::own_prefix()))
    };
    assert_eq!(verify(&of(0, 0)), Ok(with(None)));
    assert_eq!(verify(&of(0, 1)), Err(ContextFault::Form));
    assert_eq!(verify(&of(2, 1)), Err(ContextFault::Form));
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
    for count in [MAX_CLAIM_FIELDS + 1, 255, 256, 300] {
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
