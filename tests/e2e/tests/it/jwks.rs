//! Key sets by URL on a real Envoy, from real HTTPS servers. How often they are fetched, which keys
//! count through rotations and outages, and servers that are not the issuer's.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use tensorgate_client::http1::{self, Framing};
use tensorgate_client::pki::Authority;
use tensorgate_client::publisher::{Publisher, Says};
use tensorgate_policy_compiler::raw::Policy;
use tensorgate_tests::ask::{PATH, VALID, met};
use tensorgate_tests::{Stack, policy};
use tensorgate_vectors::sign::{Signer, jwks, token};

/// How long an expected change may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// The least time between two fetches that unknown keys cause.
const COOL_DOWN: Duration = Duration::from_secs(10);

/// The vectors' closed policy with issuers whose keys are fetched. Each issuer has a client of its
/// name.
fn policy_of(issuers: &[(&str, &Publisher, &str, Value)]) -> Policy {
    let mut policy = serde_json::to_value(policy::vectors_policy("closed.json")).unwrap();
    let mut clients = vec!["scorer".to_owned()];
    for (name, publisher, server, rules) in issuers {
        let port = publisher.address.port();
        let mut set = json!({"url": format!("https://{server}:{port}/keys"), "ca": "ca.pem"});
        let rules = rules.as_object().unwrap().clone();
        set.as_object_mut().unwrap().extend(rules);
        policy["issuers"][name] = json!({
            "issuer": iss(name), "audiences": ["tensorgate"], "algorithms": ["EdDSA", "ES256"],
            "jwks": set, "max_lifetime_s": 7_200
        });
        policy["clients"][name] = json!({"jwt": {"issuer": name, "subject": "svc"}});
        clients.push((*name).to_owned());
    }
    policy["grants"][0]["clients"] = json!(clients);
    serde_json::from_value(policy).unwrap()
}

fn iss(name: &str) -> String {
    format!("https://{name}.example.com")
}

fn published(kids: &[&str]) -> String {
    let mut set = jwks();
    let keys = set["keys"].as_array_mut().unwrap();
    keys.retain(|key| kids.contains(&key["kid"].as_str().unwrap()));
    set.to_string()
}

/// A token of an issuer, signed with this key.
fn bearer(issuer: &str, kid: &str) -> String {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs();
    let (algorithm, signer) = if kid == "ec" {
        ("ES256", Signer::Ec)
    } else {
        ("EdDSA", Signer::Ed)
    };
    let claims = json!({"iss": iss(issuer), "sub": "svc", "aud": "tensorgate", "exp": now + 3_600});
    let header = json!({"alg": algorithm, "kid": kid});
    token(&header.to_string(), &claims.to_string(), signer).unwrap()
}

struct Gate {
    stack: Stack,
    publishers: BTreeMap<String, Publisher>,
}

impl Gate {
    /// A gate with one issuer, `corp`, which publishes the key `ed`.
    async fn start(name: &str, workers: u16, rules: Value) -> Self {
        let authority = Authority::new("issuers").unwrap();
        let leaf = authority.issue(1, &["ip:127.0.0.1"]).unwrap();
        let publisher = Publisher::start(&leaf, Says::Document(published(&["ed"])))
            .await
            .unwrap();
        let policy = policy_of(&[("corp", &publisher, "127.0.0.1", rules)]);
        let stack =
            Stack::start_workers_with(name, policy, &[("ca.pem", &authority.pem)], workers).await;
        Self {
            stack,
            publishers: [("corp".to_owned(), publisher)].into(),
        }
    }

    fn corp(&self) -> &Publisher {
        &self.publishers["corp"]
    }

    async fn ask(&self, bearer: &str) -> u16 {
        ask(self.stack.gate, bearer).await
    }

    /// Repeats the request until it has this status.
    async fn until(&self, bearer: &str, status: u16) {
        let started = Instant::now();
        loop {
            let answered = self.ask(bearer).await;
            if answered == status {
                return;
            }
            assert!(
                started.elapsed() < PATIENCE,
                "{answered} instead of {status}"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

async fn ask(gate: std::net::SocketAddr, bearer: &str) -> u16 {
    let fields = [
        (b"content-type".to_vec(), b"application/json".to_vec()),
        (
            b"authorization".to_vec(),
            format!("Bearer {bearer}").into_bytes(),
        ),
    ];
    http1::send(
        gate,
        "POST",
        PATH,
        &fields,
        VALID.as_bytes(),
        Framing::Length,
    )
    .await
    .map_or(0, |reply| reply.status)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn four_workers_fetch_once_and_a_flood_of_unknown_keys_causes_one_more_fetch() {
    let gate = Gate::start("jwks-once", 4, json!({})).await;
    let ed = bearer("corp", "ed");
    for _ in 0..40 {
        assert_eq!(gate.ask(&ed).await, 200);
    }
    assert_eq!(gate.corp().asked(), 1, "one fetch a process");
    // The set was fetched a moment ago, so a key that is not in it does not exist.
    assert_eq!(gate.ask(&bearer("corp", "ec")).await, 401);
    // On a busy machine the gate's start may have taken longer than a moment.
    let asked = gate.corp().asked();
    assert!((1..=2).contains(&asked), "{asked}");

    tokio::time::sleep(COOL_DOWN).await;
    let unknown: Vec<_> = (0..200)
        .map(|number| bearer("corp", &format!("u{number}")))
        .collect();
    let flood = unknown.into_iter().map(|bearer| {
        let gate = gate.stack.gate;
        tokio::spawn(async move { ask(gate, &bearer).await })
    });
    let flood: Vec<_> = flood.collect();
    for _ in 0..40 {
        assert_eq!(
            gate.ask(&ed).await,
            200,
            "a token with a known key does not wait"
        );
    }
    for answer in flood {
        let status = answer.await.unwrap();
        assert!(matches!(status, 401 | 503), "{status}");
    }
    assert_eq!(gate.corp().asked(), asked + 1, "one look for all of them");

    // One fetch is enough for every worker that waits for it.
    tokio::time::sleep(COOL_DOWN).await;
    gate.corp().say(Says::Document(published(&["ed", "ec"])));
    let ec = bearer("corp", "ec");
    let waiting = (0..16).map(|_| {
        let (gate, ec) = (gate.stack.gate, ec.clone());
        tokio::spawn(async move { ask(gate, &ec).await })
    });
    let waiting: Vec<_> = waiting.collect();
    for answer in waiting {
        assert_eq!(answer.await.unwrap(), 200);
    }
    assert_eq!(gate.corp().asked(), asked + 2);
    let stats = gate.stack.envoy_stats("tensorgate_key_set").await;
    assert!(
        stats.contains("fetched") && stats.contains(&format!(": {}", asked + 2)),
        "{stats}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_rotation_under_load_fails_no_request_and_ends_the_old_key() {
    let gate =
        Arc::new(Gate::start("jwks-rotated", 4, json!({"refresh_s": 1, "stale_s": 60})).await);
    let new = Arc::new(AtomicBool::new(false));
    let over = Arc::new(AtomicBool::new(false));
    let sent = Arc::<[AtomicUsize; 4]>::default();
    let load = (0..4).map(|number| {
        let (gate, new, over, sent) = (gate.clone(), new.clone(), over.clone(), sent.clone());
        tokio::spawn(async move {
            while !over.load(Ordering::SeqCst) {
                let kid = if new.load(Ordering::SeqCst) {
                    "ec"
                } else {
                    "ed"
                };
                assert_eq!(gate.ask(&bearer("corp", kid)).await, 200, "{kid}");
                sent[number].fetch_add(1, Ordering::SeqCst);
            }
        })
    });
    let load: Vec<_> = load.collect();
    let passed = |more: usize| {
        let (corp, from) = (gate.corp().clone(), gate.corp().asked());
        async move { met("fetches go on", || corp.asked() >= from + more).await }
    };
    passed(2).await;
    gate.corp().say(Says::Document(published(&["ed", "ec"])));
    passed(4).await;
    new.store(true, Ordering::SeqCst);
    // No request with the old key is under way once each task has had one more answer.
    let counts = || sent.each_ref().map(|sent| sent.load(Ordering::SeqCst));
    let before = counts();
    met("each task uses the new key", || {
        counts()
            .iter()
            .zip(before)
            .all(|(now, before)| *now > before)
    })
    .await;
    let old = bearer("corp", "ed");
    assert_eq!(gate.ask(&old).await, 200);
    gate.corp().say(Says::Document(published(&["ec"])));
    // Every worker has cached the token as valid, and still rejects it once its key is not
    // published any more.
    gate.until(&old, 401).await;
    passed(3).await;
    for _ in 0..20 {
        assert_eq!(gate.ask(&old).await, 401);
    }
    over.store(true, Ordering::SeqCst);
    for task in load {
        task.await.unwrap();
    }
    assert!(counts().iter().sum::<usize>() > 20);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cached_keys_stay_valid_during_an_outage_as_long_as_the_policy_allows() {
    let gate = Gate::start("jwks-outage", 2, json!({"refresh_s": 1, "stale_s": 15})).await;
    let ed = bearer("corp", "ed");
    gate.until(&ed, 200).await;
    let before = gate.corp().asked();
    gate.corp()
        .say(Says::Other("500 No", String::new(), "down".into()));
    met("it is asked in vain", || gate.corp().asked() >= before + 2).await;
    assert_eq!(gate.ask(&ed).await, 200, "keys count on");
    gate.until(&ed, 503).await;
    for _ in 0..10 {
        assert_eq!(gate.ask(&ed).await, 503);
    }
    let told = || {
        let log = gate.stack.log("envoy.log");
        log.contains("the answer's status is 500")
    };
    met("the log has the cause", told).await;
    gate.corp().say(Says::Document(published(&["ed"])));
    gate.until(&ed, 200).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_token_is_accepted_from_an_untrusted_or_faulty_key_server() {
    let authority = Authority::new("issuers").unwrap();
    let other = Authority::new("others").unwrap();
    let leaf = authority.issue(1, &["ip:127.0.0.1"]).unwrap();
    let good = published(&["ed"]);
    let elsewhere = Publisher::start(&leaf, Says::Document(good.clone()))
        .await
        .unwrap();
    let location = format!("location: https://{}/keys\r\n", elsewhere.address);
    let large = format!("{}{good}", " ".repeat(1 << 20));
    let mut publishers = Vec::new();
    for (name, leaf, says) in [
        ("good", &leaf, Says::Document(good.clone())),
        ("large", &leaf, Says::Document(large)),
        ("garbage", &leaf, Says::Document(good.replace('}', ""))),
        ("page", &leaf, Says::Document("<html>sign in</html>".into())),
        (
            "moved",
            &leaf,
            Says::Other("302 Found", location, good.clone()),
        ),
        (
            "empty",
            &leaf,
            Says::Other("204 No Content", String::new(), String::new()),
        ),
        ("slow", &leaf, Says::Slowly(PATIENCE)),
        (
            "name",
            &authority.issue(2, &["ip:127.0.0.2"]).unwrap(),
            Says::Document(good.clone()),
        ),
        (
            "dns",
            &authority.issue(3, &["dns:127.0.0.1"]).unwrap(),
            Says::Document(good.clone()),
        ),
        (
            "authority",
            &other.issue(1, &["ip:127.0.0.1"]).unwrap(),
            Says::Document(good.clone()),
        ),
    ] {
        publishers.push((name, Publisher::start(leaf, says).await.unwrap()));
    }
    let issuers: Vec<_> = publishers
        .iter()
        .map(|(name, publisher)| (*name, publisher, "127.0.0.1", json!({})))
        .collect();
    let policy = policy_of(&issuers);
    let stack = Stack::start_with("jwks-bad", policy, &[("ca.pem", &authority.pem)]).await;
    let gate = Gate {
        stack,
        publishers: BTreeMap::new(),
    };
    gate.until(&bearer("good", "ed"), 200).await;
    for (name, publisher) in &publishers {
        if *name == "good" {
            continue;
        }
        let met_it = || publisher.asked() > 0 || matches!(*name, "name" | "dns" | "authority");
        met("it was asked", met_it).await;
        assert_eq!(gate.ask(&bearer(name, "ed")).await, 503, "{name}");
    }
    assert_eq!(elsewhere.asked(), 0, "redirects are not followed");
    let log = || gate.stack.log("envoy.log");
    for cause in [
        "larger than",
        "not a JSON Web Key Set",
        "status is 302",
        "status is 204",
        "no response (",
    ] {
        met(cause, || {
            log().contains(cause) || (cause == "larger than" && log().contains("no response ("))
        })
        .await;
    }
}
