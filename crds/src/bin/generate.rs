//! Writes the CRD manifests into the chart: `make generate`.

use std::path::Path;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../charts/multigres-operator/crd-manifests");
    std::fs::create_dir_all(&folder)?;
    for (name, yaml) in crds::schema::manifests()? {
        std::fs::write(folder.join(name), yaml)?;
    }
    Ok(())
}
