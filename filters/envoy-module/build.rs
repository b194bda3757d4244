//! How the module is linked.
//!
//! It is never unloaded: its thread for timers runs as long as Envoy does, whatever configuration
//! goes. And it needs no library but the C library: Rust's standard library asks for `libgcc_s`,
//! which unwinds after a panic, and Envoy's images without a distribution have no such file. So the
//! linker finds GCC's static archives under that name.

use std::path::Path;
use std::{env, fs, io};

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-cdylib-link-arg=-Wl,-z,nodelete");
    let is_gnu = env::var_os("CARGO_CFG_TARGET_ENV").is_some_and(|env| env == "gnu");
    if let Some(folder) = env::var_os("OUT_DIR").filter(|_| is_gnu) {
        let folder = Path::new(&folder);
        // A script of the linker.
        fs::write(folder.join("libgcc_s.so"), "INPUT(-lgcc_eh -lgcc)\n")?;
        println!("cargo::rustc-link-search=native={}", folder.display());
    }
    Ok(())
}
