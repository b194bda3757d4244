//! The programs that the tests start: binaries of this repository, and Envoy.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use tensorgate_client::run::free_port;

/// The folder of the binaries: `TENSORGATE_BIN`, or else the folder where cargo built this test.
pub fn bin() -> PathBuf {
    if let Some(folder) = std::env::var_os("TENSORGATE_BIN") {
        return PathBuf::from(folder).canonicalize().unwrap();
    }
    let test = std::env::current_exe().unwrap();
    // target/debug/deps/test-0123
    test.parent().and_then(Path::parent).unwrap().to_owned()
}

/// The folder that `make` builds into: `bin`'s parent, with `filters` and `components` in it.
pub fn target() -> PathBuf {
    bin().parent().unwrap().to_owned()
}

/// A binary by its name. Fails if it is not built.
pub fn program(name: &str) -> PathBuf {
    let file = bin().join(name);
    assert!(
        file.is_file(),
        "{} is missing: run `make build` first",
        file.display()
    );
    file
}

/// Envoy, found as `tensorgate` finds it.
pub fn envoy() -> PathBuf {
    let set = |name| std::env::var_os(name).map(PathBuf::from);
    let cache = set("XDG_CACHE_HOME").or_else(|| Some(set("HOME")?.join(".cache")));
    let cached = cache.map(|cache| cache.join("tensorgate/envoy/bin/envoy"));
    set("ENVOY")
        .or(cached.filter(|cached| cached.is_file()))
        .unwrap_or_else(|| PathBuf::from("envoy"))
}

/// An address on which no process listens, as [`free_port`] picks it.
pub fn free_address() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], free_port()))
}
