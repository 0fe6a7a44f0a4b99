//! Who is told: from an observation to the actors that it concerns.

use std::collections::BTreeSet;

use actix::prelude::*;

use super::Supervisor;
use crate::cluster::certificates;
use crate::entry::Entry;
use crate::links;
use crate::object::{Key, Kind, MANAGED_BY};
use crate::room::ActorId;
use crate::store::Change;

impl Supervisor {
    pub(super) fn seen(&mut self, entry: Entry, ctx: &mut Context<Self>) {
        let key = entry.key().clone();
        let before = self.world.store.borrow().get(&key).cloned();
        if self.world.store.borrow_mut().observe(entry, None) == Change::Changed {
            let now = self.world.store.borrow().get(&key).cloned();
            if let (Some(before), Some(now)) = (&before, now)
                && before.uid != now.uid
                && key.kind.is_custom()
            {
                self.end(key.kind, &before.uid);
            }
            self.changed(&key, before.as_deref(), ctx);
        }
    }

    /// An object is new or different: its actor exists, and whom it concerns looks, also whom it concerned `before`.
    pub(super) fn changed(&mut self, key: &Key, before: Option<&Entry>, ctx: &mut Context<Self>) {
        let Some(entry) = self.world.store.borrow().get(key).cloned() else {
            return;
        };
        if key.kind.is_custom() {
            self.seat(&entry, ctx);
        }
        if key.kind == Kind::Pod {
            self.dial(&entry);
        } else if links::is_identity(key) {
            self.reidentify(key);
        }
        let mut ids = self.concerned(&entry);
        if key.kind == Kind::Cell && before.is_none_or(|old| old.generation != entry.generation) {
            // Orchestrators ask whether their cell has a topology store of its own.
            ids.extend(self.neighbours(key, &[Kind::Shard]));
        }
        if let Some(before) = before.filter(|before| before.labels != entry.labels) {
            ids.extend(self.concerned(before));
        }
        ids.extend(self.world.referrers(key));
        for id in ids {
            self.world.wake(&id, key);
        }
    }

    /// Whom a change of this object concerns.
    fn concerned(&self, entry: &Entry) -> BTreeSet<ActorId> {
        if entry.key().kind.is_template() {
            return self.world.referrers(entry.key()).into_iter().collect();
        }
        let store = self.world.store.borrow();
        let mut ids = BTreeSet::new();
        let key = entry.key();
        if key.kind.is_custom() {
            ids.insert(ActorId::custom(key.kind, &entry.uid));
            let seats = self.world.seats.borrow();
            ids.extend(
                seats
                    .keys()
                    .filter(|id| id.pool.is_some() && id.uid == entry.uid)
                    .cloned(),
            );
        }
        if let Some(owner) = entry.owner.as_deref().and_then(|uid| store.by_uid(uid)) {
            let kind = owner.key().kind;
            ids.insert(ActorId::custom(kind, &owner.uid));
            if let (Kind::Shard, Some(pool), Some(cell)) = (
                kind,
                entry.label("multigres.com/pool"),
                entry.label("multigres.com/cell"),
            ) {
                ids.insert(ActorId::pool(&owner.uid, pool, cell));
            } else if kind == Kind::Shard && entry.label(MANAGED_BY.0).is_none() {
                // Stripped of its labels, it no longer says whose it is: any of the shard's pools may have to mend it.
                let seats = self.world.seats.borrow();
                let pools = seats.keys().filter(|id| id.pool.is_some());
                ids.extend(pools.filter(|id| id.uid == owner.uid).cloned());
            }
        } else if let Some(group) = store.group_of(key) {
            // Claims that outlive their shard have no owner; pods of Deployments and StatefulSets have another one.
            let neighbours = store.group(group);
            ids.extend(neighbours.iter().flat_map(|other| onlookers(other, entry)));
            if entry.label("app.kubernetes.io/component") == Some(certificates::COMPONENT) {
                // Pool pods mount them too.
                let seats = self.world.seats.borrow();
                let pools = seats.keys().filter(|id| id.pool.is_some());
                let here = |id: &&ActorId| neighbours.iter().any(|other| other.uid == id.uid);
                ids.extend(pools.filter(here).cloned());
            }
        }
        if key.kind == Kind::PersistentVolumeClaim && entry.label("multigres.com/pool").is_none() {
            // What a Shard backs up to is mounted by every pool.
            let shards = ids.iter().filter(|id| id.kind == Kind::Shard);
            let pools = shards.flat_map(|shard| self.world.pools_of(&shard.uid));
            ids.extend(pools.collect::<Vec<_>>());
        }
        if matches!(
            key.kind,
            Kind::MultigresCluster
                | Kind::Cell
                | Kind::Shard
                | Kind::StatefulSet
                | Kind::PersistentVolumeClaim
                | Kind::Pod
        ) {
            // Where its stores are, and what its records stand for.
            let of = store.group_of(key);
            let cluster = of.map(|of| Key::new(Kind::MultigresCluster, &of.0, &of.1));
            let cluster = cluster.and_then(|cluster| store.get(&cluster));
            ids.extend(cluster.map(|cluster| ActorId::topology(&cluster.uid)));
        }
        if key.kind == Kind::TopoServer {
            ids.extend(self.neighbours(key, &[Kind::Cell, Kind::Shard]));
        }
        ids
    }

    /// The actors of these kinds in the cluster of an object.
    fn neighbours(&self, of: &Key, kinds: &[Kind]) -> Vec<ActorId> {
        let store = self.world.store.borrow();
        let group = store.group_of(of).map(|group| store.group(group));
        let all = group.iter().flatten();
        all.filter(|other| kinds.contains(&other.key().kind))
            .map(|other| ActorId::custom(other.key().kind, &other.uid))
            .collect()
    }

    /// An object left the watch. That may only mean a lost label, so whoever owns it asks the server first.
    pub(super) fn left(&mut self, key: &Key, uid: Option<&str>) {
        let known = self.world.store.borrow().get(key).cloned();
        let Some(known) = known.filter(|known| uid.is_none_or(|uid| *known.uid == *uid)) else {
            return;
        };
        let owner = {
            let store = self.world.store.borrow();
            known
                .owner
                .as_deref()
                .and_then(|uid| store.by_uid(uid))
                .map(|o| ActorId::custom(o.key().kind, &o.uid))
        };
        // A claim that policy keeps has no owner, and a workload's pod has one that is none of ours; who looks at it asks.
        let asker = match owner {
            None if key.kind == Kind::Pod
                || (key.kind == Kind::PersistentVolumeClaim && known.owner.is_none()) =>
            {
                let concerned = self.concerned(&known).into_iter();
                concerned.filter(|id| !id.topology).min()
            }
            owner => owner,
        };
        match asker {
            Some(asker) if key.kind != Kind::MultigresCluster => {
                self.world.read(
                    &asker,
                    key,
                    "it left the watch: deleted, or stripped of its label",
                );
            }
            _ => self.removed(key, uid),
        }
    }

    /// The object is certainly gone.
    pub(super) fn removed(&mut self, key: &Key, uid: Option<&str>) {
        let Some(known) = self.world.store.borrow().get(key).cloned() else {
            return;
        };
        let concerned = self.concerned(&known);
        if self.world.store.borrow_mut().remove(key, uid).is_none() {
            return;
        }
        if key.kind.is_custom() {
            self.end(key.kind, &known.uid);
        }
        if key.kind == Kind::Pod {
            self.world.links.borrow_mut().forget(key);
        } else if links::is_identity(key) {
            self.reidentify(key);
        }
        for id in concerned.iter().filter(|id| id.uid != known.uid) {
            self.world.wake(id, key);
        }
        // It is no longer ours to watch; a user's object may have its name all the same.
        if self.world.store.borrow().reference(key).is_some() {
            self.refresh(key, "a referenced object left the watch");
        }
    }

    pub(super) fn foreign(&self, key: &Key, version: Option<u64>) {
        let stale = self.world.store.borrow_mut().foreign_seen(key, version);
        if stale {
            self.refresh(key, "a referenced object changed");
        }
    }

    /// What the list did not name may be gone.
    pub(super) fn foreign_listed(&self, kind: Kind) {
        let missing = self.world.store.borrow_mut().foreign_list_ends(kind);
        for key in missing {
            self.refresh(&key, "a referenced object is not in the list");
        }
    }

    /// Reads an object anew for those who refer to it.
    fn refresh(&self, key: &Key, reason: &str) {
        if let Some(id) = self.world.referrers(key).first() {
            self.world.read(id, key, reason);
        }
    }
}

/// The actors of resource `other` that look at `entry`, though it does not own it.
fn onlookers(other: &Entry, entry: &Entry) -> Vec<ActorId> {
    if !cares(other, entry) {
        return Vec::new();
    }
    let kind = other.key().kind;
    let mut ids = vec![ActorId::custom(kind, &other.uid)];
    if let (Kind::Shard, Some(pool), Some(cell)) = (
        kind,
        entry.label("multigres.com/pool"),
        entry.label("multigres.com/cell"),
    ) {
        ids.push(ActorId::pool(&other.uid, pool, cell));
    }
    ids
}

/// Does the actor of resource `other` look at `entry`, though it does not own it?
fn cares(other: &Entry, entry: &Entry) -> bool {
    let same =
        |label: &str| entry.label(label).is_none() || other.label(label) == entry.label(label);
    match (
        other.key().kind,
        entry
            .label("app.kubernetes.io/component")
            .unwrap_or_default(),
    ) {
        (Kind::TopoServer, "toposerver") => entry
            .label("multigres.com/toposerver")
            .is_none_or(|name| name == &*other.key().name),
        (Kind::Cell, "multigateway") => same("multigres.com/cell"),
        (Kind::Shard, "multiorch" | "shard-pool") => {
            same("multigres.com/database")
                && same("multigres.com/tablegroup")
                && same("multigres.com/shard")
        }
        (Kind::MultigresCluster, "multiadmin" | "multiadmin-web") => true,
        // Secrets that cert-manager issues, and who mounts them.
        (Kind::MultigresCluster | Kind::Cell | Kind::Shard, certificates::COMPONENT) => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A claim that policy retains has no owner: its pool must hear of it all the same, or a deleted one is never made again.
    #[test]
    fn the_pool_of_a_claim_without_owner_is_told() {
        let entry = |kind, uid: &str, labels: &[(&str, &str)]| Entry {
            key: Some(Key::new(kind, "n", uid)),
            uid: uid.into(),
            labels: labels.iter().copied().collect(),
            ..Entry::default()
        };
        let place = [
            ("multigres.com/database", "d"),
            ("multigres.com/tablegroup", "t"),
            ("multigres.com/shard", "s"),
        ];
        let shard = entry(Kind::Shard, "shard", &place);
        let mut labels = place.to_vec();
        labels.push(("app.kubernetes.io/component", "shard-pool"));
        let backups = entry(Kind::PersistentVolumeClaim, "backups", &labels);
        labels.extend([("multigres.com/pool", "p"), ("multigres.com/cell", "c")]);
        let data = entry(Kind::PersistentVolumeClaim, "data", &labels);
        let shard_actor = ActorId::custom(Kind::Shard, "shard");
        assert_eq!(
            onlookers(&shard, &backups),
            std::slice::from_ref(&shard_actor)
        );
        assert_eq!(
            onlookers(&shard, &data),
            [shard_actor, ActorId::pool("shard", "p", "c")]
        );
        let other = entry(Kind::Shard, "other", &[("multigres.com/database", "e")]);
        assert_eq!(onlookers(&other, &data), []);
    }
}
