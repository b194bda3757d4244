//! Rules of `BYTES` elements: length, text, files and URLs.

use tensorgate_policy::contract::{
    Items, MAX_LISTED_BYTES, MAX_URL_BYTES, MediaRule, MediaType, Pattern, UrlRule, default_port,
    is_name,
};
use tensorgate_policy::policy::{Model, distinct_rules};
use tensorgate_policy::report::{Path, optional, quote};
use tensorgate_policy::values::Shared;
use tensorgate_policy::values::datatype::Datatype;

use super::values::few;
use crate::pattern;
use crate::raw::{self, ByteSize, MAX_BODY_BYTES, Scalar};

/// Maximum number of hosts.
const MAX_HOSTS: usize = 256;
/// Maximum number of ports.
const MAX_PORTS: usize = 16;
/// Maximum size: no format can declare a larger one.
const MAX_SIZE: u64 = u32::MAX as u64;

const SCHEMES: [&str; 4] = ["https", "http", "s3", "gs"];

/// Element rules of a tensor in the document.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Written<'a> {
    pub(super) max_bytes: Option<ByteSize>,
    pub(super) min_bytes: Option<ByteSize>,
    pub(super) utf8: bool,
    pub(super) allowed: Option<&'a [Scalar]>,
    pub(super) pattern: Option<&'a str>,
    pub(super) media: Option<&'a raw::Media>,
    pub(super) url: Option<&'a raw::Url>,
}

/// The rules of `BYTES`, including the maximum length; other datatypes must have none.
pub(super) fn items(
    path: &Path,
    raw: Written<'_>,
    datatype: Datatype,
) -> Option<(Option<usize>, Items)> {
    if datatype != Datatype::Bytes {
        return no_items(path, raw, datatype).then(|| (None, Items::default()));
    }
    let max_path = path.field("max_item_bytes");
    let max_bytes = if raw.max_bytes.is_none() {
        max_path.fail_with_fix(
            "is missing: elements of BYTES need a maximum size",
            "max_item_bytes: 1KiB",
        )
    } else {
        raw.max_bytes
            .and_then(|size| max_path.bytes_within(size, 1, MAX_BODY_BYTES))
    };
    let most = raw.max_bytes.map_or(MAX_BODY_BYTES, |size| size.0);
    let min_bytes = match raw.min_bytes {
        Some(size) => path.field("min_item_bytes").bytes_within(size, 1, most),
        None => Some(0),
    };
    let allowed = optional(raw.allowed, |list| {
        listed(&path.field("allowed"), list, min_bytes.unwrap_or(0), most)
    });
    let pattern = optional(raw.pattern, |text| pattern(&path.field("pattern"), text));
    let media_rule = optional(raw.media, |media_raw| {
        media(&path.field("media"), media_raw)
    });
    let url_path = path.field("url");
    let url_rule = optional(raw.url, |url_raw| url(&url_path, url_raw));
    let mut valid = Some(());
    if raw.media.is_some()
        && (raw.utf8 || raw.pattern.is_some() || raw.allowed.is_some() || raw.url.is_some())
    {
        valid = path.field("media").fail_with_fix(
            "contradicts media: files of these types are not text",
            "remove one of the two",
        );
    }
    if raw.allowed.is_some() && raw.pattern.is_some() {
        valid = path.field("allowed").fail_with_fix(
            "lists all allowed elements, so that a pattern beside it has no effect",
            "remove one of the two",
        );
    }
    if raw.url.is_some() && most > MAX_URL_BYTES as u64 {
        valid = max_path.fail_with_fix(
            "an element with url rules may have at most 2048 bytes",
            "max_item_bytes: 2KiB",
        );
    }
    valid?;
    Some((
        Some(max_bytes?),
        Items {
            min_bytes: min_bytes?,
            utf8: raw.utf8,
            allowed: allowed?,
            pattern: pattern?,
            media: media_rule?,
            url: url_rule?,
        },
    ))
}

/// Whether no `BYTES` rule is present.
fn no_items(path: &Path, raw: Written<'_>, datatype: Datatype) -> bool {
    let written = [
        ("max_item_bytes", raw.max_bytes.is_some()),
        ("min_item_bytes", raw.min_bytes.is_some()),
        ("utf8", raw.utf8),
        ("pattern", raw.pattern.is_some()),
        ("media", raw.media.is_some()),
        ("url", raw.url.is_some()),
    ];
    let mut is_valid = true;
    for (field, written) in written {
        if written {
            let message = if field.ends_with("bytes") {
                format!("is only for BYTES: elements of {datatype} have a fixed size")
            } else {
                format!("is only for BYTES: elements of {datatype} are numbers")
            };
            path.field(field).error_with_fix(message, "remove it");
            is_valid = false;
        }
    }
    is_valid
}

fn listed(path: &Path, list: &[Scalar], least: usize, most: u64) -> Option<Vec<Vec<u8>>> {
    few(path, list)?;
    let most = most.min(MAX_LISTED_BYTES as u64);
    let mut items = Vec::new();
    let mut valid = Some(());
    for (index, value) in list.iter().enumerate() {
        let path = path.index(index);
        match value {
            Scalar::Text(text) if text.len() as u64 > most => {
                valid = path.fail_with_fix(
                    format!("{} bytes are too long", text.len()),
                    format!("at most {most}"),
                );
            }
            Scalar::Text(text) if text.len() < least => {
                valid = path.fail(format!(
                    "{} bytes are fewer than min_item_bytes",
                    text.len()
                ));
            }
            Scalar::Text(text) if items.iter().any(|item| item == text.as_bytes()) => {
                valid = path.fail(format!("{} is listed twice", quote(text)));
            }
            Scalar::Text(text) => items.push(text.as_bytes().to_vec()),
            Scalar::Integer(_) | Scalar::Float(_) => {
                valid = path.fail_with_fix(
                    "is a number, and elements of BYTES are strings",
                    "put it in quotes",
                );
            }
        }
    }
    items.sort_unstable();
    valid.map(|()| items)
}

/// The compiled pattern of a text.
pub(super) fn pattern(path: &Path, text: &str) -> Option<Shared<Pattern>> {
    match pattern::compile(text) {
        Ok(pattern) => Some(Shared::from(pattern)),
        Err(fault) => path.fail(format!("{fault}")),
    }
}

/// Maximum size of all automata of a policy, in bytes. Each worker of a proxy has all of them.
const MAX_AUTOMATA_BYTES: usize = 2 << 20;

/// All patterns of a policy together need limited memory. Models with equal contents share it.
pub(super) fn check_automata_size(path: &Path, models: &[Model]) {
    let models = models.iter();
    let with_patterns = models.filter(|model| !model.accepts().patterns().is_empty());
    // Whatever cannot be encoded fails when the policy is compiled.
    let (contents, _) = distinct_rules(with_patterns).unwrap_or_default();
    let patterns = contents.iter().flat_map(|rules| rules.accepts.patterns());
    let bytes: usize = patterns.map(Pattern::automaton_bytes).sum();
    if bytes > MAX_AUTOMATA_BYTES {
        path.error(format!(
            "the patterns of all models need {bytes} bytes of automata, more than {MAX_AUTOMATA_BYTES}"
        ));
    }
}

/// Rules of a file.
pub(super) fn media(path: &Path, raw: &raw::Media) -> Option<MediaRule> {
    let raw::Media {
        types,
        min_width,
        min_height,
        max_width,
        max_height,
        max_pixels,
        max_frames,
        max_duration_ms,
    } = raw;
    let types_path = path.field("types");
    let mut valid = types_path.not_empty(types, "[png, jpeg]");
    valid = valid.and(types_path.distinct(types));
    let mut kinds = Vec::new();
    for (index, name) in types.iter().enumerate() {
        if let Some(kind) = MediaType::ALL.into_iter().find(|kind| kind.name() == name) {
            kinds.push(kind);
        } else {
            let names = MediaType::ALL.iter().map(|kind| kind.name());
            valid = types_path.index(index).unknown("kind of file", name, names);
        }
    }
    let records = kinds.contains(&MediaType::Wav);
    let pictures = kinds.iter().any(|kind| *kind != MediaType::Wav);
    let frames = kinds
        .iter()
        .any(|kind| !matches!(kind, MediaType::Wav | MediaType::Jpeg));
    let size = |name: &str, value: Option<u64>, has: bool, whose: &str| {
        let path = path.field(name);
        let Some(value) = value else {
            return Some(None);
        };
        if !has && valid.is_some() {
            return path.fail_with_fix(
                format!("has no effect: none of the types is {whose}"),
                "remove it",
            );
        }
        path.within(value, 1, MAX_SIZE, "as a size").map(Some)
    };
    let sizes = [
        size("min_width", *min_width, pictures, "a picture"),
        size("min_height", *min_height, pictures, "a picture"),
        size("max_width", *max_width, pictures, "a picture"),
        size("max_height", *max_height, pictures, "a picture"),
        size("max_pixels", *max_pixels, pictures, "a picture"),
        size("max_frames", *max_frames, frames, "a type with frames"),
        size("max_duration_ms", *max_duration_ms, records, "a recording"),
    ];
    if pictures && max_pixels.is_none() && (max_width.is_none() || max_height.is_none()) {
        valid = path.field("max_pixels").fail_with_fix(
            "is missing: a small file can decode to a huge picture",
            "max_pixels: 4000000",
        );
    }
    if records && max_duration_ms.is_none() {
        valid = path.field("max_duration_ms").fail_with_fix(
            "is missing: a recording needs a maximum duration",
            "max_duration_ms: 60000",
        );
    }
    let minimum = minimum_fits(path, raw);
    let [
        min_width,
        min_height,
        width,
        height,
        pixels,
        frames,
        duration,
    ] = sizes;
    let (min_width, min_height) = (min_width?, min_height?);
    let (width, height, pixels) = (width?, height?, pixels?);
    let (frames, duration) = (frames?, duration?);
    valid.and(minimum).map(|()| MediaRule {
        types: kinds,
        min_width: min_width.unwrap_or(1),
        min_height: min_height.unwrap_or(1),
        max_width: width.unwrap_or(u64::MAX),
        max_height: height.unwrap_or(u64::MAX),
        max_pixels: pixels.unwrap_or(u64::MAX),
        max_frames: frames
            .and_then(|frames| u32::try_from(frames).ok())
            .unwrap_or(1),
        max_duration_ms: duration.unwrap_or(0),
    })
}

/// Whether a picture of the minimum size is within the maximum.
fn minimum_fits(path: &Path, raw: &raw::Media) -> Option<()> {
    if raw.min_width.is_none() && raw.min_height.is_none() {
        return Some(());
    }
    let (width, height) = (raw.min_width.unwrap_or(1), raw.min_height.unwrap_or(1));
    let mut checked = Some(());
    for (name, least, most) in [
        ("max_width", width, raw.max_width),
        ("max_height", height, raw.max_height),
        ("max_pixels", width.saturating_mul(height), raw.max_pixels),
    ] {
        if most.is_some_and(|most| least > most) {
            checked = path.field(name).fail_with_fix(
                "is less than the minimum, so that no picture is allowed",
                format!("at least {least}"),
            );
        }
    }
    checked
}

pub(super) fn url(path: &Path, raw: &raw::Url) -> Option<UrlRule> {
    let raw::Url {
        hosts,
        schemes,
        ports,
    } = raw;
    let hosts_path = path.field("hosts");
    let mut valid = hosts_path.not_empty(hosts, "[images.example.com]");
    valid = valid.and(hosts_path.distinct(hosts));
    hosts_path.up_to(hosts.len(), MAX_HOSTS, "hosts are too many")?;
    for (index, host) in hosts.iter().enumerate() {
        let name = host.strip_prefix("*.").unwrap_or(host);
        let two_labels = host.len() == name.len() || name.contains('.');
        if !is_name(name) || name.bytes().any(|byte| byte.is_ascii_uppercase()) {
            valid = hosts_path.index(index).fail_with_fix(
                format!("{} is not a host name in lower case", quote(host)),
                "images.example.com, or *.example.com for all below it",
            );
        } else if !two_labels {
            valid = hosts_path.index(index).fail_with_fix(
                format!("{} covers every host below a top-level domain", quote(host)),
                "*.example.com",
            );
        }
    }
    let schemes_path = path.field("schemes");
    valid = valid.and(schemes_path.distinct(schemes));
    for (index, scheme) in schemes.iter().enumerate() {
        if !SCHEMES.contains(&scheme.as_str()) {
            valid =
                schemes_path
                    .index(index)
                    .unknown("scheme of a fetch", scheme, SCHEMES.into_iter());
        } else if scheme == "http" {
            schemes_path
                .index(index)
                .warn("http responses can be changed on the network", "https");
        }
    }
    let schemes: Vec<String> = if schemes.is_empty() {
        vec!["https".into()]
    } else {
        schemes.clone()
    };
    let ports_path = path.field("ports");
    ports_path.up_to(ports.len(), MAX_PORTS, "ports are too many")?;
    let ported = schemes.iter().any(|scheme| default_port(scheme).is_some());
    if !ports.is_empty() && !ported {
        valid =
            ports_path.fail_with_fix("has no effect: none of the schemes has ports", "remove it");
    }
    valid = valid.and(ports_path.distinct(ports));
    let mut kept = Vec::new();
    for (index, port) in ports.iter().enumerate() {
        let path = ports_path.index(index);
        let port = path.within(*port, 1, u16::MAX.into(), "as a port");
        match port {
            Some(port) => kept.push(port),
            None => valid = None,
        }
    }
    if ports.is_empty() {
        kept.push(443);
    }
    valid.map(|()| UrlRule {
        schemes,
        hosts: hosts.clone(),
        ports: kept,
    })
}
