//! Who is calling, as this filter learns it: from a credential if that is its duty, else from the filter of ours that stands before
//! it. Judges nothing: an unknown caller is a fact, and what it means is the decision's.

use tensorgate_identity::Identified;
use tensorgate_policy::Now;
use tensorgate_policy::request::{Credential, Identity};
use tensorgate_wire::context;
use tensorgate_wire::headers::ReadHead;

use crate::caller;
use crate::host::{Field, HostFault, Proxy};
use crate::keys::Awaited;
use crate::root::GateRoot;
use crate::shared_identity::SharedIdentity;
use crate::waiting::Place;

/// What the filters before this one have settled.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Before {
    /// Who is calling, if a filter of ours stands before this one.
    said: Option<SharedIdentity>,
    /// The context that it signed: the header is ours then.
    pub(crate) context: Option<String>,
}

impl Before {
    /// Looks what was settled, and takes the signed context, which is ours, out of the fields that are judged. At the front of a chain such
    /// a header is a client's: it stays, and makes the request ambiguous. So does a second one anywhere.
    pub(crate) fn read(
        root: &GateRoot,
        proxy: &mut dyn Proxy,
        fields: &mut Vec<Field>,
    ) -> Result<Self, HostFault> {
        if root.filter.duties().identify {
            return Ok(Self::default());
        }
        let Some(said) = SharedIdentity::read(proxy)? else {
            return Ok(Self::default());
        };
        let place = fields
            .iter()
            .position(|(name, _)| name.eq_ignore_ascii_case(context::HEADER.as_bytes()));
        let context = place.map(|place| fields.remove(place).1);
        Ok(Self {
            said: Some(said),
            // What is no text verifies no more than any other text of somebody else's.
            context: context.map(|value| String::from_utf8(value).unwrap_or_default()),
        })
    }

    /// Whether nobody has said yet who is calling.
    pub(crate) const fn is_silent(&self) -> bool {
        self.said.is_none()
    }
}

/// Who is calling, or what has to be waited for before anybody knows.
pub(crate) enum Who {
    Known(Identified),
    Awaits(Awaited, Place),
}

/// Who is calling. A filter that is not to read credentials, and that no filter of ours stands before, still takes the proxy's own word:
/// a certificate that it verified, metadata that another filter left. `awaited`: what the request has waited for; it waits once.
pub(crate) fn identify(
    proxy: &mut dyn Proxy,
    root: &GateRoot,
    before: &Before,
    read: &ReadHead<'_>,
    now: Now,
    awaited: Option<&Awaited>,
) -> Who {
    if let Some(said) = &before.said {
        let client = said.client.clone();
        let identity = client.map_or(Identity::Missing, Identity::Client);
        // What the credential does not extend to was refused where it was judged.
        return Who::Known(Identified {
            proofs: said.proofs,
            ..Identified::new(identity, said.credential.clone())
        });
    }
    let credential = if root.filter.duties().identify {
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
    let mut identified = caller::identify(proxy, root, credential, certificate, now, awaited);
    // Another worker may have fetched what this one lacks.
    if identified.awaits.is_some() && refresh(proxy, true) {
        identified = caller::identify(proxy, root, credential, certificate, now, awaited);
    }
    let Some(issuer) = &identified.awaits else {
        return Who::Known(identified);
    };
    let Some(place) = root.room.enter() else {
        return Who::Known(identified);
    };
    match root.keys.borrow_mut().wish(proxy, issuer, now) {
        Some(awaited) => Who::Awaits(awaited, place),
        None => Who::Known(identified),
    }
}
