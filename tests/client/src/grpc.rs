//! gRPC over cleartext HTTP/2, with the frames left to the caller.

use std::net::SocketAddr;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request};
use tokio::net::TcpStream;

use crate::{ClientError, EXCHANGE_LIMIT, Fields, Reply};

/// One gRPC message in its frame: flag 0, big-endian length.
pub fn frame(message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX);
    let mut framed = vec![0];
    framed.extend_from_slice(&length.to_be_bytes());
    framed.extend_from_slice(message);
    framed
}

/// A request over HTTP/2. `content-type: application/grpc` and `te: trailers` are added unless
/// `fields` has fields of these names.
#[derive(Clone, Debug, Default)]
pub struct Call {
    /// `:path`.
    pub path: String,
    /// Header fields.
    pub fields: Fields,
    /// The body in pieces, each sent in DATA frames of its own.
    pub pieces: Vec<Vec<u8>>,
    /// Trailer fields; `None` ends the stream with the last piece.
    pub trailers: Option<Fields>,
}

impl Call {
    /// The request's head.
    fn request(&self) -> Result<Request<()>, ClientError> {
        let mut request = Request::post(format!("http://gate{}", self.path)).body(())?;
        *request.headers_mut() = map(&self.fields)?;
        for (name, value) in [("content-type", "application/grpc"), ("te", "trailers")] {
            request
                .headers_mut()
                .entry(name)
                .or_insert(HeaderValue::from_static(value));
        }
        Ok(request)
    }
}

/// Sends one call on a connection of its own.
pub async fn send(gate: SocketAddr, call: &Call) -> Result<Reply, ClientError> {
    let request = call.request()?;
    send_as_is(gate, request, &call.pieces, call.trailers.as_ref()).await
}

/// Sends one request on a connection of its own, and adds nothing to it.
pub async fn send_as_is(
    gate: SocketAddr,
    request: Request<()>,
    pieces: &[Vec<u8>],
    trailers: Option<&Fields>,
) -> Result<Reply, ClientError> {
    let exchange = exchange(gate, request, pieces, trailers);
    tokio::time::timeout(EXCHANGE_LIMIT, exchange)
        .await
        .map_err(|_| ClientError::Hung)?
}

async fn exchange(
    gate: SocketAddr,
    request: Request<()>,
    pieces: &[Vec<u8>],
    trailers: Option<&Fields>,
) -> Result<Reply, ClientError> {
    let stream = TcpStream::connect(gate).await?;
    // Without this the end of each window waits for the other side's delayed acknowledgement.
    stream.set_nodelay(true)?;
    let (client, connection) = h2::client::handshake(stream).await?;
    let driver = tokio::spawn(connection);
    let reply = converse(client, request, pieces, trailers).await;
    driver.abort();
    reply
}

/// Sends one call as a stream of a connection, which may carry other streams.
///
/// # Errors
///
/// The connection or the stream fails, or nothing comes within [`EXCHANGE_LIMIT`].
pub async fn on(client: h2::client::SendRequest<Bytes>, call: &Call) -> Result<Reply, ClientError> {
    let exchange = converse(
        client,
        call.request()?,
        &call.pieces,
        call.trailers.as_ref(),
    );
    tokio::time::timeout(EXCHANGE_LIMIT, exchange)
        .await
        .map_err(|_| ClientError::Hung)?
}

async fn converse(
    client: h2::client::SendRequest<Bytes>,
    request: Request<()>,
    pieces: &[Vec<u8>],
    trailers: Option<&Fields>,
) -> Result<Reply, ClientError> {
    let mut client = client.ready().await?;
    let ends_with_headers = pieces.is_empty() && trailers.is_none();
    let (response, mut stream) = client.send_request(request, ends_with_headers)?;
    // A gate may reject before it has read everything. A piece that cannot be sent any more is
    // therefore not an error by itself.
    let upload = async {
        let last = pieces.len().saturating_sub(1);
        for (index, piece) in pieces.iter().enumerate() {
            let end = index == last && trailers.is_none();
            if send_piece(&mut stream, piece, end).await.is_none() {
                return;
            }
        }
        if let Some(trailers) = trailers.and_then(|trailers| map(trailers).ok()) {
            let _ = stream.send_trailers(trailers);
        }
    };
    let download = async {
        let response = response.await?;
        let (head, mut body) = response.into_parts();
        let mut reply = Reply {
            status: head.status.as_u16(),
            headers: list(&head.headers),
            ..Reply::default()
        };
        while let Some(data) = body.data().await {
            let data = data?;
            reply.body.extend_from_slice(&data);
            body.flow_control().release_capacity(data.len())?;
        }
        if let Some(trailers) = body.trailers().await? {
            reply.trailers = list(&trailers);
        }
        Ok(reply)
    };
    let ((), reply) = tokio::join!(upload, download);
    reply
}

/// Sends one piece as flow control allows; `None` when the other side wants no more.
pub(crate) async fn send_piece(
    stream: &mut h2::SendStream<Bytes>,
    piece: &[u8],
    end: bool,
) -> Option<()> {
    let mut rest = Bytes::copy_from_slice(piece);
    if rest.is_empty() {
        return stream.send_data(rest, end).ok();
    }
    while !rest.is_empty() {
        stream.reserve_capacity(rest.len());
        let capacity = std::future::poll_fn(|context| stream.poll_capacity(context))
            .await?
            .ok()?;
        let part = rest.split_to(capacity.min(rest.len()));
        stream.send_data(part, end && rest.is_empty()).ok()?;
    }
    Some(())
}

/// Header fields as `http` has them.
pub fn map(fields: &Fields) -> Result<HeaderMap, ClientError> {
    let mut map = HeaderMap::new();
    for (name, value) in fields {
        let name = HeaderName::from_bytes(name).map_err(http::Error::from)?;
        map.append(
            name,
            HeaderValue::from_bytes(value).map_err(http::Error::from)?,
        );
    }
    Ok(map)
}

pub(crate) fn list(map: &HeaderMap) -> Fields {
    map.iter()
        .map(|(name, value)| (name.as_str().as_bytes().to_vec(), value.as_bytes().to_vec()))
        .collect()
}
