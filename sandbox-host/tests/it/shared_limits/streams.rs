//! Messages of streams that a host charges to shared limits itself.

use serde_json::json;

use super::{connected, redis, shared};
use crate::support;
use support::backend::{Act, Backend};
use support::start;
use support::streams::{OpenStream, message, stream_context};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shared_rate_counts_the_messages_of_all_streams() {
    let (redis, files) = redis().await;
    let backend = Backend::start(Act::Answer);
    let mut policy = shared(&json!({"url": redis.url()}), 5);
    policy["backends"]["b"]["endpoints"] = json!([backend.uri()]);
    policy["grants"][0]["operations"] = json!(["stream"]);
    let hosts = [start(policy.clone()).await, start(policy).await];
    for host in &hosts {
        connected(host, 1).await;
        host.ready().await;
    }
    // Two streams at the first host, and one at the second.
    let mut streams = Vec::new();
    for (host, number) in [(&hosts[0], 1), (&hosts[0], 2), (&hosts[1], 3)] {
        let context = stream_context("scorer", number);
        streams.push(OpenStream::with_answers(host, &context).await);
    }
    for (index, reason) in [
        (0, ""),
        (0, ""),
        (1, ""),
        (2, ""),
        (2, ""),
        (0, "rate-limited"),
        (1, "rate-limited"),
        (2, "rate-limited"),
    ] {
        let (stream, answers) = &mut streams[index];
        assert!(stream.send(message("vec", &[1.0])));
        assert_eq!(answers.next_reason().await, reason, "{index}");
    }
    for (stream, answers) in streams {
        stream.finish(answers).await;
    }
    for host in hosts {
        host.stop().await;
    }
    drop(redis);
    std::fs::remove_dir_all(files).unwrap();
}
