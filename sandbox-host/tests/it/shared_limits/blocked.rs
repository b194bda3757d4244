//! Blocks of clients that gateways share.

use std::time::Duration;

use super::support::{PATIENCE, until};
use super::{connected, over, redis};
use crate::blocks::{FILE, HOUR_MS, file, record, until_outcome};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hosts_share_blocks_and_either_lifts_them() {
    let (mut redis, files) = redis().await;
    let (one, other) = (over(&redis, 10).await, over(&redis, 10).await);
    until_outcome(&other, "ok").await;
    let (mut earlier, mut least) = (None, PATIENCE);
    // On a busy machine one attempt may take longer.
    for _ in 0..3 {
        let block = record(HOUR_MS, earlier.as_ref());
        one.replace(FILE, &file(&block));
        least = least.min(until_outcome(&other, "blocked").await);
        until_outcome(&one, "blocked").await;

        let lifted = record(0, Some(&block));
        other.replace(FILE, &file(&lifted));
        until_outcome(&one, "ok").await;
        earlier = Some(lifted);
    }
    assert!(least < Duration::from_secs(1), "{least:?}");
    // The first host's file still has the block.
    let third = over(&redis, 10).await;
    until_outcome(&third, "ok").await;
    let known = || third.host.app().blocks.listed().len();
    until("it knows that the block is lifted", || known() == 1).await;

    let again = record(HOUR_MS, earlier.as_ref());
    other.replace(FILE, &file(&again));
    until_outcome(&third, "blocked").await;
    redis.kill().await.unwrap();
    connected(&third, 0).await;
    until_outcome(&third, "blocked").await;
    // A Redis that comes back empty gets the list again.
    redis.restart().await.unwrap();
    let fourth = over(&redis, 10).await;
    until_outcome(&fourth, "blocked").await;
    for host in [one, other, third, fourth] {
        host.stop().await;
    }
    drop(redis);
    std::fs::remove_dir_all(files).unwrap();
}
