//! `tensorgate-bench`: one interleaved run of every scenario that has a target, and a report of the
//! results.

mod admin;
mod child;
mod cores;
mod figures;
mod host;
mod kernel;
mod lab;
mod load;
mod models;
mod outcome;
mod peers;
mod policy;
mod project;
mod proxy;
mod race;
mod report;
mod scenario;
mod script;
mod serve;
mod targets;
mod tls;
mod tokens;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use cores::CoreSet;
use lab::Lab;
use outcome::{Outcome, failure};
use report::Report;
use scenario::SCENARIOS;

/// Measures tensorgate against its peers on this machine.
///
/// Example: tensorgate-bench --only small --filters target/filters
#[derive(Parser)]
#[command(version, args_conflicts_with_subcommands = true)]
struct Flags {
    /// One round of few requests: whether every scenario works, not how fast.
    #[arg(long)]
    quick: bool,
    /// Only scenarios whose name holds this text; repeatable.
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// Fail if a target of these scenarios is missed.
    #[arg(long)]
    enforce: bool,
    /// The folder of the filters' modules.
    #[arg(long, default_value = "target/filters")]
    filters: PathBuf,
    /// The folder of the handlers' components.
    #[arg(long, default_value = "target/components")]
    components: PathBuf,
    /// Write the document here.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(subcommand)]
    what: Option<What>,
}

#[derive(Subcommand)]
enum What {
    Serve(serve::Serve),
}

fn main() -> ExitCode {
    let flags = Flags::parse();
    let outcome = match flags.what {
        Some(What::Serve(serve)) => serve.run(),
        None => run(&flags),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tensorgate-bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(flags: &Flags) -> Outcome<()> {
    let lab = Lab::new(flags.filters.clone(), flags.components.clone(), flags.quick)?;
    lab.cores.enter(CoreSet::Load)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let outcome = runtime.block_on(async {
        let mut end = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
        tokio::select! {
            outcome = measure(&lab, flags) => outcome,
            _ = tokio::signal::ctrl_c() => failure("interrupted"),
            _ = end.recv() => failure("interrupted by a signal"),
        }
    });
    match outcome {
        Ok(report) => {
            let document = report.document(&lab);
            if let Some(file) = &flags.out {
                std::fs::write(file, &document)?;
                println!("\nwritten to {}", file.display());
            }
            if let Some(failed) = report.failed() {
                return failure(format!(
                    "some scenarios failed: {failed}; logs and configurations are in {}",
                    lab.run_folder().display()
                ));
            }
            lab.clear();
            match report.missed() {
                Some(missed) if flags.enforce => failure(format!("targets are missed: {missed}")),
                _ => Ok(()),
            }
        }
        Err(error) => failure(format!(
            "{error}\nlogs and configurations are in {}",
            lab.run_folder().display()
        )),
    }
}

async fn measure(lab: &Lab, flags: &Flags) -> Outcome<Report> {
    let mut report = Report::default();
    let chosen = |name: &str| {
        flags.only.is_empty() || flags.only.iter().any(|text| name.contains(text.as_str()))
    };
    let mut ran = 0_usize;
    for (name, scenario) in SCENARIOS {
        if !chosen(name) {
            continue;
        }
        ran = ran.saturating_add(1);
        let started = std::time::Instant::now();
        // A failed scenario does not prevent the others from running.
        if let Err(error) = scenario(lab, &mut report).await {
            eprintln!("{name}: {error}");
            report.fail(name, &lab.without_folders(&error.to_string()));
        }
        eprintln!("{name}: {:.0} s", started.elapsed().as_secs_f64());
    }
    if ran == 0 {
        return failure("no scenario has that name");
    }
    Ok(report)
}
