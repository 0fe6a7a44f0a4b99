//! The certificates with which pgBackRest talks between the pods of a Shard (`workloads.md` 11.3): one authority, one leaf
//! for all pods. Renewed before they expire, at an instant that is known when they are made; never by polling.
//!
//! An authority is renewed before its leaves have to be, and stays trusted beside the new one until it expires. So a leaf
//! is signed anew while every pod trusts both.

use std::collections::BTreeSet;

use crds::Shard;
use jiff::{SignedDuration, Timestamp};

use super::identity::Identity;
use crate::action::{Action, Event, Recipe};
use crate::certificate_facts::CertificateFact;
use crate::entry::Entry;
use crate::labels;
use crate::object::Desired;
use crate::plan::Plan;
use crate::pool::objects::headless_name;
use crate::workload::{self, RenderError};

/// How long before its end a certificate is renewed.
const BEFORE_EXPIRY: SignedDuration = SignedDuration::from_hours(30 * 24);
/// How long before the end of an authority that was replaced its leaves are signed by the new one. The time between is
/// what pods have to pick up the new authority.
const BEFORE_DISTRUST: SignedDuration = SignedDuration::from_hours(15 * 24);
/// Shortest time between two renewals of one Secret: somebody who keeps damaging it does not keep us busy.
const BETWEEN_RENEWALS: SignedDuration = SignedDuration::from_secs(60);

/// A pool in a cell.
pub type Place = (Box<str>, Box<str>);

/// Recipes for two generated Secrets. They come without data: that is the executor's work.
#[derive(Clone, Debug, PartialEq)]
pub struct CertificatePlan {
    /// The Secret with the authority.
    pub ca: Desired,
    /// The Secret with the certificate of all pods.
    pub leaf: Desired,
    /// Names in the certificate, sorted.
    pub dns_names: Vec<String>,
}

/// The certificates pgBackRest needs; `None` when the user brings their own, or without backup. `present` are places that
/// the spec no longer has but whose pods are still there.
///
/// # Errors
/// When the Shard is not one from the API server, or belongs to no cluster.
pub fn wanted(
    shard: &Shard,
    present: &BTreeSet<Place>,
) -> Result<Option<CertificatePlan>, RenderError> {
    let identity = Identity::new(shard)?;
    let generated =
        |backup: &&crds::BackupConfig| workload::own_pgbackrest_secret(backup).is_none();
    if shard.spec.backup.as_ref().filter(generated).is_none() {
        return Ok(None);
    }
    let secret = |suffix| {
        let own = labels::standard(identity.cluster, "pgbackrest-tls", &[]);
        Desired::secret(&identity.owner.child(identity.suffixed(suffix), own))
    };
    Ok(Some(CertificatePlan {
        ca: secret("pgbackrest-ca")?,
        leaf: secret("pgbackrest-tls")?,
        dns_names: dns_names(shard, &identity, present),
    }))
}

/// The pods of every place by wildcard, so that scaling needs no new certificate.
fn dns_names(shard: &Shard, identity: &Identity<'_>, present: &BTreeSet<Place>) -> Vec<String> {
    let specified = shard.spec.pools.iter().flat_map(|(pool, of)| {
        let pairs = of.cells.iter();
        pairs.map(move |cell| (pool.as_str().into(), cell.as_str().into()))
    });
    let places: BTreeSet<Place> = specified.chain(present.iter().cloned()).collect();
    let wildcards = places
        .iter()
        .map(|(pool, cell)| format!("*.{}", headless_name(identity, pool, cell)));
    let namespace = identity.owner.namespace;
    let names: BTreeSet<String> = wildcards
        .chain(["pgbackrest".to_owned()])
        .flat_map(|host| {
            let name = format!("{host}.{namespace}.svc");
            [format!("{name}.cluster.local"), name]
        })
        .collect();
    names.into_iter().collect()
}

/// Makes what is missing, renews what is due or unusable, and wakes for the next time that something will be.
pub fn keep<S>(plan: &mut Plan<'_, S>, certificates: &CertificatePlan) {
    let now = plan.now();
    let CertificatePlan {
        ca,
        leaf,
        dns_names,
    } = certificates;
    let Some(authority) = secret(plan, ca, &Recipe::Authority) else {
        return;
    };
    match authority_due(&authority) {
        Ok(due) if due > now => plan.decision.wake_at(due),
        Ok(_) => renew(plan, &authority, ca, Recipe::Authority, "it expires soon"),
        // Whatever this authority signed is renewed when a new one is there.
        Err(why) => return renew(plan, &authority, ca, Recipe::Authority, why),
    }
    let recipe = Recipe::Leaf {
        authority: ca.key.clone(),
        names: dns_names.clone(),
    };
    let Some(entry) = secret(plan, leaf, &recipe) else {
        return;
    };
    match leaf_due(&entry, &authority, dns_names) {
        Ok(due) if due > now => plan.decision.wake_at(due),
        Ok(_) => renew(plan, &entry, leaf, recipe, "it expires soon"),
        Err(why) => renew(plan, &entry, leaf, recipe, why),
    }
}

/// The Secret as observed, when it can be judged. A missing one is made, a stripped one labelled again.
fn secret<S>(
    plan: &mut Plan<'_, S>,
    desired: &Desired,
    recipe: &Recipe,
) -> Option<std::rc::Rc<Entry>> {
    let Some(entry) = plan.observed.get(&desired.key).cloned() else {
        let action = Action::Generate {
            object: desired.clone(),
            recipe: recipe.clone(),
            replace: None,
            events: Vec::new(),
        };
        plan.decision.act("Secret does not exist", action);
        return None;
    };
    let usable = !plan.is_foreign(desired) && !entry.deleting && plan.mend(desired);
    usable.then_some(entry)
}

/// When the authority must be renewed; or why at once.
fn authority_due(entry: &Entry) -> Result<Timestamp, &'static str> {
    let authorities = entry.certificates.as_ref().map(|facts| &facts.authorities);
    let authority = authorities
        .and_then(|list| list.first())
        .filter(|authority| authority.is_authority)
        .ok_or("no authority can be read from it")?;
    if !authority.key_fits {
        return Err("its key does not belong to its certificate");
    }
    Ok(before(authority.not_after, BEFORE_EXPIRY))
}

/// When the leaf must be renewed; or why at once.
fn leaf_due(entry: &Entry, authority: &Entry, names: &[String]) -> Result<Timestamp, &'static str> {
    let leaf = entry
        .certificates
        .as_ref()
        .and_then(|facts| facts.leaf.as_ref())
        .ok_or("no certificate can be read from it")?;
    if !leaf.key_fits {
        return Err("its key does not belong to its certificate");
    }
    if !leaf
        .names
        .iter()
        .map(AsRef::as_ref)
        .eq(names.iter().map(String::as_str))
    {
        return Err("the pods have other names");
    }
    let authorities = authority.certificates.iter().flat_map(|f| &f.authorities);
    let (position, issuer): (usize, &CertificateFact) = authorities
        .enumerate()
        .find(|(_, authority)| leaf.is_signed_by(authority))
        .ok_or("its authority did not sign it")?;
    let own = before(leaf.not_after, BEFORE_EXPIRY);
    // The end of the authority in use is no reason: signing by it again would not help.
    Ok(if position == 0 {
        own
    } else {
        own.min(before(issuer.not_after, BEFORE_DISTRUST))
    })
}

fn before(end: Timestamp, margin: SignedDuration) -> Timestamp {
    end.checked_sub(margin).unwrap_or(Timestamp::MIN)
}

fn renew<S>(
    plan: &mut Plan<'_, S>,
    entry: &Entry,
    desired: &Desired,
    recipe: Recipe,
    why: &'static str,
) {
    let now = plan.now();
    let rested = entry
        .annotation(labels::RENEWED_AT)
        .and_then(|at| at.parse::<Timestamp>().ok())
        .and_then(|at| at.checked_add(BETWEEN_RENEWALS).ok())
        .filter(|rested| {
            *rested > now && *rested <= now.saturating_add(BETWEEN_RENEWALS).unwrap_or(now)
        });
    if let Some(rested) = rested {
        return plan.decision.wake_at(rested);
    }
    let mut object = desired.clone();
    let at = now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    object.body.annotate("/metadata", labels::RENEWED_AT, &at);
    let action = Action::Generate {
        object,
        recipe,
        replace: Some((entry.uid.clone(), entry.version)),
        events: vec![Event {
            reason: "Rotated".to_owned(),
            message: format!("made anew: {why}"),
            warning: false,
        }],
    };
    plan.decision.act(why, action);
}

#[cfg(test)]
mod tests;
