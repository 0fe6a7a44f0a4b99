//! What passes down the tree of a manifest: backup settings and volume policies (`api.md` 8.2).

use super::layers::{Found, list, text};
use super::provenance::{Layer, Level, Recorder};
use crate::{BackupConfig, FilesystemBackupConfig, PvcDeletionPolicy, S3BackupConfig, StorageSpec};

/// What each level says, strongest first.
#[derive(Clone, Debug)]
pub(super) struct Levels<'a, T>(Vec<(Layer, &'a T)>);

impl<'a, T> Levels<'a, T> {
    /// What a component itself says.
    pub fn layered(own: Found<'a, T>) -> Self {
        Self(Vec::from_iter(own))
    }

    /// What a level itself says.
    pub fn own(own: Option<&'a T>) -> Self {
        Self::layered(own.map(|own| (Layer::Inline, own)))
    }

    /// One more below all others.
    pub fn beneath(mut self, found: Found<'a, T>) -> Self {
        self.0.extend(found);
        self
    }

    /// One enclosing level below all others.
    pub fn over(self, level: Level, given: Option<&'a T>) -> Self {
        self.beneath(given.map(|given| (Layer::Inherited(level), given)))
    }

    fn map<U>(&self, part: impl Fn(&'a T) -> Option<&'a U>) -> Levels<'a, U> {
        let parts = self.0.iter();
        Levels(
            parts
                .filter_map(|(layer, level)| Some((*layer, part(level)?)))
                .collect(),
        )
    }

    fn first<U>(&self, part: impl Fn(&'a T) -> Option<&'a U>) -> Found<'a, U> {
        self.ranked(part).map(|(_, layer, value)| (layer, value))
    }

    /// The same with the rank of the level, 0 being the strongest.
    fn ranked<U>(&self, part: impl Fn(&'a T) -> Option<&'a U>) -> Option<(usize, Layer, &'a U)> {
        let mut levels = self.0.iter().enumerate();
        levels.find_map(|(rank, (layer, level))| Some((rank, *layer, part(level)?)))
    }
}

/// The policy in force, member by member; `Delete` where nobody says anything (`api.md` trap T4).
pub fn policy(levels: &Levels<'_, PvcDeletionPolicy>, rec: &mut Recorder<'_>) -> PvcDeletionPolicy {
    let delete = || Some("Delete".to_owned());
    PvcDeletionPolicy {
        when_deleted: rec.pick(
            "whenDeleted",
            levels.first(|p| text(&p.when_deleted)),
            delete,
        ),
        when_scaled: rec.pick("whenScaled", levels.first(|p| text(&p.when_scaled)), delete),
    }
}

/// The backup settings in force. A level of another type than the levels above it inherits nothing from them; without any
/// level it is a volume of 10Gi at /backups.
pub fn backup(levels: &Levels<'_, BackupConfig>, rec: &mut Recorder<'_>) -> BackupConfig {
    let type_ = rec
        .pick("type", levels.first(|b| Some(&b.type_)), || {
            Some("filesystem".to_owned())
        })
        .unwrap_or_default();
    let same = |(_, level): &&(Layer, &BackupConfig)| level.type_ == type_;
    let run = Levels(levels.0.iter().take_while(same).copied().collect());
    BackupConfig {
        filesystem: (type_ == "filesystem").then(|| {
            let volumes = run.map(|b| b.filesystem.as_ref());
            filesystem(&volumes, &mut rec.within("filesystem"))
        }),
        s3: (type_ == "s3").then(|| s3(&run.map(|b| b.s3.as_ref()), &mut rec.within("s3"))),
        pgbackrest_tls: rec.given("pgbackrestTLS", run.first(|b| b.pgbackrest_tls.as_ref())),
        encryption: rec.given("encryption", run.first(|b| b.encryption.as_ref())),
        type_,
    }
}

fn filesystem(
    levels: &Levels<'_, FilesystemBackupConfig>,
    rec: &mut Recorder<'_>,
) -> FilesystemBackupConfig {
    let volumes = levels.map(|f| f.storage.as_ref());
    FilesystemBackupConfig {
        path: rec.pick("path", levels.first(|f| text(&f.path)), || {
            Some("/backups".to_owned())
        }),
        storage: Some(storage(&volumes, &mut rec.within("storage"))),
    }
}

fn storage(levels: &Levels<'_, StorageSpec>, rec: &mut Recorder<'_>) -> StorageSpec {
    StorageSpec {
        size: rec.pick("size", levels.first(|s| text(&s.size)), || {
            Some("10Gi".to_owned())
        }),
        class: rec.given("class", levels.first(|s| text(&s.class))),
        access_modes: rec
            .given("accessModes", levels.first(|s| list(&s.access_modes)))
            .unwrap_or_default(),
    }
}

/// Ways to credentials exclude each other (CEL-27, CEL-28): where a stronger level names one, a weaker level's other way is not
/// inherited.
fn s3(levels: &Levels<'_, S3BackupConfig>, rec: &mut Recorder<'_>) -> S3BackupConfig {
    let rank =
        |found: &Option<(usize, Layer, &String)>| found.map_or(usize::MAX, |(rank, ..)| rank);
    let secret = levels.ranked(|s| text(&s.credentials_secret));
    let account = levels.ranked(|s| text(&s.service_account_name));
    // Always that of the strongest level with a block (`api.md` trap T37).
    let environment = levels
        .first(Some)
        .and_then(|(layer, s)| Some((layer, s.use_env_credentials.as_ref()?)));
    let by_environment = environment.is_some_and(|(_, given)| *given);
    let by_secret = rank(&secret) <= rank(&account);
    let by_account = rank(&account) <= rank(&secret) && !(by_environment && rank(&account) > 0);
    let (secret, account) = (named(secret, by_secret), named(account, by_account));
    S3BackupConfig {
        bucket: rec
            .given("bucket", levels.first(|s| some(&s.bucket)))
            .unwrap_or_default(),
        region: rec
            .given("region", levels.first(|s| some(&s.region)))
            .unwrap_or_default(),
        endpoint: rec.given("endpoint", levels.first(|s| text(&s.endpoint))),
        key_prefix: rec.given("keyPrefix", levels.first(|s| text(&s.key_prefix))),
        use_env_credentials: rec.given("useEnvCredentials", environment),
        credentials_secret: rec.given("credentialsSecret", secret),
        service_account_name: rec.given("serviceAccountName", account),
    }
}

/// The name, where its way to credentials wins.
fn named(found: Option<(usize, Layer, &String)>, wins: bool) -> Found<'_, String> {
    found.filter(|_| wins).map(|(_, layer, name)| (layer, name))
}

fn some(given: &String) -> Option<&String> {
    (!given.is_empty()).then_some(given)
}
