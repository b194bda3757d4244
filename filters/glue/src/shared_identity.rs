//! Who is calling, as one filter of ours tells the next: a property of the request that its proxy lets nobody change once it is set.
//!
//! The first filter of a chain that learns it says it; those behind read it. A header could be a client's; this cannot. It carries
//! identity and no verdict.

use serde_json::{Value, json};
use tensorgate_policy::request::Proofs;

use crate::host::{HostFault, Proxy};

/// The property's name. Envoy keeps it as filter state `wasm.tg_identity`.
pub const PROPERTY: &str = "tg_identity";

/// Who is calling.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SharedIdentity {
    /// The client's name; `None` for a public question, which anybody may ask.
    pub client: Option<String>,
    /// The log's name of the credential that proved it.
    pub credential: Option<String>,
    /// By what it has proven who it is.
    pub proofs: Proofs,
}

impl SharedIdentity {
    /// What the filters before this one said; `None` if none of them said anything. What cannot be read is a fault.
    ///
    /// # Errors
    /// The proxy failed, or what stands there is no identity.
    pub fn read(proxy: &mut dyn Proxy) -> Result<Option<Self>, HostFault> {
        let Some(text) = proxy.property(&[PROPERTY])? else {
            return Ok(None);
        };
        Self::parse(&text).map(Some).ok_or(HostFault {
            call: "get_property",
            status: NOT_OURS,
        })
    }

    /// Says it. Refused by the proxy if it was said before: two filters cannot both know who is calling.
    ///
    /// # Errors
    /// The proxy failed.
    pub fn publish(&self, proxy: &mut dyn Proxy) -> Result<(), HostFault> {
        let proofs = self.proofs.to_bits();
        let said = json!({"client": self.client, "credential": self.credential, "proofs": proofs});
        let text = said.to_string();
        proxy.set_property(PROPERTY, &text)
    }

    fn parse(text: &[u8]) -> Option<Self> {
        let value: Value = serde_json::from_slice(text).ok()?;
        let members = value.as_object()?;
        let text = |name: &str| match members.get(name) {
            Some(Value::String(text)) => Some(Some(text.clone())),
            Some(Value::Null) => Some(None),
            _ => None,
        };
        Some(Self {
            client: text("client")?,
            credential: text("credential")?,
            proofs: Proofs::from_bits(u8::try_from(members.get("proofs")?.as_u64()?).ok()?)?,
        })
    }
}

/// proxy-wasm's `SERIALIZATION_FAILURE`: something is there, and it is not ours.
const NOT_OURS: u32 = 3;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use tensorgate_policy::request::Proof;

    #[test]
    fn only_what_a_filter_of_ours_writes_is_read() {
        let named = |client: &str| SharedIdentity {
            client: Some(client.into()),
            credential: Some("jwt:i:s".into()),
            proofs: Proofs::NONE.with(Proof::Jwt),
        };
        for (text, expected) in [
            (
                &br#"{"client": "a", "credential": "jwt:i:s", "proofs": 2}"#[..],
                Some(named("a")),
            ),
            (
                br#"{"client": null, "credential": null, "proofs": 0}"#,
                Some(SharedIdentity::default()),
            ),
            (br#"{"client": "a"}"#, None),
            (br#"{"client": "a", "credential": null}"#, None),
            (
                br#"{"client": "a", "credential": null, "proofs": 16}"#,
                None,
            ),
            (
                br#"{"client": "a", "credential": null, "proofs": 256}"#,
                None,
            ),
            (
                br#"{"client": "a", "credential": null, "proofs": -1}"#,
                None,
            ),
            (br#"{"client": "a", "credential": 1}"#, None),
            (b"{}", None),
            (b"", None),
            (br#"{"client": 1}"#, None),
            (b"\"a\"", None),
            (b"\xff", None),
        ] {
            assert_eq!(SharedIdentity::parse(text), expected, "{text:?}");
        }
    }
}
