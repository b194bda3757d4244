//! `push`: what arrives in a real registry over real TLS, and that a registry that lies learns
//! nothing.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use tensorgate_client::pki::{Authority, Leaf};
use tensorgate_client::publisher::{Publisher, Says};
use tensorgate_client::registry::{Knows, Registry};
use tensorgate_client::run::Ran;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_rustls::TlsAcceptor;

use super::sign::Signing;
use super::{binary, story};

const LOGIN: &str = "pusher:wasm-secret";

/// A signed component, an authority, and a user who may be logged in.
struct Pushing {
    signing: Signing,
    authority: Authority,
}

impl Pushing {
    fn new() -> Self {
        let signing = Signing::new();
        let ran = signing.sign("scale@1.4.0");
        assert_eq!(ran.code, 0, "{}", story(&ran));
        let authority = Authority::new("registries").unwrap();
        signing.scratch.file("ca.pem", &authority.pem);
        Self { signing, authority }
    }

    fn leaf(&self) -> Leaf {
        self.authority.issue(7, &["ip:127.0.0.1"]).unwrap()
    }

    /// Logs in as `docker login` does.
    fn login(&self, registry: SocketAddr, login: &str) {
        let auth = STANDARD.encode(login);
        let config = json!({"auths": {registry.to_string(): {"auth": auth}}});
        (self.signing.scratch).file("config.json", config.to_string());
    }

    fn push(&self, reference: &str) -> Ran {
        self.push_trusting(reference, "ca.pem")
    }

    fn push_trusting(&self, reference: &str, ca: &str) -> Ran {
        let mut command = Command::new(binary());
        command
            .args(["--json", "push", "--ca", &self.signing.path(ca)])
            .args([reference, &self.signing.path("scale.wasm")])
            .env("NO_COLOR", "1")
            .env("DOCKER_CONFIG", self.signing.scratch.path());
        let ran = Ran::from_command(&mut command);
        let told = story(&ran);
        assert!(
            !told.contains("secret") && !told.contains(&STANDARD.encode(LOGIN)),
            "{told}"
        );
        ran
    }

    fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.signing.scratch.path().join(name)).unwrap()
    }
}

/// What another client finds in the registry.
fn found(ca: &Path, registry: SocketAddr, path: &str) -> Vec<u8> {
    let output = Command::new("curl")
        .args(["--silent", "--show-error", "--fail", "--max-time", "20", "--noproxy", "*", "--user", LOGIN])
        .args(["--header", "accept: application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json"])
        .arg("--cacert")
        .arg(ca)
        .arg(format!("https://{registry}/v2/handlers/scale{path}"))
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{path}: {error}");
    output.stdout
}

fn refused(ran: &Ran, code: i32, text: &str) {
    assert_eq!(ran.code, code, "{text}: {}", story(ran));
    assert!(ran.stderr.contains(text), "{text}: {}", story(ran));
    assert_eq!(ran.stdout, "", "{text}");
}

#[test]
fn a_component_and_its_signature_arrive_as_they_are_and_a_version_arrives_once() {
    let pushing = Pushing::new();
    let folder = pushing.signing.scratch.path().join("registry");
    std::fs::create_dir(&folder).unwrap();
    let registry = Registry::start(&folder, &pushing.leaf(), &Knows::Password).unwrap();
    let at = registry.address();
    let scale = format!("{at}/handlers/scale");
    refused(&pushing.push(&scale), 1, "docker login");
    pushing.login(at, "pusher:secret-of-another");
    refused(&pushing.push(&scale), 1, "do not allow pushing");
    pushing.login(at, LOGIN);

    let ran = pushing.push(&scale);
    assert_eq!(ran.code, 0, "{}", story(&ran));
    let told: Value = serde_json::from_str(&ran.stdout).unwrap();
    let digest = told["digest"].as_str().unwrap();
    assert_eq!(told["reference"], format!("{scale}@{digest}"));
    let ca: PathBuf = pushing.signing.path("ca.pem").into();
    let get = |path: &str| found(&ca, at, path);
    let json = |path: &str| serde_json::from_slice::<Value>(&get(path)).unwrap();
    let manifest = json("/manifests/1.4.0");
    assert_eq!(manifest, json(&format!("/manifests/{digest}")));
    assert_eq!(
        manifest["config"]["mediaType"],
        "application/vnd.wasm.config.v0+json"
    );
    assert_eq!(manifest["layers"].as_array().unwrap().len(), 1);
    assert_eq!(manifest["layers"][0]["mediaType"], "application/wasm");
    let blob = |descriptor: &Value| {
        get(&format!(
            "/blobs/{}",
            descriptor["digest"].as_str().unwrap()
        ))
    };
    assert_eq!(blob(&manifest["layers"][0]), pushing.read("scale.wasm"));
    let config: Value = serde_json::from_slice(&blob(&manifest["config"])).unwrap();
    assert_eq!(config["layerDigests"][0], manifest["layers"][0]["digest"]);
    assert_eq!(
        (&config["architecture"], &config["os"]),
        (&json!("wasm"), &json!("wasip2"))
    );
    // The signature's manifest refers to the component. This registry has no index of referrers, so
    // the index is stored under the component's digest.
    let referrers = json(&format!("/manifests/{}", digest.replace(':', "-")));
    assert_eq!(referrers["manifests"][0]["digest"], told["signature"]);
    let signature = json(&format!(
        "/manifests/{}",
        told["signature"].as_str().unwrap()
    ));
    assert_eq!(signature["subject"]["digest"], digest);
    assert_eq!(
        signature["artifactType"],
        "application/vnd.dev.sigstore.bundle.v0.3+json"
    );
    assert_eq!(
        blob(&signature["layers"][0]),
        pushing.read("scale.wasm.sigstore.json")
    );

    let again = pushing.push(&scale);
    assert_eq!(
        (again.code, &again.stdout),
        (0, &ran.stdout),
        "{}",
        story(&again)
    );
    let index = json(&format!("/manifests/{}", digest.replace(':', "-")));
    assert_eq!(index["manifests"].as_array().unwrap().len(), 1);
    // Other bytes under the same version are rejected; the next version may have them.
    pushing.signing.component("(component (component))");
    refused(&pushing.push(&scale), 2, "signs another component");
    assert_eq!(pushing.signing.sign("scale@1.4.0").code, 0);
    refused(
        &pushing.push(&scale),
        1,
        "a version can be pushed only once",
    );
    assert_eq!(json("/manifests/1.4.0"), manifest);
    let next = pushing.push(&format!("{scale}:1.4.1"));
    assert_eq!(next.code, 0, "{}", story(&next));
    // No trusted certificate of the server, and nothing to push.
    let stranger = Authority::new("registries").unwrap();
    (pushing.signing.scratch).file("stranger.pem", stranger.pem);
    refused(
        &pushing.push_trusting(&scale, "stranger.pem"),
        1,
        "certificate",
    );
    std::fs::remove_file(pushing.signing.path("scale.wasm.sigstore.json")).unwrap();
    refused(&pushing.push(&scale), 2, "sign the component first");
}

/// A token that the registry accepts: signed by an issuer that it trusts, for one repository.
fn token(leaf: &Leaf, repository: &str) -> String {
    use rcgen::SigningKey as _;
    let header = json!({"typ": "JWT", "alg": "ES256", "x5c": [STANDARD.encode(&leaf.der)]});
    let claims = json!({
        "iss": "issuer.test", "sub": "pusher", "aud": "registry.test", "nbf": 0, "iat": 0, "exp": 9_999_999_999_u64, "jti": "1",
        "access": [{"type": "repository", "name": repository, "actions": ["pull", "push"]}]
    });
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = format!("{}.{}", part(&header), part(&claims));
    let key = rcgen::KeyPair::from_pem(&leaf.key).unwrap();
    let der = key.sign(signed.as_bytes()).unwrap();
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(fixed(&der)))
}

/// An ECDSA signature as two numbers of 32 bytes, from a DER sequence of two.
fn fixed(der: &[u8]) -> Vec<u8> {
    let mut rest = &der[2..];
    let mut both = Vec::new();
    for _ in 0..2 {
        let length = usize::from(rest[1]);
        let number = &rest[2..2 + length];
        let number = &number[number.len().saturating_sub(32)..];
        both.extend(vec![0; 32 - number.len()]);
        both.extend(number);
        rest = &rest[2 + length..];
    }
    both
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_fetched_from_the_registrys_realm_for_one_repository() {
    let pushing = Pushing::new();
    let issuer = pushing.authority.issue(8, &["dns:issuer.test"]).unwrap();
    let given =
        |repository: &str| Says::Document(json!({"token": token(&issuer, repository)}).to_string());
    let tokens = Publisher::start(&pushing.leaf(), given("handlers/scale"))
        .await
        .unwrap();
    let folder = pushing.signing.scratch.path().join("registry");
    std::fs::create_dir(&folder).unwrap();
    let knows = Knows::Token {
        certificate: pushing.authority.pem.clone(),
        realm: format!("https://{}/token", tokens.address),
    };
    let registry = Registry::start(&folder, &pushing.leaf(), &knows).unwrap();
    let at = registry.address();
    pushing.login(at, LOGIN);
    let ran = pushing.push(&format!("{at}/handlers/scale"));
    assert_eq!(ran.code, 0, "{}", story(&ran));
    assert_eq!(tokens.asked(), 1, "one token is enough");
    // A token for another repository, and an invalid token.
    refused(
        &pushing.push(&format!("{at}/handlers/other")),
        1,
        "do not allow pushing",
    );
    tokens.say(Says::Document(json!({"token": "two words"}).to_string()));
    refused(
        &pushing.push(&format!("{at}/handlers/scale")),
        1,
        "returns no token",
    );
    tokens.say(Says::Other("403 Forbidden", String::new(), String::new()));
    refused(
        &pushing.push(&format!("{at}/handlers/scale")),
        1,
        "do not allow pushing",
    );
}

/// A server that answers by a function of the request, and records the heads.
async fn scripted(
    leaf: &Leaf,
    says: impl Fn(&str) -> String + Send + Sync + 'static,
) -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
    let acceptor = TlsAcceptor::from(leaf.server_config().unwrap());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let heads = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&heads);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(stream).await else {
                continue;
            };
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n")
                && stream.read_u8().await.map(|byte| head.push(byte)).is_ok()
            {}
            let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
            let length = head
                .split("content-length: ")
                .nth(1)
                .and_then(|rest| rest.split('\r').next());
            let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
            let _ = stream.read_exact(&mut body).await;
            let answer = says(&head);
            heard.lock().unwrap().push(head);
            let _ = stream.write_all(answer.as_bytes()).await;
            let _ = stream.shutdown().await;
        }
    });
    (address, heads)
}

fn answer(status: &str, fields: &str) -> String {
    format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n{fields}\r\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_are_sent_only_to_the_registry() {
    let pushing = Pushing::new();
    let (elsewhere, theirs) = scripted(&pushing.leaf(), |_| answer("201 Created", "")).await;
    let (registry, ours) = scripted(&pushing.leaf(), move |head| {
        if !head.contains("authorization: basic") {
            answer(
                "401 Unauthorized",
                "www-authenticate: Basic realm=\"r\"\r\n",
            )
        } else if head.starts_with("post ") {
            let place = format!("location: https://{elsewhere}/upload?state=1\r\n");
            answer("202 Accepted", &place)
        } else if head.starts_with("put ") {
            answer("201 Created", "oci-subject: x\r\n")
        } else {
            answer("404 Not Found", "")
        }
    })
    .await;
    pushing.login(registry, LOGIN);
    let ran = pushing.push(&format!("{registry}/handlers/scale"));
    assert_eq!(ran.code, 0, "{}", story(&ran));
    let theirs = theirs.lock().unwrap();
    assert_eq!(theirs.len(), 4, "four blobs: {theirs:#?}");
    assert!(
        theirs
            .iter()
            .all(|head| head.contains("state=1&digest=sha256%3a")),
        "{theirs:#?}"
    );
    assert!(
        !theirs.iter().any(|head| head.contains("authorization")),
        "{theirs:#?}"
    );
    // It indexes references itself, and gets no index.
    let ours = ours.lock().unwrap();
    assert_eq!(
        ours.iter().filter(|head| head.starts_with("put ")).count(),
        3,
        "{ours:#?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn false_answers_of_a_registry_are_rejected() {
    let pushing = Pushing::new();
    let there = Publisher::start(&pushing.leaf(), Says::Document("{}".to_owned()))
        .await
        .unwrap();
    pushing.login(there.address, LOGIN);
    let reference = format!("{}/handlers/scale", there.address);
    refused(
        &pushing.push(&reference),
        1,
        "a version can be pushed only once",
    );
    let challenge = |text: &str| {
        let field = format!("www-authenticate: {text}\r\n");
        Says::Other("401 Unauthorized", field, String::new())
    };
    for (says, asked, text) in [
        (
            challenge("Bearer realm=\"http://127.0.0.1:1/token\""),
            1,
            "only HTTPS",
        ),
        (
            challenge("Bearer realm=\"file:///etc/passwd\""),
            1,
            "names an invalid token server",
        ),
        (challenge("Bearer realm=\"\""), 1, ""),
        (
            challenge("Negotiate"),
            1,
            "unsupported authentication scheme",
        ),
        (challenge("Basic realm=\"r\""), 2, "do not allow pushing"),
        (
            Says::Other(
                "307 Temporary Redirect",
                "location: https://127.0.0.1:1/\r\n".to_owned(),
                String::new(),
            ),
            1,
            "answers 307",
        ),
        (Says::Document("x".repeat(5 << 20)), 1, "length limit"),
        (
            Says::Other("no status", String::new(), String::new()),
            1,
            "request to",
        ),
    ] {
        let before = there.asked();
        there.say(says.clone());
        refused(&pushing.push(&reference), 1, text);
        assert_eq!(there.asked() - before, asked, "{says:?}");
    }
    // It claims to have stored something else.
    let (liar, _) = scripted(&pushing.leaf(), |head| match head.split(' ').next() {
        Some("put") => answer("201 Created", "docker-content-digest: sha256:00\r\n"),
        Some("post") => answer("202 Accepted", "location: /upload\r\n"),
        _ => answer("404 Not Found", ""),
    })
    .await;
    refused(
        &pushing.push(&format!("{liar}/handlers/scale")),
        1,
        "reports that it stored",
    );
}
