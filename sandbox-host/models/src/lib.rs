//! The files of models: finds and hashes them ([`files`]), and scans them in processes without
//! rights ([`scan`]).

pub mod files;
pub mod scan;
