//! Processes that end with their parent, however it ends.

use std::{
    fs::{self, File, OpenOptions},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use anyhow::{Context, ensure};

use crate::wait;

/// A process of the control plane.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Process {
    /// etcd
    Etcd,
    /// kube-apiserver
    ApiServer,
    /// kube-controller-manager
    ControllerManager,
    /// kube-scheduler
    Scheduler,
    /// kwok
    Kwok,
}

impl Process {
    /// The name of the program.
    pub fn program(self) -> &'static str {
        match self {
            Self::Etcd => "etcd",
            Self::ApiServer => "kube-apiserver",
            Self::ControllerManager => "kube-controller-manager",
            Self::Scheduler => "kube-scheduler",
            Self::Kwok => "kwok",
        }
    }
}

/// A signal that tests send.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Signal {
    /// SIGSTOP: the process hangs, its connections stay open.
    Stop,
    /// SIGCONT
    Cont,
    /// SIGTERM
    Term,
    /// SIGKILL
    Kill,
}

impl Signal {
    fn name(self) -> &'static str {
        match self {
            Self::Stop => "STOP",
            Self::Cont => "CONT",
            Self::Term => "TERM",
            Self::Kill => "KILL",
        }
    }
}

/// Sends a signal to a process.
pub fn signal_pid(pid: u32, signal: Signal) -> anyhow::Result<()> {
    let status = Command::new("sh")
        .args([
            "-c",
            r#"kill -"$1" "$2""#,
            "kill",
            signal.name(),
            &pid.to_string(),
        ])
        .status()
        .context("failed to run kill")?;
    ensure!(
        status.success(),
        "failed to send SIG{} to process {pid}",
        signal.name()
    );
    Ok(())
}

/// Whether a process exists and is not a zombie.
pub fn alive(pid: u32) -> bool {
    let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else {
        return false;
    };
    // The state follows the program's name, which stands in parentheses.
    stat.rsplit_once(") ")
        .is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

/// How to start a process.
pub(crate) struct Launch<'a> {
    pub(crate) name: &'a str,
    pub(crate) program: &'a Path,
    pub(crate) args: Vec<String>,
    pub(crate) env: Vec<(String, String)>,
    pub(crate) log: PathBuf,
    /// Survive the parent, in a session of its own.
    pub(crate) detach: bool,
    /// With `detach`: a lock file that the process holds while it lives.
    pub(crate) lock: Option<&'a Path>,
}

/// A running process; killed when dropped unless it was detached.
#[derive(Debug)]
pub(crate) struct Running {
    name: String,
    log: PathBuf,
    child: Child,
    guard: Option<Guard>,
}

impl Running {
    pub(crate) fn start(launch: Launch<'_>) -> anyhow::Result<Self> {
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&launch.log)
            .with_context(|| format!("failed to open {}", launch.log.display()))?;
        let child = command(&launch)
            .args(&launch.args)
            .envs(launch.env)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("failed to start {}", launch.program.display()))?;
        let mut running = Self {
            name: launch.name.to_owned(),
            log: launch.log,
            child,
            guard: None,
        };
        if !launch.detach {
            running.guard = Some(Guard::over(running.pid())?);
        }
        Ok(running)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The exit status, if the process has ended.
    pub(crate) fn ended(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// An error with the end of the log, if the process has ended.
    pub(crate) fn check(&mut self) -> anyhow::Result<()> {
        if let Some(status) = self.ended()? {
            anyhow::bail!(
                "{} ended ({status}); its log ends with:\n{}",
                self.name,
                tail(&self.log, 15)
            );
        }
        Ok(())
    }

    pub(crate) async fn wait(&mut self, deadline: Duration) -> anyhow::Result<ExitStatus> {
        let name = self.name.clone();
        let child = &mut self.child;
        wait::quietly(&format!("the end of {name}"), deadline, async || {
            Ok(child.try_wait()?)
        })
        .await
    }

    /// Kills the process and waits for its end.
    pub(crate) fn kill(&mut self) {
        drop(self.guard.take());
        // Failing means that it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Leaves a detached process to itself.
    pub(crate) fn forget(self) {
        let mut this = std::mem::ManuallyDrop::new(self);
        this.guard = None;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
    }
}

fn command(launch: &Launch<'_>) -> Command {
    if !launch.detach {
        return Command::new(launch.program);
    }
    // Both programs replace themselves with the next one, so the process id stays that of the child.
    let mut command = Command::new("setsid");
    if let Some(lock) = launch.lock {
        command.args(["flock", "--nonblock", "--no-fork"]).arg(lock);
    }
    command.arg(launch.program);
    command
}

/// Kills a process when this one ends, however it ends; not when dropped before.
///
/// It is a shell that reads from a pipe whose other end only this process holds.
#[derive(Debug)]
pub struct Guard(Child);

impl Guard {
    /// Watches over a process.
    ///
    /// # Errors
    /// When there is no shell.
    pub fn over(pid: u32) -> anyhow::Result<Self> {
        let guard = Command::new("sh")
            .args([
                "-c",
                r#"trap "" INT HUP TERM; read -r _; kill -KILL "$1""#,
                "guard",
                &pid.to_string(),
            ])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("failed to start the guard")?;
        Ok(Self(guard))
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        // Failing means that it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The last lines of a file.
pub(crate) fn tail(path: &Path, lines: usize) -> String {
    use std::io::{Read, Seek, SeekFrom};
    let read = || -> std::io::Result<String> {
        let mut file = File::open(path)?;
        let start = file.metadata()?.len().saturating_sub(64 * 1024);
        file.seek(SeekFrom::Start(start))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    let text = read().unwrap_or_default();
    let all: Vec<&str> = text.lines().collect();
    all.get(all.len().saturating_sub(lines)..)
        .unwrap_or_default()
        .join("\n")
}
