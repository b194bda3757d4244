//! Builds OCI images of a release: the filter, the host, the command, and the program for models.
//!
//! An image depends on the files of the release and on one time, never on the machine that builds
//! it. Nothing is sent anywhere.

mod contents;
mod layer;
pub mod output;
mod program;
mod release;
mod sbom;

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use tensorgate_base::rfc3339::rfc3339;
use tensorgate_cli_common::oci_layout::{Annotations, Layout};

use contents::{Contents, Start, contents};
use layer::Packed;
use program::ProgramFault;
use release::{Release, ReleaseError};
use sbom::SbomFault;

/// Media type of an image's configuration.
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
/// What wrote an image.
const CREATED_BY: &str = "tensorgate image build";
/// The latest time of a file in Unix seconds: eleven octal digits. Source: POSIX, ustar.
pub const MAX_TIME_S: u64 = 0o77_777_777_777;

/// An image of a release.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Name {
    /// The Envoy filter, for Istio and Envoy Gateway.
    Filter,
    /// The sandbox host with the bundled handlers.
    Host,
    /// `tensorgate`, `tensorgate-handler` and `tensorgate-model`.
    Command,
    /// `tensorgate-model` alone, for pipelines and init containers.
    Model,
}

impl Name {
    /// All images.
    pub const ALL: [Self; 4] = [Self::Filter, Self::Host, Self::Command, Self::Model];

    /// The name, which is also that of the layout's folder.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Filter => "filter",
            Self::Host => "host",
            Self::Command => "command",
            Self::Model => "model",
        }
    }
}

/// Why images cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// A file of the release cannot be used.
    #[error(transparent)]
    Release(#[from] ReleaseError),
    /// A program does not run in an image.
    #[error("{} {fault}", file.display())]
    Program {
        /// The program.
        file: PathBuf,
        /// What is wrong with it.
        fault: ProgramFault,
    },
    /// Two programs of an image are for different processors.
    #[error("{} is for {found}, another program of the image for {first}", file.display())]
    Mixed {
        /// The second program.
        file: PathBuf,
        /// Its processor.
        found: &'static str,
        /// That of the first program.
        first: &'static str,
    },
    /// The filter is not a WebAssembly module.
    #[error("{} is not a WebAssembly module", .0.display())]
    Module(PathBuf),
    /// The SBOM cannot be used.
    #[error("{} {fault}", file.display())]
    Sbom {
        /// The document.
        file: PathBuf,
        /// What is wrong with it.
        fault: SbomFault,
    },
    /// The files cannot be packed.
    #[error("cannot pack the layer of an image: {0}")]
    Layer(#[from] io::Error),
    /// A manifest or configuration cannot be written.
    #[error("cannot write a manifest as JSON: {0}")]
    Json(#[from] serde_json::Error),
}

/// An image in a layout of its own.
#[derive(Debug)]
pub struct Image {
    /// Which it is.
    pub name: Name,
    /// Its layout, with the SBOM.
    pub layout: Layout,
    /// Digest of its manifest, by which it is pulled.
    pub digest: String,
    /// Bytes that are pulled: manifest, configuration and layer.
    pub bytes: u64,
}

/// An image's configuration.
#[derive(Serialize)]
struct Config<'c> {
    created: &'c str,
    architecture: &'static str,
    os: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    config: Option<Execution<'c>>,
    rootfs: RootFs<'c>,
    history: [History<'c>; 1],
}

/// The part of it that a container is started with.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Execution<'c> {
    user: String,
    env: [String; 1],
    entrypoint: [&'static str; 1],
    working_dir: &'static str,
    labels: &'c Annotations,
}

#[derive(Serialize)]
struct RootFs<'c> {
    #[serde(rename = "type")]
    kind: &'static str,
    diff_ids: [&'c str; 1],
}

#[derive(Serialize)]
struct History<'c> {
    created: &'c str,
    created_by: &'static str,
}

/// Builds images of the release in a folder. All their times are this one, in Unix seconds.
///
/// # Errors
/// A file of the release cannot be used.
pub fn build(folder: &Path, names: &[Name], time_s: u64) -> Result<Vec<Image>, ImageError> {
    let release = Release::open(folder)?;
    let sbom = release.read(sbom::FILE)?;
    let version = sbom::version(&sbom).map_err(|fault| ImageError::Sbom {
        file: release.path_of(sbom::FILE),
        fault,
    })?;
    names
        .iter()
        .map(|name| {
            let contents = contents(&release, *name, &version)?;
            assemble(*name, contents, &version, &sbom, time_s)
        })
        .collect()
}

fn assemble(
    name: Name,
    contents: Contents,
    version: &str,
    sbom: &[u8],
    time_s: u64,
) -> Result<Image, ImageError> {
    let Contents {
        layer,
        architecture,
        os,
        start,
        annotations,
    } = contents;
    let Packed { gzip, diff_id } = layer.pack(time_s)?;
    let time = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(time_s));
    let created = rfc3339(time.unwrap_or(SystemTime::UNIX_EPOCH));
    let config = serde_json::to_vec(&Config {
        created: &created,
        architecture,
        os,
        config: start.map(|start| Execution {
            user: Start::user(),
            env: [Start::environment()],
            entrypoint: [start.entrypoint],
            working_dir: start.working_folder,
            labels: &annotations,
        }),
        rootfs: RootFs {
            kind: "layers",
            diff_ids: [&diff_id],
        },
        history: [History {
            created: &created,
            created_by: CREATED_BY,
        }],
    })?;
    let mut layout = Layout::default();
    let config = layout.add(CONFIG, config);
    let layer = layout.add(layer::MEDIA_TYPE, gzip);
    let blobs_bytes = config.size().saturating_add(layer.size());
    let image = layout.add_image(version, config, layer, annotations)?;
    // Only the image has a tag, so that no copy of a tag takes the SBOM for it.
    let document = layout.add(sbom::MEDIA_TYPE, sbom.to_vec());
    layout.add_referrer(
        None,
        sbom::MEDIA_TYPE,
        document.with_title(sbom::FILE),
        &image,
    )?;
    Ok(Image {
        name,
        digest: image.digest().to_owned(),
        bytes: blobs_bytes.saturating_add(image.size()),
        layout,
    })
}
