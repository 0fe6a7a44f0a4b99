//! The CEL rules on a real API server: the cases of `crds/schema/cel-cases.yaml`, decided as Rust decides them. That the
//! definitions are served at all shows that the server's cost limits hold.

use cluster::{Bed, NAMESPACE, kind};
use crds::sample::{CelCase, Samples};
use crds::schema::{MESSAGES, definitions};
use kube::api::{Api, DeleteParams, DynamicObject, PostParams};
use serde_json::Value;

fn dry() -> PostParams {
    PostParams {
        dry_run: true,
        ..PostParams::default()
    }
}

fn object(value: &Value) -> DynamicObject {
    serde_json::from_value(value.clone()).unwrap()
}

/// What is wrong with the server's answer, if anything.
async fn decide(api: &Api<DynamicObject>, case: &CelCase) -> Option<String> {
    let answer = match &case.old {
        None => api.create(&dry(), &object(&case.object)).await.map(drop),
        Some(old) => {
            let old = api.create(&PostParams::default(), &object(old)).await;
            let old = match old {
                Ok(old) => old,
                Err(error) => return Some(format!("the old object is refused: {error}")),
            };
            let name = old.metadata.name.clone().unwrap_or_default();
            let mut new = object(&case.object);
            new.metadata.resource_version = old.metadata.resource_version;
            let answer = api.replace(&name, &dry(), &new).await.map(drop);
            api.delete(&name, &DeleteParams::default()).await.unwrap();
            answer
        }
    };
    let message = MESSAGES.iter().find(|(id, _)| *id == case.rule).unwrap().1;
    match answer {
        Ok(()) if case.passes => None,
        Ok(()) => Some("is let pass".to_owned()),
        Err(error) if case.passes => Some(format!("is refused: {error}")),
        Err(kube::Error::Api(status)) if status.code == 422 && status.message.contains(message) => {
            None
        }
        Err(error) => Some(format!("is refused for another reason: {error}")),
    }
}

/// Figure 2 of the API: every rule has a case that passes and one that fails, at every place, on the API server too.
#[tokio::test(flavor = "multi_thread")]
async fn the_server_decides_every_cel_case_as_rust_does() {
    let _one = crate::ONE.lock().await;
    let bed = Bed::start("cel", &[]).await.unwrap();
    let plurals: Vec<(String, String)> = definitions()
        .unwrap()
        .iter()
        .map(|definition| {
            let names = &definition["spec"]["names"];
            let text = |name: &str| names[name].as_str().unwrap().to_owned();
            (text("kind"), text("plural"))
        })
        .collect();
    let cases = Samples::new().unwrap().cel_cases().unwrap();
    let mut wrong = Vec::new();
    for case in &cases {
        let (of, plural) = plurals.iter().find(|(of, _)| *of == case.kind).unwrap();
        let api: Api<DynamicObject> =
            Api::namespaced_with(bed.plane.client(), NAMESPACE, &kind(of, plural));
        if let Some(problem) = decide(&api, case).await {
            let CelCase {
                rule, path, object, ..
            } = case;
            wrong.push(format!("{rule} at {of} {path} {problem}\n  {object}"));
        }
    }
    println!("{} cases on the API server", cases.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
