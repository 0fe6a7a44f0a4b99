//! The image's final stage, without a container engine.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use packaging::dockerfile::{self, Stage};
use packaging::{binary, command, repository};

/// The libraries of `gcr.io/distroless/cc-debian12` that a Rust program may ask for.
const DISTROLESS_CC: [&str; 9] = [
    "ld-linux-x86-64.so.2",
    "ld-linux-aarch64.so.1",
    "libc.so.6",
    "libdl.so.2",
    "libgcc_s.so.1",
    "libm.so.6",
    "libpthread.so.0",
    "librt.so.1",
    "libstdc++.so.6",
];

fn stages() -> Result<Vec<Stage>> {
    dockerfile::parse(&std::fs::read_to_string(repository().join("Dockerfile"))?)
}

fn last_stage() -> Result<Stage> {
    stages()?.pop().context("a Dockerfile without stages")
}

/// Every file below a folder, as absolute paths seen from inside it.
fn files(root: &Path) -> Result<BTreeSet<PathBuf>> {
    let mut found = BTreeSet::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.insert(Path::new("/").join(path.strip_prefix(root)?));
            }
        }
    }
    Ok(found)
}

fn place(root: &Path, source: &Path, destination: &Path) -> Result<()> {
    let target = root.join(destination.strip_prefix("/")?);
    std::fs::create_dir_all(target.parent().context("a file without a folder")?)?;
    std::fs::copy(source, &target).with_context(|| format!("copying {}", source.display()))?;
    std::fs::set_permissions(&target, std::fs::Permissions::from_mode(0o755))?;
    Ok(())
}

#[test]
fn the_final_stage_holds_the_binary_and_nothing_else() -> Result<()> {
    let stage = last_stage()?;
    assert_eq!(stage.base, "gcr.io/distroless/cc-debian12:nonroot");
    assert_eq!(
        stage.copies()?,
        [("builder".into(), "/manager".into(), "/manager".into())]
    );
    assert_eq!(stage.only("USER")?, "65532:65532");
    assert_eq!(stage.entrypoint()?, ["/manager"]);
    let allowed = ["COPY", "USER", "ENTRYPOINT"];
    assert!(
        stage
            .instructions
            .iter()
            .all(|(name, _)| allowed.contains(&name.as_str())),
        "{stage:?}"
    );
    Ok(())
}

#[test]
fn the_builder_uses_the_pinned_toolchain_and_the_profile_of_the_image() -> Result<()> {
    let builder = stages()?
        .into_iter()
        .find(|stage| stage.name.as_deref() == Some("builder"))
        .context("no builder")?;
    let toolchain = std::fs::read_to_string(repository().join("rust-toolchain.toml"))?;
    let channel = toolchain
        .lines()
        .find_map(|line| line.strip_prefix("channel = "))
        .context("no channel")?;
    let channel = channel.trim_matches('"');
    assert_eq!(builder.base, format!("rust:{channel}-slim-bookworm"));
    assert_eq!(builder.only("ENV")?, format!("RUSTUP_TOOLCHAIN={channel}"));

    let build = builder.only("RUN")?;
    assert!(
        build.contains("cargo build --profile dist --locked"),
        "{build}"
    );
    assert!(
        build.contains("cp target/dist/multigres-operator /manager"),
        "{build}"
    );
    let manifest = std::fs::read_to_string(repository().join("Cargo.toml"))?;
    assert!(
        manifest.contains("[profile.dist]") && manifest.contains("name = \"multigres-operator\"")
    );
    Ok(())
}

#[test]
fn the_binary_runs_in_the_final_stage() -> Result<()> {
    let stage = last_stage()?;
    let operator = binary::operator()?;
    let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("image-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&root);

    let mut declared = BTreeSet::new();
    for (_, _, destination) in stage.copies()? {
        place(&root, &operator, Path::new(&destination))?;
        declared.insert(PathBuf::from(destination));
    }
    for library in binary::libraries(&operator)? {
        let name = library
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        ensure!(
            DISTROLESS_CC.contains(&name),
            "{name} is not in the base image"
        );
        place(&root, &library, &library)?;
        declared.insert(library);
    }
    assert_eq!(files(&root)?, declared);

    // As root the user of the image itself; otherwise a user namespace gives the right to chroot.
    let as_root = command::stdout(Command::new("id").arg("-u"))?.trim() == "0";
    let mut inside = Command::new(if as_root { "chroot" } else { "unshare" });
    if as_root {
        inside.arg(format!("--userspec={}", stage.only("USER")?));
    } else {
        inside.args(["--map-root-user", "chroot"]);
    }
    let output = command::run(
        inside
            .arg(&root)
            .args(stage.entrypoint()?)
            .arg("--version")
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"),
    )?;
    assert!(output.success, "{output:?}");
    assert!(
        output.stdout.contains(env!("CARGO_PKG_VERSION")),
        "{output:?}"
    );
    assert_eq!(output.stderr, "");
    assert_eq!(files(&root)?, declared, "the binary wrote into its image");
    std::fs::remove_dir_all(&root)?;
    Ok(())
}

#[test]
fn the_parser_joins_lines_and_keeps_stages_apart() -> Result<()> {
    let text = "# a comment\nFROM a AS b\nRUN one \\\n  two\n\nfrom c\nCOPY --from=b /x /y\n";
    let stages = dockerfile::parse(text)?;
    let [first, second] = stages.as_slice() else {
        anyhow::bail!("{stages:?}")
    };
    assert_eq!(
        (
            first.base.as_str(),
            first.name.as_deref(),
            first.only("RUN")?
        ),
        ("a", Some("b"), "one two")
    );
    assert_eq!(second.copies()?, [("b".into(), "/x".into(), "/y".into())]);
    assert!(second.only("USER").is_err());
    assert!(dockerfile::parse("USER 1").is_err());
    Ok(())
}
