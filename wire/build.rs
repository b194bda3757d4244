//! Compiles `proto/` for feature `grpc`, without protoc. Without that feature it does nothing, and
//! none of what it needs is built.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=proto/open_inference_grpc.proto");
    #[cfg(feature = "grpc")]
    tonic_prost_build::configure()
        // Raw contents are shared, not copied, between a request and its frame.
        .bytes(".inference")
        .emit_rerun_if_changed(false)
        .compile_fds(protox::compile(
            ["proto/open_inference_grpc.proto"],
            ["proto"],
        )?)?;
    Ok(())
}
