//! Files of a Secret, read live. Their content leaves this module only into a connection.

use k8s_openapi::api::core::v1::Secret;

use super::kubernetes::{Call, Failure, Kubernetes};
use crate::object::Key;

/// Why the files could not be had. Nothing of their content is in its text.
#[derive(Debug, thiserror::Error)]
pub enum Unread {
    /// The API server did not give the Secret.
    #[error("cannot be read: {0}")]
    Refused(Failure),
    /// The answer is no Secret.
    #[error("cannot be read: line {0}")]
    Garbled(usize),
    /// A file is missing or empty.
    #[error("has no content under the key {0:?}")]
    Without(&'static str),
}

/// The content of these keys.
///
/// # Errors
/// See [`Unread`].
pub async fn files<const N: usize>(
    api: &dyn Kubernetes,
    secret: &Key,
    names: [&'static str; N],
) -> Result<[Vec<u8>; N], Unread> {
    let body = api.call(Call::get(secret.path())).await;
    let body = body.map_err(Unread::Refused)?;
    let secret: Secret =
        serde_json::from_slice(&body).map_err(|error| Unread::Garbled(error.line()))?;
    let mut data = secret.data.unwrap_or_default();
    let mut missing = None;
    let files = names.map(|name| {
        let file = data.remove(name).map(|bytes| bytes.0).unwrap_or_default();
        if file.is_empty() {
            missing = Some(Unread::Without(name));
        }
        file
    });
    missing.map_or(Ok(files), Err)
}
