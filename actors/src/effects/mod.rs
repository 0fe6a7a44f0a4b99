//! Everything that talks to the outside: the API server.

pub mod certificate;
pub mod executor;
pub mod kubernetes;
pub mod lanes;
pub mod window;
