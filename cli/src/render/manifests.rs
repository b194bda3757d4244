//! A folder of Kubernetes objects: one YAML file for each object, and a `kustomization.yaml` that
//! lists them, so that `kubectl apply -k` takes the folder.

use std::collections::BTreeMap;
use std::path::Path;

use tensorgate_cli_common::Failure;

use super::node::{Node, map};
use super::output::{create_folder, write_file};
use super::shell::quoted;

/// File that lists the objects.
const KUSTOMIZATION: &str = "kustomization.yaml";
/// Largest object that `kubectl apply` is told to note in an annotation of the object, bytes.
/// Kubernetes permits 256 KiB for all annotations of an object; the rest is for the others.
const MAX_NOTED_BYTES: usize = 240 << 10;
/// Label that names the tool which wrote an object.
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";

/// The files of an output folder, by name.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Manifests {
    objects: BTreeMap<String, Node>,
}

impl Manifests {
    /// Adds an object. `file` has no extension; a file has one object.
    pub fn add(&mut self, file: &str, object: Node) {
        self.objects.insert(format!("{file}.yaml"), object);
    }

    /// The objects, in the order of their files.
    pub fn objects(&self) -> impl Iterator<Item = &Node> {
        self.objects.values()
    }

    /// The objects by their files.
    pub fn into_files(self) -> BTreeMap<String, Node> {
        self.objects
    }

    /// The command that applies a folder with these objects, or the objects from standard input.
    /// The server notes who set which field without an annotation, so it takes larger objects.
    pub fn apply_command(&self, folder: Option<&Path>) -> String {
        let is_large = self.objects().any(|it| noted_bytes(it) > MAX_NOTED_BYTES);
        let option = if is_large { " --server-side" } else { "" };
        let source = folder.map_or_else(|| "-f -".to_owned(), |it| format!("-k {}", quoted(it)));
        format!("kubectl apply{option} {source}")
    }

    /// All objects as one YAML stream.
    pub fn to_stream(&self) -> String {
        let mut stream = String::new();
        for object in self.objects.values() {
            stream.push_str("---\n");
            stream.push_str(&object.to_yaml());
        }
        stream
    }

    /// Writes the folder. Each file is replaced atomically, and the list of files comes last, so
    /// that it never names a file that is not there yet.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn write(&self, folder: &Path) -> Result<(), Failure> {
        create_folder(folder)?;
        let lists = (KUSTOMIZATION, &self.kustomization());
        let objects = self
            .objects
            .iter()
            .map(|(name, node)| (name.as_str(), node));
        for (name, node) in objects.chain([lists]) {
            write_file(&folder.join(name), &node.to_yaml())?;
        }
        Ok(())
    }

    /// The list of files for `kubectl apply -k`. Nothing in it changes an object: names have no
    /// hash, since a policy reaches running pods through the same name.
    fn kustomization(&self) -> Node {
        let files: Vec<_> = self
            .objects
            .keys()
            .map(|file| Node::from(file.as_str()))
            .collect();
        map! {
            "apiVersion" => "kustomize.config.k8s.io/v1beta1",
            "kind" => "Kustomization",
            "resources" => files,
        }
    }
}

/// Size of an object as kubectl notes it: JSON in which three characters have six bytes.
fn noted_bytes(object: &Node) -> usize {
    let json = serde_json::to_string(object).unwrap_or_default();
    let escaped = json.bytes().filter(|byte| b"<>&".contains(byte)).count();
    json.len().saturating_add(escaped.saturating_mul(5))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_that_fits_into_no_annotation_is_applied_by_the_server() {
        for (text, expected) in [
            ("a".repeat(200_000), "kubectl apply -k 'my objects'"),
            (
                "a".repeat(250_000),
                "kubectl apply --server-side -k 'my objects'",
            ),
            (
                "<".repeat(50_000),
                "kubectl apply --server-side -k 'my objects'",
            ),
        ] {
            let mut manifests = Manifests::default();
            manifests.add("small", map! {"kind" => "Service"});
            manifests.add("policy", map! {"data" => map! {"bundle.json" => text}});
            let folder = Path::new("my objects");
            assert_eq!(manifests.apply_command(Some(folder)), expected);
        }
        let none = Manifests::default().apply_command(None);
        assert_eq!(none, "kubectl apply -f -");
    }
}
