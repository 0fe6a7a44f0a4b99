use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::*;

/// Knows the tokens `reader` and `stranger`; only the reader may read.
#[derive(Clone, Default)]
pub struct Desk {
    pub asked: Arc<AtomicUsize>,
    pub hangs: Arc<AtomicBool>,
    pub fails: Arc<AtomicBool>,
}

impl Reviewer for Desk {
    fn authenticate<'a>(&'a self, token: &'a str) -> Review<'a, Option<UserInfo>> {
        Box::pin(async move {
            self.asked.fetch_add(1, Ordering::SeqCst);
            if self.hangs.load(Ordering::SeqCst) {
                std::future::pending::<()>().await;
            }
            if self.fails.load(Ordering::SeqCst) {
                return Err("refused".to_owned());
            }
            let user = UserInfo {
                username: Some(token.to_owned()),
                ..UserInfo::default()
            };
            Ok((token == "reader" || token == "stranger").then_some(user))
        })
    }

    fn authorize<'a>(&'a self, user: UserInfo, _: &'a Target) -> Review<'a, bool> {
        Box::pin(async move { Ok(user.username.as_deref() == Some("reader")) })
    }
}

fn header(value: &str) -> HeaderMap {
    HeaderMap::from_iter([(AUTHORIZATION, value.parse().unwrap())])
}

const METRICS: Target = Target::Path("/metrics");

#[tokio::test]
async fn verdicts() {
    let guard = Guard::new(Desk::default());
    for (value, verdict) in [
        ("Bearer reader", Verdict::Allowed),
        ("bearer reader", Verdict::Allowed),
        ("Bearer stranger", Verdict::Denied),
        ("Bearer nobody", Verdict::Unknown),
        ("Bearer ", Verdict::Unknown),
        ("Basic reader", Verdict::Unknown),
    ] {
        assert_eq!(
            guard.judge(&header(value), &METRICS).await,
            verdict,
            "{value}"
        );
    }
    assert_eq!(
        guard.judge(&HeaderMap::new(), &METRICS).await,
        Verdict::Unknown
    );
}

#[tokio::test(start_paused = true)]
async fn a_verdict_is_remembered_for_a_minute_and_for_one_target() {
    let desk = Desk::default();
    let guard = Guard::new(desk.clone());
    let asked = || desk.asked.load(Ordering::SeqCst);
    for _ in 0..3 {
        guard.judge(&header("Bearer reader"), &METRICS).await;
    }
    assert_eq!(asked(), 1);
    guard
        .judge(&header("Bearer reader"), &Target::Path("/debug/actors"))
        .await;
    assert_eq!(asked(), 2);
    tokio::time::sleep(REMEMBERED).await;
    guard.judge(&header("Bearer reader"), &METRICS).await;
    assert_eq!(asked(), 3);
}

#[tokio::test(start_paused = true)]
async fn no_answer_never_opens_and_is_not_remembered() {
    let desk = Desk::default();
    let guard = Guard::new(desk.clone());
    desk.hangs.store(true, Ordering::SeqCst);
    let start = clock::monotonic();
    assert_eq!(
        guard.judge(&header("Bearer reader"), &METRICS).await,
        Verdict::Unavailable
    );
    assert_eq!(clock::monotonic() - start, REVIEW);
    desk.hangs.store(false, Ordering::SeqCst);
    desk.fails.store(true, Ordering::SeqCst);
    assert_eq!(
        guard.judge(&header("Bearer reader"), &METRICS).await,
        Verdict::Unavailable
    );
    desk.fails.store(false, Ordering::SeqCst);
    assert_eq!(
        guard.judge(&header("Bearer reader"), &METRICS).await,
        Verdict::Allowed
    );
}

#[tokio::test]
async fn memory_is_bounded() {
    let guard = Guard::new(Desk::default());
    for token in 0..VERDICTS + 10 {
        guard
            .judge(&header(&format!("Bearer {token}")), &METRICS)
            .await;
    }
    assert_eq!(guard.verdicts.lock().unwrap().len(), VERDICTS);
}

#[test]
fn requests_that_read_alike_differ() {
    let debug = |namespace: &str, name: &str| Target::Debug {
        resource: "shards",
        namespace: namespace.into(),
        name: name.into(),
    };
    assert_ne!(
        digest("t", &debug("ab", "c")),
        digest("t", &debug("a", "bc"))
    );
}

#[test]
fn the_review_names_the_sub_resource() {
    let target = Target::Debug {
        resource: "shards",
        namespace: "ns".into(),
        name: "one".into(),
    };
    let spec = access(
        UserInfo {
            groups: Some(vec!["g".into()]),
            ..UserInfo::default()
        },
        &target,
    );
    let resource = spec.resource_attributes.unwrap();
    assert_eq!(
        (
            resource.resource.as_deref(),
            resource.subresource.as_deref()
        ),
        (Some("shards"), Some("debug"))
    );
    assert_eq!(spec.groups, Some(vec!["g".to_owned()]));
    assert!(spec.non_resource_attributes.is_none());
}
