//! Makes the component of a Python handler: a memory image, and text modules around the imported
//! runtime.

use wasmparser::types::EntityType;
use wasmparser::{BinaryReaderError, ValType, Validator};

use super::PAGES;
use super::memory::module_of;
use crate::parts::part;

/// The component, and the core module of WASI and host calls in it.
const HANDLER: &str = include_str!("handler.wat");
const WASI: &str = include_str!("wasi.wat");

/// The function that a handler exports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum World {
    /// From the client's input to the model's.
    Preprocess,
    /// From the model's output to the client's.
    Postprocess,
}

/// A Python process at rest, and what a handler needs of it.
#[derive(Clone, Copy, Debug)]
pub struct Image<'m> {
    /// The SHA-256 of the runtime file.
    pub runtime: [u8; 32],
    /// The size of the library's zip in bytes.
    pub zip_bytes: u64,
    /// The whole memory.
    pub memory: &'m [u8],
    /// The address of the exchange block of 4096 bytes.
    pub exchange: u32,
    /// The address of the Python function to call.
    pub entry: u32,
    /// The function that the handler exports.
    pub world: World,
    /// Whether it may fetch files.
    pub fetch: bool,
    /// Whether it may look up features.
    pub lookup: bool,
    /// Whether it decodes images. The component then imports the tensor kit.
    pub images: bool,
}

/// The component of a handler.
///
/// # Errors
/// If the memory is not one of the runtime.
pub fn handler(image: &Image<'_>) -> Result<Vec<u8>, String> {
    let module = module_of(image.memory)?;
    let component = wat::parse_str(text(image)?).map_err(|error| error.to_string())?;
    let placeholder = part(&component, "memory")?.ok_or("the component has no memory")?;
    Ok(placeholder.replaced(&component, &module))
}

/// The text of the component, with an empty memory in place of the image.
pub(super) fn text(image: &Image<'_>) -> Result<String, String> {
    let wasi = filled(WASI, image);
    let binary = wat::parse_str(&wasi).map_err(|error| error.to_string())?;
    let functions = imports(&binary).map_err(|error| error.to_string())?;
    Ok(filled(HANDLER, image)
        .replace("{runtime}", &super::import_name(&image.runtime))
        .replace("{functions}", &functions)
        .replace("{wasi}", &wasi.replacen("(module", "(core module $wasi", 1)))
}

/// A text without the lines of what the handler does not import or export, and with its constants.
fn filled(text: &str, image: &Image<'_>) -> String {
    let optional = [
        ("(;fetch;)", image.fetch),
        ("(;lookup;)", image.lookup),
        ("(;images;)", image.images),
        ("(;preprocess;)", image.world == World::Preprocess),
        ("(;postprocess;)", image.world == World::Postprocess),
    ];
    let constants = [
        ("{pages}", PAGES),
        ("{entry}", image.entry.into()),
        ("{zip_bytes}", image.zip_bytes),
        ("{exchange}", image.exchange.into()),
        ("{returned}", u64::from(image.exchange).saturating_add(128)),
        ("{scratch}", u64::from(image.exchange).saturating_add(512)),
        (
            "{positions}",
            u64::from(image.exchange).saturating_add(1024),
        ),
    ];
    let is_left_out = |line: &str| {
        let line = line.trim_start();
        optional
            .iter()
            .any(|(mark, present)| !present && line.starts_with(mark))
    };
    let lines: Vec<&str> = text.lines().filter(|line| !is_left_out(line)).collect();
    constants
        .iter()
        .fold(lines.join("\n"), |text, (name, value)| {
            text.replace(name, &value.to_string())
        })
}

/// The runtime's imports as text: each function that this module exports.
fn imports(wasi: &[u8]) -> Result<String, BinaryReaderError> {
    let types = Validator::new().validate_all(wasi)?;
    let list = |types: &[ValType]| types.iter().map(|ty| format!(" {ty}")).collect::<String>();
    let mut text = String::new();
    for (name, ty) in types.as_ref().core_exports().into_iter().flatten() {
        if let EntityType::Func(id) = ty {
            let function = types[id].unwrap_func();
            let (params, results) = (list(function.params()), list(function.results()));
            let module = match name {
                "call" => "host",
                _ => "wasi_snapshot_preview1",
            };
            text.push_str(&format!(
                "(import \"{module}\" \"{name}\" (func (param{params}) (result{results})))\n"
            ));
        }
    }
    Ok(text)
}
