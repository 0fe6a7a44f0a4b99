//! Two operators, one leader.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use cluster::dice::Dice;
use cluster::owned::{Snapshot, becomes, settled};
use cluster::terms::{Term, intrusions, terms};
use cluster::{Bed, PASSWORD, pass};
use control_plane::{Entry, Mark, OperatorProcess, Overrides, chart, wait};
use k8s_openapi::api::coordination::v1::Lease;
use kube::api::{Api, Patch, PatchParams};
use serde_json::json;

use crate::ONE;

/// The shortest lease that the operator takes, so that twenty handovers take little time.
const LEASE: &str = "3s";
/// Most time from a leader's end to the first write of the next: the lease, a look at it, new lists.
const HANDOVER: Duration = Duration::from_secs(20);
/// Clusters under load.
const CLUSTERS: usize = 8;

/// How a leader goes.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Exit {
    /// SIGTERM: it gives the Lease back.
    Asked,
    /// SIGKILL: the Lease runs out.
    Killed,
    /// SIGSTOP past the end of its Lease, and SIGCONT once the other has written.
    Paused,
}

/// One of the two; its pod stays the same over its lives, and its token tells it from the other in the audit log.
struct Peer {
    pod: &'static str,
    kubeconfig: PathBuf,
    credential: String,
    process: OperatorProcess,
}

impl Peer {
    async fn start(bed: &Bed, pod: &'static str) -> Self {
        let token = bed
            .plane
            .service_account_kubeconfig(chart::NAMESPACE, chart::SERVICE_ACCOUNT);
        let kubeconfig = token.await.unwrap();
        let mark = bed.plane.audit().settle().await.unwrap();
        let process = Self::live(bed, pod, &kubeconfig).await;
        bed.plane.audit().settle().await.unwrap();
        // A standby asks for lists too, and whoever else there is has another token.
        let list = |entry: &Entry| entry.verb == "list" && entry.resource == "multigresclusters";
        let entry = ours(bed, mark).into_iter().find(list).unwrap();
        Self {
            pod,
            kubeconfig,
            credential: entry.credential,
            process,
        }
    }

    async fn live(bed: &Bed, pod: &str, kubeconfig: &Path) -> OperatorProcess {
        let overrides = Overrides {
            args: vec![("--lease-duration".to_owned(), Some(LEASE.to_owned()))],
            env: vec![("POD_UID".to_owned(), pod.to_owned())],
            pod_name: Some(pod.to_owned()),
            kubeconfig: Some(kubeconfig.to_path_buf()),
            detach: false,
        };
        bed.operator_with(overrides).await.unwrap()
    }
}

/// Figure 8: leadership goes to and fro twenty times under load; nobody writes in the term of the other, and the end is
/// that of a cluster that one operator brought up undisturbed.
#[tokio::test(flavor = "multi_thread")]
async fn leadership_is_handed_over_without_a_write_by_the_one_who_lost_it() {
    let _one = ONE.lock().await;
    let mut dice = Dice::cast();
    let bed = Bed::start("leadership", &[]).await.unwrap();
    let client = bed.plane.client();
    let begin = bed.plane.audit().settle().await.unwrap();
    let mut peers = vec![Peer::start(&bed, "operator-a").await];
    create(&bed, "calm0").await;
    bed.phase("calm0", "Healthy").await.unwrap();
    let calm = settled(&client, "calm0").await.unwrap();
    peers.push(Peer::start(&bed, "operator-b").await);

    let mut exits = [
        [Exit::Asked; 8].as_slice(),
        &[Exit::Killed; 6],
        &[Exit::Paused; 6],
    ]
    .concat();
    dice.shuffle(&mut exits);
    let made = Mutex::new(Vec::new());
    tokio::select! {
        () = load(&bed, dice, &made) => unreachable!("the load ends with the handovers"),
        () = async {
            for exit in &exits {
                hand_over(&bed, &mut peers, *exit).await;
            }
        } => {}
    }

    let names = made.into_inner().unwrap();
    for name in &names {
        edit(&bed, name, "debug").await;
    }
    for name in &names {
        bed.phase(name, "Healthy").await.unwrap();
        becomes(&client, name, &calm).await.unwrap();
    }
    assert_eq!(
        Snapshot::take(&client).await.unwrap().orphans(),
        Vec::<String>::new()
    );
    judge(&bed, begin, exits.len()).await;
}

/// Makes clusters, and edits those that are there, for ever.
async fn load(bed: &Bed, mut dice: Dice, made: &Mutex<Vec<String>>) {
    for round in 0.. {
        let names = made.lock().unwrap().clone();
        if round % 12 == 0 && names.len() < CLUSTERS {
            let name = format!("load{}", names.len());
            create(bed, &name).await;
            made.lock().unwrap().push(name);
        } else if !names.is_empty() {
            let level = ["debug", "info", "warn"][dice.below(3)];
            edit(bed, &names[dice.below(names.len())], level).await;
        }
        pass(Duration::from_millis(200)).await.unwrap();
    }
}

async fn create(bed: &Bed, name: &str) {
    bed.create(name, PASSWORD).await.unwrap();
    edit(bed, name, "debug").await;
}

async fn edit(bed: &Bed, name: &str, level: &str) {
    let patch = json!({"spec": {"logLevels": {"multiadmin": level, "multiorch": level}}});
    let clusters = bed.clusters();
    clusters
        .patch(name, &PatchParams::default(), &Patch::Merge(patch))
        .await
        .unwrap();
}

/// Takes the leadership away from who has it, and waits until the other has written.
async fn hand_over(bed: &Bed, peers: &mut [Peer], exit: Exit) {
    let mark = bed.plane.audit().settle().await.unwrap();
    let holder = holder(bed).await;
    let leader = peers.iter_mut().find(|peer| peer.pod == holder).unwrap();
    match exit {
        Exit::Asked => drop(leader.process.terminate().await.unwrap()),
        Exit::Killed => leader.process.kill(),
        Exit::Paused => leader.process.pause().unwrap(),
    }
    let gone = leader.credential.clone();
    let description = format!("the first write of the other, {holder} being {exit:?}");
    wait::until(&description, HANDOVER, async || {
        // The old leader's last writes and renewals since the mark look like a term.
        let terms = terms(&ours(bed, mark));
        let next = terms.last().filter(|term| term.leader != gone);
        Ok(next.and_then(|term| term.first_write).map(drop))
    })
    .await
    .unwrap();
    match exit {
        Exit::Paused => leader.process.resume().unwrap(),
        Exit::Asked | Exit::Killed => {
            leader.process = Peer::live(bed, leader.pod, &leader.kubeconfig).await
        }
    }
}

async fn holder(bed: &Bed) -> String {
    let leases: Api<Lease> = Api::namespaced(bed.plane.client(), chart::NAMESPACE);
    let lease = leases
        .get("multigres-operator.multigres.com")
        .await
        .unwrap();
    lease
        .spec
        .and_then(|spec| spec.holder_identity)
        .unwrap_or_default()
}

fn ours(bed: &Bed, since: Mark) -> Vec<Entry> {
    let mut entries = bed.plane.audit().entries_since(since).unwrap();
    entries.retain(|entry| entry.user == chart::user());
    entries
}

/// Reads the whole story in the audit log.
async fn judge(bed: &Bed, begin: Mark, handovers: usize) {
    bed.plane.audit().settle().await.unwrap();
    let entries = ours(bed, begin);
    let terms: Vec<Term> = terms(&entries);
    for term in &terms {
        println!(
            "{} led from {} with {} writes",
            term.leader, term.from, term.writes
        );
    }
    assert!(terms.len() > handovers, "{} terms", terms.len());
    assert!(
        terms.iter().all(|term| term.writes > 0),
        "a term without a write shows nothing"
    );
    let intrusions = intrusions(&entries, &terms);
    assert!(intrusions.is_empty(), "{intrusions:#?}");
}
