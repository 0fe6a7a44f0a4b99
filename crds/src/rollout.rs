//! When a cluster takes over the operator's default images (`lifecycle.md` 15): at once, or once the user acknowledged them. The
//! set that was taken over is recorded on the cluster before any child changes, so that a new operator changes nothing by itself.

use serde_json::{Value, json};

use crate::image::{COMPONENTS, ComponentImages};
use crate::resolve::Layer;
use crate::{ImageUpdatePolicy, MultigresCluster};

/// Annotation of a MultigresCluster with the set in force.
pub const APPLIED_IMAGES: &str = "multigres.com/applied-images";

/// What the annotation says when the spec names all images itself: a JSON string, quotes included.
const FULLY_PINNED: &str = "\"fully-pinned\"";

/// When a changed set of default images reaches a cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Strategy {
    /// At once.
    #[default]
    Immediate,
    /// When `spec.imageUpdatePolicy.acknowledgedRevision` names it.
    Lazy,
}

impl Strategy {
    /// As it stands in specs, flags and status.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Immediate => "immediate",
            Self::Lazy => "lazy",
        }
    }
}

/// Something to tell the user once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct News {
    /// Reason of the event (`api.md` 4.8).
    pub reason: &'static str,
    /// What happened.
    pub message: String,
    /// Warning instead of Normal.
    pub warning: bool,
}

/// What was decided about a cluster's images.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rollout {
    /// Images in force.
    pub effective: ComponentImages,
    /// The default set in force; None when the spec names all images.
    pub applied: Option<ComponentImages>,
    /// The operator's own set.
    pub available: ComponentImages,
    /// How many images the spec names.
    pub pinned: usize,
    /// The strategy in force.
    pub strategy: Strategy,
    /// What the annotation [`APPLIED_IMAGES`] must become; None when it says so already.
    pub record: Option<String>,
    /// True while a newer set waits for the user (condition `ImageRolloutPending`).
    pub pending: bool,
    /// Reason of that condition.
    pub reason: &'static str,
    /// Its message.
    pub message: String,
    /// Events that go with the new record, when it is written.
    pub news: Vec<News>,
    /// The event that goes with the condition, when that changes.
    pub warning: Option<News>,
}

/// The record cannot be read and the strategy forbids guessing: nothing may be touched.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the annotation {APPLIED_IMAGES} is damaged and the status names no complete set")]
pub struct Unreadable;

/// What is known about the set that was taken over last.
enum Record {
    /// Nothing: a new cluster, or one that was fully pinned.
    None,
    /// This set.
    Set(ComponentImages),
    /// The annotation is damaged; the set is the status', if it has a complete one.
    Damaged(Option<ComponentImages>),
}

/// Decides which images a cluster runs.
///
/// # Errors
/// When the strategy is lazy and no record can be read.
pub fn decide(
    cluster: &MultigresCluster,
    available: &ComponentImages,
    fallback: Strategy,
) -> Result<Rollout, Unreadable> {
    let pins = cluster
        .spec
        .images
        .as_ref()
        .map(|images| images.pins.named());
    let pins = pins.unwrap_or_default();
    let annotation = cluster.metadata.annotations.as_ref();
    let annotation = annotation
        .and_then(|all| all.get(APPLIED_IMAGES))
        .map(String::as_str);
    let rollout = Rollout {
        available: available.clone(),
        pinned: pins.count(),
        ..Rollout::default()
    };
    if rollout.pinned == COMPONENTS {
        return Ok(Rollout {
            effective: pins,
            record: (annotation != Some(FULLY_PINNED)).then(|| FULLY_PINNED.to_owned()),
            reason: "FullyPinned",
            message: "the spec names every image".to_owned(),
            ..rollout
        });
    }
    let policy = cluster.spec.image_update_policy.clone().unwrap_or_default();
    let strategy = match policy.strategy.as_deref() {
        Some("lazy") => Strategy::Lazy,
        Some("immediate") => Strategy::Immediate,
        _ => fallback,
    };
    let status = cluster.status.images.applied.clone();
    let status = status.filter(ComponentImages::is_complete);
    let mut news = Vec::new();
    let recorded = match read(annotation, status) {
        Record::None => None,
        Record::Set(set) => Some(set),
        Record::Damaged(None) if strategy == Strategy::Lazy => return Err(Unreadable),
        Record::Damaged(set) => {
            news.push(damaged(set.is_some()));
            set
        }
    };
    let mut rollout = Rollout {
        strategy,
        news,
        ..rollout
    };
    let applied = apply(&mut rollout, recorded, &policy);
    let text = canonical(&applied);
    // Compared as values: key order and blanks of a hand-written record do not matter.
    let same = annotation.and_then(parse).as_ref() == Some(&applied);
    rollout.record = (!same).then_some(text);
    rollout.effective = pins.over(&applied);
    rollout.applied = Some(applied);
    Ok(rollout)
}

fn damaged(known: bool) -> News {
    let then = if known {
        "the set of the status is used"
    } else {
        "the operator's set is taken over"
    };
    News {
        reason: "ImagesRecordInvalid",
        message: format!("the annotation {APPLIED_IMAGES} is damaged: {then}"),
        warning: true,
    }
}

/// The set in force, and what the condition and events say of it.
fn apply(
    rollout: &mut Rollout,
    recorded: Option<ComponentImages>,
    policy: &ImageUpdatePolicy,
) -> ComponentImages {
    let acknowledged = policy.acknowledged_revision.as_deref().unwrap_or_default();
    let newest = rollout.available.revision();
    let current = |rollout: &mut Rollout| {
        rollout.reason = "UpToDate";
        "the operator's default images are in force".clone_into(&mut rollout.message);
        rollout.available.clone()
    };
    let Some(recorded) = recorded.filter(|recorded| *recorded != rollout.available) else {
        return current(rollout);
    };
    let held = recorded.revision();
    let stray = !acknowledged.is_empty() && acknowledged != newest && acknowledged != held;
    if rollout.strategy == Strategy::Immediate || acknowledged == newest {
        if stray {
            rollout.news.push(News {
                reason: "ImagesAcknowledgementIgnored",
                message: format!(
                    "acknowledgedRevision {acknowledged} names no known set and has no effect under the strategy immediate"
                ),
                warning: true,
            });
        }
        rollout.news.push(News {
            reason: "ImagesUpdated",
            message: changes(&recorded, &rollout.available),
            warning: false,
        });
        return current(rollout);
    }
    rollout.pending = true;
    if stray {
        rollout.reason = "RevisionMismatch";
        rollout.message = format!(
            "acknowledgedRevision {acknowledged} is neither {newest}, which is available, nor {held}, which is in force"
        );
        rollout.warning = Some(News {
            reason: "ImagesRevisionMismatch",
            message: rollout.message.clone(),
            warning: true,
        });
    } else {
        rollout.reason = "AwaitingAcknowledgement";
        rollout.message = format!(
            "images {newest} are available: set spec.imageUpdatePolicy.acknowledgedRevision to take them over"
        );
    }
    recorded
}

fn changes(from: &ComponentImages, to: &ComponentImages) -> String {
    let all = from.each().into_iter().zip(to.each());
    let changed = all.filter(|((_, old), (_, new))| old != new);
    let list: Vec<String> = changed
        .map(|((name, old), (_, new))| {
            let text = |image: Option<&String>| image.cloned().unwrap_or_default();
            format!("{name} {} → {}", text(old), text(new))
        })
        .collect();
    list.join(", ")
}

/// The annotation is trusted before the status; a set only when it is complete, so that recorded and compiled images never mix.
fn read(annotation: Option<&str>, status: Option<ComponentImages>) -> Record {
    match annotation {
        None => status.map_or(Record::None, Record::Set),
        Some(FULLY_PINNED) => Record::None,
        Some(text) => match parse(text) {
            Some(set) => Record::Set(set),
            None => Record::Damaged(status),
        },
    }
}

fn parse(text: &str) -> Option<ComponentImages> {
    let set: ComponentImages = serde_json::from_str(text).ok()?;
    set.is_complete().then_some(set)
}

/// Compact JSON, members in the order of `api.md` 4.2.
fn canonical(set: &ComponentImages) -> String {
    let members = set.each().into_iter().filter_map(|(name, image)| {
        let image = Value::from(image?.as_str());
        Some(format!("\"{name}\":{image}"))
    });
    format!("{{{}}}", members.collect::<Vec<_>>().join(","))
}

impl Rollout {
    /// `status.images` of the cluster (`api.md` 4.2).
    pub fn status(&self) -> Value {
        let Some(applied) = &self.applied else {
            return json!({"effective": self.effective, "source": "explicit"});
        };
        json!({
            "updateStrategy": self.strategy.name(),
            "effective": self.effective,
            "source": if self.pinned == 0 { "defaults" } else { "mixed" },
            "applied": applied, "appliedRevision": applied.revision(),
            "available": self.available, "availableRevision": self.available.revision(),
        })
    }

    /// Where each image comes from.
    pub(crate) fn layers(
        &self,
        pins: Option<&ComponentImages>,
    ) -> impl Iterator<Item = (&'static str, Layer)> {
        let named = pins.map(ComponentImages::named).unwrap_or_default();
        self.effective.each().into_iter().map(move |(name, _)| {
            let pinned = named
                .each()
                .into_iter()
                .any(|(n, image)| n == name && image.is_some());
            (
                name,
                if pinned {
                    Layer::Inline
                } else {
                    Layer::Operator
                },
            )
        })
    }
}

#[cfg(test)]
mod tests;
