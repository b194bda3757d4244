//! One of the two policies of a comparison, whatever it was read from.

use std::path::Path;

use serde::Serialize;
use serde_json::{Map, Value, json};
use tensorgate_cli_common::Failure;
use tensorgate_cli_common::ui::{Ui, printable};
use tensorgate_policy::policy::{Client, Model, filter_part};
use tensorgate_policy::{Policy, Target, hex};
use tensorgate_policy_compiler::raw;
use tensorgate_policy_load::load::load;

use super::rendered::rendered;

/// Members whose arrays of 32 numbers are digests or keys.
const DIGESTS: [&str; 4] = ["sha256", "keys", "certificates", "Ed25519"];

/// One of the two policies.
pub(super) struct Side {
    pub policy: Policy,
    /// The policy as written; `None` for a compiled one.
    pub raw: Option<raw::Policy>,
    pub generation: String,
    /// Whether it has only what filters read.
    pub is_filter_part: bool,
    /// Whether limits depend on the number of pods, which is not known.
    pub is_undivided: bool,
}

impl Side {
    /// Reads a policy, in any form.
    pub fn read(path: &Path, replicas: Option<u32>) -> Result<Self, Failure> {
        if let Some(compiled) = rendered(path)? {
            return Ok(Self {
                policy: compiled.policy,
                raw: None,
                generation: compiled.generation,
                is_filter_part: matches!(compiled.target, Target::Filter(_)),
                is_undivided: false,
            });
        }
        let mut loaded = load(path)?;
        if replicas.is_some() {
            loaded = loaded.divided(replicas)?;
        }
        Ok(Self {
            is_undivided: !loaded.limits_to_divide().is_empty(),
            policy: loaded.version.policy,
            raw: Some(loaded.version.raw),
            generation: loaded.version.generation,
            is_filter_part: false,
        })
    }

    /// Every value but the access of clients, under the names that a compiled policy has for them.
    pub fn values(&self, is_filter_part: bool) -> serde_json::Result<Value> {
        let part = is_filter_part.then(|| filter_part(self.policy.clone()));
        let policy = part.as_ref().unwrap_or(&self.policy);
        let mut values = json!({
            "listen": policy.listen(),
            "issuers": policy.issuers(),
            "revoked": policy.revoked(),
            "clients": clients(policy)?,
            "backends": policy.backends(),
            "handlers": policy.handlers(),
            "models": named(policy.models(), Model::name)?,
            "grants": policy.grants(),
            "rate_limit_service": policy.rate_limit_service(),
            "lockout": policy.lockout(),
            "audit": policy.audit(),
            "capture": policy.capture(),
            "watch": policy.watch(),
        });
        let grants = values.get_mut("grants").and_then(Value::as_array_mut);
        for grant in grants
            .into_iter()
            .flatten()
            .filter_map(Value::as_object_mut)
        {
            // Its clients are compared by what they may do.
            grant.remove("clients");
            if let Some(handlers) = grant.get_mut("handlers") {
                name_models(handlers, policy);
            }
        }
        write_digests("", &mut values);
        Ok(values)
    }

    /// Says which version this is.
    pub fn note(&self, ui: &Ui, path: &Path) {
        let (path, named) = (path.display(), &self.generation);
        ui.note(&printable(&format!("{path}: generation {named}")));
        if self.is_filter_part {
            ui.note(&printable(&format!(
                "note: {path} has what filters read: servers, handlers, files of models, the audit log, captures and alerts are not compared; the ConfigMap NAME-policy has all"
            )));
        }
    }
}

/// Clients by their names, with their keys.
fn clients(policy: &Policy) -> serde_json::Result<Map<String, Value>> {
    let mut clients = named(policy.clients(), Client::name)?;
    for client in clients.values_mut().filter_map(Value::as_object_mut) {
        client.insert("api_keys".into(), json!([]));
    }
    for key in policy.api_keys().iter() {
        let name = policy.client(key.client()).map(Client::name);
        let keys = name.and_then(|name| clients.get_mut(name)?.get_mut("api_keys"));
        if let Some(keys) = keys.and_then(Value::as_array_mut) {
            keys.push(json!({
                "sha256": key.sha256(),
                "expires_unix_s": key.expires_unix_s(),
                "format": key.format(),
            }));
        }
    }
    Ok(clients)
}

/// Items by their names.
fn named<T: Serialize>(
    items: &[T],
    name: fn(&T) -> &str,
) -> serde_json::Result<Map<String, Value>> {
    let items = items.iter();
    items
        .map(|item| Ok((name(item).to_owned(), serde_json::to_value(item)?)))
        .collect()
}

/// Writes names in place of the numbers of models.
fn name_models(by_model: &mut Value, policy: &Policy) {
    let Some(numbers) = by_model.as_object_mut() else {
        return;
    };
    let named = std::mem::take(numbers).into_iter().map(|(number, value)| {
        let model = number.parse::<usize>().ok();
        let model = model.and_then(|number| policy.models().get(number));
        (model.map_or(number, |model| model.name().to_owned()), value)
    });
    *numbers = named.collect();
}

/// Writes each digest and key as hex digits. `name` is that of the member with the value, or with
/// the collection that the value is in.
fn write_digests(name: &str, value: &mut Value) {
    match value {
        Value::Array(items) => {
            let bytes = items.iter().map(|item| u8::try_from(item.as_u64()?).ok());
            let bytes: Option<Vec<u8>> = bytes.collect();
            let digest = bytes.and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
            match digest.filter(|_| DIGESTS.contains(&name)) {
                Some(digest) => *value = Value::from(hex(&digest)),
                None => items.iter_mut().for_each(|item| write_digests(name, item)),
            }
        }
        Value::Object(members) => {
            // The keys of a signer are by name.
            for (member, value) in members {
                write_digests(
                    if DIGESTS.contains(&name) {
                        name
                    } else {
                        member
                    },
                    value,
                );
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
    use tensorgate_policy_compiler::Version;

    use super::*;

    /// One side, as it is read from a compiled policy.
    fn side(written: Value) -> Side {
        let raw = serde_json::from_value(written).unwrap();
        let version = Version::new(raw).unwrap();
        Side {
            policy: version.policy,
            raw: None,
            generation: version.generation,
            is_filter_part: false,
            is_undivided: false,
        }
    }

    #[test]
    fn the_values_of_every_policy_are_written_with_names_and_digits() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../policy/vectors/policies");
        for entry in std::fs::read_dir(folder).unwrap() {
            let text = std::fs::read(entry.unwrap().path()).unwrap();
            let side = side(serde_json::from_slice(&text).unwrap());
            for is_filter_part in [false, true] {
                side.values(is_filter_part).unwrap();
            }
        }
        let text = include_str!("../../../../policy/compiler/fixture.json");
        let mut written: Value = serde_json::from_str(text).unwrap();
        let (digest, serial) = ("0a".repeat(32), "0b0c");
        written["listen"]["tls"] = json!({"cert": "c.pem", "key": "k.pem", "client_ca": "ca.pem"});
        written["revoked"] = json!({"keys": [digest], "serials": [serial]});
        written["keys"] = json!({"team": {"ed25519": digest}});
        written["models"]["digits"]["artifact"] = json!({
            "path": "m", "signed_by": ["team"],
            "exceptions": [{
                "sha256": digest, "path": "a", "reason": "reviewed", "until": "2999-01-01"
            }]
        });
        written["grants"][0]["handlers"] = json!({"picture": {"preprocess": "png"}});
        let values = side(written).values(false).unwrap();
        assert_eq!(values["revoked"]["keys"], json!([digest]));
        assert!(values["revoked"]["serials"][serial].is_array(), "{values}");
        let artifact = &values["models"]["digits"]["rules"]["artifacts"]["common"];
        assert!(artifact["exceptions"][&digest][0].is_object(), "{artifact}");
        let signer = &artifact["trust"]["Signed"]["keys"]["team"]["Ed25519"];
        assert_eq!(signer, &json!(digest));
        assert!(
            values["grants"][0]["handlers"]["picture"].is_object(),
            "{values}"
        );
        assert_eq!(
            values["clients"]["scorer"]["api_keys"][0]["sha256"],
            json!("01".repeat(32))
        );
    }
}
