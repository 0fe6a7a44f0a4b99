//! A real etcd process of one member, for tests; it ends with the test.

use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use control_plane::Binaries;
use etcd_client::Client;

/// Longest wait for its start; only a failing test waits that long.
const PATIENCE: Duration = Duration::from_secs(40);

/// An etcd of one member; it ends with the test.
pub struct Etcd {
    child: Child,
    /// Data and certificates.
    pub folder: PathBuf,
    address: IpAddr,
    client: u16,
    peer: u16,
    tls: Vec<String>,
}

impl Drop for Etcd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// A port of 127.0.0.1 that nobody listens on.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

impl Etcd {
    /// Starts one on a port of its own.
    pub fn start(name: &str) -> Self {
        Self::with(name, |_| Vec::new())
    }

    /// The same with certificates, which are put into its folder.
    pub fn with(name: &str, tls: impl Fn(&Path) -> Vec<String>) -> Self {
        Self::at(name, Ipv4Addr::LOCALHOST.into(), free_port(), tls)
    }

    /// The same at a loopback address.
    pub fn at(
        name: &str,
        address: IpAddr,
        client: u16,
        tls: impl Fn(&Path) -> Vec<String>,
    ) -> Self {
        let folder =
            std::env::temp_dir().join(format!("multigres-etcd-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let tls = tls(&folder);
        let peer = free_port();
        let child = spawn(&folder, (address, client), peer, &tls);
        Self {
            child,
            folder,
            address,
            client,
            peer,
            tls,
        }
    }

    /// Where clients reach it.
    pub fn endpoint(&self) -> String {
        format!("{}:{}", self.address, self.client)
    }

    /// Kills it.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts it again, on its data.
    pub fn start_again(&mut self) {
        let at = (self.address, self.client);
        self.child = spawn(&self.folder, at, self.peer, &self.tls);
    }

    /// A client of the test's own, once the process answers.
    pub async fn client(&self) -> Client {
        let mut client = Client::connect([self.endpoint()], None).await.unwrap();
        let answers = async {
            while client.status().await.is_err() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, answers)
            .await
            .expect("etcd does not start");
        client
    }
}

fn spawn(folder: &Path, (address, port): (IpAddr, u16), peer: u16, tls: &[String]) -> Child {
    let program = Binaries::locate()
        .expect("the control plane is built")
        .path("etcd");
    let scheme = if tls.is_empty() { "http" } else { "https" };
    let client = format!("{scheme}://{address}:{port}");
    let peer = format!("http://127.0.0.1:{peer}");
    Command::new(program)
        .arg(format!("--data-dir={}", folder.join("data").display()))
        .args(["--name=m", "--unsafe-no-fsync=true", "--log-level=error"])
        .arg(format!("--listen-client-urls={client}"))
        .arg(format!("--advertise-client-urls={client}"))
        .arg(format!("--listen-peer-urls={peer}"))
        .arg(format!("--initial-advertise-peer-urls={peer}"))
        .arg(format!("--initial-cluster=m={peer}"))
        .args(tls)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}
