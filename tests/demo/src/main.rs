//! `demo up` starts a control plane on loopback, installs the operator by its chart, creates the smallest cluster and
//! shows how it becomes healthy. `demo down` takes everything away.

mod down;
mod objects;
mod state;
mod up;

use std::process::ExitCode;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let command = std::env::args().nth(1).unwrap_or_default();
    let result = match command.as_str() {
        "up" => up::up().await,
        "down" => down::down().await,
        _ => {
            eprintln!("usage: demo up | demo down");
            return ExitCode::from(2);
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
