//! The operator as a process beside a plane.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::ExitStatus,
    time::Duration,
};

use anyhow::Context;

use crate::{
    chart::set,
    http,
    process::{Launch, Running, Signal, signal_pid, tail},
    wait,
};

/// Start and end take the operator a second or two; its leases and caches may need longer.
const DEADLINE: Duration = Duration::from_secs(60);

/// What differs from the chart.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    /// Flags to set (an empty value is a bare flag) or, with `None`, to take away.
    pub args: Vec<(String, Option<String>)>,
    /// More variables; they win over the chart's.
    pub env: Vec<(String, String)>,
    /// The pod's name; numbered without it.
    pub pod_name: Option<String>,
    /// Credentials other than the ServiceAccount's.
    pub kubeconfig: Option<PathBuf>,
    /// Survive this process.
    pub detach: bool,
}

/// A running operator; killed when dropped unless it is detached.
#[derive(Debug)]
pub struct OperatorProcess {
    running: Option<Running>,
    pod: String,
    pid: u32,
    log: PathBuf,
    metrics: SocketAddr,
    probes: SocketAddr,
    detached: bool,
}

impl OperatorProcess {
    pub(crate) fn start(
        binary: &Path,
        pod: &str,
        mut args: Vec<String>,
        mut env: Vec<(String, String)>,
        log: PathBuf,
        overrides: Overrides,
    ) -> anyhow::Result<Self> {
        for (flag, value) in &overrides.args {
            set(&mut args, flag, value.as_deref());
        }
        env.extend(overrides.env);
        let metrics = address(&args, "--metrics-bind-address")?;
        let probes = address(&args, "--health-probe-bind-address")?;
        let launch = Launch {
            name: pod,
            program: binary,
            args,
            env,
            log: log.clone(),
            detach: overrides.detach,
            lock: None,
        };
        let running = Running::start(launch)?;
        let pid = running.pid();
        let detached = overrides.detach;
        Ok(Self {
            running: Some(running),
            pod: pod.to_owned(),
            pid,
            log,
            metrics,
            probes,
            detached,
        })
    }

    /// Waits until `/readyz` answers 200.
    pub async fn ready(&mut self) -> anyhow::Result<()> {
        let probes = self.probes;
        let description = format!("{} to be ready", self.pod);
        wait::until(&description, DEADLINE, async || {
            self.check()?;
            let answer = http::get(probes, "/readyz").await;
            Ok(answer.is_ok_and(|(status, _)| status == 200).then_some(()))
        })
        .await
    }

    /// Fails with the end of the log if the process has ended.
    pub fn check(&mut self) -> anyhow::Result<()> {
        self.running.as_mut().map_or(Ok(()), Running::check)
    }

    /// The exit status, if the process has ended.
    pub fn ended(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        self.running.as_mut().map_or(Ok(None), Running::ended)
    }

    /// The name of the pod that this process stands for.
    pub fn pod_name(&self) -> &str {
        &self.pod
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Resident memory in bytes.
    pub fn rss(&self) -> anyhow::Result<u64> {
        self.memory("VmRSS:")
    }

    /// The most resident memory so far, in bytes.
    pub fn hwm(&self) -> anyhow::Result<u64> {
        self.memory("VmHWM:")
    }

    fn memory(&self, field: &str) -> anyhow::Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid))?;
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix(field))
            .context("the field is missing")?;
        let kilobytes: u64 = line.trim().trim_end_matches(" kB").parse()?;
        Ok(kilobytes * 1024)
    }

    /// The log so far.
    pub fn log_lines(&self) -> anyhow::Result<Vec<String>> {
        let bytes = fs::read(&self.log)?;
        Ok(String::from_utf8_lossy(&bytes)
            .lines()
            .map(str::to_owned)
            .collect())
    }

    /// The last lines of the log.
    pub fn log_tail(&self, lines: usize) -> String {
        tail(&self.log, lines)
    }

    /// Where the metrics are served.
    pub fn metrics_address(&self) -> SocketAddr {
        self.metrics
    }

    /// Where `/healthz` and `/readyz` are served.
    pub fn probe_address(&self) -> SocketAddr {
        self.probes
    }

    /// Asks the process to end (SIGTERM) and waits for it.
    pub async fn terminate(&mut self) -> anyhow::Result<ExitStatus> {
        signal_pid(self.pid, Signal::Term)?;
        self.running
            .as_mut()
            .context("the process was given away")?
            .wait(DEADLINE)
            .await
    }

    /// Kills the process (SIGKILL) and waits for its end.
    pub fn kill(&mut self) {
        if let Some(running) = &mut self.running {
            running.kill();
        }
    }

    /// Stops the process where it stands (SIGSTOP).
    pub fn pause(&self) -> anyhow::Result<()> {
        signal_pid(self.pid, Signal::Stop)
    }

    /// Lets a paused process go on (SIGCONT).
    pub fn resume(&self) -> anyhow::Result<()> {
        signal_pid(self.pid, Signal::Cont)
    }
}

impl Drop for OperatorProcess {
    fn drop(&mut self) {
        if let (true, Some(running)) = (self.detached, self.running.take()) {
            running.forget();
        }
    }
}

fn address(args: &[String], flag: &str) -> anyhow::Result<SocketAddr> {
    let value = args
        .iter()
        .find_map(|argument| argument.strip_prefix(flag)?.strip_prefix('='));
    let value = value.with_context(|| format!("{flag} is not set"))?;
    value
        .parse()
        .with_context(|| format!("{flag}={value} is not an address"))
}
