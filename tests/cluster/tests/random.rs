//! Random clusters on a real API server: what the operator would make of any valid manifest is something that Kubernetes takes.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Instant;

use actors::object::Kind;
use actors::workload::RenderError;
use cluster::dice::Dice;
use cluster::{Bed, NAMESPACE};
use control_plane::issuer;
use crds::MultigresCluster;
use crds::resolve::{ResolvedCluster, TemplateKind, Templates, referenced, resolve};
use futures::{StreamExt, stream};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::Client;
use kube::api::{Api, PostParams};
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use serde::Serialize;
use serde_json::{Value, json};

use crate::common::random::{cluster, world};
use crate::common::{cases, defaults};
use crate::{ONE, tree};

/// Requests under way.
const AT_ONCE: usize = 16;
/// Manifests between two rounds of requests.
const BATCH: usize = 50;
/// Refusals that are printed.
const PRINTED: usize = 20;
/// Names that are not the generator's: the shortest and the longest.
const NAMES: [&str; 2] = ["a", "abcdefghijklmnopqrstuvwxy"];

/// Figure 5 of the API: every object that is rendered for random valid manifests is accepted in a dry run, to the last field.
#[tokio::test(flavor = "multi_thread")]
async fn the_server_accepts_every_object_of_random_clusters() {
    let _one = ONE.lock().await;
    let bed = Bed::start("random", &[]).await.unwrap();
    issuer::install(&bed.plane).await.unwrap();
    accounts(&bed).await;
    let server = Server(bed.plane.client());
    let mut manifests = Manifests::cast();
    let begin = Instant::now();
    let wanted = cases(500) as usize;
    let (mut seen, mut tried, mut valid) = (HashSet::new(), 0, 0);
    let mut refused = Vec::new();
    while valid < wanted {
        let size = BATCH.min(wanted - valid);
        let batch: Vec<Manifest> = (0..size).map(|_| manifests.draw()).collect();
        tried += size;
        let mut fresh = Vec::new();
        for manifest in server.admitted(batch).await {
            let Ok(resolved) = resolve(&manifest.cluster, &manifest.templates, &defaults()) else {
                continue; // the operator says what is wrong, and makes nothing
            };
            valid += 1;
            if let Err(error) = rendered(&manifest.cluster, &resolved, &mut seen, &mut fresh) {
                refused.push(format!("not rendered: {error}\n  {}", manifest.given));
            }
        }
        refused.extend(server.refusals(fresh).await);
    }
    println!(
        "{valid} valid of {tried} manifests, {} different objects, {:?}",
        seen.len(),
        begin.elapsed()
    );
    assert!(
        refused.is_empty(),
        "{} refused, of which\n{}",
        refused.len(),
        refused[..PRINTED.min(refused.len())].join("\n")
    );
}

/// Adds the objects of a cluster that no cluster before had. Most are alike, down to everything that is made from them.
fn rendered(
    cluster: &MultigresCluster,
    resolved: &ResolvedCluster,
    seen: &mut HashSet<u64>,
    fresh: &mut Vec<Value>,
) -> Result<(), RenderError> {
    let mut waiting = tree::of_cluster(cluster, resolved)?;
    while let Some(desired) = waiting.pop() {
        if seen.insert(hash(&desired.body)) {
            waiting.extend(tree::children(&desired, tree::uid_of)?);
            fresh.push(desired.body.into());
        }
    }
    Ok(())
}

/// The ServiceAccounts that the generator's manifests name: pods of others are refused.
async fn accounts(bed: &Bed) {
    let api: Api<ServiceAccount> = Api::namespaced(bed.plane.client(), NAMESPACE);
    for name in ["alpha", "beta"] {
        let account = serde_json::from_value(json!({"metadata": {"name": name}})).unwrap();
        api.create(&PostParams::default(), &account).await.unwrap();
    }
}

fn hash(body: &Value) -> u64 {
    let mut hasher = DefaultHasher::new();
    body.to_string().hash(&mut hasher);
    hasher.finish()
}

/// A cluster with the templates of its namespace.
struct Manifest {
    given: Value,
    cluster: MultigresCluster,
    templates: Templates,
}

/// Manifests of chance, each a function of the seed and its turn.
struct Manifests {
    runner: TestRunner,
    dice: Dice,
}

impl Manifests {
    fn cast() -> Self {
        let mut dice = Dice::cast();
        let mut seed = [0; 32];
        seed[..8].copy_from_slice(&dice.below(usize::MAX).to_le_bytes());
        let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &seed);
        let runner = TestRunner::new_with_rng(Config::default(), rng);
        Self { runner, dice }
    }

    fn draw(&mut self) -> Manifest {
        let both = (cluster(), world()).new_tree(&mut self.runner).unwrap();
        let (mut given, templates) = both.current();
        if let Some(name) = NAMES.get(self.dice.below(16)) {
            given["metadata"]["name"] = json!(name);
        }
        Manifest {
            cluster: tree::received(&given, tree::uid_of),
            given,
            templates,
        }
    }
}

/// The API server, asked for dry runs only.
struct Server(Client);

impl Server {
    /// The answer to a creation, with the server's defaults; unknown fields are refused.
    async fn create(&self, kind: Kind, object: &Value) -> Result<Value, String> {
        let path = kind.path(Some(NAMESPACE), None);
        let request = http::Request::post(format!("{path}?dryRun=All&fieldValidation=Strict"))
            .header("Content-Type", "application/json")
            .body(object.to_string().into_bytes())
            .unwrap();
        let answer = self.0.request(request).await;
        answer.map_err(|error| error.to_string())
    }

    /// The manifests that a user could have stored, as they would be stored.
    async fn admitted(&self, manifests: Vec<Manifest>) -> Vec<Manifest> {
        let asked = stream::iter(manifests).map(|manifest| self.admit(manifest));
        // In order: the whole run is to be a function of the seed.
        let answers: Vec<Option<Manifest>> = asked.buffered(AT_ONCE).collect().await;
        answers.into_iter().flatten().collect()
    }

    async fn admit(&self, mut manifest: Manifest) -> Option<Manifest> {
        let stored = self.create(Kind::MultigresCluster, &manifest.given).await;
        manifest.cluster = tree::received(&stored.ok()?, tree::uid_of);
        let names = referenced(&manifest.cluster);
        let Templates { core, cell, shard } = &mut manifest.templates;
        core.retain(|name, _| names.contains(TemplateKind::Core, name));
        cell.retain(|name, _| names.contains(TemplateKind::Cell, name));
        shard.retain(|name, _| names.contains(TemplateKind::Shard, name));
        for template in core.values_mut() {
            *template = self.stored(Kind::CoreTemplate, template).await?;
        }
        for template in cell.values_mut() {
            *template = self.stored(Kind::CellTemplate, template).await?;
        }
        for template in shard.values_mut() {
            *template = self.stored(Kind::ShardTemplate, template).await?;
        }
        Some(manifest)
    }

    async fn stored<T: Serialize + serde::de::DeserializeOwned>(
        &self,
        kind: Kind,
        template: &T,
    ) -> Option<T> {
        let mut object = serde_json::to_value(template).unwrap();
        object["apiVersion"] = kind.api_version().into();
        object["kind"] = kind.name().into();
        let answer = self.create(kind, &object).await.ok()?;
        Some(serde_json::from_value(answer).unwrap())
    }

    /// The objects that are refused, each with the server's words.
    async fn refusals(&self, objects: Vec<Value>) -> Vec<String> {
        let asked = stream::iter(objects).map(|object| self.refusal(object));
        let answers: Vec<Option<String>> = asked.buffered(AT_ONCE).collect().await;
        answers.into_iter().flatten().collect()
    }

    async fn refusal(&self, object: Value) -> Option<String> {
        let of = object["kind"].as_str().unwrap();
        let mut kinds = Kind::ALL.into_iter();
        let kind = kinds.find(|kind| kind.name() == of).unwrap();
        let answer = self.create(kind, &object).await;
        answer.err().map(|message| format!("{message}\n  {object}"))
    }
}
