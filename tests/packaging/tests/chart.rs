//! The chart as helm renders it.

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use packaging::chart::{self, documents, list, of_kind, render, template, text};
use packaging::{binary, command};
use serde_json::{Value, json};

fn deployment(arguments: &[&str]) -> Result<Value> {
    let objects = render(arguments)?;
    of_kind(&objects, "Deployment")
        .next()
        .cloned()
        .context("no Deployment")
}

fn container(deployment: &Value) -> Result<&Value> {
    let containers = list(deployment, "/spec/template/spec/containers");
    assert_eq!(containers.len(), 1);
    containers.first().context("no container")
}

fn names(objects: &[Value]) -> BTreeSet<(String, String, String)> {
    let words = |object: &Value, pointer| text(object, pointer).to_owned();
    objects
        .iter()
        .map(|o| {
            (
                words(o, "/kind"),
                words(o, "/metadata/namespace"),
                words(o, "/metadata/name"),
            )
        })
        .collect()
}

/// The environment variables that have a literal value.
fn environment(deployment: &Value) -> Result<Vec<(&str, &str)>> {
    Ok(list(container(deployment)?, "/env")
        .iter()
        .filter(|variable| variable.get("value").is_some())
        .map(|variable| (text(variable, "/name"), text(variable, "/value")))
        .collect())
}

/// The manifests in the chart's folder, by name.
fn manifests() -> Result<Vec<Value>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(chart::folder().join("crd-manifests"))? {
        found.extend(documents(&std::fs::read_to_string(entry?.path())?)?);
    }
    found.sort_by_key(|crd| text(crd, "/metadata/name").to_owned());
    Ok(found)
}

#[test]
fn lint_is_strict() -> Result<()> {
    command::stdout(
        chart::helm()?
            .args(["lint", "--strict"])
            .arg(chart::folder()),
    )?;
    Ok(())
}

#[test]
fn names_do_not_depend_on_the_release() -> Result<()> {
    let one = names(&documents(&template("one", &[])?.stdout)?);
    let two = names(&documents(&template("two", &[])?.stdout)?);
    assert_eq!(one, two);
    for (kind, namespace, name) in &one {
        let cluster_wide = [
            "ClusterRole",
            "ClusterRoleBinding",
            "CustomResourceDefinition",
        ]
        .contains(&kind.as_str());
        assert_eq!(
            namespace,
            if cluster_wide { "" } else { "operator-system" },
            "{kind} {name}"
        );
        assert!(
            kind == "CustomResourceDefinition" || name.starts_with("multigres-operator-"),
            "{kind} {name}"
        );
    }
    Ok(())
}

#[test]
fn the_pod_meets_the_restricted_pod_security_standard() -> Result<()> {
    let deployment = deployment(&[])?;
    let pod = deployment
        .pointer("/spec/template/spec")
        .context("no pod")?;
    for field in [
        "hostNetwork",
        "hostPID",
        "hostIPC",
        "volumes",
        "initContainers",
    ] {
        assert!(pod.get(field).is_none(), "{field}");
    }
    assert_eq!(
        pod.pointer("/securityContext/runAsNonRoot"),
        Some(&json!(true))
    );
    assert_eq!(
        pod.pointer("/securityContext/runAsUser"),
        Some(&json!(65532))
    );
    assert_eq!(
        text(pod, "/securityContext/seccompProfile/type"),
        "RuntimeDefault"
    );
    let expected = json!({
        "allowPrivilegeEscalation": false,
        "readOnlyRootFilesystem": true,
        "capabilities": { "drop": ["ALL"] },
    });
    assert_eq!(
        container(&deployment)?.pointer("/securityContext"),
        Some(&expected)
    );
    Ok(())
}

#[test]
fn selectors_match_the_pod() -> Result<()> {
    let objects = render(&[
        "--set",
        "podLabels.control-plane=mine,podLabels.team=storage",
    ])?;
    let deployment = of_kind(&objects, "Deployment")
        .next()
        .context("no Deployment")?;
    let labels = deployment
        .pointer("/spec/template/metadata/labels")
        .context("no labels")?;
    assert_eq!(text(labels, "/team"), "storage");
    let budget = of_kind(&objects, "PodDisruptionBudget")
        .next()
        .context("no budget")?;
    let service = of_kind(&objects, "Service").next().context("no Service")?;
    let selectors = [
        deployment.pointer("/spec/selector/matchLabels"),
        budget.pointer("/spec/selector/matchLabels"),
        service.pointer("/spec/selector"),
    ];
    for selector in selectors {
        let selector = selector.and_then(Value::as_object).context("no selector")?;
        assert!(!selector.is_empty());
        for (key, value) in selector {
            assert_eq!(labels.get(key), Some(value), "{key}");
        }
    }
    let ports: Vec<_> = list(container(deployment)?, "/ports")
        .iter()
        .map(|port| text(port, "/name"))
        .collect();
    assert!(ports.contains(&text(service, "/spec/ports/0/targetPort")));
    for probe in ["livenessProbe", "readinessProbe"] {
        assert!(
            ports.contains(&text(
                container(deployment)?,
                &format!("/{probe}/httpGet/port")
            )),
            "{probe}"
        );
    }
    Ok(())
}

#[test]
fn every_argument_is_a_flag_of_the_binary() -> Result<()> {
    let help = command::stdout(std::process::Command::new(binary::operator()?).arg("--help"))?;
    let flags: BTreeSet<&str> = help
        .split_whitespace()
        .filter(|word| word.starts_with("--"))
        .map(|word| word.split(['=', '[', ',']).next().unwrap_or(word))
        .collect();
    let deployment = deployment(&[
        "--set",
        "imageUpdateStrategy=lazy,leaderElection.leaseDuration=30s",
    ])?;
    let arguments: Vec<_> = list(container(&deployment)?, "/args")
        .iter()
        .map(|a| text(a, ""))
        .collect();
    assert!(
        arguments.contains(&"--lease-duration=30s")
            && arguments.contains(&"--image-update-strategy=lazy")
    );
    for argument in arguments {
        let flag = argument.split('=').next().unwrap_or(argument);
        assert!(flags.contains(flag), "{argument} is not in:\n{help}");
    }
    Ok(())
}

#[test]
fn images_are_passed_only_when_set() -> Result<()> {
    let default = deployment(&[])?;
    let set = |deployment: &Value| -> Result<Vec<String>> {
        let all = environment(deployment)?;
        let images = all
            .into_iter()
            .filter(|(name, _)| name.starts_with("MULTIGRES_IMAGE_"));
        Ok(images
            .map(|(name, value)| format!("{name}={value}"))
            .collect())
    };
    assert_eq!(set(&default)?, [""; 0]);
    let chosen = deployment(&[
        "--set",
        "images.postgres=a/pg:1,images.multiadminWeb=a/web:2",
    ])?;
    assert_eq!(
        set(&chosen)?,
        [
            "MULTIGRES_IMAGE_MULTIADMIN_WEB=a/web:2",
            "MULTIGRES_IMAGE_POSTGRES=a/pg:1"
        ]
    );
    Ok(())
}

/// Who signs certificates is a decision of whoever installs the operator, not of one cluster.
#[test]
fn the_issuer_of_certificates_is_passed_only_when_set() -> Result<()> {
    let set = |arguments: &[&str]| -> Result<Vec<String>> {
        let deployment = deployment(arguments)?;
        let all = environment(&deployment)?;
        let certificates = all
            .into_iter()
            .filter(|(name, _)| name.starts_with("MULTIGRES_CERTIFICATE_"));
        Ok(certificates
            .map(|(name, value)| format!("{name}={value}"))
            .collect())
    };
    assert_eq!(set(&[])?, [""; 0]);
    let chosen = "certificates.issuerKind=Issuer,certificates.issuerName=ours,certificates.issuerGroup=ca.example,\
                  certificates.subject=C=DE\\,O=Example";
    assert_eq!(
        set(&["--set", chosen])?,
        [
            "MULTIGRES_CERTIFICATE_ISSUER_GROUP=ca.example",
            "MULTIGRES_CERTIFICATE_ISSUER_KIND=Issuer",
            "MULTIGRES_CERTIFICATE_ISSUER_NAME=ours",
            "MULTIGRES_CERTIFICATE_SUBJECT=C=DE,O=Example",
        ]
    );
    Ok(())
}

#[test]
fn the_operator_knows_who_it_is() -> Result<()> {
    let deployment = deployment(&[])?;
    let references: Vec<_> = list(container(&deployment)?, "/env")
        .iter()
        .map(|variable| {
            (
                text(variable, "/name"),
                text(variable, "/valueFrom/fieldRef/fieldPath"),
            )
        })
        .filter(|(_, path)| !path.is_empty())
        .collect();
    let expected = [
        ("POD_NAMESPACE", "metadata.namespace"),
        ("POD_NAME", "metadata.name"),
        ("POD_UID", "metadata.uid"),
        ("POD_SERVICE_ACCOUNT", "spec.serviceAccountName"),
    ];
    assert_eq!(references, expected);
    let objects = render(&[])?;
    let account = of_kind(&objects, "ServiceAccount")
        .next()
        .context("no ServiceAccount")?;
    assert_eq!(
        text(&deployment, "/spec/template/spec/serviceAccountName"),
        text(account, "/metadata/name")
    );
    Ok(())
}

#[test]
fn a_digest_wins_over_a_tag() -> Result<()> {
    let digest = format!("sha256:{}", "0".repeat(64));
    let image = |arguments: &[&str]| -> Result<String> {
        Ok(text(container(&deployment(arguments)?)?, "/image").into())
    };
    assert!(image(&[])?.ends_with(concat!(":", env!("CARGO_PKG_VERSION"))));
    assert!(image(&["--set", "image.tag=edge"])?.ends_with("/multigres-operator:edge"));
    let chosen = image(&["--set", &format!("image.tag=edge,image.digest={digest}")])?;
    assert!(
        chosen.ends_with(&format!("/multigres-operator@{digest}")),
        "{chosen}"
    );
    Ok(())
}

#[test]
fn definitions_are_rendered_unchanged_and_kept_on_uninstall() -> Result<()> {
    let objects = render(&[])?;
    let mut rendered: Vec<Value> = of_kind(&objects, "CustomResourceDefinition")
        .cloned()
        .collect();
    rendered.sort_by_key(|crd| text(crd, "/metadata/name").to_owned());
    let mut expected = manifests()?;
    assert_eq!(expected.len(), 8, "run `make generate`");
    for crd in &mut expected {
        let metadata = crd
            .get_mut("metadata")
            .and_then(Value::as_object_mut)
            .context("no metadata")?;
        let annotations = metadata.entry("annotations").or_insert_with(|| json!({}));
        let annotations = annotations.as_object_mut().context("annotations")?;
        annotations.insert("helm.sh/resource-policy".into(), "keep".into());
    }
    assert_eq!(rendered.len(), expected.len());
    for (rendered, expected) in rendered.iter().zip(&expected) {
        assert_eq!(rendered, expected);
    }
    Ok(())
}

#[test]
fn definitions_can_be_left_out() -> Result<()> {
    let with = names(&render(&[])?);
    let without = names(&render(&["--set", "crds.install=false"])?);
    let definitions = with
        .iter()
        .filter(|(kind, _, _)| kind == "CustomResourceDefinition")
        .cloned();
    assert_eq!(
        with.difference(&without).cloned().collect::<Vec<_>>(),
        definitions.collect::<Vec<_>>()
    );
    Ok(())
}

#[test]
fn helm_does_not_install_definitions_by_itself() {
    assert!(
        !chart::folder().join("crds").exists(),
        "Helm never upgrades what lies in a folder named crds"
    );
}

#[test]
fn values_are_checked() -> Result<()> {
    let refused = [
        "replicas=3",
        "crds.instal=true",
        "replicaCount=two",
        "replicaCount=-1",
        "leaderElection.leaseDuration=15",
        "imageUpdateStrategy=later",
        "image.pullPolicy=Sometimes",
        "image.digest=sha256:abc",
        "image.repository=",
        "images.postgress=a",
        "certificates.issuer=ours",
        "certificates.issuerName=two words",
        "resources.limits.memory=lots",
        "serviceMonitor.interval=often",
    ];
    for value in refused {
        let output = template("a-release", &["--set", value])?;
        assert!(!output.success, "{value} was accepted");
        assert!(
            output.stderr.contains("schema"),
            "{value}: {}",
            output.stderr
        );
    }
    Ok(())
}

#[test]
fn optional_objects_follow_their_values() -> Result<()> {
    let default = render(&[])?;
    assert_eq!(of_kind(&default, "PodDisruptionBudget").count(), 1);
    assert_eq!(of_kind(&default, "ServiceMonitor").count(), 0);
    let other = render(&[
        "--set",
        "podDisruptionBudget.enabled=false,serviceMonitor.enabled=true",
    ])?;
    assert_eq!(of_kind(&other, "PodDisruptionBudget").count(), 0);
    assert_eq!(of_kind(&other, "ServiceMonitor").count(), 1);
    Ok(())
}

#[test]
fn rights_are_the_least_that_serve() -> Result<()> {
    let objects = render(&[])?;
    let roles: Vec<&Value> = of_kind(&objects, "ClusterRole")
        .chain(of_kind(&objects, "Role"))
        .collect();
    for role in &roles {
        for rule in list(role, "/rules") {
            for field in ["apiGroups", "resources", "verbs", "nonResourceURLs"] {
                let words = list(rule, &format!("/{field}"));
                assert!(
                    words.iter().all(|word| !text(word, "").contains('*')),
                    "{rule}"
                );
            }
        }
    }
    let manager = roles
        .iter()
        .find(|role| text(role, "/metadata/name") == "multigres-operator-manager-role")
        .context("no manager role")?;
    let may = |resource: &str, verb: &str| {
        list(manager, "/rules").iter().any(|rule| {
            list(rule, "/resources").contains(&json!(resource))
                && list(rule, "/verbs").contains(&json!(verb))
        })
    };
    assert!(may("multigresclusters", "watch") && !may("multigresclusters", "delete"));
    // A pooler that gave up is replaced, with its volume.
    assert!(may("pods", "delete"));
    // The plugin that guards owner references wants the right to delete from whoever sets one on what others made: the Secrets
    // of cert-manager, the claims of a StatefulSet.
    for resource in ["secrets", "persistentvolumeclaims"] {
        assert!(
            may(resource, "patch") && may(resource, "delete"),
            "{resource}"
        );
    }
    for owner in [
        "multigresclusters",
        "cells",
        "tablegroups",
        "shards",
        "toposervers",
    ] {
        assert!(may(&format!("{owner}/status"), "patch"), "{owner}/status");
        assert!(
            may(&format!("{owner}/finalizers"), "update"),
            "{owner}/finalizers"
        );
    }
    assert!(!may("multigresclusters", "create"));
    assert!(
        may("secrets", "delete"),
        "those of certificates that nobody wants any more"
    );
    Ok(())
}

#[test]
fn every_binding_names_a_role_and_the_account_of_the_chart() -> Result<()> {
    let objects = render(&[])?;
    let existing = names(&objects);
    let bindings = of_kind(&objects, "ClusterRoleBinding").chain(of_kind(&objects, "RoleBinding"));
    let mut count = 0;
    for binding in bindings {
        count += 1;
        let kind = text(binding, "/roleRef/kind");
        let namespace = if kind == "Role" {
            text(binding, "/metadata/namespace")
        } else {
            ""
        };
        assert!(existing.contains(&(
            kind.into(),
            namespace.into(),
            text(binding, "/roleRef/name").into()
        )));
        let expected = json!([{
            "kind": "ServiceAccount",
            "name": "multigres-operator-controller-manager",
            "namespace": "operator-system",
        }]);
        assert_eq!(binding.pointer("/subjects"), Some(&expected));
    }
    assert_eq!(count, 3);
    Ok(())
}

#[test]
fn chart_and_workspace_carry_one_version() -> Result<()> {
    let parsed = documents(&std::fs::read_to_string(
        chart::folder().join("Chart.yaml"),
    )?)?;
    let chart = parsed.first().context("empty Chart.yaml")?;
    assert_eq!(text(chart, "/version"), env!("CARGO_PKG_VERSION"));
    assert_eq!(text(chart, "/appVersion"), env!("CARGO_PKG_VERSION"));
    Ok(())
}
