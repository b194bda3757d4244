//! A client and a server of Envoy's rate limit protocol, from Envoy's own definitions.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    tonic_prost_build::configure()
        .emit_rerun_if_changed(false)
        .compile_fds(protox::compile(["proto/rls.proto"], ["proto"])?)?;
    Ok(())
}
