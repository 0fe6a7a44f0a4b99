//! What planes on one machine must not share: a range of pod addresses and a range of ports.

use std::{
    fs::{self, File, TryLockError},
    net::TcpListener,
    path::{Path, PathBuf},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU16, Ordering},
    },
};

use anyhow::{Context, bail};

/// Pod addresses come from 127.32.0.0/11: 32 networks of 65,534 addresses.
const SLOTS: u16 = 32;
/// Below the range that the kernel takes for outgoing connections, so that nothing else gets these ports by chance.
const FIRST_PORT: u16 = 21_000;
const PORTS: u16 = 64;

/// One of the machine's slots, held until dropped.
#[derive(Debug)]
pub(crate) struct Slot {
    number: u16,
    path: PathBuf,
    lock: Mutex<Option<File>>,
    next: AtomicU16,
}

impl Slot {
    /// Takes the first free slot.
    pub(crate) fn take() -> anyhow::Result<Self> {
        let folder = std::env::temp_dir().join("multigres-control-planes");
        fs::create_dir_all(&folder)?;
        for number in 0..SLOTS {
            let path = folder.join(format!("{number}.lock"));
            let file = File::create(&path)
                .with_context(|| format!("failed to open {}", path.display()))?;
            match file.try_lock() {
                Ok(()) => {
                    return Ok(Self {
                        number,
                        path,
                        lock: Mutex::new(Some(file)),
                        next: AtomicU16::new(0),
                    });
                }
                Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(error)) => {
                    return Err(error).context("failed to lock a slot");
                }
            }
        }
        bail!(
            "all {SLOTS} slots of this machine are in use (see {})",
            folder.display()
        )
    }

    /// The pods' network.
    pub(crate) fn pod_cidr(&self) -> String {
        format!("127.{}.0.0/16", 32 + self.number)
    }

    /// A port on 127.0.0.1 that nobody listens on, never given twice until the slot's ports are used up.
    pub(crate) fn port(&self) -> anyhow::Result<u16> {
        for _ in 0..PORTS {
            let offset = self.next.fetch_add(1, Ordering::Relaxed) % PORTS;
            let port = FIRST_PORT + self.number * PORTS + offset;
            if TcpListener::bind(("127.0.0.1", port)).is_ok() {
                return Ok(port);
            }
        }
        bail!("no free port in slot {}", self.number)
    }

    /// Gives the lock up; a program started with [`Slot::path`] under flock(1) takes it over.
    pub(crate) fn release(&self) {
        drop(
            self.lock
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take(),
        );
    }

    /// The lock file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}
