//! The Multigres operator.
fn main() -> anyhow::Result<()> {
    Ok(())
}
