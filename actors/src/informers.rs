//! One watch per kind, each feeding the supervisor. They run on the I/O threads and hold nothing.

use futures::StreamExt;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, ApiResource};
use kube::core::PartialObjectMeta;
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt, watcher as watch_objects};
use kube::{Client, ResourceExt};
use tokio::sync::{mpsc, watch};

use crate::entry::Watched;
use crate::object::{Key, Kind, MANAGED_BY};
use crate::supervisor::Inflow;

/// Objects per page of a list; bounds what one answer costs in memory.
const PAGE: u32 = 100;

/// The API resource of a kind.
pub fn resource(kind: Kind) -> ApiResource {
    let (group, version, plural) = kind.resource();
    ApiResource {
        group: group.to_owned(),
        version: version.to_owned(),
        api_version: kind.api_version().to_owned(),
        kind: kind.name().to_owned(),
        plural: plural.to_owned(),
    }
}

/// Watches one of our kinds until the receiver is gone. A new epoch starts it over with a fresh list.
pub async fn follow(
    kind: Kind,
    client: Client,
    inflow: mpsc::Sender<Inflow>,
    mut epoch: watch::Receiver<u64>,
) {
    let api: Api<Watched> = Api::all_with(client, &resource(kind));
    let mut config = watcher::Config::default().page_size(PAGE);
    if kind != Kind::MultigresCluster && !kind.is_template() {
        config = config.labels(&format!("{}={}", MANAGED_BY.0, MANAGED_BY.1));
    }
    loop {
        let listed = *epoch.borrow_and_update();
        let mut stream = watch_objects(api.clone(), config.clone())
            .default_backoff()
            .boxed();
        loop {
            let event = tokio::select! {
                event = stream.next() => event,
                changed = epoch.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    break;
                }
            };
            let sent = match event {
                None => break,
                Some(Err(error)) => {
                    tracing::warn!(kind = kind.name(), %error, "watch interrupted");
                    Ok(())
                }
                Some(Ok(event)) => pass(kind, event, listed, &inflow).await,
            };
            if sent.is_err() {
                return;
            }
        }
    }
}

/// Watches an optional kind while its definition exists, and says so while it does not.
pub async fn follow_optional(
    kind: Kind,
    client: Client,
    inflow: mpsc::Sender<Inflow>,
    mut epoch: watch::Receiver<u64>,
    io: tokio::runtime::Handle,
) {
    let (announce, mut served) = watch::channel(None);
    io.spawn(follow_definition(kind, client.clone(), announce));
    loop {
        let now = *served.borrow_and_update();
        let listed = *epoch.borrow_and_update();
        let watching = async {
            match now {
                Some(true) => follow(kind, client.clone(), inflow.clone(), epoch.clone()).await,
                Some(false) => {
                    let _ = inflow.send(Inflow::Unserved(kind, listed)).await;
                    // A new leader asks again.
                    let _ = epoch.changed().await;
                }
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = watching => {}
            changed = served.changed() => if changed.is_err() {
                return;
            },
        }
        if inflow.is_closed() {
            return;
        }
    }
}

/// Watches the definition of a kind, metadata only, and announces whether it is there.
async fn follow_definition(kind: Kind, client: Client, announce: watch::Sender<Option<bool>>) {
    let (group, _, plural) = kind.resource();
    let api = Api::<PartialObjectMeta<CustomResourceDefinition>>::all(client);
    let config = watcher::Config::default().fields(&format!("metadata.name={plural}.{group}"));
    let mut stream = watch_objects(api, config).default_backoff().boxed();
    let mut listed = false;
    while let Some(event) = stream.next().await {
        let there = match event {
            Ok(Event::Init) => {
                listed = false;
                continue;
            }
            Ok(Event::InitApply(_)) => {
                listed = true;
                continue;
            }
            Ok(Event::InitDone) => listed,
            Ok(Event::Apply(_)) => true,
            Ok(Event::Delete(_)) => false,
            Err(error) => {
                tracing::warn!(kind = kind.name(), %error, "watch of the definition interrupted");
                continue;
            }
        };
        announce.send_if_modified(|served| served.replace(there) != Some(there));
        if announce.is_closed() {
            return;
        }
    }
}

async fn pass(
    kind: Kind,
    event: Event<Watched>,
    epoch: u64,
    inflow: &mpsc::Sender<Inflow>,
) -> Result<(), ()> {
    let message = match event {
        Event::Init => Inflow::Listing(kind),
        Event::InitDone => Inflow::Listed(kind, epoch),
        Event::InitApply(object) | Event::Apply(object) => match object.trim(kind) {
            Some(entry) => Inflow::Seen(Box::new(entry)),
            None => return Ok(()),
        },
        Event::Delete(object) => match object.trim(kind) {
            Some(entry) => Inflow::Left(entry.key().clone(), entry.uid.clone()),
            None => return Ok(()),
        },
    };
    inflow.send(message).await.map_err(drop)
}

/// Watches versions of the users' objects of a kind (metadata only), so that a mended one is noticed.
pub async fn follow_foreign(kind: Kind, client: Client, inflow: mpsc::Sender<Inflow>) {
    let api = Api::<PartialObjectMeta<Watched>>::all_with(client, &resource(kind));
    let config = watcher::Config::default()
        .page_size(PAGE)
        .labels(&format!("{}!={}", MANAGED_BY.0, MANAGED_BY.1));
    let mut stream = watch_objects(api, config).default_backoff().boxed();
    while let Some(event) = stream.next().await {
        match event {
            Ok(event) => {
                if inflow.send(apart(kind, &event)).await.is_err() {
                    return;
                }
            }
            Err(error) => tracing::warn!(kind = kind.name(), %error, "watch interrupted"),
        }
    }
}

/// What the watch of the users' objects tells. A list names what is there: what it leaves out went unseen.
fn apart<K: kube::Resource>(kind: Kind, event: &Event<K>) -> Inflow {
    let key = |object: &K| {
        let namespace = object.namespace().unwrap_or_default();
        Key::new(kind, &namespace, &object.name_any())
    };
    match event {
        Event::Init => Inflow::ForeignListing(kind),
        Event::InitDone => Inflow::ForeignListed(kind),
        Event::Apply(object) | Event::InitApply(object) => {
            let version = object.resource_version();
            Inflow::Foreign(
                key(object),
                version.and_then(|version| version.parse().ok()),
            )
        }
        Event::Delete(object) => Inflow::Foreign(key(object), None),
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Secret;

    use super::*;

    #[test]
    fn a_list_of_the_users_objects_has_a_beginning_and_an_end() {
        let secret = || {
            let mut secret = Secret::default();
            secret.metadata.name = Some("s".into());
            secret.metadata.namespace = Some("n".into());
            secret.metadata.resource_version = Some("7".into());
            secret
        };
        let events = [
            Event::Init,
            Event::InitApply(secret()),
            Event::InitDone,
            Event::Apply(secret()),
            Event::Delete(secret()),
        ];
        let told = events.map(|event| format!("{:?}", apart(Kind::Secret, &event)));
        let key = Key::new(Kind::Secret, "n", "s");
        let seen = |version| format!("{:?}", Inflow::Foreign(key.clone(), version));
        assert_eq!(
            told,
            [
                format!("{:?}", Inflow::ForeignListing(Kind::Secret)),
                seen(Some(7)),
                format!("{:?}", Inflow::ForeignListed(Kind::Secret)),
                seen(Some(7)),
                seen(None),
            ]
        );
    }
}
