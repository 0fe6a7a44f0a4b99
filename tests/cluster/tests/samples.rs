//! Every file of docs/samples as users meet it, those of GitOps among them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, ensure};
use cluster::introspection::Inspector;
use cluster::{Bed, kind};
use control_plane::issuer::Issuer;
use control_plane::wait;
use futures::{StreamExt, stream};
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{Api, DynamicObject, PostParams};
use serde_json::{Value, json};
use tokio::task::block_in_place;

use crate::ONE;

/// Samples at work at once.
const AT_ONCE: usize = 14;

/// The samples come up beside each other; then L-GIT-01 "Defaults written into the user's spec": a second apply of the same file,
/// client- and server-side, finds nothing to do and leaves every resourceVersion as it is.
#[tokio::test(flavor = "multi_thread")]
async fn every_sample_becomes_healthy_and_applying_it_again_changes_nothing() {
    let _one = ONE.lock().await;
    let bed = Arc::new(Bed::start("samples", &[]).await.unwrap());
    let issuer = Issuer::start(&bed.plane).await.unwrap();
    let operator = bed.operator().await.unwrap();
    let inspector = Inspector::new(&bed.plane).await.unwrap();
    let samples = samples();
    assert!(samples.len() >= 10, "{} samples", samples.len());

    let begin = Instant::now();
    each(&bed, &samples, bring_up).await;
    println!(
        "{} samples Healthy after {:?}",
        samples.len(),
        begin.elapsed()
    );
    inspector.settled(&operator).await.unwrap();
    each(&bed, &samples, again).await;
    println!("all applied again after {:?}", begin.elapsed());
    drop((operator, issuer));
}

/// A file, applied to a namespace that has its name.
#[derive(Clone, Debug)]
struct Sample {
    name: String,
    file: String,
}

fn samples() -> Vec<Sample> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/samples");
    let files = std::fs::read_dir(folder).unwrap();
    let files = files.map(|entry| entry.unwrap().path());
    let manifests = files.filter(|path| path.extension().is_some_and(|end| end == "yaml"));
    let mut all: Vec<PathBuf> = manifests.collect();
    all.sort();
    let sample = |path: &PathBuf| Sample {
        name: path.file_stem().unwrap().to_str().unwrap().to_owned(),
        file: path.to_str().unwrap().to_owned(),
    };
    all.iter().map(sample).collect()
}

/// Does something with every sample, some at once, and fails with all that failed.
async fn each<F>(bed: &Arc<Bed>, samples: &[Sample], work: fn(Arc<Bed>, Sample) -> F)
where
    F: Future<Output = anyhow::Result<()>> + Send + 'static,
{
    let all = stream::iter(samples).map(|sample| {
        let done = tokio::spawn(work(bed.clone(), sample.clone()));
        async move {
            let outcome = done.await.unwrap();
            outcome
                .err()
                .map(|error| format!("{}: {error:#}", sample.name))
        }
    });
    let outcomes: Vec<Option<String>> = all.buffer_unordered(AT_ONCE).collect().await;
    let failures: Vec<String> = outcomes.into_iter().flatten().collect();
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
}

async fn bring_up(bed: Arc<Bed>, sample: Sample) -> anyhow::Result<()> {
    let namespaces: Api<Namespace> = Api::all(bed.plane.client());
    let namespace = serde_json::from_value(json!({"metadata": {"name": sample.name}}))?;
    namespaces
        .create(&PostParams::default(), &namespace)
        .await?;
    kubectl(&bed, &sample, &["apply"])?;
    let clusters = kind("MultigresCluster", "multigresclusters");
    let api: Api<DynamicObject> = Api::namespaced_with(bed.plane.client(), &sample.name, &clusters);
    let description = format!("{} to be Healthy", sample.name);
    let healthy = |cluster: &DynamicObject| {
        cluster
            .data
            .pointer("/status/phase")
            .and_then(Value::as_str)
            == Some("Healthy")
    };
    let up = wait::object(api, &sample.name, &description, cluster::HEALTHY, healthy).await;
    match up {
        Ok(_) => Ok(()),
        Err(error) => Err(error).with_context(|| told(&bed, &sample)),
    }
}

/// What the operator says of everything in the sample's namespace.
fn told(bed: &Bed, sample: &Sample) -> String {
    let template = r#"{range .items[*]}{.kind}/{.metadata.name} {.status.phase}{range .status.conditions[*]}
  {.type}={.status} {.reason}: {.message}{end}
{end}"#;
    let kinds = "multigresclusters,toposervers,cells,tablegroups,shards";
    let format = format!("jsonpath={template}");
    let output = bed.plane.kubectl(&[
        "get",
        kinds,
        "--namespace",
        &sample.name,
        "--output",
        &format,
    ]);
    output.map_or_else(
        |error| error.to_string(),
        |output| String::from_utf8_lossy(&output.stdout).into_owned(),
    )
}

async fn again(bed: Arc<Bed>, sample: Sample) -> anyhow::Result<()> {
    let run = |args: &[&str]| kubectl(&bed, &sample, args);
    let client_side = ["apply", "--output=json"];
    let server_side = ["apply", "--server-side", "--output=json"];

    let before = versions(&run(&["get", "--output=json"])?)?;
    run(&["diff"])?;
    unchanged(&before, &versions(&run(&client_side)?)?).context("applied client-side again")?;

    // The first one takes the fields over from the client-side apply.
    let before = versions(&run(&server_side)?)?;
    run(&["diff", "--server-side"])?;
    unchanged(&before, &versions(&run(&server_side)?)?).context("applied server-side again")
}

/// kind/name → resourceVersion of the objects of a file, from kubectl's answer.
fn versions(list: &str) -> anyhow::Result<BTreeMap<String, String>> {
    let list: Value = serde_json::from_str(list)?;
    let items = list["items"].as_array().context("not a list")?;
    let text = |item: &Value, pointer: &str| -> anyhow::Result<String> {
        let value = item.pointer(pointer).and_then(Value::as_str);
        Ok(value.with_context(|| format!("no {pointer}"))?.to_owned())
    };
    items
        .iter()
        .map(|item| {
            let name = format!("{}/{}", text(item, "/kind")?, text(item, "/metadata/name")?);
            Ok((name, text(item, "/metadata/resourceVersion")?))
        })
        .collect()
}

fn unchanged(
    before: &BTreeMap<String, String>,
    after: &BTreeMap<String, String>,
) -> anyhow::Result<()> {
    ensure!(
        before == after,
        "resourceVersions {before:?} became {after:?}"
    );
    Ok(())
}

/// kubectl over the sample's file and namespace; whatever is not a success is an error, a diff that is not empty too.
fn kubectl(bed: &Bed, sample: &Sample, args: &[&str]) -> anyhow::Result<String> {
    let place = ["--namespace", &sample.name, "--filename", &sample.file];
    let output = block_in_place(|| bed.plane.kubectl(&[args, &place].concat()))?;
    let text = String::from_utf8(output.stdout)?;
    ensure!(
        output.status.success(),
        "kubectl {}: {}\n{text}",
        args.join(" "),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(text)
}
