//! Bodies of every size, encoding and framing. Each arrives whole at the backend. A body whose very
//! last value is invalid does not arrive at all.

use std::time::{Duration, Instant};

use prost::Message;
use tensorgate_client::http1::{self, Framing};
use tensorgate_client::{Fields, Reply, grpc};
use tensorgate_tests::stack::threads::until_active;
use tensorgate_tests::{Stack, ask, policy};
use tensorgate_vectors::{Coding, RawRequest};
use tensorgate_wire::proto::ModelInferRequest;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

/// The path of REST requests for the large model.
const BIG: &str = "/v2/models/big/infer";
/// Envoy has read a piece after this time.
const READ_BEFORE: Duration = Duration::from_millis(100);

/// How a tensor is encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Json,
    /// JSON, compressed.
    Gzip,
    /// OIP's binary data extension.
    Binary,
    Grpc,
}

/// How a body is sent.
#[derive(Clone, Copy, Debug)]
pub enum Sent {
    Http1(Framing),
    /// In pieces of so many bytes, each a DATA frame or more.
    Http2(usize),
    /// The same, ended by trailers.
    Trailers(usize),
}

/// A request for the large model.
pub struct Tensor {
    pub fields: Fields,
    pub body: Vec<u8>,
}

/// Elements, no two neighbours equal, with this last one.
pub fn elements(count: usize, last: f32) -> Vec<f32> {
    let mut all: Vec<f32> = (0..count)
        .map(|index| (index % 1999) as f32 / 2.0)
        .collect();
    *all.last_mut().unwrap() = last;
    all
}

pub fn raw(elements: &[f32]) -> Vec<u8> {
    elements.iter().flat_map(|it| it.to_le_bytes()).collect()
}

impl Tensor {
    pub fn new(form: Form, elements: &[f32], client: &str) -> Self {
        let count = elements.len();
        let mut fields = vec![(b"x-api-key".to_vec(), policy::key(client).into_bytes())];
        let head = |data: String| {
            format!(r#"{{"inputs":[{{"name":"x","datatype":"FP32","shape":[{count}],{data}}}]}}"#)
        };
        let body = match form {
            Form::Json | Form::Gzip => {
                let values: Vec<String> = elements.iter().map(f32::to_string).collect();
                head(format!(r#""data":[{}]"#, values.join(","))).into_bytes()
            }
            Form::Binary => {
                let raw = raw(elements);
                let size = raw.len();
                let head = head(format!(r#""parameters":{{"binary_data_size":{size}}}"#));
                let length = head.len().to_string().into_bytes();
                fields.push((b"inference-header-content-length".to_vec(), length));
                [head.as_bytes(), &raw].concat()
            }
            Form::Grpc => {
                let mut request = ModelInferRequest::decode(&*ask::message("x")).unwrap();
                request.model_name = "big".into();
                request.inputs[0].shape = vec![i64::try_from(count).unwrap()];
                request.raw_input_contents = vec![raw(elements).into()];
                grpc::frame(&request.encode_to_vec())
            }
        };
        if form == Form::Gzip {
            let mut request = RawRequest {
                protocol: tensorgate_policy::Protocol::OipRest,
                method: "POST".into(),
                path: BIG.into(),
                headers: fields,
                body,
                chunk_bytes: None,
            };
            Coding::Gzip.apply(&mut request).unwrap();
            return Self {
                fields: request.headers,
                body: request.body,
            };
        }
        Self { fields, body }
    }

    /// The head of the request over HTTP/2.
    pub fn head(&self, form: Form) -> http::Request<()> {
        let path = match form {
            Form::Grpc => "/inference.GRPCInferenceService/ModelInfer",
            _ => BIG,
        };
        let mut request = http::Request::post(format!("http://gate{path}"));
        if form == Form::Grpc {
            request = request.header("content-type", "application/grpc");
            request = request.header("te", "trailers");
        }
        let mut request = request.body(()).unwrap();
        let fields = grpc::map(&self.fields).unwrap();
        request.headers_mut().extend(fields);
        request
    }

    pub async fn send(&self, stack: &Stack, form: Form, sent: Sent) -> Reply {
        let (piece, trailers) = match sent {
            Sent::Http1(framing) => {
                let reply = http1::send(stack.gate, "POST", BIG, &self.fields, &self.body, framing);
                return reply.await.unwrap();
            }
            Sent::Http2(piece) => (piece, None),
            Sent::Trailers(piece) => {
                let field = (b"x-trailer".to_vec(), b"1".to_vec());
                (piece, Some(vec![field]))
            }
        };
        let pieces: Vec<Vec<u8>> = self.body.chunks(piece).map(<[u8]>::to_vec).collect();
        let reply = grpc::send_as_is(stack.gate, self.head(form), &pieces, trailers.as_ref());
        reply.await.unwrap()
    }
}

/// The outcome of an answer: `ok`, or the reason.
pub fn outcome(reply: &Reply) -> String {
    let served = reply.status == 200 && reply.grpc_status().is_none_or(|status| status == 0);
    match reply.reason() {
        None if served => "ok".to_owned(),
        reason => reason.unwrap_or_else(|| reply.status.to_string()),
    }
}

/// Sends every body, valid and with an invalid last value.
pub async fn check(stack: &Stack) {
    let mut seen = stack.backend.forget();
    println!("the backend had seen {seen} before");
    let (h1, h2) = (Sent::Http1, Sent::Http2);
    let chunked = |bytes| Sent::Http1(Framing::Chunked(bytes));
    for (form, count, ways) in [
        (Form::Json, 2, vec![h1(Framing::Length), chunked(1), h2(1)]),
        (
            Form::Json,
            20_000,
            vec![h1(Framing::Length), chunked(3_000), h2(usize::MAX)],
        ),
        (
            Form::Json,
            400_000,
            vec![h1(Framing::Length), h2(usize::MAX), Sent::Trailers(100_000)],
        ),
        (Form::Gzip, 400_000, vec![chunked(7_000), h2(50_000)]),
        (
            Form::Binary,
            150_000,
            vec![h1(Framing::Length), chunked(9_999), h2(usize::MAX)],
        ),
        (
            Form::Grpc,
            150_000,
            vec![h2(usize::MAX), h2(10_001), Sent::Trailers(65_536)],
        ),
        (
            Form::Binary,
            2 << 20,
            vec![chunked(100_003), h2(100_003), Sent::Trailers(1 << 20)],
        ),
        (Form::Grpc, 2 << 20, vec![h2(100_003)]),
    ] {
        for sent in ways {
            let good = elements(count, 1.5);
            let tensor = Tensor::new(form, &good, "scorer");
            let began = Instant::now();
            let reply = tensor.send(stack, form, sent).await;
            let what = format!("{form:?} of {} bytes, {sent:?}", tensor.body.len());
            assert_eq!(outcome(&reply), "ok", "{what}: {reply:?}");
            let took = began.elapsed();
            seen = stack.backend.seen().len();
            assert_eq!(seen, 1, "{what}");
            let got = stack.backend.seen()[0].message.raw_input_contents[0].clone();
            assert!(got == raw(&good), "{what}: the backend got other bytes");
            stack.backend.forget();
            let bad = Tensor::new(form, &elements(count, 1_000.5), "scorer");
            let reply = bad.send(stack, form, sent).await;
            assert_eq!(outcome(&reply), "out-of-range", "{what}: {reply:?}");
            assert_eq!(stack.backend.forget(), 0, "{what}: rejected, and served");
            println!("{what}: {took:.1?}");
        }
    }
    until_active(stack, 0).await;
}

/// A body whose first piece is small and whose next ones come faster than Envoy reads. Envoy adds
/// what it reads to what a filter has paused for, and answers 413 if its buffer is too small for
/// both.
pub async fn full_reads_after_a_small_one(stack: &Stack) {
    const SMALL_BYTES: usize = 3;
    for (count, is_chunked) in [(1 << 20, true), (1 << 20, false), (15_000, false)] {
        let tensor = Tensor::new(Form::Binary, &elements(count, 1.5), "scorer");
        let bytes = tensor.body.len();
        let framing = if is_chunked {
            "transfer-encoding: chunked".to_owned()
        } else {
            format!("content-length: {bytes}")
        };
        let mut head = format!("POST {BIG} HTTP/1.1\r\nhost: gate\r\n{framing}\r\n").into_bytes();
        for (name, value) in &tensor.fields {
            head.extend([name, &b": "[..], value, b"\r\n"].concat());
        }
        head.extend(b"\r\n");
        let (first, rest) = tensor.body.split_at(SMALL_BYTES);
        let (small, last) = if is_chunked {
            let chunk =
                |data: &[u8]| [format!("{:x}\r\n", data.len()).as_bytes(), data, b"\r\n"].concat();
            let (second, rest) = rest.split_at(SMALL_BYTES);
            let small = vec![chunk(first), chunk(second)];
            (small, [&chunk(rest)[..], b"0\r\n\r\n"].concat())
        } else {
            (vec![first.to_vec()], rest.to_vec())
        };
        let mut stream = TcpStream::connect(stack.gate).await.unwrap();
        stream.set_nodelay(true).unwrap();
        for piece in [head].into_iter().chain(small) {
            stream.write_all(&piece).await.unwrap();
            tokio::time::sleep(READ_BEFORE).await;
        }
        let reply = http1::on(&mut stream, &last).await.unwrap();
        assert_eq!(outcome(&reply), "ok", "{bytes} bytes, {framing}: {reply:?}");
        assert_eq!(stack.backend.forget(), 1, "{bytes} bytes, {framing}");
    }
}
