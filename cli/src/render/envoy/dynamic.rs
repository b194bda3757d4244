//! Dynamic configuration: the parts of a policy that can change while Envoy runs.
//!
//! Filters use ECDS, the listener LDS and the clusters CDS. Each has its own file in a folder that
//! Envoy watches.
//!
//! Files are replaced by renaming. Envoy reacts to files moved into the folder, so it never reads a
//! partial file.

use std::path::Path;

use super::{RenderError, text};
use crate::render::node::{Node, list, map};

/// Where a bootstrap keeps the configuration that a policy can change.
#[derive(Clone, Copy, Debug)]
pub enum Form<'a> {
    /// In the bootstrap itself: one file, and a restart for every change.
    Whole,
    /// In files of this folder, as a path on Envoy's machine.
    Watched(&'a Path),
}

/// One of tensorgate's HTTP filters.
#[derive(Clone, Debug, PartialEq)]
pub struct Filter {
    /// Name in the chain, and of the resource.
    pub name: String,
    /// Typed configuration.
    pub typed_config: Node,
}

/// Kind of a resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// All clusters.
    Clusters,
    /// All listeners.
    Listeners,
    /// The filter of this name.
    Filter(String),
}

/// One file that Envoy watches.
#[derive(Clone, Debug, PartialEq)]
pub struct Resource {
    /// Kind of its resources.
    pub kind: Kind,
    /// File name in the folder.
    pub file: String,
    /// Contents for Envoy, without the version.
    resources: Vec<Node>,
    version: String,
}

/// Sorts changes into the order in which Envoy must receive them. A listener must always carry as
/// much of a body as the filters may hold. So a listener that `shrinks` comes after the filters,
/// and any other listener before them.
pub fn in_order<T>(changes: &mut [T], shrinks: bool, kind: impl Fn(&T) -> &Kind) {
    changes.sort_by_key(|change| match kind(change) {
        Kind::Clusters => 0_u8,
        Kind::Listeners if shrinks => 2,
        Kind::Listeners | Kind::Filter(_) => 1,
    });
}

impl Resource {
    /// The file's content: a discovery response.
    pub fn response(&self) -> Node {
        map! {"version_info" => self.version.as_str(), "resources" => self.resources.clone()}
    }

    /// Whether the content is equal, apart from the version.
    pub fn same_content(&self, other: &Self) -> bool {
        (&self.kind, &self.file, &self.resources) == (&other.kind, &other.file, &other.resources)
    }
}

impl Filter {
    /// The filter's entry in the connection manager.
    pub fn entry(&self, form: Form<'_>) -> Result<Node, RenderError> {
        Ok(match form {
            Form::Whole => {
                map! {"name" => self.name.as_str(), "typed_config" => self.typed_config.clone()}
            }
            Form::Watched(folder) => map! {
                "name" => self.name.as_str(),
                "config_discovery" => map! {
                    "config_source" => source(folder, &self.file())?,
                    "type_urls" => list![self.type_url()],
                },
            },
        })
    }

    fn file(&self) -> String {
        format!("ecds-{}.yaml", self.name)
    }

    fn type_url(&self) -> Node {
        match &self.typed_config {
            Node::Map(entries) => entries
                .iter()
                .find(|(key, _)| key == "@type")
                .map_or_else(|| Node::from(""), |(_, url)| url.clone()),
            _ => Node::from(""),
        }
    }
}

/// Resources that no change of the policy changes. They are always in the bootstrap.
#[derive(Debug, Default)]
pub struct Fixed {
    /// Clusters.
    pub clusters: Vec<Node>,
    /// Listeners.
    pub listeners: Vec<Node>,
}

/// Entries of the bootstrap, and the separate resource files.
type Assembled = (Vec<(String, Node)>, Vec<Resource>);

impl Form<'_> {
    /// Adds clusters, listeners and filters to the bootstrap or to separate files.
    pub fn assemble(
        self,
        mut clusters: Vec<Node>,
        mut listeners: Vec<Node>,
        fixed: Fixed,
        filters: impl IntoIterator<Item = Filter>,
        version: &str,
    ) -> Result<Assembled, RenderError> {
        let folder = match self {
            Self::Whole => {
                clusters.extend(fixed.clusters);
                listeners.extend(fixed.listeners);
                let whole = map! {"listeners" => listeners, "clusters" => clusters};
                return Ok((vec![("static_resources".to_owned(), whole)], Vec::new()));
            }
            Self::Watched(folder) => folder,
        };
        let mut files = Vec::new();
        let mut put = |kind, file: &str, resources| {
            files.push(Resource {
                kind,
                file: file.to_owned(),
                resources,
                version: version.to_owned(),
            });
        };
        // New filters may need the new bounds, so clusters and listeners come first unless a bound
        // shrinks ([`in_order`]).
        put(Kind::Clusters, CLUSTERS, typed(CLUSTER_TYPE, clusters));
        put(Kind::Listeners, LISTENERS, typed(LISTENER_TYPE, listeners));
        for filter in filters {
            let resource = map! {
                "@type" => "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig",
                "name" => filter.name.as_str(),
                "typed_config" => filter.typed_config.clone(),
            };
            put(
                Kind::Filter(filter.name.clone()),
                &filter.file(),
                vec![resource],
            );
        }
        let sources = map! {
            "cds_config" => source(folder, CLUSTERS)?,
            "lds_config" => source(folder, LISTENERS)?,
        };
        let mut entries = vec![("dynamic_resources".to_owned(), sources)];
        if !fixed.listeners.is_empty() {
            let fixed = map! {"listeners" => fixed.listeners, "clusters" => fixed.clusters};
            entries.push(("static_resources".to_owned(), fixed));
        }
        Ok((entries, files))
    }
}

/// File of the clusters.
const CLUSTERS: &str = "cds.yaml";
/// File of the listener.
const LISTENERS: &str = "lds.yaml";
const CLUSTER_TYPE: &str = "type.googleapis.com/envoy.config.cluster.v3.Cluster";
const LISTENER_TYPE: &str = "type.googleapis.com/envoy.config.listener.v3.Listener";

fn typed(url: &str, resources: Vec<Node>) -> Vec<Node> {
    let typed = |resource| {
        let mut entries = vec![("@type".to_owned(), Node::from(url))];
        if let Node::Map(rest) = resource {
            entries.extend(rest);
        }
        Node::Map(entries)
    };
    resources.into_iter().map(typed).collect()
}

/// Configuration source for a file in a watched folder.
fn source(folder: &Path, file: &str) -> Result<Node, RenderError> {
    Ok(map! {
        "path_config_source" => map! {
            "path" => text(&folder.join(file))?,
            "watched_directory" => map! {"path" => text(folder)?},
        },
        "resource_api_version" => "V3",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shrinking_listener_comes_after_the_filters_and_any_other_before() {
        let filter = |name: &str| Kind::Filter(name.to_owned());
        let rendered = [Kind::Clusters, Kind::Listeners, filter("a"), filter("b")];
        for (shrinks, expected) in [
            (false, rendered.clone()),
            (
                true,
                [Kind::Clusters, filter("a"), filter("b"), Kind::Listeners],
            ),
        ] {
            let mut changes = rendered.clone();
            in_order(&mut changes, shrinks, |kind| kind);
            assert_eq!(changes, expected, "{shrinks}");
        }
    }
}
