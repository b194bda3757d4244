//! The author's JavaScript modules as functions, because a call cannot load modules. Node.js runs
//! the conversion, as it runs the tools of an ordinary build. It reads the modules only.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use tensorgate_cli_common::Failure;

use crate::tools;

/// The modules that the runtime has, with their connection to the host, as in the script.
pub const SUPPORT: [&str; 4] = ["tensorgate.js", "kit.js", "reach.js", "request.js"];

const SCRIPT: &str = include_str!("../../../js/development_modules.mjs");

/// What the script prints.
#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Printed {
    /// The functions by the paths of their modules.
    Files(BTreeMap<String, String>),
    /// Why there are none.
    Ordinary(String),
}

/// The functions of handler.js and of all modules that it imports. `root` is the folder of a copy,
/// which the script is written to, and `project` is below it. The inner error says why there are
/// none.
///
/// # Errors
/// Node.js is missing or fails.
pub fn converted(
    root: &Path,
    project: &Path,
) -> Result<Result<BTreeMap<String, Vec<u8>>, String>, Failure> {
    let name = "development_modules.mjs";
    tools::write(root, &[(name.to_owned(), SCRIPT.to_owned())])?;
    let mut node = tools::node();
    node.command.arg(root.join(name)).arg(project);
    let printed = node.run("install Node.js 18 or later")?;
    let printed: Printed = serde_json::from_str(&printed)
        .map_err(|cause| Failure::Failed(format!("{name} printed no JSON: {cause}")))?;
    Ok(match printed {
        Printed::Files(files) => {
            let files = files.into_iter();
            Ok(files
                .map(|(path, text)| (path, text.into_bytes()))
                .collect())
        }
        Printed::Ordinary(why) => Err(why),
    })
}
