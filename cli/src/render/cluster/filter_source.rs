//! Where the proxies of a mesh or of a Gateway have the filter from.

use super::names::{Image, ObjectName};
use crate::render::envoy::Driver;

/// Where proxies that are not the gate's own have the filter from.
#[derive(Clone, Debug)]
pub enum FilterSource {
    /// The WebAssembly module, which the proxies fetch.
    Image(FilterImage),
    /// The native module, which an init container copies out of the host's image.
    HostImage,
}

/// The image of the WebAssembly module.
#[derive(Clone, Debug)]
pub struct FilterImage {
    /// Its image. The digest is that of the manifest: Istio resolves an index to one of its
    /// manifests and compares that one's digest.
    pub image: Image,
    /// Secret for its registry, in the namespace of the proxies.
    pub pull_secret: Option<ObjectName>,
}

impl FilterSource {
    /// The source that options name.
    ///
    /// # Errors
    /// The options contradict each other.
    pub fn new(
        driver: Driver,
        image: Option<Image>,
        pull_secret: Option<ObjectName>,
    ) -> Result<Self, &'static str> {
        match (driver, image) {
            (Driver::Wasm, Some(image)) => Ok(Self::Image(FilterImage { image, pull_secret })),
            (Driver::Wasm, None) => Err("--driver wasm needs --filter-image"),
            (Driver::Module, None) => Ok(Self::HostImage),
            (Driver::Module, Some(_)) => {
                Err("--driver module takes the filter from --host-image: leave out --filter-image")
            }
        }
    }

    /// How Envoy runs it.
    pub const fn driver(&self) -> Driver {
        match self {
            Self::Image(_) => Driver::Wasm,
            Self::HostImage => Driver::Module,
        }
    }
}
