//! x
pub mod identity;
pub mod key;
pub mod record;
pub mod view;
pub mod wire;
