//! A stand-in in this process, beside a control plane whose pods it plays.

use std::{ops::Deref, sync::Arc};

use anyhow::Context;
use control_plane::Plane;
use tokio::task::JoinHandle;

use super::{
    files::Files,
    fleet::{Fleet, Options},
    kubelet,
};
use crate::timing::Timing;

/// A fleet and its kubelets; both end when dropped.
pub struct Beside {
    fleet: Arc<Fleet>,
    kubelets: JoinHandle<()>,
}

impl Beside {
    /// Plays the operator's pods on a plane whose pods are `Pods::StandIn`, so many times faster than real Multigres.
    ///
    /// # Errors
    /// When the plane's network is none in IPv4.
    pub fn start(plane: &Plane, speed: u32) -> anyhow::Result<Self> {
        let client = plane.client();
        let folder = plane.dir().join("standin");
        std::fs::create_dir_all(&folder)?;
        let fleet = Fleet::new(Options {
            timing: Timing::default().faster(speed),
            speed,
            etcd: plane.binaries().path("etcd"),
            folder,
            network: network(&plane.pod_cidr())?,
            files: Files::Cluster(client.clone()),
        });
        let kubelets = tokio::spawn(kubelet::run(client, Arc::clone(&fleet)));
        Ok(Self { fleet, kubelets })
    }

    /// The fleet, to share.
    pub fn fleet(&self) -> Arc<Fleet> {
        Arc::clone(&self.fleet)
    }
}

impl Deref for Beside {
    type Target = Fleet;

    fn deref(&self) -> &Fleet {
        &self.fleet
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        self.kubelets.abort();
        self.fleet.shut_down();
    }
}

/// The first two numbers of the pods' addresses, of `127.32`, `127.32.0.0/16` and the like.
///
/// # Errors
/// When they are none.
pub fn network(text: &str) -> anyhow::Result<[u8; 2]> {
    let mut numbers = text.split('.').map(str::parse);
    let mut next = || numbers.next()?.ok();
    next()
        .zip(next())
        .map(|(first, second)| [first, second])
        .with_context(|| format!("{text} does not begin with two numbers of an address"))
}
