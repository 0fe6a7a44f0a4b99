//! Least privilege.

use std::collections::BTreeSet;

use cluster::Bed;
use cluster::rights::{Right, granted, used};
use control_plane::{Entry, Mark, chart};

pub async fn check(bed: &Bed, since: Mark) {
    let audit = bed.plane.audit();
    audit.settle().await.unwrap();
    let mut entries = audit.entries_since(since).unwrap();
    entries.retain(|e| e.user == chart::user());
    let refused: Vec<&Entry> = entries.iter().filter(|entry| entry.code == 403).collect();
    println!("refused {refused:#?}");
    let (granted, used) = (granted(&bed.plane.client()).await.unwrap(), used(&entries));
    println!(
        "not granted {:?}",
        used.difference(&granted)
            .map(Right::to_string)
            .collect::<BTreeSet<_>>()
    );
    println!(
        "idle {:#?}",
        granted
            .difference(&used)
            .map(Right::to_string)
            .collect::<BTreeSet<_>>()
    );
}
