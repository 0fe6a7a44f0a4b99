use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::*;

fn set(tag: &str) -> ComponentImages {
    let name = |component: &str| Some(format!("registry/{component}:{tag}"));
    ComponentImages {
        multigateway: name("gateway"),
        multiorch: name("orch"),
        multipooler: name("pooler"),
        multiadmin: name("admin"),
        multiadmin_web: name("web"),
        postgres: name("postgres"),
    }
}

fn cluster(
    spec: Value,
    annotation: Option<&str>,
    status: Option<&ComponentImages>,
) -> MultigresCluster {
    let annotations: BTreeMap<&str, &str> = annotation
        .map(|text| (APPLIED_IMAGES, text))
        .into_iter()
        .collect();
    let mut body = json!({"metadata": {"annotations": annotations}, "spec": spec});
    if let Some(applied) = status {
        body["status"] = json!({"images": {"applied": applied}});
    }
    serde_json::from_value(body).unwrap()
}

fn policy(strategy: Option<&str>, acknowledged: &str) -> Value {
    json!({"imageUpdatePolicy": {"strategy": strategy, "acknowledgedRevision": acknowledged}})
}

/// L-GIT-02 "Images frozen in, or images rolling at once": the decision table of `lifecycle.md` 15, row by row.
#[test]
fn an_operator_upgrade_changes_no_pod_unless_the_policy_says_so() {
    let (old, new) = (set("1"), set("2"));
    let (on_old, on_new) = (canonical(&old), canonical(&new));
    let (held, newest) = (old.revision(), new.revision());
    let stray = "0123456789ab";
    // Annotation, status, strategy, acknowledged → set in force, reason, events.
    type Row<'a> = (
        Option<&'a str>,
        Option<&'a ComponentImages>,
        &'a str,
        &'a str,
        &'a ComponentImages,
        &'a str,
        &'a [&'a str],
    );
    let rows: [Row<'_>; 17] = [
        (None, None, "immediate", "", &new, "UpToDate", &[]),
        (None, None, "lazy", "", &new, "UpToDate", &[]),
        (
            Some("\"fully-pinned\""),
            Some(&old),
            "lazy",
            "",
            &new,
            "UpToDate",
            &[],
        ),
        (Some(&on_new), None, "lazy", "", &new, "UpToDate", &[]),
        (
            Some(&on_new),
            Some(&old),
            "lazy",
            &newest,
            &new,
            "UpToDate",
            &[],
        ),
        (
            Some(&on_old),
            None,
            "immediate",
            "",
            &new,
            "UpToDate",
            &["ImagesUpdated"],
        ),
        (
            Some(&on_old),
            None,
            "immediate",
            &held,
            &new,
            "UpToDate",
            &["ImagesUpdated"],
        ),
        (
            Some(&on_old),
            None,
            "immediate",
            stray,
            &new,
            "UpToDate",
            &["ImagesAcknowledgementIgnored", "ImagesUpdated"],
        ),
        (
            Some(&on_old),
            Some(&new),
            "lazy",
            &newest,
            &new,
            "UpToDate",
            &["ImagesUpdated"],
        ),
        (
            Some(&on_old),
            Some(&new),
            "lazy",
            "",
            &old,
            "AwaitingAcknowledgement",
            &[],
        ),
        (
            Some(&on_old),
            None,
            "lazy",
            &held,
            &old,
            "AwaitingAcknowledgement",
            &[],
        ),
        (
            Some(&on_old),
            None,
            "lazy",
            stray,
            &old,
            "RevisionMismatch",
            &["ImagesRevisionMismatch"],
        ),
        (
            None,
            Some(&old),
            "lazy",
            "",
            &old,
            "AwaitingAcknowledgement",
            &[],
        ),
        (
            Some("{}"),
            Some(&old),
            "lazy",
            "",
            &old,
            "AwaitingAcknowledgement",
            &["ImagesRecordInvalid"],
        ),
        (
            Some("nonsense"),
            Some(&old),
            "immediate",
            "",
            &new,
            "UpToDate",
            &["ImagesRecordInvalid", "ImagesUpdated"],
        ),
        (
            Some(""),
            None,
            "immediate",
            "",
            &new,
            "UpToDate",
            &["ImagesRecordInvalid"],
        ),
        // One image of six is no record.
        (
            Some(r#"{"postgres":"registry/postgres:1"}"#),
            None,
            "immediate",
            "",
            &new,
            "UpToDate",
            &["ImagesRecordInvalid"],
        ),
    ];
    for (i, (annotation, status, strategy, acknowledged, expected, reason, events)) in
        rows.into_iter().enumerate()
    {
        let cluster = cluster(policy(Some(strategy), acknowledged), annotation, status);
        let of = decide(&cluster, &new, Strategy::Immediate).unwrap();
        assert_eq!(of.applied.as_ref(), Some(expected), "row {i}");
        assert_eq!(&of.effective, expected, "row {i}");
        assert_eq!(of.reason, reason, "row {i}");
        assert_eq!(of.pending, reason != "UpToDate", "row {i}");
        assert_eq!(
            of.news
                .iter()
                .chain(&of.warning)
                .map(|news| news.reason)
                .collect::<Vec<_>>(),
            events,
            "row {i}"
        );
        // What goes with the record would not be told without one, or be told again and again.
        assert!(of.news.is_empty() || of.record.is_some(), "row {i}");
        let recorded = of
            .record
            .clone()
            .unwrap_or_else(|| annotation.unwrap_or_default().to_owned());
        assert_eq!(
            parse(&recorded).as_ref(),
            Some(expected),
            "row {i}: the record is that set"
        );
    }
}

/// L-GIT-02: a lost record under the lazy policy is not guessed.
#[test]
fn without_a_readable_record_lazy_touches_nothing() {
    let partial = ComponentImages {
        postgres: None,
        ..set("1")
    };
    for status in [None, Some(&partial)] {
        let cluster = cluster(policy(Some("lazy"), ""), Some("{"), status);
        assert_eq!(
            decide(&cluster, &set("2"), Strategy::Immediate),
            Err(Unreadable)
        );
    }
}

#[test]
fn pins_win_and_a_fully_pinned_cluster_leaves_a_tombstone() {
    let (pins, new) = (set("pinned"), set("2"));
    let on_old = canonical(&set("1"));
    let all = cluster(json!({"images": pins}), Some(&on_old), None);
    let of = decide(&all, &new, Strategy::Lazy).unwrap();
    assert_eq!(
        (of.effective.clone(), of.reason, of.record.as_deref()),
        (pins.clone(), "FullyPinned", Some("\"fully-pinned\""))
    );
    assert_eq!(
        of.status(),
        json!({"effective": pins, "source": "explicit"})
    );

    let one = json!({"images": {"postgres": "mine", "multiorch": ""}, "imageUpdatePolicy": {"strategy": "lazy"}});
    let of = decide(
        &cluster(one, Some(&on_old), None),
        &new,
        Strategy::Immediate,
    )
    .unwrap();
    assert_eq!(
        of.effective,
        ComponentImages {
            postgres: Some("mine".into()),
            ..set("1")
        }
    );
    assert_eq!(of.status()["source"], "mixed");
    assert_eq!(of.status()["appliedRevision"], set("1").revision().as_str());
    assert_eq!(of.status()["availableRevision"], new.revision().as_str());
}

#[test]
fn the_cluster_overrides_the_operators_strategy_both_ways() {
    let on_old = canonical(&set("1"));
    for (flag, own, pending) in [
        (Strategy::Lazy, None, true),
        (Strategy::Lazy, Some("immediate"), false),
        (Strategy::Immediate, None, false),
        (Strategy::Immediate, Some("lazy"), true),
    ] {
        let cluster = cluster(policy(own, ""), Some(&on_old), None);
        assert_eq!(
            decide(&cluster, &set("2"), flag).unwrap().pending,
            pending,
            "{flag:?} {own:?}"
        );
    }
}

#[test]
fn a_record_that_says_the_same_in_other_words_is_left_alone() {
    let set = set("1");
    let spaced = serde_json::to_string_pretty(&set).unwrap();
    assert_ne!(spaced, canonical(&set));
    let of = decide(
        &cluster(json!({}), Some(&spaced), None),
        &set,
        Strategy::Immediate,
    )
    .unwrap();
    assert_eq!(of.record, None);
}

#[test]
fn the_record_lists_components_in_the_order_of_the_api() {
    let members = [
        "multigateway",
        "multiorch",
        "multipooler",
        "multiadmin",
        "multiadminWeb",
        "postgres",
    ];
    let text = canonical(&set("1"));
    let places: Vec<usize> = members
        .iter()
        .map(|name| text.find(&format!("\"{name}\":")).unwrap())
        .collect();
    assert!(places.is_sorted(), "{text}");
}
