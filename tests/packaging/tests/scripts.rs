//! The make targets and the scripts behind them.

use std::path::Path;
use std::process::Command;

use anyhow::Result;
use packaging::{command, repository};

#[test]
fn the_protobuf_compiler_compiles() -> Result<()> {
    let folder =
        Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("protoc-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let proto = folder.join("greeting.proto");
    let source = "syntax = \"proto3\";\npackage packaging;\nimport \"google/protobuf/timestamp.proto\";\n\
                  message Greeting { optional string text = 1; google.protobuf.Timestamp at = 2; }\n";
    std::fs::write(&proto, source)?;
    let descriptors = folder.join("descriptors.bin");
    // The arguments are those of prost-build; the environment must not reach a cargo that builds the compiler.
    command::stdout(
        Command::new(repository().join("scripts/protoc"))
            .args(["--include_imports", "--include_source_info", "-o"])
            .arg(&descriptors)
            .arg("-I")
            .arg(&folder)
            .arg(&proto)
            .env("RUSTFLAGS", "--no-such-flag")
            .env("CARGO_ENCODED_RUSTFLAGS", "--no-such-flag")
            .env("RUSTC_WORKSPACE_WRAPPER", "/no/such/wrapper")
            .current_dir(&folder),
    )?;
    let written = std::fs::read(&descriptors)?;
    for name in [
        "greeting.proto",
        "google/protobuf/timestamp.proto",
        "packaging",
    ] {
        assert!(
            written
                .windows(name.len())
                .any(|window| window == name.as_bytes()),
            "{name}"
        );
    }
    std::fs::remove_dir_all(&folder)?;
    Ok(())
}

#[test]
fn help_is_the_default_target() -> Result<()> {
    let listing = command::stdout(
        Command::new("make")
            .arg("-C")
            .arg(repository())
            .arg("--no-print-directory"),
    )?;
    for target in [
        "demo",
        "demo-stop",
        "test",
        "lint",
        "bench",
        "generate",
        "clean",
    ] {
        assert!(
            listing.contains(&format!("make {target} ")),
            "{target} is not in:\n{listing}"
        );
    }
    Ok(())
}

#[test]
fn a_missing_toolchain_is_one_line() -> Result<()> {
    let make = command::stdout(Command::new("sh").args(["-c", "command -v make"]))?;
    for target in ["demo", "test", "lint", "bench", "generate"] {
        let output = command::run(
            Command::new(make.trim())
                .args(["--no-print-directory", target])
                .current_dir(repository())
                .env_clear()
                .env("PATH", "/nonexistent")
                .env("HOME", "/nonexistent"),
        )?;
        assert!(!output.success, "{target}");
        assert_eq!(output.stdout, "", "{target}");
        assert_eq!(
            output.stderr.lines().count(),
            1,
            "{target}: {}",
            output.stderr
        );
        assert!(
            output.stderr.contains("Rust is missing: install it"),
            "{target}: {}",
            output.stderr
        );
    }
    Ok(())
}
