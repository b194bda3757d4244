//! Tests of a channel against a server that works frame by frame.
#![allow(clippy::unwrap_used, clippy::arithmetic_side_effects, reason = "tests")]

use h2::server::{self, SendResponse};
use h2::{Reason, RecvStream};
use http::HeaderMap;
use http_body_util::{BodyExt as _, Full};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use super::super::connection::ConnectionState;
use super::*;
use crate::dialer::Dialer;

type Asked = (Request<RecvStream>, SendResponse<Bytes>);

/// Short enough to be sent without waiting for the window.
const SHORT: usize = 1 << 10;
/// Longer than the default windows of a server.
const LONG: usize = 300 << 10;

/// A channel to a server with this request handler.
async fn channel<F>(
    see_to: impl Fn(Asked) -> F + Send + 'static,
) -> (Http2Channel, Arc<ConnectionState>)
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let uri = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut connection = server::handshake(stream).await.unwrap();
        while let Some(Ok(asked)) = connection.accept().await {
            if asked.0.uri().path() == "/last" {
                connection.graceful_shutdown();
            }
            tokio::spawn(see_to(asked));
        }
    });
    let connection_state = Arc::new(ConnectionState::default());
    let connector = Connector {
        dialer: Arc::new(Dialer::new(&uri, None).unwrap()),
        state: Arc::clone(&connection_state),
    };
    (
        Http2Channel::new(Origin::parse(&uri).unwrap(), connector),
        connection_state,
    )
}

async fn call(
    channel: &Http2Channel,
    path: &str,
    bytes: usize,
) -> Result<Response<Incoming>, Status> {
    let body = Body::new(Full::new(Bytes::from(vec![7; bytes])));
    let request = Request::post(path).body(body).unwrap();
    channel.clone().call(request).await
}

/// Reads a whole request. Responds with its length, and whether its last data frame ended the
/// stream.
async fn echo((request, mut respond): Asked) {
    let mut body = request.into_body();
    // The response head does not wait for the request.
    let mut answer = respond.send_response(Response::new(()), false).unwrap();
    let (mut bytes, mut ended) = (0, false);
    while let Some(data) = body.data().await {
        let data = data.unwrap();
        body.flow_control().release_capacity(data.len()).unwrap();
        ended = body.is_end_stream();
        bytes += data.len();
    }
    let text = format!("{bytes} {ended}");
    answer.send_data(Bytes::from(text), false).unwrap();
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    answer.send_trailers(trailers).unwrap();
}

#[tokio::test]
async fn a_request_of_any_length_goes_out_while_its_answer_comes_in() {
    let (channel, connection_state) = channel(echo).await;
    for bytes in [1, SHORT, LONG] {
        let answer = call(&channel, "/", bytes).await.unwrap().into_body();
        let collected = answer.collect().await.unwrap();
        let trailers = collected.trailers().unwrap().clone();
        let ended = format!("{bytes} true");
        assert_eq!(collected.to_bytes(), ended);
        assert_eq!(trailers.get("grpc-status").unwrap(), "0");
    }
    assert!(!connection_state.is_lost());
}

#[tokio::test]
async fn a_call_that_is_dropped_is_reset_at_the_server() {
    let (tells, mut hears) = mpsc::unbounded_channel();
    let (channel, connection_state) = channel(move |(request, mut respond): Asked| {
        let tells = tells.clone();
        async move {
            tells.send(None).unwrap();
            let reset = poll_fn(|context| respond.poll_reset(context)).await;
            tells.send(reset.ok()).unwrap();
            drop(request);
        }
    })
    .await;
    tokio::select! {
        _ = call(&channel, "/", SHORT) => unreachable!("there is no response"),
        come = hears.recv() => assert_eq!(come, Some(None)),
    }
    assert_eq!(hears.recv().await, Some(Some(Reason::CANCEL)));
    assert!(!connection_state.is_lost(), "the others' calls go on");
}

#[tokio::test]
async fn a_connection_that_takes_no_more_sends_nothing_and_is_not_made_anew() {
    let (channel, connection_state) = channel(echo).await;
    let last = call(&channel, "/last", SHORT).await.unwrap();
    assert_eq!(
        last.into_body().collect().await.unwrap().to_bytes(),
        "1024 true"
    );
    let refused = loop {
        // The notice may arrive after the response.
        match call(&channel, "/", SHORT).await {
            Ok(answer) => drop(answer.into_body().collect().await),
            Err(status) => break status,
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    };
    let source = std::error::Error::source(&refused).unwrap();
    assert!(
        matches!(source.downcast_ref(), Some(DialError::Closed)),
        "{refused:?}"
    );
    assert!(connection_state.is_lost());
}
