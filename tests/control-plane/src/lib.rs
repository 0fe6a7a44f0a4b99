//! A real Kubernetes control plane on loopback for tests, the demo and the benchmarks.
//!
//! etcd, kube-apiserver, kube-controller-manager and kube-scheduler run as ordinary processes; kwok plays the kubelets,
//! so that pods, volumes and nodes get their statuses without containers. The operator runs as a process too, with the
//! rights, arguments and environment that its Helm chart gives it. cert-manager is a kind and a player of its issuer.

mod audit;
mod binaries;
mod certificates;
pub mod chart;
mod components;
mod faults;
pub mod http;
pub mod issuer;
mod operator;
mod plane;
mod process;
mod proxy;
mod reject;
mod slot;
mod stages;
pub mod wait;

pub use audit::{Audit, Entry, Mark};
pub use binaries::Binaries;
pub use chart::Installed;
pub use faults::{Fault, PodFault};
pub use operator::{OperatorProcess, Overrides};
pub use plane::{Plane, PlaneOptions, Pods, connect};
pub use process::{Guard, Process, Signal, alive, signal_pid};
pub use proxy::{Proxy, Toll, Trouble};
