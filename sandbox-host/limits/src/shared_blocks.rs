//! The list of blocked clients that gateways share in Redis. What a record says is not read here,
//! only which of two records about a client is the later one.

use std::time::Duration;

use sha2::{Digest as _, Sha256};
use tensorgate_policy::hex;

use super::counter::{KEY_PREFIX, NAME_BYTES};
use super::redis::{Redis, RedisFault, Script};

/// The timeout of an exchange. Together with the interval of exchanges it stays below a second.
const TIMEOUT: Duration = Duration::from_millis(300);

/// A record about a client for other gateways.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharedBlock {
    /// When it was made, until when it is in force, and until when it is kept, in Unix
    /// milliseconds. Of two records about a client the greater one is the later one.
    pub times: (u64, u64, u64),
    /// The client.
    pub client: String,
    /// What the record says: text without line breaks.
    pub content: String,
}

/// The list in Redis after an exchange.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharedBlockList {
    /// The content of each record.
    pub contents: Vec<String>,
    /// The number of records that had no room.
    pub without_room: u64,
}

/// Adds records to the list of a domain, and returns the list.
///
/// # Errors
/// Returns an error if Redis failed, timed out, or gave an impossible answer.
pub async fn exchange(
    redis: &Redis,
    domain: &str,
    records: &[SharedBlock],
) -> Result<SharedBlockList, RedisFault> {
    let key = std::iter::once(key(domain).into_bytes());
    let words = key.chain(records.iter().map(|record| word(record).into_bytes()));
    let reply = redis
        .call(Script::Blocks, words.collect(), 1, TIMEOUT)
        .await?;
    let reply = String::from_utf8_lossy(&reply);
    let list = parse(&reply);
    list.ok_or_else(|| RedisFault::Refused("an invalid list of blocked clients".to_owned()))
}

/// The key of a domain's list.
fn key(domain: &str) -> String {
    let digest = Sha256::digest(domain.as_bytes());
    let name = hex(digest.get(..NAME_BYTES).unwrap_or_default());
    format!("{KEY_PREFIX}{{{name}}}:blocks")
}

/// A record as the script reads it.
fn word(record: &SharedBlock) -> String {
    let SharedBlock {
        times: (made, until, kept),
        client,
        content,
    } = record;
    let client = hex(client.as_bytes());
    format!("{made} {until} {kept} {client} {content}")
}

/// Reads the script's answer.
fn parse(reply: &str) -> Option<SharedBlockList> {
    let (without_room, lines) = reply.split_once('\n')?;
    let contents = lines
        .lines()
        .map(|line| line.splitn(5, ' ').nth(4).map(str::to_owned));
    Some(SharedBlockList {
        contents: contents.collect::<Option<_>>()?,
        without_room: without_room.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn records_are_read_back_and_other_answers_are_none() {
        let record = SharedBlock {
            times: (1, 2, 3),
            client: "a b".to_owned(),
            content: "{\"reason\": \"x  y\"}".to_owned(),
        };
        let word = word(&record);
        assert!(word.starts_with("1 2 3 612062 {"), "{word}");
        let list = parse(&format!("7\n{word}\n{word}")).unwrap();
        assert_eq!(list.without_room, 7);
        assert_eq!(list.contents, [&*record.content, &*record.content]);
        assert_eq!(parse("0\n").unwrap().contents.len(), 0);
        for reply in ["", "!", "0", "x\n", "0\n1 2 3 61", "-1\n"] {
            assert_eq!(parse(reply), None, "{reply:?}");
        }
        assert_ne!(key("a"), key("b"));
    }
}
