//! `tensorgate-embedded`: loads models, listens, prints a readiness line, and serves until SIGTERM
//! or SIGINT.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use tensorgate_embedded::{Address, Limits, Listener, Repository, RequiredDigest, serve};
use tokio::signal::unix::{SignalKind, signal};

/// Serves small ONNX models on the CPU: the Open Inference Protocol over gRPC
#[derive(Parser)]
#[command(
    version,
    after_help = "Example: tensorgate-embedded --models examples/models --listen unix:/run/user/1000/cpu.sock"
)]
struct Options {
    /// The folder of models: <model>/<version>/model.onnx
    #[arg(long)]
    models: PathBuf,
    /// Load a version only if its file has this SHA-256. Repeatable. The bytes that are hashed are
    /// those that are loaded
    #[arg(long = "sha256", value_name = "MODEL/VERSION=SHA256")]
    required: Vec<RequiredDigest>,
    /// unix:/path (mode 0600, removed at exit), or a loopback address:port (port 0: any free port)
    #[arg(long)]
    listen: Address,
    /// Largest message in either direction, bytes
    #[arg(long, default_value_t = Limits::default().message_bytes)]
    message_bytes: usize,
    /// Inferences that run concurrently
    #[arg(long, default_value_t = Limits::default().compute)]
    compute: usize,
    /// Requests in the queue; further ones are rejected
    #[arg(long, default_value_t = Limits::default().queue)]
    queue: usize,
}

fn main() -> ExitCode {
    let options = Options::parse();
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .init();
    match run(options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(cause) => {
            // Exit status 2: the arguments or the models are invalid.
            eprintln!("tensorgate-embedded: {cause}");
            ExitCode::from(2)
        }
    }
}

#[tokio::main]
async fn run(options: Options) -> Result<(), Box<dyn std::error::Error>> {
    let Options {
        models,
        required,
        listen,
        message_bytes,
        compute,
        queue,
    } = options;
    // Before the readiness line, because its reader may send signals at once.
    let (mut terminate, mut interrupt) = (
        signal(SignalKind::terminate())?,
        signal(SignalKind::interrupt())?,
    );
    let required = required.into_iter().collect();
    let repository = Repository::load_verified(&models, &required)?;
    for (name, versions) in repository.models() {
        let versions: Vec<u64> = versions.collect();
        tracing::info!(model = name, ?versions, "loaded");
    }
    let listener = Listener::bind(&listen).await?;
    let mut stdout = std::io::stdout();
    writeln!(
        stdout,
        "tensorgate-embedded ready at {}",
        listener.address()?
    )?;
    stdout.flush()?;
    let shutdown = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    serve(
        listener,
        repository,
        Limits {
            message_bytes,
            compute,
            queue,
        },
        shutdown,
    )
    .await?;
    Ok(())
}
