//! The caller's identity, passed from one tensorgate filter to the next as a read-only property of
//! the request.
//!
//! The first filter that identifies the caller sets the property; later filters read it. A header
//! could come from a client; this property cannot. The property contains no verdict.

use serde_json::{Value, json};
use tensorgate_policy::SmolStr;
use tensorgate_policy::request::Proofs;

use crate::host::{HostFault, Proxy};

/// Name of the property. Envoy stores it as filter state `wasm.tg_identity`.
pub const PROPERTY: &str = "tg_identity";

/// Identity of the caller.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SharedIdentity {
    /// Name of the client; `None` for a public request.
    pub client: Option<SmolStr>,
    /// Log name of the credential.
    pub credential: Option<SmolStr>,
    /// Proofs that the credential provided.
    pub proofs: Proofs,
    /// The id that the first filter gave the request.
    pub request_id: String,
}

impl SharedIdentity {
    /// Reads the identity that a previous filter has set; `None` if there is none. Invalid contents
    /// are a fault.
    ///
    /// # Errors
    /// The proxy failed, or the property is not an identity.
    pub fn read(proxy: &mut dyn Proxy) -> Result<Option<Self>, HostFault> {
        let Some(text) = proxy.property(&[PROPERTY])? else {
            return Ok(None);
        };
        Self::parse(&text).map(Some).ok_or(HostFault {
            call: "get_property",
            status: NOT_OURS,
        })
    }

    /// Sets the identity. The proxy rejects a second write.
    ///
    /// # Errors
    /// The proxy failed.
    pub fn publish(&self, proxy: &mut dyn Proxy) -> Result<(), HostFault> {
        let proofs = self.proofs.to_bits();
        let said = json!({
            "client": self.client.as_deref(),
            "credential": self.credential.as_deref(),
            "proofs": proofs,
            "request_id": self.request_id,
        });
        proxy.set_property(PROPERTY, &said.to_string())
    }

    fn parse(text: &[u8]) -> Option<Self> {
        let value: Value = serde_json::from_slice(text).ok()?;
        let members = value.as_object()?;
        let text = |name: &str| match members.get(name) {
            Some(Value::String(text)) => Some(Some(SmolStr::new(text))),
            Some(Value::Null) => Some(None),
            _ => None,
        };
        Some(Self {
            client: text("client")?,
            credential: text("credential")?,
            proofs: Proofs::from_bits(u8::try_from(members.get("proofs")?.as_u64()?).ok()?)?,
            request_id: members.get("request_id")?.as_str()?.to_owned(),
        })
    }
}

/// proxy-wasm's `SERIALIZATION_FAILURE`: the property has an unknown format.
const NOT_OURS: u32 = 3;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use tensorgate_policy::request::Proof;

    #[test]
    fn only_identities_in_our_own_format_are_read() {
        let named = |client: &str| SharedIdentity {
            client: Some(client.into()),
            credential: Some("jwt:i:s".into()),
            proofs: Proofs::NONE.with(Proof::Jwt),
            request_id: "id".into(),
        };
        for (text, expected) in [
            (
                &br#"{"client": "a", "credential": "jwt:i:s", "proofs": 2, "request_id": "id"}"#[..],
                Some(named("a")),
            ),
            (
                br#"{"client": null, "credential": null, "proofs": 0, "request_id": ""}"#,
                Some(SharedIdentity::default()),
            ),
            (br#"{"client": "a"}"#, None),
            (br#"{"client": "a", "credential": null}"#, None),
            (br#"{"client": "a", "credential": null, "proofs": 0}"#, None),
            (
                br#"{"client": "a", "credential": null, "proofs": 16, "request_id": ""}"#,
                None,
            ),
            (
                br#"{"client": "a", "credential": null, "proofs": 256, "request_id": ""}"#,
                None,
            ),
            (
                br#"{"client": "a", "credential": null, "proofs": -1, "request_id": ""}"#,
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
