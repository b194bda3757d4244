//! The `render` verb: writes a policy as the configuration of another system.

mod cluster;
mod envoy;
mod gateway;
mod helm;
mod istio;
mod remote_host;

use std::path::PathBuf;

use clap::{Args, Subcommand};
use tensorgate_cli_common::ui::Ui;
use tensorgate_cli_common::{Failure, policy_file};
use tensorgate_policy_load::load::load;

/// Write a policy as the configuration of another system. The output is deterministic.
#[derive(Args)]
pub struct Render {
    /// Policy file; `gate.yaml` in the current folder by default.
    #[arg(short = 'c', long = "config", value_name = "GATE_YAML", global = true)]
    config: Option<PathBuf>,
    #[command(subcommand)]
    target: Target,
}

#[derive(Subcommand)]
enum Target {
    Envoy(Box<envoy::Envoy>),
    Kubernetes(Box<cluster::Kubernetes>),
    Istio(Box<istio::Istio>),
    Gateway(Box<gateway::Gateway>),
    Helm(Box<helm::Helm>),
}

impl Target {
    /// The policy file that a target's own argument names.
    fn policy(&mut self) -> Option<PathBuf> {
        match self {
            Self::Envoy(target) => target.policy.take(),
            Self::Kubernetes(target) => target.cluster.policy.take(),
            Self::Istio(target) => target.cluster.policy.take(),
            Self::Gateway(target) => target.cluster.policy.take(),
            Self::Helm(target) => target.gate.cluster.policy.take(),
        }
    }
}

impl Render {
    /// Renders the policy.
    pub fn run(self, ui: &Ui) -> Result<(), Failure> {
        let mut target = self.target;
        let named = match (target.policy(), self.config) {
            (Some(_), Some(_)) => {
                return Err(Failure::Input("name one policy, with or without -c".into()));
            }
            (argument, option) => argument.or(option),
        };
        let loaded = load(&policy_file::or_default(named)?)?;
        match target {
            Target::Envoy(target) => target.run(ui, &loaded),
            Target::Kubernetes(target) => target.run(ui, loaded),
            Target::Istio(target) => target.run(ui, loaded),
            Target::Gateway(target) => target.run(ui, loaded),
            Target::Helm(target) => target.run(ui, loaded),
        }
    }
}
