//! Files that a pod mounts from Secrets and ConfigMaps.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::{Context, bail};
use k8s_openapi::api::core::v1::{ConfigMap, KeyToPath, Secret, Volume};
use kube::{Api, Client};

use super::pod::PodSpec;

/// Reads files as the kubelet would have mounted them.
#[derive(Clone)]
pub enum Files {
    /// From the Secrets and ConfigMaps that pods mount.
    Cluster(Client),
    /// The same files by path for every pod, without Kubernetes.
    Fixed(Arc<Mutex<BTreeMap<String, Vec<u8>>>>),
}

impl Files {
    /// The content of a file as it is now.
    ///
    /// # Errors
    /// When nothing is mounted there, or the object cannot be read.
    pub async fn read(&self, pod: &PodSpec, path: &str) -> anyhow::Result<Vec<u8>> {
        let client = match self {
            Self::Cluster(client) => client.clone(),
            Self::Fixed(files) => {
                let files = files.lock().unwrap_or_else(PoisonError::into_inner);
                let file = files.get(path).cloned();
                return file.with_context(|| format!("{path} is not there"));
            }
        };
        let (folder, name) = path.rsplit_once('/').context("the path has no folder")?;
        let volume = pod
            .mounts
            .get(folder)
            .with_context(|| format!("{folder} is not mounted"))?;
        for source in sources(volume) {
            if let Some(key) = source.key(name) {
                return source.read(client, &pod.namespace, &key).await;
            }
        }
        bail!("{path} is not mounted")
    }
}

enum Kind {
    Secret,
    ConfigMap,
}

struct Source {
    kind: Kind,
    object: String,
    /// File → key; all keys under their own names when there are none.
    items: BTreeMap<String, String>,
}

impl Source {
    fn new(kind: Kind, object: Option<&String>, items: Option<&Vec<KeyToPath>>) -> Option<Self> {
        let items = items.into_iter().flatten();
        Some(Self {
            kind,
            object: object?.clone(),
            items: items
                .map(|item| (item.path.clone(), item.key.clone()))
                .collect(),
        })
    }

    fn key(&self, file: &str) -> Option<String> {
        if self.items.is_empty() {
            return Some(file.to_owned());
        }
        self.items.get(file).cloned()
    }

    async fn read(&self, client: Client, namespace: &str, key: &str) -> anyhow::Result<Vec<u8>> {
        let missing = || format!("{} has no key {key}", self.object);
        match self.kind {
            Kind::Secret => {
                let api: Api<Secret> = Api::namespaced(client, namespace);
                let data = api.get(&self.object).await?.data.unwrap_or_default();
                Ok(data.get(key).with_context(missing)?.0.clone())
            }
            Kind::ConfigMap => {
                let api: Api<ConfigMap> = Api::namespaced(client, namespace);
                let data = api.get(&self.object).await?.data.unwrap_or_default();
                Ok(data.get(key).with_context(missing)?.clone().into_bytes())
            }
        }
    }
}

fn sources(volume: &Volume) -> Vec<Source> {
    let mut sources = Vec::new();
    if let Some(secret) = &volume.secret {
        sources.extend(Source::new(
            Kind::Secret,
            secret.secret_name.as_ref(),
            secret.items.as_ref(),
        ));
    }
    if let Some(map) = &volume.config_map {
        sources.extend(Source::new(
            Kind::ConfigMap,
            Some(&map.name),
            map.items.as_ref(),
        ));
    }
    let projected = volume
        .projected
        .iter()
        .flat_map(|p| p.sources.iter().flatten());
    for source in projected {
        if let Some(secret) = &source.secret {
            sources.extend(Source::new(
                Kind::Secret,
                Some(&secret.name),
                secret.items.as_ref(),
            ));
        }
        if let Some(map) = &source.config_map {
            sources.extend(Source::new(
                Kind::ConfigMap,
                Some(&map.name),
                map.items.as_ref(),
            ));
        }
    }
    sources
}
