//! Generates the data plane's messages and clients from `proto/`. The servers, and the consensus service that only multiorch
//! may call, are generated for the stand-in data plane only (feature `server`).

use std::error::Error;
use std::path::Path;

/// What the operator decodes and calls.
const OURS: &[&str] = &[
    "clustermetadata",
    "multiadmin",
    "multigatewaymanager",
    "multigatewaymanagerdata",
    "multiorch",
    "multipoolermanager",
    "multipoolermanagerdata",
    "multipoolerservice",
    "serviceinfo",
];

/// What only processes of the data plane send each other.
const THEIRS: &[&str] = &["consensus", "consensusdata"];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let server = std::env::var_os("CARGO_FEATURE_SERVER").is_some();
    let theirs = if server { THEIRS } else { &[] };
    let files: Vec<_> = OURS
        .iter()
        .chain(theirs)
        .map(|name| Path::new("proto").join(name).with_extension("proto"))
        .collect();
    tonic_prost_build::configure()
        .build_server(server)
        .btree_map(".")
        .codec_path("crate::proto::Codec")
        .compile_fds(protox::compile(files, ["proto"])?)?;
    Ok(())
}
