//! `standin` plays the data plane for the operator's pods on a control plane without containers.

use std::{net::SocketAddr, path::PathBuf, sync::Arc};

use clap::Parser;
use control_plane::{Binaries, connect};
use standin::{
    net::{
        beside::network,
        control::Control,
        files::Files,
        fleet::{Fleet, Options},
        kubelet,
        server::Port,
    },
    timing::Timing,
};

/// Plays the data plane for the operator's pods.
#[derive(Parser)]
struct Args {
    /// Credentials with all rights.
    #[arg(long)]
    kubeconfig: PathBuf,
    /// Folder for data and logs of etcd processes.
    #[arg(long)]
    folder: PathBuf,
    /// The first two numbers of the pods' addresses, such as 127.32.
    #[arg(long)]
    network: String,
    /// How many times faster than real Multigres.
    #[arg(long, default_value_t = 1)]
    speed: u32,
    /// Where faults are set and ledgers are read.
    #[arg(long)]
    control: Option<SocketAddr>,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let network = network(&args.network)?;
    let client = connect(&args.kubeconfig).await?;
    let binaries = tokio::task::spawn_blocking(Binaries::locate).await??;
    std::fs::create_dir_all(&args.folder)?;
    let fleet = Fleet::new(Options {
        timing: Timing::default().faster(args.speed),
        speed: args.speed,
        etcd: binaries.path("etcd"),
        folder: args.folder,
        network,
        files: Files::Cluster(client.clone()),
    });
    let control = async {
        match args.control {
            None => std::future::pending().await,
            Some(address) => {
                let port = Port {
                    address,
                    faults: fleet.faults.of("control"),
                    tls: None,
                    service: Arc::new(Control(Arc::clone(&fleet))),
                    calls: Arc::default(),
                };
                port.serve().await;
            }
        }
    };
    let asked = async {
        let mut terminate =
            tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
        tokio::select! {
            _ = terminate.recv() => Ok(()),
            end = tokio::signal::ctrl_c() => end,
        }
    };
    tokio::select! {
        () = kubelet::run(client, Arc::clone(&fleet)) => {}
        () = control => {}
        end = asked => end?,
    }
    fleet.shut_down();
    Ok(())
}
