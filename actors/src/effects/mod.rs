//! Everything that talks to the outside: the API server, the topology store, the data plane.

pub mod certificate;
pub mod dataplane;
pub mod etcd;
pub mod executor;
pub mod kubernetes;
pub mod lanes;
pub mod links;
mod parcel;
mod secret;
pub mod topologies;
pub mod window;

/// A gRPC error in words: its code, its message and the causes below, each once.
fn words_of(status: &tonic::Status) -> String {
    let mut text = format!("{:?}: {}", status.code(), status.message());
    let mut source = std::error::Error::source(status);
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}
