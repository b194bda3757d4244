//! `import issuer` and `check --live`: an issuer's discovery document over TLS, from a server that
//! stands in for it.

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;

use std::io::{Read as _, Write as _};
use tensorgate_client::pki::Authority;
use tokio_rustls::rustls::{ServerConnection, StreamOwned};

use crate::program::{Ran, Scratch, run};

/// A server of discovery documents, and the file of its authority.
struct Issuer {
    url: String,
    ca: PathBuf,
    scratch: Scratch,
}

impl Issuer {
    /// Starts a server. `document` writes its answer, from its own URL.
    fn start(document: impl FnOnce(&str) -> String) -> Self {
        let authority = Authority::new("issuers").unwrap();
        let leaf = authority.issue(7, &["ip:127.0.0.1"]).unwrap();
        let config = leaf.server_config().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address: SocketAddr = listener.local_addr().unwrap();
        let url = format!("https://{address}");
        let body = document(&url);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let connection = ServerConnection::new(Arc::clone(&config)).unwrap();
                let mut stream = StreamOwned::new(connection, stream.unwrap());
                let mut head = [0; 1024];
                let read = stream.read(&mut head).unwrap_or(0);
                let is_discovery =
                    head[..read].starts_with(b"GET /.well-known/openid-configuration HTTP/1.1\r\n");
                let (status, body) = if is_discovery {
                    ("200 OK", body.as_str())
                } else {
                    ("404 Not Found", "")
                };
                let length = body.len();
                let answer = format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\n\r\n{body}");
                let _ = stream.write_all(answer.as_bytes());
                let _ = stream.flush();
            }
        });
        let scratch = Scratch::new();
        let ca = scratch.file("ca.pem", &authority.pem);
        Self { url, ca, scratch }
    }

    fn import(&self, words: &[&str]) -> Ran {
        let ca = self.ca.to_str().unwrap();
        let all = [
            "import",
            "issuer",
            &self.url,
            "--audience",
            "gate",
            "--ca",
            ca,
        ];
        run(&[&all[..], words].concat())
    }

    /// Checks a policy with this section.
    fn check(&self, issuers: &str, words: &[&str]) -> Ran {
        let rest = "version: 1\nclients:\n  robot: {jwt: {issuer: idp, subject: svc}}\n";
        let file = self.scratch.file("gate.yaml", format!("{rest}{issuers}"));
        let all = ["check", file.to_str().unwrap()];
        run(&[&all[..], words].concat())
    }
}

fn document(issuer: &str, keys: &str) -> String {
    let algorithms = r#"["RS256", "ES256", "HS256"]"#;
    format!(
        r#"{{"issuer": "{issuer}", "jwks_uri": "{keys}", "id_token_signing_alg_values_supported": {algorithms}}}"#
    )
}

#[test]
fn an_issuer_becomes_a_section_that_check_accepts_and_compares() {
    let issuer = Issuer::start(|url| document(url, &format!("{url}/keys")));
    // Loopback addresses are private.
    let refused = issuer.import(&[]);
    assert_eq!(refused.code, 2, "{}", refused.stdout);
    for text in [
        "127.0.0.1, which is not public (loopback)",
        "--allow-private",
    ] {
        assert!(refused.stderr.contains(text), "{}", refused.stderr);
    }
    let ran = issuer.import(&["--allow-private"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let url = &issuer.url;
    let expected = format!(
        "issuers:
  idp:
    issuer: \"{url}\"
    audiences: [gate]
    algorithms: [RS256]  # the issuer also offers ES256
    jwks: {{url: \"{url}/keys\"}}
    max_lifetime_s: 86400  # a default: lower it to the lifetime of the issuer's tokens
"
    );
    assert_eq!(ran.stdout, expected);
    assert!(!ran.stderr.contains("another host"), "{}", ran.stderr);
    let unnamed = run(&[
        "import",
        "issuer",
        url,
        "--ca",
        issuer.ca.to_str().unwrap(),
        "--allow-private",
    ]);
    assert_eq!(unnamed.stdout, expected.replace("gate", "CHANGE-ME"));
    assert!(
        unnamed.stderr.contains("replace CHANGE-ME"),
        "{}",
        unnamed.stderr
    );
    let json = issuer.import(&["--allow-private", "--json", "--name", "sso"]);
    let value: serde_json::Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!(value["issuers"]["sso"]["issuer"], issuer.url.as_str());

    let trusted = ran.stdout.replace("/keys\"}", "/keys\", ca: ca.pem}");
    let checked = issuer.check(&trusted, &["--live", "--allow-private"]);
    assert_eq!(checked.code, 0, "{}", checked.stderr);
    assert!(!checked.stderr.contains("discovery"), "{}", checked.stderr);
    // Without leave to connect nothing is compared, which is said.
    let checked = issuer.check(&trusted, &["--live"]);
    assert_eq!(checked.code, 0, "{}", checked.stderr);
    assert!(
        checked.stderr.contains("was not compared"),
        "{}",
        checked.stderr
    );
    let other = trusted.replace("/keys\"", "/keys/v1\"");
    let checked = issuer.check(&other, &["--live", "--allow-private"]);
    assert_eq!(checked.code, 2, "{}", checked.stderr);
    assert!(
        checked.stderr.contains("has another URL"),
        "{}",
        checked.stderr
    );
    // Only `--live` connects.
    assert_eq!(issuer.check(&other, &[]).code, 0);
}

#[test]
fn a_document_of_another_issuer_or_of_hidden_keys_is_refused() {
    for (issuer, expected) in [
        (
            Issuer::start(|url| document(&format!("{url}/"), &format!("{url}/keys"))),
            "is of the issuer",
        ),
        (
            Issuer::start(|url| document(url, "http://127.0.0.1/keys")),
            "not an https URL",
        ),
        (
            Issuer::start(|url| document(url, "https://169.254.169.254/keys")),
            "not public (link-local)",
        ),
        (
            Issuer::start(|url| document(url, &format!("{url}/a\\nb"))),
            "is not a valid URL",
        ),
        (Issuer::start(|_| "{}".to_owned()), "cannot be read"),
    ] {
        let ran = issuer.import(&["--allow-private"]);
        assert_eq!((ran.code, ran.stdout.as_str()), (2, ""), "{expected}");
        assert!(ran.stderr.contains(expected), "{expected}: {}", ran.stderr);
    }
    // Keys on another host are shown.
    let issuer = Issuer::start(|url| document(url, "https://8.8.8.8/oauth2/v3/certs"));
    let ran = issuer.import(&["--allow-private"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(
        ran.stderr.contains("on another host, 8.8.8.8"),
        "{}",
        ran.stderr
    );
    assert!(
        ran.stdout.contains("# on another host than the issuer"),
        "{}",
        ran.stdout
    );
}

#[test]
fn an_issuer_is_a_url_behind_tls() {
    for url in [
        "http://login.example.com",
        "login.example.com",
        "https://a.example/?t=1",
    ] {
        let ran = run(&["import", "issuer", url, "--audience", "gate"]);
        assert_eq!(ran.code, 2, "{url}");
        assert!(
            ran.stderr.contains("is not the https URL of an issuer"),
            "{}",
            ran.stderr
        );
    }
}
