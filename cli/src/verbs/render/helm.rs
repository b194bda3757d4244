//! `render helm`: a policy as a Helm chart.

use clap::Args;
use tensorgate_base::shell::quoted;
use tensorgate_cli_common::Failure;
use tensorgate_cli_common::ui::Ui;
use tensorgate_policy_load::load::Loaded;

use super::cluster::{Kubernetes, own_pods};
use crate::render::cluster::needs::Needs;
use crate::render::cluster::{helm, kubernetes};
use crate::render::source_record::SourceRecord;

/// The objects of `render kubernetes` as a Helm chart.
///
/// The options become the chart's default values. The policy is in files of the chart: another
/// policy is another version of it. Nothing secret is written.
#[derive(Args)]
#[command(
    after_help = "Example: tensorgate render helm gate.yaml -o chart --model-server app=triton \\\n  --host-image registry.example.com/tensorgate/host@sha256:DIGEST --envoy-image envoyproxy/envoy@sha256:DIGEST"
)]
pub struct Helm {
    #[command(flatten)]
    pub gate: Kubernetes,
}

impl Helm {
    /// Renders the policy.
    pub fn run(self, ui: &Ui, loaded: Loaded) -> Result<(), Failure> {
        self.gate.check_release()?;
        let Kubernetes {
            cluster,
            envoy_image,
            driver,
            clients_from,
            monitoring,
        } = self.gate;
        let Some(folder) = &cluster.output else {
            let cause = "a chart is a folder: name it with -o DIR";
            return Err(Failure::Input(cause.to_owned()));
        };
        let record = SourceRecord::of_this_run(&loaded);
        let rendered = cluster.render(loaded, |workload, loaded| {
            let gate = kubernetes::Kubernetes {
                workload,
                envoy_image,
                driver,
                clients_from,
                monitoring: monitoring.objects(),
            };
            let target = helm::Helm { gate };
            // The objects with the default values.
            let needs = Needs::of(&target.gate.render(loaded)?, None);
            let steps = own_pods(&needs, &target.gate.workload, &loaded.version.policy);
            Ok((target.render(loaded)?, steps))
        })?;
        let Some((chart, mut steps)) = rendered else {
            return Ok(());
        };
        chart.write(folder)?;
        record.write(folder)?;
        let (name, namespace) = (&cluster.name, &cluster.namespace);
        let install = format!(
            "helm install {name} {} --namespace {namespace} --create-namespace",
            quoted(folder)
        );
        steps.begin("Install the chart", install);
        steps.print_of_folder(ui, folder, chart.file_count());
        Ok(())
    }
}
