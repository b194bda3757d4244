//! The files of models: finds and hashes them ([`files`]), scans them in processes without rights
//! ([`scan`]), and verifies those that a policy requires before their server gets requests
//! ([`artifacts`]).

pub mod artifacts;
pub mod files;
pub mod scan;
