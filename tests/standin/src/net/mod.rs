//! The model under real time and on real sockets.
#![allow(
    clippy::disallowed_methods,
    reason = "a stand-in lives in real time and in tasks of its own"
)]

pub mod admin;
pub mod beside;
pub mod control;
pub mod etcd;
pub mod fault;
pub mod files;
pub mod fleet;
pub mod gateway;
pub mod kubelet;
pub mod live;
pub mod names;
pub mod orch;
pub mod pod;
pub mod pooler;
pub mod server;
pub mod services;
pub mod store;
pub mod stream;
pub mod tls;
pub mod topology;
