//! Pods that are older than their test: what the operator does to old ones only is tested without waiting for years to pass.

use std::sync::Arc;

use anyhow::{Context, ensure};
use control_plane::wait;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use standin::net::{names::Names, store::Store};

use crate::bed::{Bed, HEALTHY, NAMESPACE};

impl Bed {
    /// Makes a pod so much older. The API server lets nobody change when an object was created, so its etcd is told.
    ///
    /// # Errors
    /// When the pod is not there, or is not stored as expected.
    pub async fn age(&self, pod: &str, by: SignedDuration) -> anyhow::Result<()> {
        let api: Api<Pod> = Api::namespaced(self.plane.client(), NAMESPACE);
        let created = async || {
            let created = api.get(pod).await?.metadata.creation_timestamp;
            anyhow::Ok(created.context("no time of creation")?.0)
        };
        let (before, names) = (created().await?, Arc::new(Names::default()));
        let after = before.checked_sub(by)?;
        let store = Store::new(names, vec![self.plane.etcd()], "/registry");
        let key = format!("pods/{NAMESPACE}/{pod}");
        // Somebody may write the pod's status meanwhile.
        wait::until(&format!("{pod} to be older"), HEALTHY, async || {
            let old = store.get(&key).await?.context("the pod is not stored")?;
            let new = replaced(&old, &field(before), &field(after))?;
            Ok(store.swap(&key, old, new).await?.then_some(()))
        })
        .await?;
        ensure!(created().await? == after, "{pod} is not older");
        Ok(())
    }
}

/// `metadata.creationTimestamp` as protobuf: field 8 of ObjectMeta, a message of seconds (field 1) and nanoseconds (field 2). Its
/// length is the same for all instants of our time, so that no length around it changes.
fn field(at: Timestamp) -> Vec<u8> {
    let mut bytes = vec![0x42, 8, 0x08];
    let mut rest = at.as_second();
    while rest >= 0x80 {
        bytes.extend(u8::try_from(rest & 0x7F).map(|low| low | 0x80));
        rest >>= 7;
    }
    bytes.extend(u8::try_from(rest));
    bytes.extend([0x10, 0]);
    bytes
}

fn replaced(stored: &[u8], old: &[u8], new: &[u8]) -> anyhow::Result<Vec<u8>> {
    ensure!(old.len() == new.len(), "instants of different lengths");
    let places = stored.windows(old.len()).enumerate();
    let places: Vec<usize> = places
        .filter(|(_, window)| *window == old)
        .map(|(place, _)| place)
        .collect();
    let [place] = places[..] else {
        anyhow::bail!("the time of creation is stored {} times", places.len());
    };
    let (begin, rest) = stored.split_at(place);
    let (_, end) = rest.split_at(old.len());
    Ok([begin, new, end].concat())
}
