//! The `handler inspect` verb: a component's imports and exports, and whether the host accepts it.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use tensorgate_componentize::{Surface, surface};
use tensorgate_host::sandbox::Role;
use tensorgate_policy::{hex, raw};

use crate::Failure;
use crate::handler::configure::{Origin, origin};
use crate::handler::project::{Grants, Limits, World, component_at, read_component, rule};
use crate::handler::{authority, runner};
use crate::ui::Ui;

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
        let why_not = refusal(&surface, &bytes);
        let foreign = surface.foreign();
        let imports = surface.imports.iter().map(|name| Import {
            authority: authority::describe(name),
            given: !foreign.contains(&name.as_str()),
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
        kind: Some(raw::LookupKind::Rest),
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
        &grants,
        &Sha256::digest(bytes).into(),
    ) {
        Ok(rule) => rule,
        Err(fault) => return Some(fault),
    };
    let loaded = runner::sandbox()
        .map_err(|error| error.to_string())
        .and_then(|sandbox| {
            let loaded = sandbox.load("component", &rule, role, bytes);
            loaded.map(drop).map_err(|fault| fault.to_string())
        });
    loaded.err()
}

/// The grants that the component's imports require.
fn needs(surface: &Surface) -> Vec<&'static str> {
    [(authority::FETCH, "fetch"), (authority::LOOKUP, "lookups")]
        .into_iter()
        .filter(|(start, _)| surface.imports.iter().any(|name| name.starts_with(start)))
        .map(|(_, grant)| grant)
        .collect()
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
    ui.line(&format!(
        "  exports  {}",
        crate::ui::printable(&exports.join(", "))
    ));
    if let Some(Origin { sha256, files }) = configured {
        ui.line(&format!(
            "  made of  {}, by its own record",
            crate::ui::printable(sha256)
        ));
        for file in files {
            ui.line(&format!(
                "  with     {}: {} bytes, sha256 {}",
                crate::ui::printable(&file.name),
                file.bytes,
                crate::ui::printable(&file.sha256)
            ));
        }
    }
    if imports.is_empty() {
        ui.line("  imports  nothing");
    }
    for import in imports {
        let mark = if import.given { "given" } else { "not given" };
        ui.line(&format!(
            "  imports  {}: {} ({mark})",
            crate::ui::printable(&import.name),
            import.authority
        ));
    }
    for grant in needs {
        ui.line(&format!(
            "  needs    {grant}: the policy must grant it with `{grant}:` for this handler"
        ));
    }
    match why_not {
        Some(cause) => ui.line(&format!(
            "  the host rejects it: {}",
            crate::ui::printable(cause)
        )),
        None if *accepted => ui.line("  the host accepts it"),
        None => {}
    }
}
