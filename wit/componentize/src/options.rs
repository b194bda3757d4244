//! The command line: one file in, one file out.

/// What `--help` prints.
pub const HELP: &str = "\
usage: tensorgate-componentize CORE.wasm -o COMPONENT.wasm

Wraps a core module into a handler component and prints its path, size and sha256.
Refuses a module that imports anything but tensorgate:handler and a part of WASI 0.2.

example:
  cargo build --release --target wasm32-unknown-unknown
  tensorgate-componentize target/wasm32-unknown-unknown/release/resize.wasm -o resize.wasm";

/// The parsed arguments.
#[derive(Debug, PartialEq, Eq)]
pub struct Options {
    /// The core module's path.
    pub core: String,
    /// The component's path.
    pub output: String,
}

/// Parses the arguments after the program's name; `None` if they ask for help.
pub fn parse(arguments: impl IntoIterator<Item = String>) -> Result<Option<Options>, String> {
    let mut arguments = arguments.into_iter();
    let (mut core, mut output) = (None, None);
    while let Some(argument) = arguments.next() {
        let slot = match argument.as_str() {
            "-h" | "--help" => return Ok(None),
            "-o" | "--output" => {
                let path = arguments
                    .next()
                    .ok_or_else(|| format!("{argument} needs a path"))?;
                if output.replace(path).is_some() {
                    return Err(format!("{argument} is given twice"));
                }
                continue;
            }
            flag if flag.starts_with('-') => return Err(format!("unknown flag {flag}")),
            _ => &mut core,
        };
        if slot.replace(argument).is_some() {
            return Err("more than one module is given".to_owned());
        }
    }
    match (core, output) {
        (Some(core), Some(output)) => Ok(Some(Options { core, output })),
        (None, _) => Err("no module is given".to_owned()),
        (_, None) => Err("no output is given (-o)".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::{Options, parse};

    #[test]
    fn arguments_are_read_in_any_order_and_mistakes_are_named() {
        let options = || {
            Some(Options {
                core: "a".into(),
                output: "b".into(),
            })
        };
        for (line, expected) in [
            ("a -o b", Ok(options())),
            ("--output b a", Ok(options())),
            ("a -o b --help", Ok(None)),
            ("", Err("no module is given")),
            ("a", Err("no output is given (-o)")),
            ("a -o", Err("-o needs a path")),
            ("a b -o c", Err("more than one module is given")),
            ("a -o b -o c", Err("-o is given twice")),
            ("a -o b --adapt x", Err("unknown flag --adapt")),
        ] {
            let found = parse(line.split_whitespace().map(str::to_owned));
            assert_eq!(found, expected.map_err(str::to_owned), "{line}");
        }
    }
}
