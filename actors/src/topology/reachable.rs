//! `TopologyReachable` of a cluster and of each of its shards: from evidence, so that neither a new life of the operator nor a
//! member that is exchanged for another makes it flap.

use jiff::Timestamp;

use super::places::{Lack, Places, Spot};
use super::stores::Stores;
use crate::topology_store::peer::Peer;
use crate::topology_store::reach::{self, Reach, Verdict};

/// The verdict over the global store and those of `cells`. `None`: nothing speaks against it and not everything for it yet, so
/// what was told before stays.
pub fn judge<'a>(
    stores: &Stores,
    places: &Places,
    cells: impl Iterator<Item = &'a str>,
    created: Timestamp,
    now: Timestamp,
) -> Option<Verdict> {
    let own = cells.filter_map(|cell| Some((Some(cell), places.spot(Some(cell))?)));
    let all = std::iter::once((None, &places.global)).chain(own);
    let mut open = false;
    let mut judged: Vec<(Option<&str>, &Spot, Vec<Peer>)> = Vec::new();
    for (cell, spot) in all {
        let complete = match cell {
            None => stores.views.global.complete(),
            Some(cell) => stores.views.of_cell(cell)?.complete(),
        };
        let link = stores.link(cell.unwrap_or_default());
        let failed = match (&spot.place, link) {
            (Err(Lack::Unknown), _) | (Ok(_), None) => false,
            (Err(_), _) => true,
            (Ok(_), Some(link)) => link.exhausted(),
        };
        if complete || failed {
            judged.push((
                cell,
                spot,
                link.map(|link| link.tried()).unwrap_or_default(),
            ));
        } else {
            open = true;
        }
    }
    let reaches: Vec<Reach<'_>> = judged
        .iter()
        .filter_map(|(cell, spot, members)| {
            Some(Reach {
                cell: *cell,
                view: match cell {
                    None => &stores.views.global,
                    Some(cell) => stores.views.of_cell(cell)?,
                },
                members,
                lacks: hint(spot),
            })
        })
        .collect();
    let verdict = reach::judge(&reaches, created, now);
    (!open || !verdict.condition.holds()).then_some(verdict)
}

/// What keeps the store from being dialled, or may keep it from being trusted.
fn hint(spot: &Spot) -> Option<String> {
    match &spot.place {
        Err(Lack::Secret(what)) => Some(what.clone()),
        Ok(place) => {
            let trust = place.trust.as_ref()?;
            trust.authority.is_none().then(|| {
                let named = trust.client.as_ref().map_or_else(String::new, |client| {
                    format!(", while clientCertSecret names Secret {}", client.name)
                });
                format!(
                    "its certificate is checked against the authorities that the system trusts, since no caSecret is \
                     named{named}: if another authority signed it, name the Secret that holds its ca.crt"
                )
            })
        }
        Err(_) => None,
    }
}
