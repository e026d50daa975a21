//! From a loopback port of the host to pods of a cluster, through the API server: what
//! `kubectl port-forward` does, but for a set of pods, so that it outlives each of them.

use std::io;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// The pods to which connections go.
#[derive(Clone, Debug)]
pub struct Target {
    /// Their namespace.
    pub namespace: String,
    /// Their labels, as `kubectl -l` takes them.
    pub labels: String,
    /// The number of the port.
    pub port: u16,
}

/// A loopback port that leads to pods. Dropped, it leads nowhere.
#[derive(Debug)]
pub struct Forward {
    port: u16,
    accepting: JoinHandle<()>,
}

impl Forward {
    /// Listens on a free loopback port.
    ///
    /// # Errors
    /// There is none.
    pub async fn start(client: Client, target: Target) -> io::Result<Self> {
        Self::on(TcpListener::bind(("127.0.0.1", 0)).await?, client, target)
    }

    /// Leads the connections of `listener` to `target`.
    ///
    /// # Errors
    /// The listener has no address.
    pub fn on(listener: TcpListener, client: Client, target: Target) -> io::Result<Self> {
        let port = listener.local_addr()?.port();
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (client, target) = (client.clone(), target.clone());
                tokio::spawn(async move {
                    if let Err(error) = connect(stream, client, &target).await {
                        tracing::debug!(%error, "a forwarded connection broke off");
                    }
                });
            }
        });
        Ok(Self { port, accepting })
    }

    /// The port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// `http://127.0.0.1:<port>`.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}

impl Drop for Forward {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn connect(mut stream: TcpStream, client: Client, target: &Target) -> anyhow::Result<()> {
    let pods: Api<Pod> = Api::namespaced(client, &target.namespace);
    let name = ready_pod(&pods, target).await?;
    let mut forwarder = pods.portforward(&name, &[target.port]).await?;
    let Some(mut inside) = forwarder.take_stream(target.port) else {
        anyhow::bail!("the API server gave no stream");
    };
    tokio::io::copy_bidirectional(&mut stream, &mut inside).await?;
    drop(inside);
    forwarder.join().await?;
    Ok(())
}

/// A pod that is ready, waited for shortly: somebody may just be restarting it.
async fn ready_pod(pods: &Api<Pod>, target: &Target) -> anyhow::Result<String> {
    let labelled = ListParams::default().labels(&target.labels);
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let found = pods.list(&labelled).await?.items;
        // One that is not ready, but runs, is better than none: its answer says what is wrong.
        let best = found
            .iter()
            .filter(|pod| is_running(pod))
            .max_by_key(|pod| is_ready(pod));
        match best {
            Some(pod) if is_ready(pod) || tokio::time::Instant::now() > deadline => {
                return Ok(pod.name_any());
            }
            None if tokio::time::Instant::now() > deadline => {
                anyhow::bail!("no pod with {} runs in {}", target.labels, target.namespace);
            }
            Some(_) | None => tokio::time::sleep(Duration::from_millis(200)).await,
        }
    }
}

fn is_running(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_none()
        && pod
            .status
            .as_ref()
            .and_then(|status| status.phase.as_deref())
            == Some("Running")
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod
        .status
        .as_ref()
        .and_then(|status| status.conditions.as_ref());
    conditions
        .into_iter()
        .flatten()
        .any(|one| one.type_ == "Ready" && one.status == "True")
}

const PATIENCE: Duration = Duration::from_secs(5);
