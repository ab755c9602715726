//! Generates the Rust types of `proto/`, without any program that would have to be installed.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    const FOLDER: &str = "proto";
    println!("cargo::rerun-if-changed={FOLDER}");
    let schema = protox::compile(["realtime.proto"], [FOLDER])?;
    prost_build::Config::new().btree_map(["."]).include_file("schema.rs").compile_fds(schema)?;
    Ok(())
}
