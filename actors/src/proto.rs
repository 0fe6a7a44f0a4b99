//! The data plane's messages and services, generated from `proto/` (`topology.md` 2 and 3): one module per protobuf package.
//!
//! Records of the topology are decoded with these types and never encoded again: prost drops fields it does not know. To
//! change a record that others write, edit its bytes. Servers and the consensus service exist with the feature `server` only.

macro_rules! packages {
    ($($(#[$attribute:meta])* $name:ident)*) => {$(
        $(#[$attribute])*
        #[doc = concat!("Package `", stringify!($name), "`.")]
        #[allow(missing_docs, clippy::all, clippy::cast_lossless, reason = "generated")]
        pub mod $name {
            include!(concat!(env!("OUT_DIR"), "/", stringify!($name), ".rs"));
        }
    )*};
}

packages! {
    clustermetadata
    multiadmin
    multigatewaymanager
    multigatewaymanagerdata
    multiorch
    multipoolermanager
    multipoolermanagerdata
    multipoolerservice
    serviceinfo
    #[cfg(feature = "server")]
    consensus
    #[cfg(feature = "server")]
    consensusdata
}

/// Largest message in either direction, in bytes: what all servers of the data plane accept and send.
pub const MESSAGE_LIMIT: usize = 16 * 1024 * 1024;
