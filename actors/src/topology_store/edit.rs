//! The edits we make to records, each on the bytes as read: what we do not know stays. A new record is an edit of nothing.

use jiff::Timestamp;

use super::desired::{Backup, DesiredCell, DesiredDatabase, DurabilityPolicy};
use super::wire::{Malformed, Value, set};

/// The reason in a record that we mark dead; the Go operator writes the same.
pub const NO_POD: &str = "operator: no backing pod for pooler";

const SHUTDOWN: u64 = 4;
const DISABLED: u64 = 1;

fn edit(record: &[u8], changes: &[(&[u32], Value<'_>)]) -> Result<Vec<u8>, Malformed> {
    let mut edited = record.to_vec();
    for (path, value) in changes {
        edited = set(&edited, path, *value)?;
    }
    Ok(edited)
}

/// A pooler's record for a pod that is gone: lifecycle SHUTDOWN with reason and time. With `node_gone` the process is surely
/// gone too, and the record becomes what the pooler itself leaves: not serving, no role. Otherwise admin tools, which look at
/// nothing but that, would still choose it.
///
/// # Errors
/// [`Malformed`]: the record is not touched.
pub fn mark_dead(record: &[u8], now: Timestamp, node_gone: bool) -> Result<Vec<u8>, Malformed> {
    let seconds = u64::try_from(now.as_second()).unwrap_or_default();
    let time = set(&[], &[1], Value::Number(seconds))?;
    let mut changes: Vec<(&[u32], Value<'_>)> = vec![
        (&[12, 1], Value::Number(SHUTDOWN)),
        (&[12, 2], Value::Text(NO_POD)),
        (&[12, 3], Value::Message(&time)),
    ];
    if node_gone {
        changes.push((&[6], Value::Nothing));
        changes.push((&[7], Value::Number(DISABLED)));
        changes.push((&[13], Value::Nothing));
    }
    edit(record, &changes)
}

/// The drain mark: the one edit of a live pooler's record (`design.md` 4, "Mark"). `serving` takes it back.
///
/// # Errors
/// [`Malformed`]: the record is not touched.
pub fn mark_serving(record: &[u8], serving: bool) -> Result<Vec<u8>, Malformed> {
    let value = if serving { 0 } else { DISABLED };
    edit(record, &[(&[7], Value::Number(value))])
}

/// A cell's record as desired.
///
/// # Errors
/// [`Malformed`]: the record is not touched.
pub fn cell(record: &[u8], desired: &DesiredCell) -> Result<Vec<u8>, Malformed> {
    edit(
        record,
        &[
            (&[1], Value::Text(&desired.name)),
            (&[2], Value::Texts(&desired.servers)),
            (&[3], Value::Text(&desired.root)),
        ],
    )
}

/// A database's record as desired. The generation of its backup repository is the data plane's and stays.
///
/// # Errors
/// [`Malformed`]: the record is not touched.
pub fn database(record: &[u8], desired: &DesiredDatabase) -> Result<Vec<u8>, Malformed> {
    let policy: &DurabilityPolicy = &desired.durability;
    let mut edited = edit(record, &[(&[1], Value::Text(&desired.name))])?;
    edited = match &desired.backup {
        Backup::Filesystem { path } => edit(
            &edited,
            &[(&[2, 2], Value::Nothing), (&[2, 1, 1], Value::Text(path))],
        )?,
        Backup::S3(s3) => edit(
            &edited,
            &[
                (&[2, 1], Value::Nothing),
                (&[2, 2, 1], Value::Text(&s3.bucket)),
                (&[2, 2, 2], Value::Text(&s3.region)),
                (&[2, 2, 3], Value::Text(&s3.endpoint)),
                (&[2, 2, 4], Value::Text(&s3.key_prefix)),
                (&[2, 2, 5], Value::Number(s3.use_env_credentials.into())),
            ],
        )?,
    };
    edit(
        &edited,
        &[
            (&[2, 3], Value::Number(desired.encrypted.into())),
            (&[3], Value::Texts(&desired.cells)),
            (&[4, 1], Value::Text(policy.name())),
            (&[4, 3], Value::Number(policy.quorum_type())),
            (&[4, 4], Value::Number(policy.required().into())),
        ],
    )
}
