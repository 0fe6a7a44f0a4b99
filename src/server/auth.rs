//! Who may read: TokenReview, then SubjectAccessReview, both remembered for a minute.
//!
//! Only the SHA-256 of token and request is kept, never the token. When the API server does not answer nothing is
//! served: the door never opens by default.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Mutex;
use std::time::Duration;

use http::HeaderMap;
use http::header::AUTHORIZATION;
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, UserInfo};
use k8s_openapi::api::authorization::v1::{
    NonResourceAttributes, ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec,
};
use kube::api::{Api, PostParams};
use sha2::{Digest, Sha256};
use tokio::time::{Instant, timeout};

use crate::clock;

/// How long a verdict is remembered.
const REMEMBERED: Duration = Duration::from_secs(60);

/// Verdicts remembered at most; about 100 bytes each.
const VERDICTS: usize = 1024;

/// Time for both reviews together.
const REVIEW: Duration = Duration::from_secs(5);

/// What a request wants to get.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A path of no resource.
    Path(&'static str),
    /// The sub-resource `debug` of an object of `multigres.com`.
    Debug {
        /// Plural of the kind.
        resource: &'static str,
        /// Namespace of the object.
        namespace: String,
        /// Name of the object.
        name: String,
    },
}

/// The answer to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Go on.
    Allowed,
    /// Known, but not allowed.
    Denied,
    /// No token, or one that nobody knows.
    Unknown,
    /// The API server did not say.
    Unavailable,
}

/// A future of a review.
pub type Review<'a, T> = Pin<Box<dyn Future<Output = Result<T, String>> + Send + 'a>>;

/// Who knows tokens and permissions: the API server, or a test.
pub trait Reviewer: Send + Sync + 'static {
    /// The user behind a token; None when the token is not valid.
    fn authenticate<'a>(&'a self, token: &'a str) -> Review<'a, Option<UserInfo>>;
    /// May the user get the target?
    fn authorize<'a>(&'a self, user: UserInfo, target: &'a Target) -> Review<'a, bool>;
}

/// Reviews requests and remembers verdicts.
pub struct Guard {
    reviewer: Box<dyn Reviewer>,
    verdicts: Mutex<HashMap<[u8; 32], (Instant, Verdict)>>,
}

impl Guard {
    /// A guard that asks this reviewer.
    pub fn new(reviewer: impl Reviewer) -> Self {
        Self {
            reviewer: Box::new(reviewer),
            verdicts: Mutex::default(),
        }
    }

    /// Judges a request by its `Authorization` header.
    pub async fn judge(&self, headers: &HeaderMap, target: &Target) -> Verdict {
        let Some(token) = bearer(headers) else {
            return Verdict::Unknown;
        };
        let digest = digest(token, target);
        if let Some(verdict) = self.recall(&digest) {
            return verdict;
        }
        match timeout(REVIEW, self.review(token, target)).await {
            Ok(Ok(verdict)) => {
                self.remember(digest, verdict);
                verdict
            }
            Ok(Err(reason)) => {
                tracing::debug!(reason, "review failed");
                Verdict::Unavailable
            }
            Err(_) => Verdict::Unavailable,
        }
    }

    async fn review(&self, token: &str, target: &Target) -> Result<Verdict, String> {
        let Some(user) = self.reviewer.authenticate(token).await? else {
            return Ok(Verdict::Unknown);
        };
        Ok(if self.reviewer.authorize(user, target).await? {
            Verdict::Allowed
        } else {
            Verdict::Denied
        })
    }

    fn recall(&self, digest: &[u8; 32]) -> Option<Verdict> {
        let verdicts = self
            .verdicts
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        verdicts
            .get(digest)
            .filter(|(until, _)| clock::monotonic() < *until)
            .map(|(_, verdict)| *verdict)
    }

    fn remember(&self, digest: [u8; 32], verdict: Verdict) {
        let now = clock::monotonic();
        let mut verdicts = self
            .verdicts
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        if verdicts.len() >= VERDICTS {
            verdicts.retain(|_, (until, _)| now < *until);
        }
        if verdicts.len() >= VERDICTS {
            let oldest = verdicts
                .iter()
                .min_by_key(|(_, (until, _))| *until)
                .map(|(digest, _)| *digest);
            oldest.map(|oldest| verdicts.remove(&oldest));
        }
        verdicts.insert(digest, (now + REMEMBERED, verdict));
    }
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

/// Every part with its length in front, so that no two requests look alike.
fn digest(token: &str, target: &Target) -> [u8; 32] {
    let parts: [&str; 4] = match target {
        Target::Path(path) => [token, path, "", ""],
        Target::Debug {
            resource,
            namespace,
            name,
        } => [token, resource, namespace, name],
    };
    let mut digest = Sha256::new();
    for part in parts {
        digest.update(part.len().to_be_bytes());
        digest.update(part.as_bytes());
    }
    digest.finalize().into()
}

/// Asks the API server.
pub struct ApiReviewer(pub kube::Client);

impl Reviewer for ApiReviewer {
    fn authenticate<'a>(&'a self, token: &'a str) -> Review<'a, Option<UserInfo>> {
        Box::pin(async move {
            let spec = TokenReviewSpec {
                token: Some(token.to_owned()),
                audiences: None,
            };
            let review = TokenReview {
                spec,
                ..TokenReview::default()
            };
            let api: Api<TokenReview> = Api::all(self.0.clone());
            let answer = api
                .create(&PostParams::default(), &review)
                .await
                .map_err(|error| error.to_string())?;
            let status = answer.status.unwrap_or_default();
            Ok(if status.authenticated == Some(true) {
                status.user
            } else {
                None
            })
        })
    }

    fn authorize<'a>(&'a self, user: UserInfo, target: &'a Target) -> Review<'a, bool> {
        Box::pin(async move {
            let review = SubjectAccessReview {
                spec: access(user, target),
                ..SubjectAccessReview::default()
            };
            let api: Api<SubjectAccessReview> = Api::all(self.0.clone());
            let answer = api
                .create(&PostParams::default(), &review)
                .await
                .map_err(|error| error.to_string())?;
            Ok(answer
                .status
                .is_some_and(|status| status.allowed && status.denied != Some(true)))
        })
    }
}

/// The review of one request, with all that is known of the user.
pub fn access(user: UserInfo, target: &Target) -> SubjectAccessReviewSpec {
    let verb = Some("get".to_owned());
    let (path, resource) = match target {
        Target::Path(path) => (
            Some(NonResourceAttributes {
                path: Some((*path).to_owned()),
                verb,
            }),
            None,
        ),
        Target::Debug {
            resource,
            namespace,
            name,
        } => {
            let attributes = ResourceAttributes {
                group: Some("multigres.com".to_owned()),
                resource: Some((*resource).to_owned()),
                subresource: Some("debug".to_owned()),
                namespace: Some(namespace.clone()),
                name: Some(name.clone()),
                verb,
                ..ResourceAttributes::default()
            };
            (None, Some(attributes))
        }
    };
    SubjectAccessReviewSpec {
        extra: user.extra,
        groups: user.groups,
        non_resource_attributes: path,
        resource_attributes: resource,
        uid: user.uid,
        user: user.username,
    }
}

#[cfg(test)]
#[path = "auth_tests.rs"]
pub(crate) mod tests;
