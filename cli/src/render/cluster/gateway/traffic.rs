//! Limits of connections, from clients to the Gateway and from the Gateway to the host.

use tensorgate_policy::Policy;

use super::duration::duration;
use super::routes::own_route;
use super::{EXTENSIONS, EnvoyGateway, GATEWAY_GROUP};
use crate::render::envoy::bounds::{
    Bounds, CONNECTION_WINDOW_BYTES, READ_BYTES, STREAM_WINDOW_BYTES,
};
use crate::render::envoy::clusters::{
    HOST_CONNECTIONS, HOST_STREAMS, HOST_WINDOW_BYTES, host_requests,
};
use crate::render::node::{Node, entries, list, map};

/// Time to connect to the host and to end the TLS handshake, milliseconds.
const CONNECT_MS: u64 = 2_000;

/// Limits and headers of clients. Only one such policy holds for a listener, and it holds for
/// all routes there.
pub(super) fn client_traffic(gateway: &EnvoyGateway, policy: &Policy) -> Node {
    let listen = policy.listen();
    let bounds = Bounds::from_limits(listen.limits());
    let mut target = entries(map! {
        "group" => GATEWAY_GROUP,
        "kind" => "Gateway",
        "name" => gateway.gateway.as_str(),
    });
    if let Some(section) = &gateway.section {
        target.push(("sectionName".to_owned(), section.as_str().into()));
    }
    let mut headers = entries(map! {
        // Every request gets an ID of ours, and the client's own disappears.
        "requestID" => "Generate",
        "xForwardedClientCert" => map! {"mode" => "Sanitize"},
        // Some servers treat `x_api_key` as `x-api-key`.
        "withUnderscoresAction" => "RejectRequest",
        "enableEnvoyHeaders" => false,
    });
    let mut spec = entries(map! {
        "targetRefs" => list![Node::Map(target)],
        "connection" => map! {
            // The filter takes each piece of a body out of this buffer, so it limits one piece.
            "bufferLimit" => READ_BYTES,
            "connectionLimit" => map! {
                "value" => bounds.connections,
                "maxStreamDuration" => duration(bounds.stream_ms),
            },
        },
        "http2" => map! {
            // The buffer of a stream, for the same reason.
            "initialStreamWindowSize" => READ_BYTES,
            "initialConnectionWindowSize" => CONNECTION_WINDOW_BYTES,
            "maxConcurrentStreams" => bounds.streams,
        },
        "timeout" => map! {"http" => map! {
            "requestReceivedTimeout" => duration(bounds.stream_ms),
            "idleTimeout" => duration(bounds.connection_idle_ms),
            "streamIdleTimeout" => duration(bounds.idle_ms),
        }},
        // The gate judges the path that the client sent, and answers 404 for any other form.
        "path" => map! {
            "escapedSlashesAction" => "KeepUnchanged",
            "disableMergeSlashes" => true,
        },
    });
    let hops = listen.trusted_hops();
    if hops > 0 {
        let address = map! {"xForwardedFor" => map! {"numTrustedHops" => hops}};
        spec.push(("clientIPDetection".to_owned(), address));
        // With this detection Envoy takes no request for one from outside, and would keep the
        // client's ID.
        let early = map! {"remove" => list!["x-request-id"]};
        headers.push(("earlyRequestHeaders".to_owned(), early));
    }
    spec.push(("headers".to_owned(), Node::Map(headers)));
    let name = gateway.workload.name.as_str();
    let spec = map! {"spec" => Node::Map(spec)};
    gateway
        .workload
        .object(EXTENSIONS, "ClientTrafficPolicy", name, spec)
}

/// Limits of connections to the host.
pub(super) fn host_traffic(gateway: &EnvoyGateway, policy: &Policy) -> Node {
    let bounds = Bounds::from_limits(policy.listen().limits());
    let requests = host_requests(&bounds);
    let spec = map! {
        "targetRefs" => list![own_route(gateway)],
        "connection" => map! {"bufferLimit" => READ_BYTES},
        "http2" => map! {
            "maxConcurrentStreams" => HOST_STREAMS,
            "initialStreamWindowSize" => STREAM_WINDOW_BYTES,
            "initialConnectionWindowSize" => HOST_WINDOW_BYTES,
        },
        "timeout" => map! {"tcp" => map! {"connectTimeout" => duration(CONNECT_MS)}},
        "circuitBreaker" => map! {
            "maxConnections" => HOST_CONNECTIONS,
            "maxPendingRequests" => requests,
            "maxParallelRequests" => requests,
            // No retries: each request is charged and checked once.
            "maxParallelRetries" => 0_u64,
        },
    };
    let name = gateway.workload.name.as_str();
    let spec = map! {"spec" => spec};
    gateway
        .workload
        .object(EXTENSIONS, "BackendTrafficPolicy", name, spec)
}
