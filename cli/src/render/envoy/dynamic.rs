//! What a change of policy can move while Envoy runs: each filter by ECDS, the listener by LDS, the cluster by CDS, every one in a file
//! of its own that Envoy follows by its folder. Decides which file holds what; never what stands in it.
//!
//! A file is replaced by renaming another over it: Envoy looks when something was moved into the folder, and so never reads
//! half a file.

use std::path::Path;

use super::{RenderError, text};
use crate::render::node::{Node, list, map};

/// How a bootstrap holds what a policy can change.
#[derive(Clone, Copy, Debug)]
pub enum Form<'a> {
    /// In itself: one file, and a restart for every change.
    Whole,
    /// In files of this folder, as Envoy's machine names it.
    Watched(&'a Path),
}

/// One HTTP filter of ours.
#[derive(Clone, Debug, PartialEq)]
pub struct Filter {
    /// Its name in the chain, and its resource's.
    pub name: String,
    /// Its configuration, with its type.
    pub typed_config: Node,
}

/// What a resource is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Where requests go, all of it.
    Clusters,
    /// Where they come from.
    Listeners,
    /// The filter of this name.
    Filter(String),
}

/// One file that Envoy follows.
#[derive(Clone, Debug, PartialEq)]
pub struct Resource {
    /// What it holds.
    pub kind: Kind,
    /// Its name in the folder.
    pub file: String,
    /// What Envoy is told, apart from its version.
    resources: Vec<Node>,
    version: String,
}

/// Puts changes in the order in which they reach Envoy. A filter may hold as much of a body as its policy says, and no listener may
/// carry less than that meanwhile: one that `shrinks` comes after the filters, any other before.
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

    /// Whether Envoy would be told the same.
    pub fn says_what(&self, other: &Self) -> bool {
        (&self.kind, &self.file, &self.resources) == (&other.kind, &other.file, &other.resources)
    }
}

impl Filter {
    /// Its place in the chain.
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

/// Entries of a bootstrap, and the files beside it.
type Placed = (Vec<(String, Node)>, Vec<Resource>);

impl Form<'_> {
    /// Puts clusters, listeners and filters where this form has them.
    pub fn place(
        self,
        clusters: Vec<Node>,
        listeners: Vec<Node>,
        filters: impl IntoIterator<Item = Filter>,
        version: &str,
    ) -> Result<Placed, RenderError> {
        let folder = match self {
            Self::Whole => {
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
        // A filter may let in what only the new bounds carry: they come first, unless they carry less ([`in_order`]).
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
        Ok((vec![("dynamic_resources".to_owned(), sources)], files))
    }
}

/// The clusters' file.
const CLUSTERS: &str = "cds.yaml";
/// The listener's file.
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

/// A file that Envoy follows by its folder.
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
    fn a_listener_that_carries_less_comes_after_the_filters_and_any_other_before() {
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
