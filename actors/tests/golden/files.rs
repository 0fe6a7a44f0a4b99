//! The files that say what we send. `UPDATE_GOLDEN=1` rewrites them.

use actors::object::Desired;

/// Whole clusters, which defaults of the resolver reach. Other samples come and go.
pub const SAMPLES: [(&str, &str); 3] = [
    (
        "minimal",
        include_str!("../../../docs/samples/minimal.yaml"),
    ),
    (
        "three-cells",
        include_str!("../../../docs/samples/three-cells.yaml"),
    ),
    (
        "external-etcd",
        include_str!("../../../docs/samples/external-etcd.yaml"),
    ),
];

fn file(name: &str) -> String {
    format!("{}/tests/golden/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// The file of this name, after it was rewritten if that is asked for.
fn golden(name: &str, text: &str) -> String {
    let path = file(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some_and(|v| v == "1") {
        std::fs::write(&path, text).unwrap();
    }
    std::fs::read_to_string(&path).unwrap()
}

/// Fails where the file of this name says otherwise.
pub fn assert_golden(name: &str, text: &str) {
    let golden = golden(name, text);
    let lines = golden.lines().zip(text.lines());
    let differing = lines.into_iter().position(|(old, new)| old != new);
    assert!(
        golden == text,
        "{} differs from line {differing:?} (counted from 0); UPDATE_GOLDEN=1 rewrites it",
        file(name)
    );
}

/// Objects as `kubectl apply` takes them.
pub fn manifest(objects: &[Desired]) -> String {
    objects
        .iter()
        .map(|object| format!("---\n{}", serde_saphyr::to_string(&object.body).unwrap()))
        .collect()
}
