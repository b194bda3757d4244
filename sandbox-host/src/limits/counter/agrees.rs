//! The scripts in a real Redis, at times of the test's own: charges and settlements in any order come to what a gateway's own bucket comes to, and no
//! reservation is settled twice.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "tests"
)]

use bytes::BytesMut;
use serde_json::json;
use tensorgate_client::redis::Redis;
use tensorgate_policy::global::Change;
use tensorgate_policy::policy::Level;
use tensorgate_policy::validate::validate;
use tensorgate_policy::{Now, Policy};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::super::redis::SCRIPTS;
use super::super::redis::resp::{Reply, command, take};
use super::*;

/// 20,000 days after the epoch, at noon.
const NOON_US: u64 = 1_728_043_200_000_000;
/// How long a reservation is known here: longer than any test.
const KEEPS_MS: u64 = 600_000;

/// The limit on tokens that a grant of a model of texts has.
fn allowance(limit: &serde_json::Value) -> Allowance {
    let mut policy = json!({
        "version": 1,
        "clients": {"ocr": {"api_keys": [{"sha256": "01".repeat(32)}]}},
        "backends": {"llm": {"kind": "openai", "endpoints": ["http://127.0.0.1:8000"]}},
        "models": {"llama": {"backend": "llm", "versions": ["1"], "protocols": ["openai"], "openai": {
            "chat": {"max_messages": 1, "max_message_bytes": 8, "max_prompt_bytes": 8, "max_tokens": 16}
        }}},
        "rate_limit_service": {"redis": {"url": "redis://127.0.0.1"}},
        "grants": [{"name": "g", "clients": ["ocr"], "models": ["llama"], "operations": ["infer"]}]
    });
    for (name, value) in limit.as_object().unwrap() {
        policy["grants"][0][name] = value.clone();
    }
    let (policy, _): (Policy, _) = validate(&serde_json::from_value(policy).unwrap()).unwrap();
    policy.grants()[0].per_content().next().unwrap()
}

/// A Redis whose scripts read the time of a key.
struct Clocked {
    redis: Redis,
    folder: std::path::PathBuf,
    stream: TcpStream,
    scripts: [String; 2],
    now_us: u64,
}

impl Clocked {
    async fn start(name: &str) -> Self {
        let folder =
            std::env::temp_dir().join(format!("tensorgate-agrees-{name}-{}", std::process::id()));
        let redis = Redis::start(&folder).await.unwrap();
        let clock = "redis.call('TIME')";
        let scripts = SCRIPTS.map(|script| {
            assert_eq!(script.matches(clock).count(), 1);
            script.replace(
                clock,
                "{redis.call('GET', 'seconds'), redis.call('GET', 'micros')}",
            )
        });
        let stream = TcpStream::connect(redis.address()).await.unwrap();
        Self {
            redis,
            folder,
            stream,
            scripts,
            now_us: NOON_US,
        }
    }

    async fn ask(&mut self, words: &[Vec<u8>]) -> String {
        let (mut out, mut read) = (BytesMut::new(), BytesMut::new());
        command(&mut out, words.iter().map(Vec::as_slice));
        self.stream.write_all(&out).await.unwrap();
        loop {
            match take(&mut read).unwrap() {
                Some(Reply::Text(text)) => return String::from_utf8(text).unwrap(),
                Some(Reply::Error(text)) => panic!("{text}"),
                None => assert!(self.stream.read_buf(&mut read).await.unwrap() > 0),
            }
        }
    }

    async fn run(&mut self, script: usize, keys: [&str; 2], numbers: [Vec<u8>; WORDS]) -> String {
        let time = [
            ("seconds", self.now_us / 1_000_000),
            ("micros", self.now_us % 1_000_000),
        ];
        for (key, number) in time {
            self.ask(&[b"SET".to_vec(), key.into(), text(number)]).await;
        }
        let mut words = vec![
            b"EVAL".to_vec(),
            self.scripts[script].clone().into_bytes(),
            b"2".to_vec(),
        ];
        words.extend(keys.map(|key| key.as_bytes().to_vec()));
        words.extend(numbers);
        self.ask(&words).await
    }

    async fn charge(&mut self, debit: Debit, name: &str) -> ChargeOutcome {
        let terms = Terms::of(&debit).unwrap();
        let numbers = Numbers::of(&terms, Unit::Tokens).words([text(debit.amount), text(KEEPS_MS)]);
        let answer = self.run(0, ["limit", name], numbers).await;
        read(&answer, &[debit], &[terms]).unwrap_or_else(|| panic!("{answer}"))
    }

    /// How many reservations that was.
    async fn settle(&mut self, debit: Debit, name: &str, used: u64) -> usize {
        let Some(change) = Change::of(&debit, used) else {
            return 0;
        };
        let sign = if change.back { b"-" } else { b"+" };
        let numbers = Numbers::of(&change.terms, Unit::Tokens);
        let numbers = numbers.words([text(debit.amount), sign.to_vec()]);
        let answer = self.run(1, ["limit", name], numbers).await;
        settle::read(&answer, &[change]).unwrap_or_else(|| panic!("{answer}"))
    }

    async fn stop(self) {
        drop(self.redis);
        std::fs::remove_dir_all(self.folder).unwrap();
    }

    fn now(&self) -> Now {
        Now {
            unix_s: self.now_us / 1_000_000,
            monotonic_ns: self.now_us * 1_000,
        }
    }
}

/// A sequence of numbers that looks like none.
struct Numbered(u64);

impl Numbered {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

/// A charge of a gateway's own bucket: the same outcome, and what it leaves.
fn own(debit: Debit, stored: &mut Vec<u8>, now: Now) -> (bool, Level) {
    let drawn = debit.allowance.spend(stored, now, debit.amount).unwrap();
    match drawn.after {
        Some((level, state)) => {
            *stored = state;
            (true, level)
        }
        None => (false, drawn.before),
    }
}

#[tokio::test]
async fn a_shared_bucket_that_is_settled_is_a_gateways_own_bucket() {
    // Units that take whole microseconds: nothing is rounded on either side.
    for (limit, seed) in [
        (
            json!({"cost": {"tokens": 1_000, "window_s": 1, "scope": "global"}}),
            1,
        ),
        (
            json!({"cost": {"tokens": 500, "window_s": 60, "scope": "global"}}),
            2,
        ),
        (
            json!({"budget": {"tokens": 20_000, "per": "day", "scope": "global"}}),
            3,
        ),
    ] {
        let allowance = allowance(&limit);
        let mut redis = Clocked::start(&format!("own-{seed}")).await;
        let mut numbers = Numbered(0x9e37_79b9_7f4a_7c15 ^ seed);
        let mut stored = allowance.fresh();
        let mut open: Vec<(String, Debit, Vec<u8>)> = Vec::new();
        let (mut passed, mut returned) = (0, 0);
        for turn in 0..1_500 {
            redis.now_us += match numbers.below(6) {
                0 => 0,
                1 => numbers.below(200_000),
                2 if turn % 50 == 0 => numbers.below(3_000_000),
                _ => numbers.below(40_000),
            };
            let now = redis.now();
            if numbers.below(2) == 0 || open.is_empty() {
                let amount = 1 + numbers.below(allowance.most().min(400));
                let debit = Debit { allowance, amount };
                let name = format!("r-{turn}");
                let outcome = redis.charge(debit, &name).await;
                let expected = own(debit, &mut stored, now);
                let told = match outcome {
                    ChargeOutcome::Spent(levels) => (true, levels[0]),
                    ChargeOutcome::Refused(levels) => (false, levels[0]),
                    other => panic!("{other:?}"),
                };
                assert_eq!(
                    (told.0, told.1.left),
                    (expected.0, expected.1.left),
                    "{limit} {turn}"
                );
                if told.0 {
                    passed += 1;
                    open.push((name, debit, stored.clone()));
                }
            } else {
                let place = usize::try_from(numbers.below(open.len() as u64)).unwrap();
                let (name, debit, left) = open.remove(place);
                // Mostly less than was reserved, sometimes more.
                let used = 1 + numbers.below(debit.amount + debit.amount / 8 + 1);
                let settled = redis.settle(debit, &name, used).await;
                assert_eq!(settled, usize::from(used != debit.amount), "{limit} {turn}");
                if let Some(after) = allowance.settle(&stored, &left, now, (debit.amount, used)) {
                    stored = after;
                    returned += 1;
                }
                // Neither again, nor by another amount.
                assert_eq!(
                    redis.settle(debit, &name, 1.max(used - 1)).await,
                    0,
                    "{turn}"
                );
            }
        }
        assert!(passed > 60 && returned > 50, "{limit}: {passed} {returned}");
        redis.stop().await;
    }
}

#[tokio::test]
async fn parts_of_a_microsecond_are_carried_and_borrowed_and_nobody_gets_more_than_there_is() {
    // A unit is 144,285 microseconds and five of seven parts.
    let allowance =
        allowance(&json!({"cost": {"tokens": 700, "window_s": 101, "scope": "global"}}));
    let mut redis = Clocked::start("parts").await;
    let mut numbers = Numbered(7);
    let mut open: Vec<(String, Debit)> = Vec::new();
    let (mut used_in_all, began_us, mut settled) = (0, redis.now_us, 0);
    for turn in 0..1_500 {
        redis.now_us += numbers.below(300_000);
        if numbers.below(2) == 0 || open.is_empty() {
            let debit = Debit {
                allowance,
                amount: 1 + numbers.below(99),
            };
            let name = format!("r-{turn}");
            let outcome = redis.charge(debit, &name).await;
            if matches!(outcome, ChargeOutcome::Spent(_)) {
                open.push((name, debit));
            }
        } else {
            let place = usize::try_from(numbers.below(open.len() as u64)).unwrap();
            let (name, debit) = open.remove(place);
            let used = 1 + numbers.below(debit.amount.div_ceil(4));
            settled += redis.settle(debit, &name, used).await;
            used_in_all += used;
        }
        // All that was used, and what is reserved, is no more than a full bucket and what has come back since.
        let reserved: u64 = open.iter().map(|(_, debit)| debit.amount).sum();
        let most = 700 + (redis.now_us - began_us) * 700 / 101_000_000 + 1;
        assert!(
            used_in_all + reserved <= most,
            "{turn}: {used_in_all} and {reserved} of {most}"
        );
    }
    assert!(
        settled > 100 && used_in_all > 500,
        "{settled} {used_in_all}"
    );
    redis.stop().await;
}

#[tokio::test]
async fn what_lapsed_or_changed_its_pace_gives_nothing_back_of_what_was_reserved_before() {
    let limit =
        |tokens: u64| json!({"cost": {"tokens": tokens, "window_s": 60, "scope": "global"}});
    let (slow, fast) = (allowance(&limit(600)), allowance(&limit(1_200)));
    let debit = |allowance, amount| Debit { allowance, amount };
    let left = |outcome: ChargeOutcome| match outcome {
        ChargeOutcome::Spent(levels) => levels[0].left,
        other => panic!("{other:?}"),
    };
    let mut redis = Clocked::start("lapsed").await;
    // It lapses: what is spent after that is another's.
    left(redis.charge(debit(slow, 500), "early").await);
    redis.redis.ask("DEL limit").await.unwrap();
    redis.now_us += 1;
    assert_eq!(left(redis.charge(debit(slow, 500), "late").await), 100);
    assert_eq!(redis.settle(debit(slow, 500), "early", 1).await, 1);
    let told = left(redis.charge(debit(slow, 1), "one").await);
    assert_eq!(told, 99, "nothing came back");
    // Its own does.
    assert_eq!(redis.settle(debit(slow, 500), "late", 1).await, 1);
    assert_eq!(left(redis.charge(debit(slow, 1), "two").await), 597);
    // A change of pace.
    left(redis.charge(debit(slow, 400), "before").await);
    let before = left(redis.charge(debit(fast, 1), "after").await);
    assert_eq!(redis.settle(debit(slow, 400), "before", 1).await, 1);
    assert_eq!(redis.settle(debit(fast, 400), "before", 1).await, 0);
    let next = left(redis.charge(debit(fast, 1), "next").await);
    assert_eq!(next, before - 1, "nothing came back");
    // Another amount than was reserved, and a name that is taken.
    assert_eq!(redis.settle(debit(fast, 2), "next", 1).await, 0);
    left(redis.charge(debit(fast, 2), "next").await);
    assert_eq!(redis.settle(debit(fast, 2), "next", 1).await, 0);
    redis.stop().await;
}
