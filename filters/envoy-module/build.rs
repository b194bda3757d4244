//! Links the module so that it is never unloaded: its thread for timers runs as long as Envoy does,
//! whatever configuration goes.

fn main() {
    println!("cargo::rustc-cdylib-link-arg=-Wl,-z,nodelete");
    println!("cargo::rerun-if-changed=build.rs");
}
