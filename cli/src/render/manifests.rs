//! A folder of Kubernetes objects: one YAML file for each object, and a `kustomization.yaml` that
//! lists them, so that `kubectl apply -k` takes the folder.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use tensorgate_base::shell::quoted;
use tensorgate_cli_common::Failure;

use super::node::{Node, map};
use super::output::{create_folder, write_file};

/// File that lists the objects.
const KUSTOMIZATION: &str = "kustomization.yaml";
/// Largest object that `kubectl apply` can keep in an annotation of the object, bytes.
/// Kubernetes permits 256 KiB for all annotations of an object; the rest is for the others.
const MAX_NOTED_BYTES: usize = 240 << 10;
/// Bytes at the beginning of a file that have the labels of an object of ours.
const MAX_METADATA_BYTES: u64 = 4 << 10;
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
            write_file(&folder.join(name), node.to_yaml())?;
        }
        Ok(())
    }

    /// Files of earlier renderings in a folder, whose objects these are not. `kubectl apply -k`
    /// leaves such objects in the cluster.
    pub fn left_over(&self, folder: &Path) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(folder) else {
            return Vec::new();
        };
        let mut names: Vec<_> = entries
            .flatten()
            .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_file()))
            .filter(|entry| is_ours(&entry.path()))
            .filter_map(|entry| entry.file_name().into_string().ok())
            .filter(|name| !self.objects.contains_key(name))
            .collect();
        names.sort();
        names
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

/// Whether a file has an object that `render` wrote.
fn is_ours(file: &Path) -> bool {
    let mut head = Vec::new();
    let read =
        File::open(file).and_then(|opened| opened.take(MAX_METADATA_BYTES).read_to_end(&mut head));
    let label = format!("\n    {MANAGED_BY}: tensorgate\n");
    read.is_ok() && String::from_utf8_lossy(&head).contains(&label)
}

/// Size of an object as kubectl notes it: JSON in which three characters have six bytes.
fn noted_bytes(object: &Node) -> usize {
    let json = serde_json::to_string(object).unwrap_or_default();
    let escaped = json.bytes().filter(|byte| b"<>&".contains(byte)).count();
    json.len().saturating_add(escaped.saturating_mul(5))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use tensorgate_client::run::Scratch;

    use super::*;

    /// An object with the label of what `render` writes.
    fn labelled(kind: &str) -> Node {
        let labels = map! {MANAGED_BY => "tensorgate"};
        map! {"kind" => kind, "metadata" => map! {"labels" => labels}}
    }

    #[test]
    fn files_of_an_earlier_rendering_are_named() {
        let scratch = Scratch::in_memory();
        let folder = scratch.path();
        let mut manifests = Manifests::default();
        manifests.add("service", labelled("Service"));
        let now = manifests.clone();
        manifests.add("wasmplugin", labelled("WasmPlugin"));
        manifests.write(folder).unwrap();
        scratch.file("of-a-user.yaml", "kind: ConfigMap\n");
        assert_eq!(manifests.left_over(folder), [""; 0]);
        now.write(folder).unwrap();
        assert_eq!(now.left_over(folder), ["wasmplugin.yaml"]);
    }

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
            manifests.add("policy", map! {"data" => map! {"gate.yaml" => text}});
            let folder = Path::new("my objects");
            assert_eq!(manifests.apply_command(Some(folder)), expected);
        }
        let none = Manifests::default().apply_command(None);
        assert_eq!(none, "kubectl apply -f -");
    }
}
