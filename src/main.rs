//! The Multigres operator.

use std::process::ExitCode;

use clap::Parser;
use multigres_operator::args::{Args, Environment};
use multigres_operator::{process, runtime, telemetry};

fn main() -> ExitCode {
    let args = Args::parse();
    match start(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("multigres-operator: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn start(args: Args) -> anyhow::Result<()> {
    runtime::install_crypto();
    let environment = Environment::read().map_err(anyhow::Error::msg)?;
    telemetry::start().map_err(anyhow::Error::msg)?;
    let runtime = runtime::build()?;
    let result = runtime.block_on(process::run(args, environment));
    runtime.shutdown_background();
    Ok(result?)
}
