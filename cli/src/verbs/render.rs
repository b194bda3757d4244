//! The `render` verb: writes a policy as the configuration of another system.

mod cluster;
mod envoy;
mod gateway;
mod helm;
mod istio;
mod next_steps;
mod pods;
mod remote_host;
mod replicas;

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

    /// The options of a target whose proxies may have a load balancer in front. A sidecar refuses a
    /// lockout in any case.
    fn behind_balancer(&self) -> Option<&cluster::Cluster> {
        match self {
            Self::Envoy(_) => None,
            Self::Kubernetes(target) => Some(&target.cluster),
            Self::Helm(target) => Some(&target.gate.cluster),
            Self::Istio(target) if target.is_gateway() => Some(&target.cluster),
            Self::Istio(_) => None,
            Self::Gateway(target) => Some(&target.cluster),
        }
    }

    /// Which proxies count the limits.
    fn proxies(&self) -> Proxies {
        match self {
            Self::Envoy(_) => Proxies::Own,
            Self::Kubernetes(target) => Proxies::OfPods(target.cluster.replicas),
            Self::Helm(target) => Proxies::OfPods(target.gate.cluster.replicas),
            Self::Istio(target) if target.is_gateway() => Proxies::OfGateway,
            Self::Istio(target) => Proxies::OfPods(target.cluster.replicas),
            Self::Gateway(_) => Proxies::OfGateway,
        }
    }
}

/// How many proxies count the limits of a rendered policy.
#[derive(Clone, Copy)]
enum Proxies {
    /// One for each pod that is rendered.
    OfPods(u32),
    /// Those of a gateway, whose number its owner sets.
    OfGateway,
    /// An Envoy that its owner runs, usually once.
    Own,
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
        let faults = target.behind_balancer();
        let faults = faults.and_then(|cluster| cluster.lockout_fault(&loaded.version.policy));
        let loaded = loaded.unless(faults.into_iter().collect())?;
        let (pods, mut notes) = match target.proxies() {
            Proxies::OfPods(pods) => (Some(pods), replicas::notes(&loaded.version.raw, Some(pods))),
            Proxies::OfGateway => {
                let policy = &loaded.version.raw;
                let streaming = replicas::streaming(&loaded.version.policy);
                let mut notes = replicas::notes_on_hosts(policy, &streaming);
                notes.extend(replicas::notes(policy, None));
                (None, notes)
            }
            Proxies::Own => (None, Vec::new()),
        };
        let loaded = loaded.divided(pods)?;
        notes.extend(loaded.divided_by.map(replicas::divided_note));
        match target {
            Target::Envoy(target) => target.run(ui, &loaded),
            Target::Kubernetes(target) => target.run(ui, loaded),
            Target::Istio(target) => target.run(ui, loaded),
            Target::Gateway(target) => target.run(ui, loaded),
            Target::Helm(target) => target.run(ui, loaded),
        }?;
        for note in notes {
            ui.note(&note);
        }
        Ok(())
    }
}
