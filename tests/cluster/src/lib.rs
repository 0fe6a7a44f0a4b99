//! The ground of the black-box tests: a plane with the chart, the operator as a process under the chart's ServiceAccount,
//! and what a test asks about both.
#![allow(
    clippy::disallowed_methods,
    reason = "tests measure with the monotonic clock"
)]

mod age;
mod bed;
pub mod broken;
pub mod chain;
pub mod dice;
pub mod introspection;
pub mod owned;
pub mod rights;
pub mod terms;
pub mod topology;
pub mod transitions;

pub use bed::{Bed, HEALTHY, NAMESPACE, PASSWORD, binary, kind, pass};
