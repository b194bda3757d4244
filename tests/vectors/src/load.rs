//! Every file of `policy/vectors`, read and lowered.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::de::DeserializeOwned;

use crate::file::{File, Key};
use crate::request::Lowered;
use crate::{VectorFault, lower};

/// Credentials, not cases.
const KEYS: &str = "keys.json";

/// Where the vectors lie.
pub fn vectors_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../policy/vectors")
}

/// Every request of every file, in file order.
pub fn load() -> Result<Vec<Lowered>, VectorFault> {
    let dir = vectors_dir();
    let keys: BTreeMap<String, Key> = read_json(&dir.join(KEYS))?;
    let mut files = Vec::new();
    for entry in std::fs::read_dir(&dir).map_err(|source| io(&dir, source))? {
        let path = entry.map_err(|source| io(&dir, source))?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == "json")
            && path.file_name().is_some_and(|name| name != KEYS)
        {
            files.push(path);
        }
    }
    files.sort();
    let mut all = Vec::new();
    for path in files {
        all.extend(load_file(&dir, &path, &keys)?);
    }
    Ok(all)
}

fn load_file(
    dir: &Path,
    path: &Path,
    keys: &BTreeMap<String, Key>,
) -> Result<Vec<Lowered>, VectorFault> {
    let stem = path
        .file_stem()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let file: File = read_json(path)?;
    let policy_path = dir.join(&file.policy);
    let policy_json: Arc<str> = read(&policy_path)?.into();
    let policy_file: Arc<str> = file.policy.as_str().into();
    let models = lower::models(&read_json(&policy_path)?);
    let mut names = BTreeSet::new();
    let mut all = Vec::new();
    for case in &file.cases {
        let id = format!("{stem}/{}", case.name);
        let fault = |message: String| VectorFault::Case {
            id: id.clone(),
            message,
        };
        if !names.insert(&case.name) {
            return Err(fault("the name is taken".into()));
        }
        if case.repeat == 0 || case.chunks == Some(0) {
            return Err(fault("repeat and chunks are at least 1".into()));
        }
        let expect = lower::expect(&case.expect).map_err(fault)?;
        let shadow = lower::shadow(&case.expect).map_err(fault)?;
        let only = lower::drivers(case).map_err(fault)?;
        let client = case
            .key
            .as_ref()
            .and_then(|name| keys.get(name))
            .and_then(|key| key.client.clone())
            .or_else(|| case.token.as_ref()?.client.clone());
        for (spelling, mut request) in lower::requests(case, keys, &models).map_err(fault)? {
            if let Some(coding) = case.coding {
                coding.apply(&mut request).map_err(fault)?;
            }
            all.push(Lowered {
                id: spelling.map_or_else(|| id.clone(), |spelling| format!("{id} [{spelling}]")),
                policy_file: Arc::clone(&policy_file),
                policy_json: Arc::clone(&policy_json),
                now_unix_s: file.now,
                client: client.clone(),
                request,
                repeat: case.repeat,
                used: case.used,
                expect: lower::of_route(expect.clone(), spelling),
                shadow: shadow.clone(),
                headers: case.expect.headers.clone(),
                only: only.clone(),
            });
        }
    }
    Ok(all)
}

fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, VectorFault> {
    serde_json::from_str(&read(path)?).map_err(|source| VectorFault::Json {
        path: path.display().to_string(),
        source,
    })
}

fn read(path: &Path) -> Result<String, VectorFault> {
    std::fs::read_to_string(path).map_err(|source| io(path, source))
}

fn io(path: &Path, source: std::io::Error) -> VectorFault {
    VectorFault::Io {
        path: path.display().to_string(),
        source,
    }
}
