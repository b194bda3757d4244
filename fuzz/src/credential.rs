//! Whatever stands in the credential headers: only the very text of a configured key is a client, and of all texts only those of a key's
//! form are hashed at all. The first byte chooses the header.

use std::sync::LazyLock;

use tensorgate_identity::api_key::{format_key, parse_key};
use tensorgate_identity::{
    Attempts, Evidence, Identifier, KeySource, TokenCache, Verifier, VerifyFault,
};
use tensorgate_policy::policy::KeyMaterial;
use tensorgate_policy::policy::Templates;
use tensorgate_policy::request::Identity;
use tensorgate_wire::headers::ReadHead;

use crate::support::{KEYS, NOW_UNIX_S, POLICIES};

static IDENTIFIER: LazyLock<Identifier> = LazyLock::new(|| Identifier::new(&POLICIES[0]));

/// There is no issuer in this policy, so nobody's signature is ever asked for.
struct Unasked;

impl Attempts for Unasked {}

impl KeySource for Unasked {}

impl Verifier for Unasked {
    fn verify(&mut self, _: &KeyMaterial, _: &[u8], _: &[u8]) -> Result<bool, VerifyFault> {
        panic!("a signature without an issuer")
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
        (name.as_bytes().to_vec(), value.clone()),
    ];
    let read = ReadHead::read(&fields, true);
    let identified = IDENTIFIER.identify(
        &Evidence::of(read.credential),
        NOW_UNIX_S,
        "generation",
        &mut Unasked,
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
        let said = String::from_utf8_lossy(&value);
        let own = said
            .get(.."Bearer ".len())
            .filter(|scheme| name == "authorization" && scheme.eq_ignore_ascii_case("bearer "))
            .map_or(&*said, |scheme| said.trim_start_matches(scheme));
        let own = own.trim_matches(' ');
        assert!(
            is_configured(own),
            "client {client} by {own:?}, which is no key of the policy"
        );
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

/// The vectors' keys are the only ones with a configured digest; most of them are in [`KEYS`], the rest by digest.
fn is_configured(text: &str) -> bool {
    let digest: String = tensorgate_identity::digest(text)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    KEYS.contains(&text) || crate::support::MAIN.contains(&digest)
}
