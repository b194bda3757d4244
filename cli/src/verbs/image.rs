//! The `image` verb: writes a release as OCI images.

use std::path::PathBuf;

use clap::{Args, Subcommand, value_parser};
use tensorgate_cli_common::Failure;
use tensorgate_cli_common::ui::Ui;

use crate::image::output::{Output, OutputError, digests};
use crate::image::{ImageError, MAX_TIME_S, Name, build};

/// Write a release as OCI images.
#[derive(Args)]
pub struct Image {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    Build(Build),
}

/// Write the filter, the host, the command and the program for models of a release as OCI image
/// layouts, which `skopeo` or `oras` copies to a registry.
///
/// The folder gets one layout for each image, tagged with the release's version and with the
/// release's SBOM attached, and images.json with the digests. Files are compared with the release's
/// SHA256SUMS before they are used.
#[derive(Args)]
#[command(
    after_help = "Nothing is sent anywhere. The same release and time give the same digests on every machine.\n\n\
Example: tensorgate image build --release tensorgate-0.1.0-x86_64-linux -o images && \
skopeo copy --preserve-digests oci:images/host:0.1.0 docker://registry.example.com/tensorgate/host:0.1.0"
)]
struct Build {
    /// The folder that a release's archive unpacks to.
    #[arg(long, value_name = "DIR")]
    release: PathBuf,
    /// Folder of the layouts. An earlier output is replaced as a whole; any other folder must be
    /// empty or new.
    #[arg(short, long, value_name = "DIR")]
    output: PathBuf,
    /// The images to write.
    #[arg(
        long,
        value_name = "IMAGES",
        value_enum,
        value_delimiter = ',',
        default_values_t = Name::ALL
    )]
    only: Vec<Name>,
    /// Time of the images and their files, in seconds since 1970.
    #[arg(
        long,
        env = "SOURCE_DATE_EPOCH",
        hide_env_values = true,
        value_name = "SECONDS",
        default_value_t = 0,
        value_parser = value_parser!(u64).range(..=MAX_TIME_S)
    )]
    time: u64,
}

impl Image {
    /// Runs the selected verb.
    pub fn run(self, ui: &Ui) -> Result<(), Failure> {
        let What::Build(build) = self.what;
        build.run(ui)
    }
}

impl Build {
    fn run(self, ui: &Ui) -> Result<(), Failure> {
        let Self {
            release,
            output,
            mut only,
            time,
        } = self;
        only.sort_unstable();
        only.dedup();
        let output = Output::check(&output).map_err(output_failure)?;
        let images = build(&release, &only, time).map_err(image_failure)?;
        output.write(&images).map_err(output_failure)?;
        if ui.json {
            ui.json_line(&digests(&images));
            return Ok(());
        }
        for image in &images {
            ui.line(&format!(
                "{} {} {} bytes",
                image.name.as_str(),
                image.digest,
                image.bytes
            ));
        }
        Ok(())
    }
}

fn image_failure(error: ImageError) -> Failure {
    match error {
        ImageError::Layer(_) | ImageError::Json(_) => Failure::Failed(error.to_string()),
        ImageError::Release(_)
        | ImageError::Program { .. }
        | ImageError::Mixed { .. }
        | ImageError::Module(_)
        | ImageError::Sbom { .. } => Failure::Input(error.to_string()),
    }
}

fn output_failure(error: OutputError) -> Failure {
    match error {
        OutputError::Write { .. } => Failure::Failed(error.to_string()),
        OutputError::Nameless(_) | OutputError::Foreign(_) => Failure::Input(error.to_string()),
    }
}
