//! Conversion between calls and their captured form.

use std::borrow::Cow;
use std::sync::Arc;

use sha2::{Digest as _, Sha256};
use tensorgate_base::egress_log::ResolveFailure;
use tensorgate_base::payload::{Payload, Role};
use tensorgate_policy::policy::{Handler, Lookup};
use tensorgate_policy::{Tensor, hex};
use tensorgate_settings::capture::{
    Blob, Captured, CapturedOutcome, CapturedRequest, CapturedResource, CapturedWasi, FORMAT,
    HandlerFacts, Input, Named, packed, unpacked,
};

use crate::finished_call::HandlerOutput;
use crate::outcome::HandlerError;
use crate::random_seed::WasiInputs;
use crate::resources::{
    CapabilityRequest, FeatureColumn, FetchedFile, ResolvedResource, ResolvedResources,
};

/// Captures a handler's policy.
fn handler_facts(name: &str, role: Role, rule: &Handler) -> HandlerFacts {
    let lookup = |(name, rule): (&String, &Lookup)| (name.clone(), wide(rule.max_requests()));
    HandlerFacts {
        name: name.to_owned(),
        role: role.export().to_owned(),
        sha256: hex(rule.sha256()),
        fuel: rule.fuel(),
        memory_bytes: wide(rule.memory_bytes()),
        timeout_ms: rule.timeout_ms(),
        config: rule.config().clone(),
        files: rule.fetch().map(|rule| wide(rule.max_requests())),
        lookups: rule.lookups().iter().map(lookup).collect(),
        parameters: rule.parameters().iter().cloned().collect(),
    }
}

/// The role of a captured handler.
///
/// # Errors
/// Returns an error if it is unknown.
pub fn role(facts: &HandlerFacts) -> Result<Role, String> {
    [Role::Preprocess, Role::Postprocess]
        .into_iter()
        .find(|role| role.export() == facts.role)
        .ok_or_else(|| format!("unknown role {:?}", facts.role))
}

fn wide(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

/// Captures a payload. `None` for one that no checked request has.
fn captured_input(payload: &Payload) -> Option<Input> {
    let named = |tensor: &Tensor<'_>| {
        Some(Named {
            name: tensor.name.clone().into_owned(),
            datatype: tensor.datatype.clone().into_owned(),
            shape: tensor.shape.clone(),
            data: Blob(tensor.data.as_ref().ok()?.to_vec()),
        })
    };
    Some(match payload {
        Payload::Raw { content_type, data } => Input::Raw {
            content_type: content_type.clone(),
            data: Blob(data.to_vec()),
        },
        Payload::Tensors(tensors) => {
            Input::Tensors(tensors.iter().map(named).collect::<Option<_>>()?)
        }
    })
}

/// Restores a payload.
pub fn payload(input: &Input) -> Payload {
    match input {
        Input::Raw { content_type, data } => Payload::Raw {
            content_type: content_type.clone(),
            data: data.0.clone().into(),
        },
        Input::Tensors(tensors) => Payload::Tensors(tensors.iter().map(owned).collect()),
    }
}

fn owned(named: &Named) -> Tensor<'static> {
    Tensor {
        name: Cow::Owned(named.name.clone()),
        datatype: Cow::Owned(named.datatype.clone()),
        shape: named.shape.clone(),
        parameters: Vec::new(),
        data: Ok(named.data.0.clone().into()),
    }
}

/// Captures a capability request and its result. `None` if their kinds differ.
fn captured_resource(
    (ask, brought): (&CapabilityRequest, &ResolvedResource),
) -> Option<CapturedResource> {
    let why = |missing: &ResolveFailure| missing.name().to_owned();
    Some(match (ask, brought) {
        (CapabilityRequest::File(url), ResolvedResource::File(file)) => {
            let found = file.as_ref().ok();
            CapturedResource::File {
                url: url.clone(),
                missing: file.as_ref().err().map(why),
                content_type: found
                    .map(|file| file.content_type.clone())
                    .unwrap_or_default(),
                data: Blob(found.map(|file| file.data.to_vec()).unwrap_or_default()),
            }
        }
        (
            CapabilityRequest::Columns {
                lookup,
                features,
                keys,
            },
            ResolvedResource::Columns(columns),
        ) => CapturedResource::Columns {
            lookup: lookup.clone(),
            features: features.clone(),
            keys: keys.clone(),
            missing: columns.as_ref().err().map(why),
            values: (columns.iter().flatten())
                .map(|column| packed(&column.values))
                .collect(),
        },
        _ => return None,
    })
}

/// Restores a capability request and its result.
///
/// # Errors
/// Returns an error if the failure is unknown.
fn restore(captured: &CapturedResource) -> Result<(CapabilityRequest, ResolvedResource), String> {
    let missing = |name: &str| {
        let known = ResolveFailure::ALL
            .into_iter()
            .find(|why| why.name() == name);
        known.ok_or_else(|| format!("unknown reason {name:?} for a missing resource"))
    };
    Ok(match captured {
        CapturedResource::File {
            url,
            missing: why,
            content_type,
            data,
        } => {
            let file = match why {
                Some(name) => Err(missing(name)?),
                None => Ok(FetchedFile {
                    content_type: content_type.clone(),
                    data: data.0.clone().into(),
                }),
            };
            (
                CapabilityRequest::File(url.clone()),
                ResolvedResource::File(file),
            )
        }
        CapturedResource::Columns {
            lookup,
            features,
            keys,
            missing: why,
            values,
        } => {
            let column = |(feature, column): (&String, &Blob)| FeatureColumn {
                feature: feature.clone(),
                values: unpacked(column),
            };
            let columns = match why {
                Some(name) => Err(missing(name)?),
                None => Ok(features.iter().zip(values).map(column).collect()),
            };
            let ask = CapabilityRequest::Columns {
                lookup: lookup.clone(),
                features: features.clone(),
                keys: keys.clone(),
            };
            (ask, ResolvedResource::Columns(columns))
        }
    })
}

/// Restores the resolved resources of a call.
///
/// # Errors
/// Returns an error if a failure is unknown.
pub fn known(call: &Captured) -> Result<ResolvedResources, String> {
    call.resources.iter().map(restore).collect()
}

/// Restores the time and the seed of a call. Both are zero for a call that was captured without.
pub fn wasi_inputs(call: &Captured) -> WasiInputs {
    let restored = |captured: &CapturedWasi| WasiInputs {
        unix_ms: captured.unix_ms,
        seed: captured.seed.0.as_slice().try_into().unwrap_or_default(),
    };
    call.wasi.as_ref().map(restored).unwrap_or_default()
}

/// The end of a call. The writer thread computes its digest later.
#[derive(Clone, Debug)]
pub(super) enum End {
    Answered(Vec<Tensor<'static>>, u64),
    Rejected(String, u64),
    Fault(&'static str, u64),
}

impl End {
    /// Captures the end of a call. `None` if it did not run.
    pub(super) fn from_call(called: &Result<HandlerOutput, HandlerError>) -> Option<Self> {
        Some(match called {
            Ok(called) => Self::Answered(called.tensors.clone(), called.fuel_used),
            Err(HandlerError::Rejected {
                text, fuel_used, ..
            }) => Self::Rejected(text.clone(), *fuel_used),
            Err(HandlerError::Fault {
                cause, fuel_used, ..
            }) => Self::Fault(cause.name(), *fuel_used),
            Err(HandlerError::Overloaded(_) | HandlerError::CircuitOpen(_)) => return None,
        })
    }

    pub(super) fn outcome(&self) -> CapturedOutcome {
        let (what, sha256, fuel_used) = match self {
            Self::Answered(tensors, fuel) => ("answered", Some(digest(tensors)), fuel),
            Self::Rejected(text, fuel) => ("rejected", Some(hex(&Sha256::digest(text))), fuel),
            Self::Fault(cause, fuel) => (*cause, None, fuel),
        };
        CapturedOutcome {
            what: what.to_owned(),
            sha256,
            fuel_used: *fuel_used,
        }
    }
}

/// Captures the outcome of a call. `None` if it did not run.
pub fn outcome(called: &Result<HandlerOutput, HandlerError>) -> Option<CapturedOutcome> {
    End::from_call(called).map(|end| end.outcome())
}

/// The SHA-256 digest of tensors, with the length before each part.
fn digest(tensors: &[Tensor<'_>]) -> String {
    let mut hash = Sha256::new();
    let mut part = |bytes: &[u8]| {
        hash.update(wide(bytes.len()).to_le_bytes());
        hash.update(bytes);
    };
    for tensor in tensors {
        part(tensor.name.as_bytes());
        part(tensor.datatype.as_bytes());
        let dims = tensor.shape.iter().flat_map(|dim| dim.to_le_bytes());
        part(&dims.collect::<Vec<_>>());
        part(tensor.data.as_deref().unwrap_or_default());
    }
    hex(&hash.finalize())
}

/// The bytes of resolved resources and their requests.
pub(super) fn known_bytes(known: &ResolvedResources) -> usize {
    let texts = |texts: &[String]| texts.iter().map(String::len).fold(0, usize::saturating_add);
    let asked = |ask: &CapabilityRequest| match ask {
        CapabilityRequest::File(url) => url.len(),
        CapabilityRequest::Columns { features, keys, .. } => {
            texts(features).saturating_add(texts(keys))
        }
    };
    let brought = |brought: &ResolvedResource| match brought {
        ResolvedResource::File(file) => file.as_ref().map_or(0, |file| file.data.len()),
        ResolvedResource::Columns(columns) => (columns.iter().flatten())
            .map(|column| column.values.len().saturating_mul(16))
            .fold(0, usize::saturating_add),
    };
    known
        .iter()
        .map(|(ask, came)| asked(ask).saturating_add(brought(came)))
        .fold(0, usize::saturating_add)
}

/// A call in the queue. It shares data with the call where possible.
#[derive(Debug)]
pub(super) struct QueuedCall {
    pub(super) bytes: usize,
    pub(super) engine: Arc<str>,
    pub(super) at_unix_ms: u64,
    pub(super) request_id: String,
    pub(super) client: String,
    pub(super) model: String,
    pub(super) handler: String,
    pub(super) role: Role,
    pub(super) rule: Arc<Handler>,
    pub(super) request: Option<CapturedRequest>,
    pub(super) input: Arc<Payload>,
    pub(super) known: Arc<ResolvedResources>,
    pub(super) wasi: Option<WasiInputs>,
    pub(super) end: End,
    pub(super) broke: bool,
}

impl QueuedCall {
    /// The captured form. `None` for a call that no checked request has.
    pub(super) fn captured(&self) -> Option<Captured> {
        Some(Captured {
            format: FORMAT,
            engine: (*self.engine).to_owned(),
            at_unix_ms: self.at_unix_ms,
            request_id: self.request_id.clone(),
            client: self.client.clone(),
            model: self.model.clone(),
            handler: handler_facts(&self.handler, self.role, &self.rule),
            request: self.request.clone(),
            input: captured_input(&self.input)?,
            resources: self.known.iter().filter_map(captured_resource).collect(),
            wasi: self.wasi.map(|inputs| CapturedWasi {
                unix_ms: inputs.unix_ms,
                seed: Blob(inputs.seed.to_vec()),
            }),
            outcome: self.end.outcome(),
            broke: self.broke,
        })
    }
}
