//! What is in each image: its files, and how it is started.
//!
//! The image of the filter has the "compat" layout of the Wasm image specification (solo-io/wasm,
//! spec-compat): one layer in the standard media type, with the module as `plugin.wasm`. Istio's
//! agent (istio/istio, extractOCIStandardImage in pkg/wasm/imagefetcher.go) and Envoy Gateway
//! (envoyproxy/gateway, the same function in internal/wasm/imagefetcher.go) both read the last
//! layer of an OCI manifest. Its type must be `application/vnd.oci.image.layer.v1.tar+gzip`, and
//! they take the first `plugin.wasm` in it. Both also read the specification's other layout, but
//! that one has media types of its own, which not every registry accepts.

use tensorgate_cli_common::oci_layout::{Annotations, TITLE, VERSION};

use super::layer::Layer;
use super::program::architecture;
use super::release::{BUILTINS, Release};
use super::{ImageError, Name};

/// The user and group of a container, as name and number.
const USER: &str = "tensorgate";
const USER_ID: u32 = 65_532;
/// Modes. All files and folders belong to root, so a container cannot change them.
const PROGRAM: u32 = 0o755;
const FILE: u32 = 0o644;
const FOLDER: u32 = 0o755;
/// Mode of a folder for everyone's temporary files.
const TEMPORARY: u32 = 0o1777;
/// Folder of the programs.
const PROGRAMS: &str = "usr/local/bin";
/// The filter in a release, and in the image of the host.
const MODULE: &str = "filters/gate.wasm";
/// The filter as a native module, in a release and in the image of the host.
const NATIVE_MODULE: &str = "filters/libtensorgate_gate.so";
/// The filter's name in its own image. Source: Wasm image specification, compat variant.
const PLUGIN: &str = "plugin.wasm";
/// The annotation that the compat variant must have.
const VARIANT: (&str, &str) = ("module.wasm.image/variant", "compat");
/// The start of a module: magic number and version 1. A component has another version.
const MODULE_START: &[u8] = b"\0asm\x01\0\0\0";
/// Annotations that only these images have.
const DESCRIPTION: &str = "org.opencontainers.image.description";
const LICENSES: &str = "org.opencontainers.image.licenses";
/// Texts that must accompany the programs.
const LICENCES: [&str; 2] = ["LICENSE", "THIRD-PARTY-LICENCES.txt"];

/// What an image holds, before it is packed.
pub struct Contents {
    /// Its files.
    pub layer: Layer,
    /// The processor and system as Go names them, which is what OCI asks for.
    pub architecture: &'static str,
    /// See `architecture`.
    pub os: &'static str,
    /// How a container starts; none for the filter.
    pub start: Option<Start>,
    /// What the image says about itself.
    pub annotations: Annotations,
}

/// How a container starts.
pub struct Start {
    /// Path of the program.
    pub entrypoint: &'static str,
    /// The folder in which it starts.
    pub working_folder: &'static str,
}

impl Start {
    /// The numbers of user and group: Kubernetes checks `runAsNonRoot` only for a number.
    pub fn user() -> String {
        format!("{USER_ID}:{USER_ID}")
    }

    /// The search path.
    pub fn environment() -> String {
        format!("PATH=/{PROGRAMS}")
    }
}

/// Collects what an image of a release holds.
///
/// # Errors
/// A file of the release cannot be used.
pub fn contents(release: &Release, name: Name, version: &str) -> Result<Contents, ImageError> {
    match name {
        Name::Filter => filter(release, version),
        Name::Host => host(release, version),
        Name::Command => command(release, version),
        Name::Model => model(release, version),
    }
}

fn filter(release: &Release, version: &str) -> Result<Contents, ImageError> {
    let mut layer = Layer::default();
    layer.file(PLUGIN, FILE, module(release)?);
    let mut annotations = annotations(
        "tensorgate filter",
        "The tensorgate filter for Envoy, a proxy-wasm module",
        version,
    );
    let (variant, compat) = VARIANT;
    annotations.insert(variant, compat.to_owned());
    Ok(Contents {
        layer,
        architecture: "wasm",
        os: "wasip1",
        start: None,
        annotations,
    })
}

fn host(release: &Release, version: &str) -> Result<Contents, ImageError> {
    let (mut layer, architecture) = base(release, &["tensorgate-host"])?;
    // The host looks for the folder even if a release has no bundled handler.
    layer.folder(&format!("{PROGRAMS}/{BUILTINS}"), FOLDER);
    for builtin in release.builtins() {
        let path = format!("{PROGRAMS}/{builtin}");
        layer.file(&path, FILE, release.read(builtin)?);
    }
    layer.file(MODULE, FILE, module(release)?);
    let native = release.read(NATIVE_MODULE)?;
    same_processor(release, NATIVE_MODULE, &native, &mut Some(architecture))?;
    layer.file(NATIVE_MODULE, FILE, native);
    Ok(Contents {
        layer,
        architecture,
        os: "linux",
        start: Some(Start {
            entrypoint: "/usr/local/bin/tensorgate-host",
            working_folder: "/",
        }),
        annotations: annotations(
            "tensorgate host",
            "The tensorgate sandbox host with the bundled handlers and the filter",
            version,
        ),
    })
}

fn command(release: &Release, version: &str) -> Result<Contents, ImageError> {
    let programs = ["tensorgate", "tensorgate-handler", "tensorgate-model"];
    Ok(in_work_folder(
        base(release, &programs)?,
        "/usr/local/bin/tensorgate",
        annotations(
            "tensorgate",
            "The tensorgate command, which checks and renders policies",
            version,
        ),
    ))
}

fn model(release: &Release, version: &str) -> Result<Contents, ImageError> {
    Ok(in_work_folder(
        base(release, &["tensorgate-model"])?,
        "/usr/local/bin/tensorgate-model",
        annotations(
            "tensorgate model",
            "The tensorgate program that scans, signs, verifies and copies models",
            version,
        ),
    ))
}

/// An image whose program starts in a folder for files of the user.
fn in_work_folder(
    (mut layer, architecture): (Layer, &'static str),
    entrypoint: &'static str,
    annotations: Annotations,
) -> Contents {
    layer.folder("work", FOLDER);
    Contents {
        layer,
        architecture,
        os: "linux",
        start: Some(Start {
            entrypoint,
            working_folder: "/work",
        }),
        annotations,
    }
}

/// A layer with these programs, the user, a folder for temporary files and the licences, and the
/// processor of the programs.
fn base(release: &Release, programs: &[&str]) -> Result<(Layer, &'static str), ImageError> {
    let mut layer = Layer::default();
    let mut processor = None;
    for name in programs {
        let program = release.read(name)?;
        same_processor(release, name, &program, &mut processor)?;
        layer.file(&format!("{PROGRAMS}/{name}"), PROGRAM, program);
    }
    let user = format!("{USER}:x:{USER_ID}:{USER_ID}:{USER}:/nonexistent:/sbin/nologin\n");
    layer.file("etc/passwd", FILE, user.into_bytes());
    let group = format!("{USER}:x:{USER_ID}:\n");
    layer.file("etc/group", FILE, group.into_bytes());
    layer.folder("tmp", TEMPORARY);
    for text in LICENCES {
        let path = format!("usr/share/doc/tensorgate/{text}");
        layer.file(&path, FILE, release.read(text)?);
    }
    Ok((layer, processor.unwrap_or_default()))
}

/// Checks that a file is for the processor of those before it, if there are any.
fn same_processor(
    release: &Release,
    name: &str,
    content: &[u8],
    processor: &mut Option<&'static str>,
) -> Result<(), ImageError> {
    let file = || release.path_of(name);
    let found = architecture(content).map_err(|fault| ImageError::Program {
        file: file(),
        fault,
    })?;
    let first = *processor.get_or_insert(found);
    if first == found {
        return Ok(());
    }
    Err(ImageError::Mixed {
        file: file(),
        found,
        first,
    })
}

/// The filter.
fn module(release: &Release) -> Result<Vec<u8>, ImageError> {
    let module = release.read(MODULE)?;
    if module.starts_with(MODULE_START) {
        Ok(module)
    } else {
        Err(ImageError::Module(release.path_of(MODULE)))
    }
}

fn annotations(title: &str, description: &str, version: &str) -> Annotations {
    Annotations::from([
        (TITLE, title.to_owned()),
        (DESCRIPTION, description.to_owned()),
        (VERSION, version.to_owned()),
        (LICENSES, env!("CARGO_PKG_LICENSE").to_owned()),
    ])
}
