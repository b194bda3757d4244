//! Fuzz target: credential header fields. Only the exact text of a configured key may identify a
//! client. This is checked with a policy that has tensorgate's own keys and with one that has keys
//! of other systems. The first byte of the input chooses the header field.

use std::sync::LazyLock;

use tensorgate_identity::api_key::{format_key, parse_foreign, parse_key};
use tensorgate_identity::{
    Attempts, Evidence, Identifier, KeySource, TokenCache, Verifier, VerifyFault,
};
use tensorgate_policy::Policy;
use tensorgate_policy::policy::KeyMaterial;
use tensorgate_policy::policy::Templates;
use tensorgate_policy::request::Identity;
use tensorgate_wire::headers::ReadHead;

use crate::support::{FOREIGN_KEYS, MAIN, NOW_UNIX_S, policy};

/// The texts of the policies, and what is made from each.
static POLICIES: LazyLock<[(&str, Policy, Identifier); 2]> = LazyLock::new(|| {
    [MAIN, FOREIGN_KEYS].map(|text| {
        let policy = policy(text);
        let identifier = Identifier::new(&policy);
        (text, policy, identifier)
    })
});

/// A verifier that is never called, because the policies have no issuer.
struct Signatures {
    issuers: bool,
}

impl Attempts for Signatures {}

impl KeySource for Signatures {}

impl Verifier for Signatures {
    fn verify(&mut self, _: &KeyMaterial, _: &[u8], _: &[u8]) -> Result<bool, VerifyFault> {
        assert!(self.issuers, "a signature without an issuer");
        Ok(false)
    }
}

/// Runs one input.
pub fn run(data: &[u8]) {
    let Some((choice, text)) = data.split_first() else {
        return;
    };
    let (name, value) = match choice % 3 {
        0 => ("x-api-key", text.to_vec()),
        1 => ("authorization", [b"Bearer ", text].concat()),
        _ => ("authorization", text.to_vec()),
    };
    let fields = [
        (b":method".to_vec(), b"GET".to_vec()),
        (b":path".to_vec(), b"/v2".to_vec()),
        (name.as_bytes().to_vec(), value),
    ];
    for under in &*POLICIES {
        judge(under, &fields, text);
    }
    if let Ok(text) = str::from_utf8(text)
        && parse_key(text).is_ok()
    {
        assert!(text.len() == 36 && text.starts_with("tg_"), "{text:?}");
        assert!(
            text.bytes()
                .skip(3)
                .all(|byte| byte.is_ascii_alphanumeric())
        );
    }
    if let Some(random) = text.first_chunk::<20>() {
        let key = format_key(random);
        assert_eq!(parse_key(&key), Ok(()), "{key}");
    }
}

/// The result of a credential under one policy.
fn judge(
    (configured, policy, identifier): &(&str, Policy, Identifier),
    fields: &[(Vec<u8>, Vec<u8>); 3],
    text: &[u8],
) {
    let [.., (name, value)] = fields;
    let slices = fields.iter();
    let slices = slices.map(|(name, value)| (name.as_slice(), value.as_slice()));
    let read = ReadHead::read_keys(slices, true, policy.listen().key_locations());
    let mut signatures = Signatures {
        issuers: !policy.issuers().is_empty(),
    };
    let identified = identifier.identify(
        &Evidence::of(read.credential),
        NOW_UNIX_S,
        "generation",
        &mut signatures,
        &mut TokenCache::default(),
    );
    if let Some(name) = &identified.credential {
        let said = String::from_utf8_lossy(text);
        assert!(
            said.len() < 8 || !name.contains(&*said),
            "the log holds {name}"
        );
    }
    let identity = identified.identity;
    let ambiguous = read
        .into_head(Identity::Missing, &Templates::default())
        .ambiguous
        .is_some();
    if let Identity::Client(client) = &identity
        && !ambiguous
    {
        let said = String::from_utf8_lossy(value);
        let own = said
            .get(.."Bearer ".len())
            .filter(|scheme| name == b"authorization" && scheme.eq_ignore_ascii_case("bearer "))
            .map_or(&*said, |scheme| said.trim_start_matches(scheme));
        let own = own.trim_matches(' ');
        let digest = tensorgate_policy::hex(&tensorgate_identity::digest(own));
        assert!(
            configured.contains(&digest),
            "client {client} by {own:?}, which is no key of the policy"
        );
        let any = policy.listen().key_locations().any_format();
        assert!(
            parse_key(own).is_ok() || (any && parse_foreign(own).is_ok()),
            "client {client} by {own:?}, which is of no key's form"
        );
    }
}
