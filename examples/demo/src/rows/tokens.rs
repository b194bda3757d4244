//! Tokens of an issuer: three that identify a client, and forged ones.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::read::best_of_json;
use super::{Row, deny, serve};
use crate::request::{Request, infer_text};
use crate::secured::{Key, Secured};
use crate::split::Split;

/// The lifetime of a token, in seconds.
const LIFETIME_S: u64 = 300;

/// Claims of a token for a client, issued now.
pub fn claims(subject: &str) -> Result<Value> {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .context("the clock is before 1970")?
        .as_secs();
    Ok(
        json!({"iss": "https://login.corp.example", "sub": subject, "aud": "tensorgate",
        "iat": now, "exp": now.saturating_add(LIFETIME_S)}),
    )
}

/// A token header for the issuer's ES256 key, with further members.
pub fn es256(more: &Value) -> Value {
    with(&json!({"alg": "ES256", "kid": "ec", "typ": "JWT"}), more)
}

fn with(value: &Value, more: &Value) -> Value {
    let mut value = value.clone();
    if let (Some(members), Some(more)) = (value.as_object_mut(), more.as_object()) {
        members.extend(more.clone());
    }
    value
}

/// The claims of a token from an hour ago.
fn an_hour_ago(claims: &Value) -> Value {
    let hour_ago = |name: &str| {
        let then = claims.get(name).and_then(Value::as_u64);
        then.unwrap_or_default().saturating_sub(3600)
    };
    with(
        claims,
        &json!({"iat": hour_ago("iat"), "exp": hour_ago("exp")}),
    )
}

/// The rows of this group.
pub fn rows(secured: &Secured, split: &Split) -> Result<Vec<Row>> {
    let tokens = &secured.tokens;
    let claims = claims("svc-web")?;
    let ask = |token: String| Request::Tls {
        caller: secured.anonymous.clone(),
        bytes: infer_text(&format!("authorization: Bearer {token}\r\n"), split, 0),
    };
    let send = |header: &Value, claims: &Value, key: Key| ask(tokens.token(header, claims, key));
    let ec = es256(&json!({}));
    let digit = || format!("digit {}", split.label(0));
    let expired = an_hour_ago(&claims);
    let no = "unauthenticated";
    Ok(vec![
        serve(
            "an ES256 token of the issuer",
            digit(),
            best_of_json,
            send(&ec, &claims, Key::Es256),
        ),
        serve(
            "an EdDSA token of the issuer",
            digit(),
            best_of_json,
            send(&json!({"alg": "EdDSA", "kid": "ed"}), &claims, Key::EdDsa),
        ),
        serve(
            "a token that says where its key is (`jku`)",
            digit(),
            best_of_json,
            send(
                &es256(&json!({"jku": "https://login.corp.example/keys"})),
                &claims,
                Key::Es256,
            ),
        ),
        deny(
            "an unsigned token (`none`)",
            no,
            send(&json!({"alg": "none"}), &claims, Key::None),
        ),
        deny(
            "an HMAC with the issuer's public key",
            no,
            send(
                &json!({"alg": "HS256", "kid": "ec"}),
                &claims,
                Key::HmacOfPublic,
            ),
        ),
        deny(
            "the same, declared as ES256",
            no,
            send(&ec, &claims, Key::HmacOfPublic),
        ),
        deny(
            "a token signed with another key",
            no,
            send(&ec, &claims, Key::Mallory),
        ),
        deny("an expired token", no, send(&ec, &expired, Key::Es256)),
        deny(
            "a token for another audience",
            no,
            send(&ec, &with(&claims, &json!({"aud": "billing"})), Key::Es256),
        ),
        deny(
            "a token with a key at a URL of its own (`jku`)",
            no,
            send(
                &es256(&json!({"jku": "https://keys.example/jwks.json"})),
                &claims,
                Key::Mallory,
            ),
        ),
        deny(
            "a token with its own key (`jwk`)",
            no,
            send(
                &es256(&json!({"kid": "mine", "jwk": tokens.mallorys()})),
                &claims,
                Key::Mallory,
            ),
        ),
        deny(
            "a stolen token that is bound to another's key (`cnf`)",
            no,
            send(
                &ec,
                &with(&claims, &json!({"cnf": {"jkt": "A".repeat(43)}})),
                Key::Es256,
            ),
        ),
        deny(
            "a token with a critical extension (`crit`)",
            no,
            send(&es256(&json!({"crit": ["exp"]})), &claims, Key::Es256),
        ),
    ])
}
