//! The functions that tell a guest about its request: `context` and `carry` of version 0.2.

use bytes::Bytes;
use tensorgate_policy::tensor::ParameterValue;
use wasmtime::StoreContextMut;
use wasmtime::component::{ComponentType, Linker, Lower, WasmList};

use crate::call_state::{CallState, Stop};
use crate::fixed_limits::MAX_CARRY_BYTES;

/// The interface for the facts about the request.
pub(super) const CONTEXT: &str = "tensorgate:handler/context@0.2.0";
/// The interface for bytes between the handlers of a request.
pub(super) const CARRY: &str = "tensorgate:handler/carry@0.2.0";

/// A request, as the interface defines it.
#[derive(ComponentType, Lower)]
#[component(record)]
struct Request {
    #[component(name = "request-id")]
    request_id: String,
    client: String,
    model: String,
    version: String,
    operation: String,
    time: u64,
    parameters: Vec<(String, Value)>,
    input: Input,
}

/// The value of a parameter.
#[derive(ComponentType, Lower)]
#[component(variant)]
enum Value {
    #[component(name = "bool")]
    Bool(bool),
    #[component(name = "int64")]
    Int64(i64),
    #[component(name = "uint64")]
    Uint64(u64),
    #[component(name = "double")]
    Double(f64),
    #[component(name = "text")]
    Text(String),
}

/// The input of the request.
#[derive(ComponentType, Lower)]
#[component(record)]
struct Input {
    tensors: Vec<TensorShape>,
    #[component(name = "media-type")]
    media_type: Option<String>,
    #[component(name = "media-bytes")]
    media_bytes: u64,
}

/// An input tensor of the request.
#[derive(ComponentType, Lower)]
#[component(record)]
struct TensorShape {
    name: String,
    shape: Vec<u64>,
}

impl Request {
    /// The request of a call, with the parameters that its handler may see.
    fn of(state: &CallState) -> Self {
        let facts = &*state.request.facts;
        let value = |value: &ParameterValue<'_>| match value {
            ParameterValue::Bool(value) => Value::Bool(*value),
            ParameterValue::Int64(value) => Value::Int64(*value),
            ParameterValue::Uint64(value) => Value::Uint64(*value),
            ParameterValue::Double(value) => Value::Double(*value),
            ParameterValue::String(value) => Value::Text(value.clone().into_owned()),
        };
        let shown = (facts.parameters.iter())
            .filter(|parameter| state.shown_parameters.contains(&*parameter.name))
            .map(|parameter| (parameter.name.clone().into_owned(), value(&parameter.value)));
        let tensor = |(name, shape): &(String, Vec<u64>)| TensorShape {
            name: name.clone(),
            shape: shape.clone(),
        };
        Self {
            request_id: state.request_id.clone(),
            client: facts.client.clone(),
            model: facts.model.clone(),
            version: facts.version.clone(),
            operation: facts.operation.clone(),
            time: facts.time_unix_ms,
            parameters: shown.collect(),
            input: Input {
                tensors: facts.tensors.iter().map(tensor).collect(),
                media_type: facts.media_type.clone(),
                media_bytes: facts.media_bytes,
            },
        }
    }
}

/// Adds the functions to a linker. The limit is checked before bytes are copied.
pub(super) fn link(linker: &mut Linker<CallState>) -> wasmtime::Result<()> {
    linker.instance(CONTEXT)?.func_wrap(
        "get",
        |mut store: StoreContextMut<'_, CallState>, (): ()| {
            store.data_mut().enter_host()?;
            Ok((Request::of(store.data()),))
        },
    )?;
    let mut carry = linker.instance(CARRY)?;
    carry.func_wrap(
        "set",
        |mut store: StoreContextMut<'_, CallState>, (data,): (WasmList<u8>,)| {
            store.data_mut().enter_host()?;
            if data.len() > MAX_CARRY_BYTES {
                return Err(Stop::CarryLimit.into());
            }
            let data = Bytes::copy_from_slice(data.as_le_slice(&store));
            store.data_mut().request.carry = data;
            Ok(())
        },
    )?;
    carry.func_wrap(
        "get",
        |mut store: StoreContextMut<'_, CallState>, (): ()| {
            store.data_mut().enter_host()?;
            Ok((store.data().request.carry.to_vec(),))
        },
    )
}
