//! The `handler inspect` verb: a component's imports and exports, and whether the host accepts it.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use tensorgate_base::payload::Role;
use tensorgate_cli_common::Failure;
use tensorgate_cli_common::ui::{Ui, printable};
use tensorgate_componentize::{Surface, surface};
use tensorgate_policy::hex;
use tensorgate_policy::values::LookupKind;
use tensorgate_policy_compiler::raw;

use crate::configure::{Origin, origin};
use crate::project::{Grants, Limits, World, component_at, read_component, rule};
use crate::steps::step;
use crate::{runner, wit_version};

/// The interface that requires `fetch:` in the policy.
const FETCH: &str = "tensorgate:handler/fetch@";

/// The interface that requires `lookups:` in the policy.
const LOOKUP: &str = "tensorgate:handler/lookup@";

/// Interfaces by name prefix, longest prefix first, with a description of what they allow a
/// component to do. The sandbox grants a handler only its own interfaces.
const KNOWN: [(&str, &str); 25] = [
    (
        "integrity=<",
        "the code of the runtime for Python with this SHA-256",
    ),
    ("tensorgate:runtime/", "the library of that runtime"),
    (
        "tensorgate:handler/types@",
        "type definitions without functions",
    ),
    (
        "tensorgate:handler/config@",
        "the policy's `config:` entries",
    ),
    (
        "tensorgate:handler/log@",
        "bounded lines in the operator's log",
    ),
    (
        "tensorgate:handler/errors@",
        "type definitions without functions",
    ),
    (
        "tensorgate:handler/context@",
        "the request: its client, model, time, listed parameters and dimensions",
    ),
    (
        "tensorgate:handler/carry@",
        "bytes for later handlers of the same request",
    ),
    (
        FETCH,
        "files that the host fetches, from hosts that the policy allows",
    ),
    (
        LOOKUP,
        "features that the host looks up, from services that the policy allows",
    ),
    ("wasi:filesystem/", "files, of which a handler has none"),
    ("wasi:sockets/", "to open network connections"),
    ("wasi:http/", "to send and answer HTTP requests"),
    ("wasi:tls/", "to open network connections"),
    ("wasi:clocks/", "the time of the request"),
    ("wasi:random/", "random numbers from a seed of the request"),
    (
        "wasi:cli/environment@",
        "arguments and an environment, which are empty",
    ),
    ("wasi:cli/exit@", "to end the call"),
    (
        "wasi:cli/",
        "standard streams: bounded lines in the operator's log",
    ),
    ("wasi:io/", "to write to the standard streams"),
    ("wasi:keyvalue/", "to keep data from one call to the next"),
    ("wasi:blobstore/", "to keep data from one call to the next"),
    ("wasi:config/", "the host's own configuration"),
    ("wasi:nn/", "the host's models and devices"),
    (
        "wasi_snapshot_preview1#",
        "files, sockets, clocks, random numbers and the environment",
    ),
];

/// Show what a component imports and exports, what each import allows, and whether the host accepts
/// the component.
#[derive(Args)]
#[command(
    after_help = "Exit codes: 0 the host accepts it, 1 it does not, 2 no such file.\n\nExample: tensorgate handler inspect scale/build/scale.wasm"
)]
pub struct Inspect {
    /// Component file, project folder, or `builtin:NAME`.
    #[arg(default_value = ".")]
    component: PathBuf,
}

#[derive(Serialize)]
struct Report {
    component: String,
    bytes: usize,
    sha256: String,
    imports: Vec<Import>,
    exports: Vec<String>,
    /// Grants that the host requires in the policy.
    needs: Vec<&'static str>,
    accepted: bool,
    why_not: Option<String>,
    /// The component's own record of its configuration.
    configured: Option<Origin>,
}

#[derive(Serialize)]
struct Import {
    name: String,
    authority: &'static str,
    given: bool,
}

impl Inspect {
    /// Inspects the component.
    pub fn run(self, ui: &Ui) -> Result<(), Failure> {
        let file = component_at(&self.component)?;
        let bytes = read_component(&file).map_err(Failure::Input)?;
        let surface = surface(&bytes).map_err(|fault| {
            Failure::Input(format!("{} is not WebAssembly: {fault}", file.display()))
        })?;
        let why_not = step(
            ui,
            "compiling the component",
            "up to a minute, and once",
            || Ok(refusal(&surface, &bytes)),
        )?;
        let foreign = surface.foreign();
        let imports = surface.imports.iter().map(|name| Import {
            authority: authority(name),
            given: !foreign.contains(&name.as_str())
                && wit_version::unknown(std::slice::from_ref(name)).is_none(),
            name: name.clone(),
        });
        let report = Report {
            component: file.display().to_string(),
            bytes: bytes.len(),
            sha256: hex(&Sha256::digest(&bytes)),
            imports: imports.collect(),
            exports: surface.exports.clone(),
            needs: needs(&surface),
            accepted: why_not.is_none(),
            why_not,
            configured: origin(&bytes),
        };
        if ui.json {
            ui.json_line(&report);
        } else {
            print(ui, &report);
        }
        if report.accepted {
            Ok(())
        } else {
            Err(Failure::No)
        }
    }
}

/// Why the host would reject the component, in the host's own words where possible.
fn refusal(surface: &Surface, bytes: &[u8]) -> Option<String> {
    if !surface.component {
        return Some("it is a core module, not a component".to_owned());
    }
    let world = [World::Preprocess, World::Postprocess]
        .into_iter()
        .find(|world| surface.exports.iter().any(|name| name == world.name()));
    // A component that exports neither function is reported as lacking the first.
    let role = world.map_or(Role::Preprocess, World::role);
    let limits = Limits {
        // The largest value that a policy allows; `test` checks the project's own limit.
        memory_bytes: Some(raw::ByteSize(1 << 30)),
        ..Limits::default()
    };
    let config = std::collections::BTreeMap::new();
    // All required grants are assumed.
    let needs = needs(surface);
    let lookup = raw::Lookup {
        kind: Some(LookupKind::Rest),
        endpoint: Some("https://example.com:443".to_owned()),
        path: Some("/{key}".to_owned()),
        features: vec!["any".to_owned()],
        ..raw::Lookup::default()
    };
    let grants = Grants {
        fetch: needs.contains(&"fetch").then(|| raw::Fetch {
            hosts: vec!["example.com".to_owned()],
            ..raw::Fetch::default()
        }),
        lookups: (needs.contains(&"lookups"))
            .then(|| ("any".to_owned(), lookup))
            .into_iter()
            .collect(),
    };
    let rule = match rule(
        "component",
        limits,
        &config,
        Vec::new(),
        &grants,
        &Sha256::digest(bytes).into(),
    ) {
        Ok(rule) => rule,
        Err(fault) => return Some(fault),
    };
    let loaded = runner::sandbox().and_then(|sandbox| {
        let loaded = sandbox.load("component", &rule, role, bytes);
        loaded.map(drop).map_err(|fault| fault.to_string())
    });
    loaded.err()
}

/// The grants that the component's imports require.
fn needs(surface: &Surface) -> Vec<&'static str> {
    [(FETCH, "fetch"), (LOOKUP, "lookups")]
        .into_iter()
        .filter(|(start, _)| surface.imports.iter().any(|name| name.starts_with(start)))
        .map(|(_, grant)| grant)
        .collect()
}

/// Describes what an import allows.
fn authority(import: &str) -> &'static str {
    KNOWN
        .iter()
        .find(|(start, _)| import.starts_with(start))
        .map_or("unknown to this version of tensorgate", |(_, what)| what)
}

fn print(ui: &Ui, report: &Report) {
    let Report {
        component,
        bytes,
        sha256,
        imports,
        exports,
        needs,
        accepted,
        why_not,
        configured,
    } = report;
    ui.line(component);
    ui.line(&format!("  size     {bytes} bytes"));
    ui.line(&format!("  sha256   {sha256}"));
    ui.line(&format!("  exports  {}", printable(&exports.join(", "))));
    if let Some(Origin { sha256, files }) = configured {
        ui.line(&format!(
            "  made of  {}, as the component states",
            printable(sha256)
        ));
        for file in files {
            ui.line(&format!(
                "  with     {}: {} bytes, sha256 {}",
                printable(&file.name),
                file.bytes,
                printable(&file.sha256)
            ));
        }
    }
    if imports.is_empty() {
        ui.line("  imports  nothing");
    }
    for import in imports {
        let mark = if import.given {
            "provided"
        } else {
            "not provided"
        };
        ui.line(&format!(
            "  imports  {}: {} ({mark})",
            printable(&import.name),
            import.authority
        ));
    }
    for grant in needs {
        ui.line(&format!(
            "  needs    {grant}: the policy must grant it with `{grant}:` for this handler"
        ));
    }
    match why_not {
        Some(cause) => ui.line(&format!("  the host rejects it: {}", printable(cause))),
        None if *accepted => ui.line("  the host accepts it"),
        None => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exact_name_comes_before_its_package() {
        for (import, expected) in [
            ("wasi:cli/environment@0.2.9", "environment"),
            ("wasi:cli/stdout@0.2.9", "standard streams"),
            ("wasi:sockets/tcp@0.2.9", "network"),
            ("wasi:filesystem/preopens@0.2.9", "files"),
            ("acme:gpu/device", "unknown to this version"),
        ] {
            assert!(
                authority(import).contains(expected),
                "{import}: {}",
                authority(import)
            );
        }
    }
}
