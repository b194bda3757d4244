//! The webhook for alerts, against a real server: what is sent and signed, retries, and what a
//! server that hangs or lies takes from other alerts.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac as _};
use serde_json::{Value, json};
use sha2::Sha256;
use tensorgate_net::resolve::SystemResolver;
use tensorgate_policy::values::AlertSeverity;
use tensorgate_policy_compiler::{raw, validate};
use tensorgate_telemetry::labels::WebhookLabels;
use tensorgate_telemetry::metrics::Metrics;
use tensorgate_watch::Alert;
use tensorgate_watch::alert::{AlertContext, Evidence, Finding, Subject};
use tensorgate_watch::report::AlertListener as _;
use tensorgate_watch::time::Time;
use tensorgate_watch::webhook::schedule::Schedule;
use tensorgate_watch::webhook::{AlertWebhook, QUEUED_ALERTS, Target};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::support::{PATIENCE, folder, policy, start, until};

/// The bytes of the secret.
const SECRET: [u8; 32] = [7; 32];
/// A request that a server got.
#[derive(Clone)]
struct Delivery {
    path: String,
    id: String,
    timestamp: String,
    signature: String,
    body: String,
}

impl Delivery {
    fn content(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }

    fn rule(&self) -> String {
        self.content()["data"]["rule"].as_str().unwrap().to_owned()
    }

    /// Checks the signature as a receiver does.
    fn is_signed(&self) -> bool {
        let mut mac = Hmac::<Sha256>::new_from_slice(&SECRET).unwrap();
        mac.update(format!("{}.{}.{}", self.id, self.timestamp, self.body).as_bytes());
        let expected = STANDARD.encode(mac.finalize().into_bytes());
        self.signature == format!("v1,{expected}")
    }
}

/// What a server does with a request.
enum Says {
    Status(u16),
    /// Another path of its own.
    Redirect,
    /// Nothing, for ever.
    Nothing,
    /// A body that never ends.
    Endless,
}

/// A server that keeps what it gets.
struct Receiver {
    url: String,
    seen: Arc<Mutex<Vec<Delivery>>>,
}

impl Receiver {
    /// `says` gets a request, and how many with its ID there were before.
    async fn start(says: impl Fn(&Delivery, usize) -> Says + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/alerts", listener.local_addr().unwrap());
        let seen: Arc<Mutex<Vec<Delivery>>> = Arc::default();
        let (kept, says) = (Arc::clone(&seen), Arc::new(says));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (kept, says) = (Arc::clone(&kept), Arc::clone(&says));
                tokio::spawn(async move {
                    let mut stream = stream;
                    let delivery = read(&mut stream).await;
                    let reply = {
                        let mut kept = kept.lock().unwrap();
                        let before = kept.iter().filter(|it| it.id == delivery.id).count();
                        kept.push(delivery.clone());
                        says(&delivery, before)
                    };
                    answer(&mut stream, reply).await;
                });
            }
        });
        Self { url, seen }
    }

    fn deliveries(&self) -> Vec<Delivery> {
        self.seen.lock().unwrap().clone()
    }
}

/// Reads one request.
async fn read(stream: &mut TcpStream) -> Delivery {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let field = |name: &str| {
                let mut fields = head.lines().filter_map(|line| line.split_once(": "));
                let found = fields.find(|(found, _)| found.eq_ignore_ascii_case(name));
                found.map(|(_, value)| value.to_owned()).unwrap_or_default()
            };
            if body.len() >= field("content-length").parse::<usize>().unwrap() {
                return Delivery {
                    path: head.split(' ').nth(1).unwrap().to_owned(),
                    id: field("webhook-id"),
                    timestamp: field("webhook-timestamp"),
                    signature: field("webhook-signature"),
                    body: body.to_owned(),
                };
            }
        }
        let count = stream.read_buf(&mut bytes).await.unwrap();
        assert!(count > 0, "the request is not complete");
    }
}

/// Answers a request. The client may leave at any time.
async fn answer(stream: &mut TcpStream, says: Says) {
    let head = match says {
        Says::Status(status) => format!("HTTP/1.1 {status} X\r\ncontent-length: 0\r\n\r\n"),
        Says::Redirect => {
            "HTTP/1.1 307 X\r\nlocation: /other\r\ncontent-length: 0\r\n\r\n".to_owned()
        }
        Says::Nothing => {
            drop(stream.read_u8().await);
            return;
        }
        Says::Endless => "HTTP/1.1 200 X\r\ncontent-length: 1000000000\r\n\r\n".to_owned(),
    };
    let mut sent = stream.write_all(head.as_bytes()).await;
    while sent.is_ok() && matches!(says, Says::Endless) {
        sent = stream.write_all(&[b'x'; 1_024]).await;
    }
}

/// A file with the secret, which only its owner may read. It is removed on drop.
struct SecretFile(PathBuf);

impl SecretFile {
    fn new() -> Self {
        let file = folder().join("webhook.secret");
        std::fs::write(&file, format!("whsec_{}\n", STANDARD.encode(SECRET))).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
        Self(file)
    }
}

impl Drop for SecretFile {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(self.0.parent().unwrap()));
    }
}

/// A webhook that sends to a server, with short pauses.
struct Sender {
    webhook: AlertWebhook,
    metrics: Arc<Metrics>,
    sent: usize,
    _secret: SecretFile,
}

impl Sender {
    fn new(receiver: &Receiver, attempts: u32, timeout: Duration) -> Self {
        Self::to(&[(receiver, "info")], attempts, timeout)
    }

    /// Sends to servers that want alerts from a severity on.
    fn to(receivers: &[(&Receiver, &str)], attempts: u32, timeout: Duration) -> Self {
        let secret = SecretFile::new();
        let secret_file = &secret.0;
        let webhook = |receiver: &(&Receiver, &str)| {
            let (Receiver { url, .. }, severity) = receiver;
            json!({"url": url, "secret_file": secret_file, "severity": severity})
        };
        let webhooks: Vec<_> = receivers.iter().map(webhook).collect();
        let raw: raw::Policy = serde_json::from_value(json!({
            "version": 1, "watch": {"webhooks": webhooks},
        }))
        .unwrap();
        let policy = validate::validate(&raw).unwrap().0;
        let rules = policy.watch().webhooks().iter();
        let target = |rule| Arc::new(Target::new(rule, Path::new("/")).unwrap());
        let targets = rules.map(target).collect();
        let schedule = Schedule {
            attempts,
            timeout,
            first: Duration::from_millis(1),
            longest: Duration::from_millis(10),
        };
        let metrics = Arc::new(Metrics::new());
        let resolver = Arc::new(SystemResolver::default());
        let webhook = AlertWebhook::new(resolver, schedule, Arc::clone(&metrics));
        webhook.set_targets(targets);
        Self {
            webhook,
            metrics,
            sent: 0,
            _secret: secret,
        }
    }

    fn raise(&mut self, rule: &'static str, subject: Subject) {
        self.raise_with(rule, subject, AlertSeverity::Warning);
    }

    fn raise_with(&mut self, rule: &'static str, subject: Subject, severity: AlertSeverity) {
        let alert = Alert {
            rule,
            finding: Finding {
                subject,
                since: Time::default(),
                evidence: Evidence {
                    observed: 3.0,
                    usual: 1.0,
                    unit: "requests",
                },
                what: "sends".to_owned(),
                advice: "Look.",
            },
            since: UNIX_EPOCH,
            is_logged: true,
            withheld: 0,
            response: Some("blocked until noon".to_owned()),
            context: AlertContext {
                severity,
                client: Some("a".to_owned()),
                request_id: Some("id-1".to_owned()),
                ..AlertContext::default()
            },
        };
        self.sent += 1;
        let record = alert.to_record(format!("alert-{}", self.sent));
        self.webhook.raised(&alert, &record);
    }

    fn count(&self, rule: &'static str, outcome: &'static str) -> u64 {
        let labels = WebhookLabels { rule, outcome };
        self.metrics.alert_webhooks.get_or_create(&labels).get()
    }
}

fn client() -> Subject {
    Subject::Client("a".to_owned())
}

#[tokio::test]
async fn an_alert_is_sent_with_one_id_until_it_is_accepted_once() {
    let says = |_: &Delivery, before: usize| Says::Status(if before < 2 { 500 } else { 204 });
    let receiver = Receiver::start(says).await;
    let mut sender = Sender::new(&receiver, 5, PATIENCE);
    sender.raise("volume", client());
    sender.raise("volume", client());
    until("both are accepted", || {
        sender.count("volume", "delivered") == 2
    })
    .await;
    let deliveries = receiver.deliveries();
    let ids: Vec<_> = deliveries.iter().map(|it| it.id.as_str()).collect();
    let (first, second) = (["alert-1"; 3], ["alert-2"; 3]);
    assert_eq!(
        ids,
        [first, second].concat(),
        "in order, none after success"
    );
    assert!(deliveries.iter().all(Delivery::is_signed));
    let content = deliveries[0].content();
    assert_eq!(content["type"], "tensorgate.alert");
    assert_eq!(content["data"]["subject"], "client a");
    assert_eq!(content["data"]["response"], "blocked until noon");
    assert_eq!(content["data"]["severity"], "warning");
    assert_eq!(content["data"]["client"], "a");
    assert_eq!(content["data"]["request_id"], "id-1");
    let command = "tensorgate block --for 1h --reason 'alert volume' -- a";
    assert_eq!(content["data"]["command"], command);
    assert_eq!(deliveries[0].path, "/alerts");
}

#[tokio::test]
async fn a_server_that_hangs_on_one_rule_delays_no_other_and_a_flood_displaces_none() {
    let says = |delivery: &Delivery, _: usize| {
        if delivery.rule() == "probing" {
            Says::Nothing
        } else {
            Says::Status(200)
        }
    };
    let receiver = Receiver::start(says).await;
    let mut sender = Sender::new(&receiver, 1_000, Duration::from_millis(200));
    let source = || Subject::Source("192.0.2.1".parse().unwrap());
    let flood = 100;
    for _ in 0..flood {
        sender.raise("probing", source());
    }
    // One is being sent or is still queued, and the queue is full.
    let dropped = usize::try_from(sender.count("probing", "dropped")).unwrap();
    let kept = flood - dropped;
    assert!(
        (QUEUED_ALERTS..=QUEUED_ALERTS + 1).contains(&kept),
        "{kept}"
    );
    sender.raise("management", source());
    sender.raise("probing", client());
    until("the other rule's is accepted", || {
        sender.count("management", "delivered") == 1
    })
    .await;
    // The rule's alert about a client is tried beside those about sources.
    until("it is tried", || {
        let deliveries = receiver.deliveries();
        let mut subjects = deliveries.iter().map(Delivery::content);
        subjects.any(|it| it["data"]["rule"] == "probing" && it["data"]["subject"] == "client a")
    })
    .await;
    assert_eq!(sender.count("probing", "delivered"), 0);
}

#[tokio::test]
async fn each_webhook_gets_the_alerts_of_its_severity_and_one_that_hangs_delays_no_other() {
    let all = Receiver::start(|_, _| Says::Nothing).await;
    let pager = Receiver::start(|_, _| Says::Status(200)).await;
    let receivers = [(&all, "info"), (&pager, "critical")];
    let mut sender = Sender::to(&receivers, 1, PATIENCE);
    for (rule, severity) in [
        ("new-credential", AlertSeverity::Info),
        ("volume", AlertSeverity::Warning),
        ("audit-failing", AlertSeverity::Critical),
    ] {
        sender.raise_with(rule, client(), severity);
    }
    until("the pager has it", || {
        sender.count("audit-failing", "delivered") == 1
    })
    .await;
    until("the other has all", || all.deliveries().len() == 3).await;
    let paged: Vec<_> = pager.deliveries().iter().map(Delivery::rule).collect();
    assert_eq!(paged, ["audit-failing"]);
}

#[tokio::test]
async fn alerts_that_are_left_at_the_end_count_as_dropped() {
    let receiver = Receiver::start(|_, _| Says::Nothing).await;
    let mut sender = Sender::new(&receiver, 1, PATIENCE);
    for _ in 0..3 {
        sender.raise("volume", client());
    }
    sender.raise("probing", client());
    until("both rules send", || receiver.deliveries().len() == 2).await;
    sender.webhook.end();
    assert_eq!(sender.count("volume", "dropped"), 3);
    assert_eq!(sender.count("probing", "dropped"), 1);
    // It takes no more.
    sender.raise("volume", client());
    sender.webhook.end();
    assert_eq!(sender.count("volume", "dropped"), 3);
}

#[tokio::test]
async fn an_endless_answer_is_not_read_and_a_redirect_is_not_followed() {
    let says = |delivery: &Delivery, _: usize| {
        if delivery.rule() == "volume" {
            Says::Endless
        } else {
            Says::Redirect
        }
    };
    let receiver = Receiver::start(says).await;
    let mut sender = Sender::new(&receiver, 3, PATIENCE);
    sender.raise("volume", client());
    sender.raise("latency", client());
    until("the status counts", || {
        sender.count("volume", "delivered") == 1
    })
    .await;
    until("all attempts failed", || {
        sender.count("latency", "failed") == 1
    })
    .await;
    let deliveries = receiver.deliveries();
    assert!(deliveries.iter().all(|it| it.path == "/alerts"));
    let redirected = deliveries.iter().filter(|it| it.id == "alert-2");
    assert_eq!(redirected.count(), 3);
}

#[tokio::test]
async fn alerts_of_a_host_reach_the_webhook_of_its_newest_policy() {
    let receiver = Receiver::start(|_, _| Says::Status(200)).await;
    let secret = SecretFile::new();
    let mut policy = policy("http://127.0.0.1:9", json!({}), json!({}));
    let running = start(policy.clone()).await;
    let webhook = |file: &Path| json!({"webhook": {"url": receiver.url, "secret_file": file}});
    policy["watch"] = webhook(Path::new("/nowhere/secret"));
    let refused = running.reload("00000000000000aa", &policy).await;
    let faults = refused.faults.join("");
    assert!(faults.contains("watch.webhook: cannot read"), "{faults}");
    policy["watch"] = webhook(&secret.0);
    running.reload("00000000000000ab", &policy).await;
    let path = "/v2/repository/models/vec/load";
    running.gate.call("POST", path, "{}").await;
    until("it is delivered", || !receiver.deliveries().is_empty()).await;
    let [delivery]: [Delivery; 1] = receiver.deliveries().try_into().ok().unwrap();
    assert!(delivery.is_signed());
    let content = delivery.content();
    assert_eq!(content["data"]["rule"], "management");
    assert!(!content["data"]["gateway"].as_str().unwrap().is_empty());
    let recorded = || {
        let mut lines = running.audited().into_iter();
        lines.any(|line| line["type"] == "alert" && line["id"] == content["data"]["id"])
    };
    until("the log has the same alert", recorded).await;
    let counted = "tensorgate_alert_webhooks_total{rule=\"management\",outcome=\"delivered\"} 1\n";
    until("it is counted", || running.metrics().contains(counted)).await;
    running.stop().await;
}
