//! HDF5: groups, datasets and attributes, from the specification of the format, version 3.0.
//!
//! Only the structure is followed: superblock, object headers, links, attributes, and where the
//! data of each dataset lies. What a file may refer to outside of itself is executable: external
//! links, external data and virtual datasets. Other structures that are not followed are unknown.
//! Elements of datasets are numbers or fixed bytes, so nothing in them is followed further. What
//! the attributes mean is for the caller ([`Watch`]).
//!
//! Each object is visited once. Checksums are not compared: a reader that compares them refuses the
//! file, and other readers find what is followed here. Bytes that no structure refers to are free
//! space, which no reader of HDF5 looks at.

mod attribute;
mod dataset;
mod fields;
mod fractal;
mod global;
mod header;
mod index;
mod link;
mod messages;
mod pages;
mod superblock;
mod symbols;
mod types;
mod walk;

use std::io;

use self::pages::Pages;
use self::walk::Walk;
use super::source::finish;
use super::{Input, Limits, Report};
use crate::scan::rules::{self, Rule};

/// The rule of structures that break the format, or that are not followed.
const STRUCTURE: &Rule = rules::HDF5_STRUCTURE;
/// The rule of what is more than a scan reads.
const LIMIT: &Rule = rules::HDF5_LIMIT;
/// The rule of data that is not in the file.
const EXTERNAL: &Rule = rules::HDF5_EXTERNAL;
/// Stands for an address that refers to nothing.
const UNDEFINED: u64 = u64::MAX;

/// An attribute of an object.
pub(super) struct Attribute<'n> {
    /// Its name.
    pub(super) name: &'n str,
    /// Whether its object is the root group.
    pub(super) is_root: bool,
    /// Where it is in the file.
    pub(super) offset: u64,
}

/// What looks at the attributes.
pub(super) trait Watch {
    /// An attribute of any type. Adds a finding for one that means something else than data.
    fn attribute(&mut self, attribute: &Attribute<'_>, report: &mut Report);
    /// A text of an attribute. A list has several.
    ///
    /// # Errors
    /// The text cannot be read.
    fn text(
        &mut self,
        attribute: &Attribute<'_>,
        text: &mut dyn Input,
        report: &mut Report,
    ) -> io::Result<()>;
}

/// Scans a file that begins with the signature of HDF5.
///
/// # Errors
/// The input cannot be read.
pub(super) fn scan(
    input: &mut dyn Input,
    limits: &Limits,
    watch: &mut dyn Watch,
) -> io::Result<Report> {
    let mut report = Report::new("hdf5");
    let pages = Pages::new(input, limits)?;
    let walked = Walk::new(pages, limits, watch, &mut report).run();
    finish(report, walked)
}

#[cfg(test)]
pub(super) mod build;
#[cfg(test)]
mod tests;
