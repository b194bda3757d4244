//! A case becomes one request for every spelling it names.

use std::collections::BTreeMap;

use serde_json::Value;
use tensorgate_policy::request::Api;
use tensorgate_policy::{Protocol, Reason};

use crate::file::{
    Blob, Case, Driver, Grpc, Http, Input, Key, RawExpect, Request, Spelling, Tensors, Verdict,
};
use crate::protobuf::Contents;
use crate::request::{Expect, Field, RawRequest};
use crate::{VectorFault, json, protobuf, sign, template, tf, torch, value};

/// Header fields in order.
type Fields = Vec<Field>;

/// The spellings of OIP, which come first.
const OIP_SPELLINGS: usize = 7;

/// The parts of a policy's models that a request's spelling depends on, by name.
pub(crate) type Models = BTreeMap<String, Model>;

/// The parts of a model that a request's spelling depends on.
pub(crate) struct Model {
    /// Protocols that it may be called by.
    pub protocols: Vec<Protocol>,
    /// Its inputs.
    pub inputs: Vec<Taken>,
    /// Its own JSON or its guardrail, as the policy has it.
    pub template: Value,
}

/// A tensor that a model takes.
#[derive(Clone, Debug)]
pub struct Taken {
    /// Its name.
    pub name: String,
    /// Its datatype.
    pub datatype: String,
    /// How many dims it has.
    pub rank: usize,
}

/// The models of a policy as it is written.
pub(crate) fn models(policy: &Value) -> Models {
    let text = |value: &Value, key: &str| {
        value
            .get(key)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    let list = |value: Option<&Value>| value.and_then(Value::as_array).cloned().unwrap_or_default();
    let models = policy.get("models").and_then(Value::as_object);
    models
        .into_iter()
        .flatten()
        .map(|(name, model)| {
            let taken = model
                .pointer("/accepts/inputs")
                .or_else(|| model.get("inputs"));
            let read = Model {
                protocols: list(model.get("protocols"))
                    .iter()
                    .filter_map(|name| Protocol::from_name(name.as_str()?))
                    .collect(),
                inputs: list(taken)
                    .iter()
                    .map(|input| Taken {
                        name: text(input, "name"),
                        datatype: text(input, "datatype"),
                        rank: list(input.get("shape")).len(),
                    })
                    .collect(),
                template: (model.get("json"))
                    .or_else(|| model.get("guardrail"))
                    .cloned()
                    .unwrap_or_default(),
            };
            (name.clone(), read)
        })
        .collect()
}

/// The gRPC method of an inference.
const INFER: &str = "/inference.GRPCInferenceService/ModelInfer";
/// The most elements that `fill` may make: vectors are small.
const MAX_FILL: i64 = 1 << 16;

/// Everything that a case lowers to, with the spelling's name if there are several.
pub(crate) fn requests(
    case: &Case,
    keys: &BTreeMap<String, Key>,
    models: &Models,
) -> Result<Vec<(Option<&'static str>, RawRequest)>, String> {
    let mut fields = Vec::new();
    if let Some(name) = &case.key {
        let key = keys
            .get(name)
            .ok_or_else(|| format!("keys.json has no key {name:?}"))?;
        fields.push((b"x-api-key".to_vec(), key.text.clone().into_bytes()));
    }
    if let Some(token) = &case.token {
        if case.key.is_some() {
            return Err("token comes with key: null, or the head has two credentials".into());
        }
        let text = |value: &Value| {
            value
                .as_str()
                .map_or_else(|| value.to_string(), str::to_owned)
        };
        let signed = sign::token(&text(&token.header), &text(&token.claims), token.key)
            .map_err(|fault| fault.to_string())?;
        let value = format!("{}{signed}", token.scheme).into_bytes();
        fields.push((b"authorization".to_vec(), value));
    }
    for (name, value) in &case.headers {
        fields.push((name.clone().into_bytes(), value.bytes()?));
    }
    let chunk_bytes = case.chunks;
    match &case.request {
        Request::Tensors(tensors) => {
            let model = models.get(&tensors.model);
            let spell = |spelling| spelled(tensors, spelling, model, &fields, chunk_bytes);
            let (spellings, others): (&[_], &[_]) = match &case.protocols {
                Some(named) => (named, &[]),
                // Of TF Serving's and TorchServe's spellings, those that the model may be called by
                // and that can express the request. They have no ids and no parameters.
                None => Spelling::ALL.split_at(OIP_SPELLINGS),
            };
            if spellings.is_empty() {
                return Err("protocols is empty".into());
            }
            let all = spellings
                .iter()
                .map(|spelling| Ok((Some(spelling.name()), spell(*spelling)?)));
            let more = others
                .iter()
                .filter(|spelling| {
                    model.is_none_or(|model| model.protocols.contains(&spelling.protocol()))
                })
                .filter_map(|spelling| Some(Ok((Some(spelling.name()), spell(*spelling).ok()?))));
            all.chain(more).collect()
        }
        _ if case.protocols.is_some() => {
            Err("protocols belongs to tensors: http and grpc are in one already".into())
        }
        Request::Http(http) => Ok(vec![(
            None,
            http_request(http, models, fields, chunk_bytes)?,
        )]),
        Request::Grpc(grpc) => Ok(vec![(None, grpc_request(grpc, fields, chunk_bytes)?)]),
    }
}

/// A request without a protocol (`tensors` as in the vectors' README) in every spelling that can
/// express it for a model with these inputs. The outer error is a mistake in the document.
pub fn spell(
    tensors: &Value,
    inputs: &[Taken],
    template: &Value,
) -> Result<Vec<(Spelling, RawRequest)>, VectorFault> {
    let tensors: Tensors =
        serde_json::from_value(tensors.clone()).map_err(|source| VectorFault::Json {
            path: "tensors".into(),
            source,
        })?;
    let model = Model {
        protocols: Protocol::ALL.to_vec(),
        inputs: inputs.to_vec(),
        template: template.clone(),
    };
    Ok(Spelling::ALL
        .into_iter()
        .filter_map(|spelling| {
            let request = spelled(&tensors, spelling, Some(&model), &[], None).ok()?;
            Some((spelling, request))
        })
        .collect())
}

fn spelled(
    tensors: &Tensors,
    spelling: Spelling,
    model: Option<&Model>,
    fields: &[Field],
    chunk_bytes: Option<usize>,
) -> Result<RawRequest, String> {
    let contents = match spelling {
        Spelling::TfRestRows | Spelling::TfRestColumns => {
            let content_type = (b"content-type".to_vec(), b"application/json".to_vec());
            let by_row = spelling == Spelling::TfRestRows;
            let body = tf::json_request(tensors, model, by_row)?;
            return Ok(RawRequest {
                protocol: Protocol::TfRest,
                path: tf::path(tensors)?,
                ..rest(tensors, content_type, fields, body, chunk_bytes)
            });
        }
        Spelling::TfGrpcTyped | Spelling::TfGrpcContent => {
            let typed = spelling == Spelling::TfGrpcTyped;
            return Ok(RawRequest {
                protocol: Protocol::TfGrpc,
                method: "POST".into(),
                path: tf::PREDICT.into(),
                headers: grpc_fields(None, fields)?,
                body: protobuf::frame(&tf::predict_request(tensors, typed)?)?,
                chunk_bytes,
            });
        }
        Spelling::TorchRestRows | Spelling::TorchRestColumns => {
            let content_type = (b"content-type".to_vec(), b"application/json".to_vec());
            let by_row = spelling == Spelling::TorchRestRows;
            let body = torch::json_request(tensors, model, by_row)?;
            return Ok(RawRequest {
                protocol: Protocol::TorchRest,
                path: torch::path(tensors)?,
                ..rest(tensors, content_type, fields, body, chunk_bytes)
            });
        }
        Spelling::TorchRestForm => {
            let content_type = (b"content-type".to_vec(), torch::FORM.as_bytes().to_vec());
            let body = torch::form(tensors, model)?;
            return Ok(RawRequest {
                protocol: Protocol::TorchRest,
                method: "PUT".into(),
                path: torch::path(tensors)?,
                ..rest(tensors, content_type, fields, body, chunk_bytes)
            });
        }
        Spelling::TorchGrpc => {
            return Ok(RawRequest {
                protocol: Protocol::TorchGrpc,
                method: "POST".into(),
                path: torch::PREDICTIONS.into(),
                headers: grpc_fields(None, fields)?,
                body: protobuf::frame(&torch::message(tensors, model)?)?,
                chunk_bytes,
            });
        }
        Spelling::Template => {
            let content_type = (b"content-type".to_vec(), b"application/json".to_vec());
            let (path, body) = template::request(tensors, model)?;
            return Ok(RawRequest {
                protocol: Protocol::Json,
                path,
                ..rest(tensors, content_type, fields, body, chunk_bytes)
            });
        }
        Spelling::OipGrpcTyped => Contents::Packed,
        Spelling::OipGrpcUnpacked => Contents::Unpacked,
        Spelling::OipGrpcRaw | Spelling::OipGrpcStream => Contents::Raw,
        Spelling::OipRest | Spelling::OipRestNested => {
            let content_type = (b"content-type".to_vec(), b"application/json".to_vec());
            let body = json::infer_request(tensors, spelling == Spelling::OipRestNested)?;
            return Ok(rest(tensors, content_type, fields, body, chunk_bytes));
        }
        // As Triton's Python client sends it: without a content type.
        Spelling::OipRestBinary => {
            let (json_bytes, body) = json::binary_request(tensors)?;
            let length = (
                b"inference-header-content-length".to_vec(),
                json_bytes.to_string().into_bytes(),
            );
            return Ok(rest(tensors, length, fields, body, chunk_bytes));
        }
    };
    let body = protobuf::frame(&protobuf::infer_request(tensors, contents)?)?;
    let path = match spelling {
        Spelling::OipGrpcStream => RawRequest::STREAM,
        _ => INFER,
    };
    Ok(RawRequest {
        protocol: Protocol::OipGrpc,
        method: "POST".into(),
        path: path.into(),
        headers: grpc_fields(None, fields)?,
        body,
        chunk_bytes,
    })
}

/// An inference over REST. `first` is the field that declares the body's type.
fn rest(
    tensors: &Tensors,
    first: Field,
    fields: &[Field],
    body: Vec<u8>,
    chunk_bytes: Option<usize>,
) -> RawRequest {
    let version = tensors
        .version
        .as_ref()
        .map(|version| format!("/versions/{version}"))
        .unwrap_or_default();
    let mut headers = vec![first];
    headers.extend_from_slice(fields);
    RawRequest {
        protocol: Protocol::OipRest,
        method: "POST".into(),
        path: format!("/v2/models/{}{version}/infer", tensors.model),
        headers,
        body,
        chunk_bytes,
    }
}

fn http_request(
    http: &Http,
    models: &Models,
    mut fields: Fields,
    chunk_bytes: Option<usize>,
) -> Result<RawRequest, String> {
    for (name, value) in &http.headers {
        fields.push((name.clone().into_bytes(), value.bytes()?));
    }
    let path = http.path.as_str();
    let openai = path == "/v1/models" || Api::ALL.iter().any(|api| api.path() == path);
    Ok(RawRequest {
        protocol: if path.starts_with("/v1/models/") {
            Protocol::TfRest
        } else if torch::PATHS.iter().any(|start| path.starts_with(start)) {
            Protocol::TorchRest
        } else if models
            .values()
            .any(|model| template::route(model) == Some(path))
        {
            Protocol::Json
        } else if openai {
            Protocol::OpenAi
        } else {
            Protocol::OipRest
        },
        method: http.method.clone(),
        path: http.path.clone(),
        headers: fields,
        body: http.body.bytes()?,
        chunk_bytes,
    })
}

fn grpc_request(
    grpc: &Grpc,
    mut fields: Fields,
    chunk_bytes: Option<usize>,
) -> Result<RawRequest, String> {
    for (name, value) in &grpc.headers {
        fields.push((name.clone().into_bytes(), value.bytes()?));
    }
    let path = grpc.path.as_deref().unwrap_or(INFER);
    Ok(RawRequest {
        protocol: if path.starts_with("/tensorflow.serving.") {
            Protocol::TfGrpc
        } else if path.starts_with("/org.pytorch.serve.grpc.") {
            Protocol::TorchGrpc
        } else {
            Protocol::OipGrpc
        },
        method: grpc.method.clone().unwrap_or_else(|| "POST".into()),
        path: path.to_owned(),
        headers: grpc_fields(grpc.content_type.as_ref(), &fields)?,
        body: protobuf::grpc_body(grpc)?,
        chunk_bytes,
    })
}

fn grpc_fields(content_type: Option<&Blob>, fields: &[Field]) -> Result<Fields, String> {
    let content_type =
        content_type.map_or_else(|| Ok(b"application/grpc".to_vec()), Blob::bytes)?;
    let mut all = vec![(b"te".to_vec(), b"trailers".to_vec())];
    if !content_type.is_empty() {
        all.push((b"content-type".to_vec(), content_type));
    }
    all.extend_from_slice(fields);
    Ok(all)
}

/// The decision a case expects.
pub(crate) fn expect(raw: &RawExpect) -> Result<Expect, String> {
    match (raw.verdict, &raw.reason) {
        (Verdict::Allow, None) if raw.field.is_none() => Ok(Expect::Allow),
        (Verdict::Deny, _) if !raw.headers.is_empty() => {
            Err("nothing stands behind what is denied".into())
        }
        (Verdict::Allow, _) => Err("what is allowed has no reason and no field".into()),
        (Verdict::Deny, None) => Err("what is denied has a reason".into()),
        (Verdict::Deny, Some(name)) => {
            let reason = Reason::from_name(name).ok_or_else(|| format!("{name:?} is no reason"))?;
            Ok(Expect::Deny {
                reason,
                field: raw.field.clone(),
            })
        }
    }
}

/// What a spelling changes in the decision: a model's own path is no route for a client without a
/// grant for it.
pub(crate) fn of_route(expect: Expect, spelling: Option<&str>) -> Expect {
    let own = spelling == Some(Spelling::Template.name());
    match (expect, own) {
        (
            Expect::Deny {
                reason: Reason::NotGranted,
                field,
            },
            true,
        ) => Expect::Deny {
            reason: Reason::NotAnInferenceRoute,
            field,
        },
        (expect, _) => expect,
    }
}

/// The reasons that a case expects as noted in shadow mode.
pub(crate) fn shadow(raw: &RawExpect) -> Result<Option<Vec<Reason>>, String> {
    let Some(names) = &raw.shadow else {
        return Ok(None);
    };
    let reason =
        |name: &String| Reason::from_name(name).ok_or_else(|| format!("{name:?} is no reason"));
    let reasons = names.iter().map(reason).collect::<Result<Vec<_>, _>>()?;
    if !reasons.is_sorted() {
        return Err("shadow is in order of precedence".into());
    }
    Ok(Some(reasons))
}

/// The drivers that can run a case. Excluding one needs a reason.
pub(crate) fn drivers(case: &Case) -> Result<Vec<Driver>, String> {
    match (&case.only, &case.why) {
        (None, None) => Ok(vec![Driver::Native, Driver::Envoy, Driver::Host]),
        (Some(only), Some(why)) if !only.is_empty() && !why.is_empty() => Ok(only.clone()),
        _ => Err("only and why come together, and neither is empty".into()),
    }
}

impl Input {
    /// The elements in raw form.
    pub fn raw(&self) -> Result<Vec<u8>, String> {
        match &self.bytes {
            Some(bytes) => bytes.bytes(),
            None => self
                .elements()?
                .iter()
                .map(|scalar| value::raw(&self.datatype, scalar))
                .collect::<Result<Vec<_>, _>>()
                .map(|elements| elements.concat()),
        }
    }

    /// The elements in row-major order.
    pub fn elements(&self) -> Result<Vec<Value>, String> {
        match (&self.data, &self.fill, &self.bytes) {
            (Some(data), None, None) => Ok(data.clone()),
            (None, Some(fill), None) => {
                let count = self
                    .shape
                    .iter()
                    .try_fold(1_i64, |count, dim| count.checked_mul(*dim))
                    .filter(|count| (0..=MAX_FILL).contains(count));
                let count = count
                    .and_then(|count| usize::try_from(count).ok())
                    .ok_or_else(|| format!("fill cannot fill {:?}", self.shape))?;
                Ok(vec![fill.clone(); count])
            }
            _ => Err(format!(
                "input {:?} has exactly one of data, fill and bytes",
                self.name
            )),
        }
    }
}
