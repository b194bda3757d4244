//! Tar files, as PyTorch wrote them before its zip files, and as archives of models are.
//!
//! Only plain members are followed: headers of POSIX and of GNU, with names that they hold
//! themselves. Extensions that give a member another name or size are not.

#[cfg(test)]
pub(super) mod build;
mod header;
#[cfg(test)]
mod tests;

use std::io;

use self::header::{BLOCK_BYTES, Header, Kind, Magic};
use super::container::{self, ScanFile};
use super::magic::read_at;
use super::names::{Names, name_fault};
use super::{Input, Limits, Report, Verdict, Window, input, torch};
use crate::scan::rules::{self, Rule};

/// The most bytes after the last member. Writers fill records of 10 KiB, rarely of 1 MiB.
const MAX_END_BYTES: u64 = 1 << 20;
/// Two empty blocks.
const MIN_END_BYTES: u64 = 1_024;
/// Bytes of an extended header.
const MAX_PAX_BYTES: u64 = 64 << 10;
/// Keys of extended headers that change neither the name nor the content of a member.
const HARMLESS_KEYS: [&[u8]; 7] = [
    b"atime", b"ctime", b"gid", b"gname", b"mtime", b"uid", b"uname",
];

/// Scans a tar file. `scan_file` scans its members.
///
/// # Errors
/// The input cannot be read.
pub(super) fn scan(
    input: &mut dyn Input,
    limits: &Limits,
    scan_file: ScanFile,
) -> io::Result<Report> {
    let mut walk = Walk {
        report: Report::new("tar"),
        names: Names::default(),
        length: input::length(input)?,
        scan_file,
    };
    let Some(inner) = container::inside(limits) else {
        let detail = "more containers within containers than are followed";
        walk.report
            .add(Verdict::Unknown, 0, rules::TAR_NESTING, detail);
        return Ok(walk.report);
    };
    let mut at = 0;
    let mut entries = 0_usize;
    while !walk.report.is_final() {
        let block = read_at(input, at, BLOCK_BYTES)?;
        if !block.is_empty() && block.iter().all(|byte| *byte == 0) {
            walk.end(input, at)?;
            break;
        }
        let header = match header::parse(&block) {
            Ok(header) => header,
            Err(fault) => {
                walk.malformed(at, rules::TAR_HEADER, fault);
                break;
            }
        };
        entries = entries.saturating_add(1);
        if entries > limits.entries {
            let detail = "more members than are followed";
            walk.report
                .add(Verdict::Unknown, at, rules::TAR_ENTRIES, detail);
            break;
        }
        let Some(next) = walk.member(input, &header, at, &inner)? else {
            break;
        };
        at = next;
    }
    Ok(walk.report)
}

struct Walk {
    report: Report,
    names: Names,
    /// Bytes of the file.
    length: u64,
    scan_file: ScanFile,
}

impl Walk {
    fn malformed(&mut self, at: u64, rule: &'static Rule, detail: &str) {
        self.report.add(Verdict::Malformed, at, rule, detail);
    }

    /// Scans the member whose header is at `at`. The result is where the next header is; none if
    /// the file ends before.
    fn member(
        &mut self,
        input: &mut dyn Input,
        header: &Header,
        at: u64,
        limits: &Limits,
    ) -> io::Result<Option<u64>> {
        let name = &header.name;
        let start = at.saturating_add(BLOCK_BYTES);
        let next = start
            .checked_add(header.size)
            .and_then(|end| end.checked_next_multiple_of(BLOCK_BYTES));
        let Some(next) = next.filter(|next| *next <= self.length) else {
            let detail = format!("{name:?} has {} bytes, more than the file", header.size);
            self.malformed(at, rules::TAR_CUT, &detail);
            return Ok(None);
        };
        if header.kind != Kind::Extended {
            self.check_name(name, at);
        }
        if header.magic == Magic::Other {
            let detail = format!("{name:?} has a header of neither POSIX nor GNU");
            self.report
                .add(Verdict::Unknown, at, rules::TAR_MAGIC, &detail);
        }
        match header.kind {
            Kind::File => {
                let limits = Limits {
                    expanded_bytes: container::share(
                        limits.expanded_bytes,
                        header.size,
                        self.length,
                    ),
                    ..limits.clone()
                };
                let mut window = Window::new(input, start, header.size);
                let part = if torch::is_tar_member(name) {
                    self.report.format = "torch tar";
                    torch::tar_member(name, &mut window, &limits)?
                } else {
                    container::member(name, &mut window, &limits, self.scan_file)?
                };
                self.report.add_part(name, part);
            }
            Kind::Folder if header.size == 0 => {}
            Kind::Folder => {
                let detail = format!("the folder {name:?} has content");
                self.malformed(at, rules::TAR_FOLDER, &detail);
            }
            Kind::Link => {
                let detail = format!("{name:?} is a link to {:?}", header.link);
                self.report
                    .add(Verdict::Executable, at, rules::TAR_LINK, &detail);
            }
            Kind::Device => {
                let detail = format!("{name:?} is neither a file nor a folder");
                self.malformed(at, rules::TAR_DEVICE, &detail);
            }
            Kind::Extended => {
                let is_harmless = header.size <= MAX_PAX_BYTES
                    && is_harmless(&read_at(input, start, header.size)?);
                if !is_harmless {
                    let detail = "an extended header, which changes the member after it";
                    self.report
                        .add(Verdict::Unknown, at, rules::TAR_EXTENDED, detail);
                }
            }
            Kind::Other(kind) => {
                let detail = format!("{name:?} is a member of the unknown type {kind:#04x}");
                self.report
                    .add(Verdict::Unknown, at, rules::TAR_TYPE, &detail);
            }
        }
        let end = start.saturating_add(header.size);
        let padding = read_at(input, end, next.saturating_sub(end))?;
        if padding.iter().any(|byte| *byte != 0) {
            let detail = format!("bytes after the end of {name:?}");
            self.malformed(end, rules::TAR_PADDING, &detail);
        }
        Ok(Some(next))
    }

    fn check_name(&mut self, name: &str, at: u64) {
        if let Some(fault) = name_fault(name) {
            let detail = format!("{fault}: {name:?}");
            self.malformed(at, rules::TAR_NAME, &detail);
        }
        if !self.names.add(name) {
            let detail = format!("{name:?} occurs twice, perhaps in other case or as a folder");
            self.malformed(at, rules::TAR_DUPLICATE_NAME, &detail);
        }
    }

    /// Checks that nothing follows the first empty block, which is at `at`.
    fn end(&mut self, input: &mut dyn Input, at: u64) -> io::Result<()> {
        if at == 0 {
            let detail = "the archive is empty";
            self.report
                .add(Verdict::Unknown, 0, rules::TAR_EMPTY, detail);
        }
        let left = self.length.saturating_sub(at);
        if left < MIN_END_BYTES {
            self.malformed(at, rules::TAR_CUT, "one empty block at the end, not two");
        } else if left > MAX_END_BYTES {
            let detail = "more bytes after the last member than are read";
            self.report
                .add(Verdict::Unknown, at, rules::TAR_END, detail);
        } else if read_at(input, at, left)?.iter().any(|byte| *byte != 0) {
            self.malformed(
                at,
                rules::TAR_TRAILING_BYTES,
                "bytes after the end of the archive",
            );
        }
        Ok(())
    }
}

/// Whether each record of an extended header is `LENGTH KEY=VALUE\n`, with a key of no effect here.
fn is_harmless(mut records: &[u8]) -> bool {
    while !records.is_empty() {
        let digits = records
            .iter()
            .take_while(|byte| byte.is_ascii_digit())
            .count();
        let length = records
            .get(..digits)
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| digits.parse::<usize>().ok());
        let record = length.and_then(|length| records.split_at_checked(length));
        let Some((record, rest)) = record else {
            return false;
        };
        let text = record
            .get(digits..)
            .and_then(|text| text.strip_prefix(b" "))
            .and_then(|text| text.strip_suffix(b"\n"));
        let is_known = text.is_some_and(|text| {
            let key = text.split(|byte| *byte == b'=').next();
            key.is_some_and(|key| HARMLESS_KEYS.contains(&key))
        });
        if !is_known {
            return false;
        }
        records = rest;
    }
    true
}
