//! What the packaging tests share: reading the Dockerfile, rendering the chart, finding the operator's binary.
//!
//! The tests need neither a container engine nor a registry: the final stage of the image is put together in a folder
//! from what the Dockerfile declares and the libraries of this machine, and the binary is run in it by `chroot`.

pub mod binary;
pub mod chart;
pub mod command;
pub mod dockerfile;

use std::path::{Path, PathBuf};

/// The root of the repository.
#[must_use]
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}
