//! Sections of a component's binary format.

pub(super) const CUSTOM: u8 = 0;
pub(super) const CORE_INSTANCE: u8 = 2;
pub(super) const INSTANCE: u8 = 5;
pub(super) const ALIAS: u8 = 6;
pub(super) const TYPE: u8 = 7;
pub(super) const CANONICAL: u8 = 8;
pub(super) const IMPORT: u8 = 10;
pub(super) const EXPORT: u8 = 11;
