//! The topology store: what is read from it, what we write, and every decision about it, without a client or a clock.

pub mod desired;
pub mod edit;
pub mod identity;
pub mod key;
pub mod peer;
pub mod prune;
pub mod record;
pub mod register;
mod suspects;
pub mod view;
pub mod wire;

use serde::Serialize;

/// One compare-and-swap.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Write {
    /// Key.
    pub key: Box<str>,
    /// The new value; `None` deletes.
    pub value: Option<Vec<u8>>,
    /// The version (`mod_revision`) that must still be there; 0: the key must not exist.
    pub version: i64,
    /// Why, for introspection.
    pub reason: &'static str,
}

/// Something that is wrong and that we leave alone, with the reason.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Held {
    /// Key.
    pub key: Box<str>,
    /// Why.
    pub why: String,
}
