//! Identifies the caller: from a credential if this filter has that capability, otherwise from the
//! previous tensorgate filter. This module makes no decision; an unknown caller is a valid result.

pub(super) mod caller;
pub(crate) mod digests;
pub(crate) mod shared_identity;

use tensorgate_identity::Identified;
use tensorgate_policy::Now;
use tensorgate_policy::request::{Credential, Identity};
use tensorgate_wire::context;
use tensorgate_wire::headers::ReadHead;

use crate::host::{Fields, HostFault, Proxy};
use crate::keys::AwaitedFetch;
use crate::root::{GateRoot, WaitPermit};
pub use caller::identify_caller;
use shared_identity::SharedIdentity;

/// Results of the previous filters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct PreviousFilters {
    /// Identity of the caller, if a previous tensorgate filter has set it.
    said: Option<SharedIdentity>,
    /// The context that the previous filter signed.
    pub(crate) context: Option<String>,
}

impl PreviousFilters {
    /// Reads the results of the previous filters and removes their fields (signed context, claims)
    /// from the fields to evaluate. In the first filter of a chain, a context comes from the
    /// client: it stays and makes the request ambiguous, as does a second context. A client's own
    /// claim headers are removed.
    pub(crate) fn read(
        root: &GateRoot,
        proxy: &mut dyn Proxy,
        fields: &mut Fields,
    ) -> Result<Self, HostFault> {
        if root.filter().capabilities().identify {
            return Ok(Self::default());
        }
        let is_claim = |name: &[u8]| root.policy().is_for_claims(name);
        let Some(said) = SharedIdentity::read(proxy)? else {
            // An identifying filter replaces all fields. Without such a filter, claim headers are
            // removed here.
            for (name, _) in fields.iter().filter(|(name, _)| is_claim(name)) {
                let name = String::from_utf8_lossy(name);
                proxy.remove_request_header(&name)?;
            }
            return Ok(Self::default());
        };
        if root.policy().passes_claims_on() {
            fields.retain(|name| !is_claim(name));
        }
        let context = fields.take(context::HEADER);
        Ok(Self {
            said: Some(said),
            // A value that is not text fails verification like any other invalid value.
            context: context.map(|value| String::from_utf8(value).unwrap_or_default()),
        })
    }

    /// The id that the first filter gave the request.
    pub(crate) fn request_id(&self) -> Option<&str> {
        let said = self.said.as_ref()?;
        Some(said.request_id.as_str()).filter(|id| !id.is_empty())
    }

    /// Whether no previous filter has identified the caller.
    pub(crate) const fn is_empty(&self) -> bool {
        self.said.is_none()
    }
}

/// The caller, or the fetch to wait for before the caller can be identified.
pub(crate) enum CallerState {
    Known(Identified),
    Awaits(AwaitedFetch, WaitPermit),
}

/// Identifies the caller. A filter without that capability and without a previous filter still uses
/// what the proxy has verified: a client certificate or metadata of another filter. `awaited`: the
/// fetch that the request has waited for; a request waits once.
pub(crate) fn identify(
    proxy: &mut dyn Proxy,
    root: &GateRoot,
    previous: &PreviousFilters,
    read: &ReadHead<'_>,
    now: Now,
    awaited: Option<&AwaitedFetch>,
) -> CallerState {
    if let Some(said) = &previous.said {
        let client = said.client.clone();
        let identity = client.map_or(Identity::Missing, Identity::Client);
        // Missing proofs were rejected where the credential was evaluated.
        return CallerState::Known(Identified {
            proofs: said.proofs,
            ..Identified::new(identity, said.credential.clone())
        });
    }
    let credential = if root.filter().capabilities().identify {
        read.credential
    } else {
        Credential::None
    };
    let refresh = |proxy: &mut dyn Proxy, all| {
        let mut tokens = root.tokens.borrow_mut();
        let mut keys = root.keys.borrow_mut();
        keys.refresh(proxy, tokens.keys_mut(), now, all)
    };
    refresh(proxy, awaited.is_some());
    let certificate = read.certificate;
    let mut identified = identify_caller(proxy, root, credential, certificate, now, awaited);
    // Another worker may have fetched the missing keys.
    if identified.awaits.is_some() && refresh(proxy, true) {
        identified = identify_caller(proxy, root, credential, certificate, now, awaited);
    }
    // A request waits once. An ambiguous request never waits: its duplicate fields are removed
    // before it would be read again.
    let waits = awaited.is_none() && !read.is_ambiguous();
    let Some(issuer) = identified.awaits.as_ref().filter(|_| waits) else {
        return CallerState::Known(identified);
    };
    let Some(permit) = root.key_waiters.try_acquire() else {
        return CallerState::Known(identified);
    };
    match root.keys.borrow_mut().request_refresh(proxy, issuer, now) {
        Some(awaited) => CallerState::Awaits(awaited, permit),
        None => CallerState::Known(identified),
    }
}

/// Removes an API key that is part of a header field, and a query that is ignored. The proxy then
/// cannot log or forward them.
pub(crate) fn remove_key_and_query(
    proxy: &mut dyn Proxy,
    read: &ReadHead<'_>,
) -> Result<(), HostFault> {
    if read.key_in_path || read.query_ignored {
        proxy.set_request_header(":path", &read.path)?;
    }
    if read.key_in_cookie {
        proxy.remove_request_header("cookie")?;
    }
    Ok(())
}
