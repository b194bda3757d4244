//! Zip files: every byte belongs to one member, and all readers see the same members.
//!
//! A file is followed only if headers and central directory agree, members lie one after the other
//! from the first byte to the central directory, and checksums and sizes are right. So there is one
//! way to read it, whichever reader loads it.
//!
//! Members are scanned in their order, as streams: a stored member is a window of the file, a
//! deflated one is inflated again when a scanner goes back.

#[cfg(test)]
pub(super) mod build;
mod central;
mod extra;
mod fields;
mod inflate;
mod local;
mod member;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::io::{self, Seek as _, SeekFrom};

use self::central::{Directory, Entry};
use self::member::Member;
use super::container::{self, Profile, ScanFile};
use super::keras::Keras;
use super::mar::Mar;
use super::names::{Names, key_fault, name_fault};
use super::npz::Npz;
use super::torch::Torch;
use super::{Input, Limits, Report, Verdict, Window};
use crate::scan::rules::{self, Rule};

const STORED: u16 = 0;
const DEFLATED: u16 = 8;
/// Flags that may be set: the level of deflate, a descriptor, a name in UTF-8.
const KNOWN_FLAGS: u16 = 0b110 | local::HAS_DESCRIPTOR | UTF8_NAME;
/// APPNOTE 4.4.4: encrypted, strongly encrypted, masked headers.
const ENCRYPTED: u16 = 1 | 1 << 6 | 1 << 13;
const UTF8_NAME: u16 = 1 << 11;
/// Types of files in the upper half of the attributes, as `st_mode` has them.
const FILE_TYPE: u32 = 0xf000;
const FILE_TYPES: [u32; 3] = [0, 0x4000, 0x8000];
const LINK: u32 = 0xa000;
/// Members may have this size, whatever their compressed size is.
const FREE_BYTES: u64 = 64 << 10;

/// Scans a zip file. Its names decide which format it is. `scan_file` scans its members.
///
/// # Errors
/// The input cannot be read.
pub(super) fn scan(
    input: &mut dyn Input,
    limits: &Limits,
    scan_file: ScanFile,
) -> io::Result<Report> {
    scan_behind(input, 0, limits, scan_file)
}

/// Where the first member begins, if the file ends as a zip whose table of contents can be read.
///
/// # Errors
/// The input cannot be read.
pub(super) fn first_member(input: &mut dyn Input, limits: &Limits) -> io::Result<Option<u64>> {
    let directory = central::find(input, limits, &mut Report::new("zip"))?;
    let entry = directory
        .as_ref()
        .map(|directory| directory.entries().next());
    Ok(entry
        .flatten()
        .and_then(Result::ok)
        .map(|entry| entry.offset))
}

/// Scans a zip file whose members begin at `first_byte`, as its offsets say. The caller follows
/// what is before them.
///
/// # Errors
/// The input cannot be read.
pub(super) fn scan_behind(
    input: &mut dyn Input,
    first_byte: u64,
    limits: &Limits,
    scan_file: ScanFile,
) -> io::Result<Report> {
    let mut report = Report::new("zip");
    let Some(inner) = container::inside(limits) else {
        let detail = "more containers within containers than are followed";
        report.add(Verdict::Unknown, 0, rules::ZIP_NESTING, detail);
        return Ok(report);
    };
    let Some(directory) = central::find(input, limits, &mut report)? else {
        return Ok(report);
    };
    let mut profiles: Vec<Box<dyn Profile>> = vec![
        Box::new(Torch::default()),
        Box::new(Npz::default()),
        Box::new(Keras::default()),
        Box::new(Mar::default()),
    ];
    let totals = survey(&directory, &mut profiles, &mut report);
    profiles.retain(|profile| profile.matches());
    let has_keys = matches!(profiles.as_slice(), [only] if only.has_keys());
    check_names(&directory, has_keys, &mut report);
    if let Some(profile) = profiles.first() {
        report.format = profile.format();
    }
    if profiles.len() > 1 {
        let formats: Vec<_> = profiles.iter().map(|profile| profile.format()).collect();
        let detail = format!(
            "the names are those of several formats: {}",
            formats.join(", ")
        );
        report.add(Verdict::Malformed, 0, rules::ZIP_AMBIGUOUS, &detail);
    }
    let mut walk = Walk {
        first_byte,
        limits,
        scan_file,
        inner,
        totals,
        profiles,
        report,
    };
    walk.members(input, &directory)?;
    for profile in &mut walk.profiles {
        profile.finish(&mut walk.report);
    }
    Ok(walk.report)
}

/// Sums over the central directory.
#[derive(Default)]
struct Totals {
    /// Sizes of all members.
    bytes: u64,
    /// Sizes of members that are not stored.
    expanded_bytes: u64,
}

/// Reads the central directory: counts, sums, and names for the profiles.
fn survey(directory: &Directory, profiles: &mut [Box<dyn Profile>], report: &mut Report) -> Totals {
    let mut totals = Totals::default();
    let mut count = 0_u64;
    for entry in directory.entries() {
        let entry = match entry {
            Ok(entry) => entry,
            Err(fault) => {
                report.add(
                    Verdict::Malformed,
                    directory.start,
                    rules::ZIP_DIRECTORY,
                    fault,
                );
                break;
            }
        };
        count = count.saturating_add(1);
        totals.bytes = totals.bytes.saturating_add(entry.size);
        if entry.method != STORED {
            totals.expanded_bytes = totals.expanded_bytes.saturating_add(entry.size);
        }
        let name = entry.shown_name();
        for profile in profiles.iter_mut() {
            profile.observe(&name);
        }
    }
    if count != directory.count {
        let detail = format!(
            "the end record counts {} entries, the central directory has {count}",
            directory.count
        );
        report.add(
            Verdict::Malformed,
            directory.start,
            rules::ZIP_COUNT,
            &detail,
        );
    }
    totals
}

/// Checks that each name is one for all readers, and is there once.
fn check_names(directory: &Directory, has_keys: bool, report: &mut Report) {
    let mut names = Names::default();
    for entry in directory.entries().map_while(Result::ok) {
        let name = entry.shown_name();
        check_name(&entry, &name, has_keys, report);
        let is_new = if has_keys {
            names.add_key(name.as_bytes())
        } else {
            names.add(&name)
        };
        if !is_new {
            let detail = format!("{name:?} occurs twice, perhaps in other case or as a folder");
            report.add(
                Verdict::Malformed,
                entry.at,
                rules::ZIP_DUPLICATE_NAME,
                &detail,
            );
        }
    }
}

fn check_name(entry: &Entry<'_>, name: &str, has_keys: bool, report: &mut Report) {
    let fault = if matches!(entry.shown_name(), Cow::Owned(_)) {
        Some("a name that is not UTF-8")
    } else if !name.is_ascii() && entry.flags & UTF8_NAME == 0 {
        Some("a name in an unknown character set")
    } else if has_keys {
        key_fault(name)
    } else {
        name_fault(name)
    };
    if let Some(fault) = fault {
        let detail = format!("{fault}: {name:?}");
        report.add(Verdict::Malformed, entry.at, rules::ZIP_NAME, &detail);
    }
}

impl Entry<'_> {
    /// The name. One that is not UTF-8 has replacement characters.
    fn shown_name(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(self.name)
    }
}

/// The second pass: local headers and members, in their order.
struct Walk<'l> {
    /// Where the first member begins.
    first_byte: u64,
    limits: &'l Limits,
    scan_file: ScanFile,
    inner: Limits,
    totals: Totals,
    profiles: Vec<Box<dyn Profile>>,
    report: Report,
}

impl Walk<'_> {
    fn members(&mut self, input: &mut dyn Input, directory: &Directory) -> io::Result<()> {
        let mut next_byte = self.first_byte;
        let mut entries = directory.entries().peekable();
        while let Some(Ok(entry)) = entries.next() {
            if self.report.is_final() {
                return Ok(());
            }
            let until = match entries.peek() {
                Some(Ok(next)) => next.offset,
                _ => directory.start,
            };
            if entry.offset >= directory.start {
                let detail = format!("{:?} begins behind all members", entry.shown_name());
                self.malformed(entry.at, rules::ZIP_LOCAL_HEADER, &detail);
                continue;
            }
            if entry.offset < next_byte {
                let detail = format!(
                    "{:?} overlaps the member before it, or is out of order",
                    entry.shown_name()
                );
                // It is not scanned: members that share their bytes would cost more than the file
                // has bytes.
                self.malformed(entry.offset, rules::ZIP_OVERLAP, &detail);
                continue;
            }
            self.check_gap(next_byte, entry.offset);
            next_byte = self.member(input, &entry, until.min(directory.start))?;
        }
        self.check_gap(next_byte, directory.start);
        Ok(())
    }

    fn malformed(&mut self, at: u64, rule: &'static Rule, detail: &str) {
        self.report.add(Verdict::Malformed, at, rule, detail);
    }

    fn check_gap(&mut self, from: u64, to: u64) {
        if from < to {
            let rule = if from == 0 {
                rules::ZIP_PREFIX
            } else {
                rules::ZIP_GAP
            };
            let bytes = to.saturating_sub(from);
            let detail = format!("{bytes} bytes belong to no member");
            self.malformed(from, rule, &detail);
        }
    }

    /// Scans a member that ends before `until`. The result is where it ends.
    fn member(&mut self, input: &mut dyn Input, entry: &Entry<'_>, until: u64) -> io::Result<u64> {
        let name = entry.shown_name();
        self.check_entry(entry, &name);
        let Some(start) = local::open(input, entry, &mut self.report)? else {
            return Ok(until.max(entry.offset));
        };
        let end = start.checked_add(entry.compressed_bytes);
        let Some(end) = end.filter(|end| *end <= until) else {
            let detail = format!("{name:?} reaches into what follows it");
            self.malformed(entry.offset, rules::ZIP_OVERLAP, &detail);
            return Ok(until.max(entry.offset));
        };
        let next_byte = if entry.flags & local::HAS_DESCRIPTOR == 0 {
            end
        } else {
            if !local::is_descriptor(input, entry, end, until)? {
                let detail = format!("no descriptor with the sizes of {name:?} follows it");
                self.malformed(end, rules::ZIP_DESCRIPTOR, &detail);
            }
            until
        };
        if self.is_followed(entry, &name) {
            let window = Window::new(input, start, entry.compressed_bytes);
            let mut member = if entry.method == STORED {
                Member::stored(window, entry.size)
            } else {
                Member::deflated(window, entry.compressed_bytes, entry.size)
            };
            self.content(&mut member, entry, &name)?;
        }
        Ok(next_byte)
    }

    /// What the entry alone shows.
    fn check_entry(&mut self, entry: &Entry<'_>, name: &str) {
        let file_type = (entry.attributes >> 16) & FILE_TYPE;
        if file_type == LINK {
            let detail = format!("{name:?} is a link to another file");
            self.report
                .add(Verdict::Executable, entry.at, rules::ZIP_LINK, &detail);
        } else if !FILE_TYPES.contains(&file_type) {
            let detail = format!("{name:?} is neither a file nor a folder");
            self.malformed(entry.at, rules::ZIP_FILE_TYPE, &detail);
        }
        if name.ends_with('/') && (entry.size != 0 || entry.compressed_bytes != 0) {
            let detail = format!("the folder {name:?} has content");
            self.malformed(entry.at, rules::ZIP_FOLDER, &detail);
        }
        // The bytes of an encrypted member begin with a header of its cipher.
        let is_encrypted = entry.flags & ENCRYPTED != 0;
        if entry.method == STORED && !is_encrypted && entry.size != entry.compressed_bytes {
            let detail = format!("{name:?} is stored, with two sizes");
            self.malformed(entry.at, rules::ZIP_SIZE, &detail);
        }
        if entry.comment_bytes > 0 {
            let detail = format!("{name:?} has a comment, which no scanner follows");
            self.report
                .add(Verdict::Unknown, entry.at, rules::ZIP_COMMENT, &detail);
        }
        let extras = extra::parse(entry.extra).unwrap_or_default();
        extra::check(&extras, entry.name, entry.at, &mut self.report);
    }

    /// Whether the content can be read. What cannot is in the report.
    fn is_followed(&mut self, entry: &Entry<'_>, name: &str) -> bool {
        let limits = self.limits;
        let most = entry
            .compressed_bytes
            .saturating_mul(limits.expansion)
            .saturating_add(FREE_BYTES);
        let (rule, detail) = if entry.flags & ENCRYPTED != 0 {
            (rules::ZIP_ENCRYPTED, format!("{name:?} is encrypted"))
        } else if entry.flags & !KNOWN_FLAGS != 0 {
            (
                rules::ZIP_FLAGS,
                format!("{name:?} has flags that are not followed"),
            )
        } else if entry.method != STORED && entry.method != DEFLATED {
            let detail = format!("{name:?} is compressed by method {}", entry.method);
            (rules::ZIP_METHOD, detail)
        } else if entry.method == DEFLATED && entry.size > most {
            let detail = format!(
                "{name:?} expands more than {} times, from {} to {} bytes",
                limits.expansion, entry.compressed_bytes, entry.size
            );
            (rules::ZIP_EXPANSION, detail)
        } else if entry.method == DEFLATED && self.totals.expanded_bytes > limits.expanded_bytes {
            let detail = format!(
                "members expand to {} bytes, more than {}",
                self.totals.expanded_bytes, limits.expanded_bytes
            );
            (rules::ZIP_EXPANDED_BYTES, detail)
        } else {
            return true;
        };
        self.report.add(Verdict::Unknown, entry.at, rule, &detail);
        false
    }

    fn content(
        &mut self,
        member: &mut Member<'_>,
        entry: &Entry<'_>,
        name: &str,
    ) -> io::Result<()> {
        let left = self.limits.expanded_bytes;
        let left = left.saturating_sub(self.totals.expanded_bytes);
        let limits = Limits {
            expanded_bytes: container::share(left, entry.size, self.totals.bytes),
            ..self.inner.clone()
        };
        let is_folder = name.ends_with('/');
        if !is_folder {
            for profile in &mut self.profiles {
                member.seek(SeekFrom::Start(0))?;
                let part = profile.member(name, member, &limits, self.scan_file)?;
                self.report.add_part(name, part);
            }
            if self.profiles.is_empty() {
                let part = container::member(name, member, &limits, self.scan_file)?;
                self.report.add_part(name, part);
            }
        }
        match member.finish()? {
            Err(fault) => {
                let detail = format!("{name:?}: {fault}");
                self.malformed(entry.offset, rules::ZIP_CONTENT, &detail);
            }
            Ok(crc) if crc != entry.crc => {
                let detail = format!("{name:?} does not have its checksum");
                self.malformed(entry.offset, rules::ZIP_CRC, &detail);
            }
            Ok(_) => {}
        }
        Ok(())
    }
}
