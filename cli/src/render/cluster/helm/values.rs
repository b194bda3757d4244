//! The default values of a chart, and the schema of what each may be.

use serde_json::{Value, json};

use super::{missing, sizes};
use crate::render::Unrenderable;
use crate::render::cluster::kubernetes::Kubernetes;
use crate::render::cluster::names::{Image, Namespace};
use crate::render::cluster::network::labels;
use crate::render::cluster::workload::HandlerSource;
use crate::render::node::{Node, map};

/// What values may be.
pub(super) const SCHEMA: &str = include_str!("../chart/values.schema.json");
/// Value with further labels of the pods.
pub(super) const POD_LABELS: &str = "podLabels";
/// Value with further annotations of the pods.
pub(super) const POD_ANNOTATIONS: &str = "podAnnotations";

/// `values.yaml`: what `render kubernetes` would write with the same options.
pub(super) fn values(gate: &Kubernetes) -> String {
    let workload = &gate.workload;
    let namespace = |label: Option<&Namespace>| Node::from(label.map_or("", Namespace::as_str));
    let model_namespace = &workload.model_namespace;
    let elsewhere = (*model_namespace != workload.namespace).then_some(model_namespace);
    let mut sections = vec![
        (
            "Images, each pinned by its digest.",
            map! {"images" => map! {
                "envoy" => image(&gate.envoy_image),
                "host" => image(&workload.host_image),
            }},
        ),
        ("Number of pods.", map! {"replicas" => workload.replicas}),
        (
            "Secrets with the context key, and with the files that the policy names.",
            map! {"secrets" => map! {
                "context" => workload.context_secret.as_str(),
                "files" => workload.files_secret.as_str(),
            }},
        ),
        (
            "Namespace of the clients. If empty, every pod of the cluster may connect.",
            map! {"clientsFrom" => namespace(gate.clients_from.as_ref())},
        ),
        (
            "Namespace whose pods may read metrics. If empty, none may.",
            map! {"metricsFrom" => namespace(workload.metrics_from.as_ref())},
        ),
        (
            "Labels of the model servers' pods, which only the gate reaches then.",
            map! {"modelServers" => map! {
                "labels" => labels(&workload.model_servers),
                "namespace" => namespace(elsewhere),
            }},
        ),
        (
            "Ports of the pods behind the model servers and the other servers of the policy.",
            map! {"podPorts" => workload.pod_ports.values()},
        ),
    ];
    if let Some(source) = &workload.handlers {
        let source = match source {
            HandlerSource::Image(reference) => {
                map! {"image" => image(reference), "claim" => ""}
            }
            HandlerSource::Claim(claim) => map! {"claim" => claim.as_str()},
        };
        sections.push((
            "Volume with the policy's components. A claim is used instead of the image.",
            map! {"handlers" => source},
        ));
    }
    let options = &workload.pod_options;
    let further = map! {POD_LABELS => options.labels(), POD_ANNOTATIONS => options.annotations()};
    sections.push((
        "Where the pods run, and credentials for their images, as in the spec of a pod.",
        Node::Map(options.fields()),
    ));
    sections.push(("Further labels and annotations of the pods.", further));
    sections.push((
        "Resources of the containers. Threads follow the processors that are asked for, and so\n# does memory where it is not set. A limit that is too low for them is refused.",
        map! {"resources" => sizes::values(workload.sizes)},
    ));
    let mut text = "# Values of the chart. values.schema.json says what each may be.\n".to_owned();
    for (comment, section) in sections {
        text.push_str(&format!("\n# {comment}\n{}", section.to_yaml()));
    }
    text
}

/// `values.schema.json`. Only a policy with components has a volume for them, and only ports of
/// servers that the policy names can be replaced. The limits of a policy that is divided are
/// right for one number of pods.
pub(super) fn schema(gate: &Kubernetes, divided_by: Option<u32>) -> Result<String, Unrenderable> {
    let failed = |error: serde_json::Error| Unrenderable::Other(error.to_string());
    let mut schema: Value = serde_json::from_str(SCHEMA).map_err(failed)?;
    if let Some(pods) = divided_by {
        let replicas = schema.pointer_mut("/properties/replicas");
        *replicas.ok_or_else(|| missing("replicas in the schema"))? = json!({
            "description": "Limits with local_share are divided by this number of pods. For another number render again, with --replicas. No autoscaler may change it.",
            "const": pods,
        });
    }
    let workload = &gate.workload;
    demand(&mut schema, "handlers", workload.handlers.is_some())?;
    let ports = schema.pointer_mut("/properties/podPorts");
    let ports = ports.ok_or_else(|| missing("podPorts in the schema"))?;
    demand(ports, "models", workload.pod_ports.to_models().is_some())?;
    demand(ports, "others", workload.pod_ports.to_others().is_some())?;
    let mut text = serde_json::to_string_pretty(&schema).map_err(failed)?;
    text.push('\n');
    Ok(text)
}

/// Makes a field of an object's schema a required one, or removes it.
fn demand(schema: &mut Value, field: &str, required: bool) -> Result<(), Unrenderable> {
    let done = if required {
        let list = schema.get_mut("required").and_then(Value::as_array_mut);
        list.map(|list| list.push(field.into()))
    } else {
        let fields = schema.get_mut("properties").and_then(Value::as_object_mut);
        fields.and_then(|fields| fields.remove(field).map(drop))
    };
    done.ok_or_else(|| missing(&format!("{field} in the schema")))
}

/// The default value for an image.
fn image(image: &Image) -> Node {
    map! {"repository" => image.repository(), "digest" => image.algorithm_and_digest()}
}
