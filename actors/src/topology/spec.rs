//! What the TopologyActor reads of the cluster's resources. Kept between decisions: a record that changes does not make the
//! cluster be resolved anew.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use crds::MultigresCluster;
use crds::resolve::{OperatorDefaults, resolve};
use jiff::Timestamp;

use super::known::shard_of;
use super::places::{Wishes, address};
use crate::cluster::templates;
use crate::entry::Entry;
use crate::object::{Key, Kind};
use crate::plan::Plan;
use crate::pool;
use crate::room::Observed;
use crate::status::State;
use crate::topology_store::desired::Desired;
use crate::topology_store::key::ShardId;

/// What a cluster wants of its topology.
#[derive(Clone, Debug)]
pub struct Spec {
    /// Records that are to be there, or why nothing of the cluster is registered.
    pub desired: Result<Desired, String>,
    /// `spec.topologyPruning.enabled`.
    pub pruning: bool,
    /// Where the stores are; of cells that left the specification too, while their Cell is there.
    pub wishes: Wishes,
    /// Address and root of the global store, as records have them.
    pub global: (String, String),
    /// Templates that were looked at.
    pub(super) references: Vec<Key>,
}

/// What is wanted of a shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardSpec {
    /// UID of the Shard.
    pub uid: Box<str>,
    /// Its object.
    pub key: Key,
    /// Pool pods.
    pub pods: usize,
    /// Cells in which it has poolers or orchestrators.
    pub cells: BTreeSet<Box<str>>,
}

/// What was read, and from what.
#[derive(Default)]
pub struct Reader {
    /// UIDs and generations.
    sources: Vec<(Box<str>, i64)>,
    spec: Option<Rc<Spec>>,
    shards: BTreeMap<Box<str>, (i64, ShardId, ShardSpec)>,
    /// Why the newest specification cannot be read, if so: what was read before stays.
    pub problem: Option<String>,
}

impl Reader {
    /// The newest specification that can be read; `None`: there was none yet. What it depends on is declared in the plan.
    pub fn spec(
        &mut self,
        plan: &mut Plan<'_, State>,
        defaults: &OperatorDefaults,
    ) -> Option<Rc<Spec>> {
        let observed = plan.observed;
        let cells = observed
            .group
            .iter()
            .filter(|entry| entry.key().kind == Kind::Cell);
        let sources = std::iter::once(&observed.me)
            .chain(cells)
            .chain(&observed.templates);
        let sources: Vec<_> = sources
            .map(|entry| (entry.uid.clone(), entry.generation))
            .collect();
        if sources != self.sources || self.problem.is_some() {
            self.sources = sources;
            match read(observed, defaults) {
                Ok(spec) => {
                    self.spec = Some(Rc::new(spec));
                    self.problem = None;
                }
                Err(problem) => self.problem = Some(problem),
            }
        }
        if let Some(spec) = &self.spec {
            plan.decision
                .references
                .extend(spec.references.iter().cloned());
        }
        self.spec.clone()
    }

    /// The shards of the cluster.
    pub fn shards(&mut self, observed: &Observed) -> BTreeMap<ShardId, ShardSpec> {
        let entries = observed.group.iter();
        let entries: Vec<&Rc<Entry>> = entries
            .filter(|entry| entry.key().kind == Kind::Shard)
            .collect();
        self.shards
            .retain(|uid, _| entries.iter().any(|entry| entry.uid == *uid));
        for entry in entries {
            let known = self.shards.get(&entry.uid);
            if known.is_some_and(|(generation, ..)| *generation == entry.generation) {
                continue;
            }
            let Some(id) = shard_of(entry) else { continue };
            let spec = match (entry.typed::<crds::Shard>(), known) {
                (Ok(shard), _) => ShardSpec {
                    uid: entry.uid.clone(),
                    key: entry.key().clone(),
                    pods: pool::wanted_pods(&shard, &BTreeSet::new()).len(),
                    cells: pool::cells(&shard).into_iter().map(Into::into).collect(),
                },
                // One that cannot be read wants what it wanted before, and pods in any case: nothing of it is surely gone.
                (Err(_), Some((_, _, known))) => known.clone(),
                (Err(_), None) => ShardSpec {
                    uid: entry.uid.clone(),
                    key: entry.key().clone(),
                    pods: 1,
                    cells: BTreeSet::new(),
                },
            };
            let read = (entry.generation, id, spec);
            self.shards.insert(entry.uid.clone(), read);
        }
        let known = self.shards.values();
        known
            .map(|(_, id, spec)| (id.clone(), spec.clone()))
            .collect()
    }
}

fn read(observed: &Observed, defaults: &OperatorDefaults) -> Result<Spec, String> {
    let me = observed.me.key();
    let (cluster, namespace) = (&*me.name, &*me.namespace);
    let manifest = observed.me.typed::<MultigresCluster>();
    let manifest = manifest.map_err(|error| error.to_string())?;
    // Only for what it declares and finds in the way.
    let mut plan = Plan::new(observed, State::default(), Timestamp::UNIX_EPOCH);
    let found = templates::read(&mut plan, &manifest);
    let Some(found) = found else {
        let problems = plan.obstacles.into_iter().map(|one| one.message);
        return Err(problems.collect::<Vec<_>>().join("; "));
    };
    let resolved = resolve(&manifest, &found, defaults).map_err(|problems| {
        let problems = problems.iter().map(ToString::to_string);
        problems.collect::<Vec<_>>().join("; ")
    })?;
    let store_of = |cell: &str| address(cluster, namespace, cell);
    let desired = Desired::of(&resolved, store_of).map_err(|unusable| {
        let unusable = unusable.iter().map(ToString::to_string);
        unusable.collect::<Vec<_>>().join("; ")
    });
    let mut wishes = Wishes::of(&resolved, cluster, namespace);
    let cells = observed.controlled(Kind::Cell);
    for cell in cells.filter_map(|entry| entry.typed::<crds::Cell>().ok()) {
        wishes.add(&cell.spec, cluster, namespace);
    }
    Ok(Spec {
        desired,
        pruning: resolved.topology_pruning,
        wishes,
        global: (
            resolved.topology_ref.address.clone(),
            resolved.topology_ref.root_path.clone(),
        ),
        references: plan.decision.references,
    })
}
