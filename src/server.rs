//! One running broker: the storage under one data directory, the broker above it, the listeners in front.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use riverlog_storage::{OpenError, Storage};
use tokio::net::{TcpListener, TcpSocket, lookup_host};
use tokio::task::{JoinSet, unconstrained};

use crate::broker::{Broker, BrokerError};
use crate::config::{Config, ConfigError, HostPort};
use crate::http::{self, Http};
use crate::kafka::{self, Gate, Listener};
use crate::metrics::Metrics;
use crate::shutdown::Shutdown;

/// A started server. Dropping it without [`Server::shutdown`] is a crash, which is safe but not polite.
pub struct Server {
    data_dir: PathBuf,
    listeners: Vec<BoundListener>,
    http_addr: SocketAddr,
    broker: Arc<Broker>,
    shutdown: Shutdown,
    tasks: JoinSet<()>,
    drain_timeout: Duration,
}

/// Where Kafka clients connect, with the real port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BoundListener {
    /// The bound address.
    pub addr: SocketAddr,
    /// What Metadata answers give, `HOST:PORT`.
    pub advertised: String,
}

/// Why a server does not start or does not end cleanly. Each says what and where, and what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The configuration cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// An address cannot be listened on.
    #[error("{what} {addr}: {source}{}", hint(source))]
    Listen {
        /// `kafka address` or `http address`.
        what: &'static str,
        /// As configured.
        addr: HostPort,
        /// The system's reason.
        source: io::Error,
    },
    /// The data directory cannot be used.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The broker cannot start on what the data directory holds.
    #[error("the broker does not start: {0}")]
    Broker(#[from] BrokerError),
    /// A write failed while the server ran; the next start recovers.
    #[error(
        "a write to the disk had failed ({0}); the next start recovers what was acknowledged before, from what is in the data directory then"
    )]
    Poisoned(String),
    /// A thread of ours ended early.
    #[error("{0}")]
    Internal(String),
    /// Connections did not end in time. Nothing acknowledged is lost by that.
    #[error("connections were still busy after {} ms and were cut", .0.as_millis())]
    DrainTimeout(Duration),
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            " (another process listens there: stop it, or choose another port; port 0 takes a free one)"
        }
        io::ErrorKind::PermissionDenied => " (ports below 1024 need privileges)",
        io::ErrorKind::AddrNotAvailable => " (no interface of this machine has that address)",
        _ => "",
    }
}

impl Server {
    /// Recovers the data directory, then listens. When this returns, clients are being served.
    ///
    /// # Errors
    /// [`ServerError`] says what is in the way.
    pub async fn start(mut config: Config) -> Result<Self, ServerError> {
        share_open_files(&mut config, raise_open_files_limit());
        let mut sockets = Vec::new();
        for listener in &config.listeners {
            sockets.push((bind(&config, "kafka address", &listener.addr).await?, listener));
        }
        let (http_socket, http_addr) = bind(&config, "http address", &config.http_addr).await?;

        let storage = open_storage(&config).await?;
        let broker = Broker::open(storage, config.broker.clone()).await?;
        let metrics = Metrics::default();
        let shutdown = Shutdown::new();
        let mut tasks = JoinSet::new();
        let gate = Gate::new(config.kafka.clone(), metrics.clone());
        let mut listeners = Vec::new();
        for (number, ((socket, addr), listener)) in sockets.into_iter().enumerate() {
            let mut advertised = listener.advertised.clone();
            if advertised.port == 0 {
                advertised.port = addr.port();
            }
            listeners.push(BoundListener {
                addr,
                advertised: advertised.to_string(),
            });
            let listener = Listener {
                name: format!("kafka-{number}"),
                advertised_host: advertised.host,
                advertised_port: advertised.port,
            };
            let (broker, gate) = (Arc::clone(&broker), Arc::clone(&gate));
            // Whenever it has its turn among thousands of connections, it takes in all that have come.
            let serve = kafka::listener::serve(socket, listener, broker, gate, shutdown.token());
            tasks.spawn(unconstrained(serve));
        }
        let http = Http::new(
            Arc::clone(&broker),
            metrics.clone(),
            config.http.clone(),
            shutdown.token(),
        );
        tasks.spawn(unconstrained(http::serve(http_socket, http)));
        Ok(Self {
            data_dir: absolute(config.storage.data_dir),
            listeners,
            http_addr,
            broker,
            shutdown,
            tasks,
            drain_timeout: config.drain_timeout,
        })
    }

    /// The broker, for programs that carry one inside themselves.
    #[must_use]
    pub fn broker(&self) -> &Arc<Broker> {
        &self.broker
    }

    /// Where Kafka clients connect: the first listener.
    #[must_use]
    pub fn kafka_addr(&self) -> SocketAddr {
        self.listeners.first().map_or(self.http_addr, |listener| listener.addr)
    }

    /// All Kafka listeners, in the order of the configuration.
    #[must_use]
    pub fn listeners(&self) -> &[BoundListener] {
        &self.listeners
    }

    /// Where HTTP is served.
    #[must_use]
    pub fn http_addr(&self) -> SocketAddr {
        self.http_addr
    }

    /// Where the data is, as an absolute path where that can be known.
    #[must_use]
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// Takes on nothing new, finishes what is under way, and closes the storage.
    ///
    /// # Errors
    /// When connections had to be cut, or the storage could not close cleanly.
    pub async fn shutdown(mut self) -> Result<(), ServerError> {
        self.shutdown.request();
        let drained = async { while self.tasks.join_next().await.is_some() {} };
        let in_time = tokio::time::timeout(self.drain_timeout, drained).await.is_ok();
        self.tasks.shutdown().await;
        let storage = self.broker.storage().clone();
        drop(self.broker);
        let closed = storage.clone();
        blocking(move || closed.close()).await?;
        if let Some(reason) = storage.health().poisoned {
            return Err(ServerError::Poisoned(reason));
        }
        if in_time {
            Ok(())
        } else {
            Err(ServerError::DrainTimeout(self.drain_timeout))
        }
    }
}

/// Recovery reads and writes files: not on a thread that connections wait for.
async fn open_storage(config: &Config) -> Result<Storage, ServerError> {
    let options = config.storage.clone();
    Ok(blocking(move || Storage::open(options)).await??)
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, ServerError> {
    let failed = |error| ServerError::Internal(format!("a storage thread ended early: {error}"));
    tokio::task::spawn_blocking(work).await.map_err(failed)
}

fn absolute(path: PathBuf) -> PathBuf {
    std::path::absolute(&path).unwrap_or(path)
}

/// Binds the first address of a host that can be bound, after checking all of them.
async fn bind(config: &Config, what: &'static str, addr: &HostPort) -> Result<(TcpListener, SocketAddr), ServerError> {
    let failed = |source| ServerError::Listen {
        what,
        addr: addr.clone(),
        source,
    };
    let candidates: Vec<SocketAddr> = lookup_host((addr.host.as_str(), addr.port))
        .await
        .map_err(failed)?
        .collect();
    for candidate in &candidates {
        config.check_exposure(what, addr, *candidate)?;
    }
    let socket = listen_on_one(&candidates).map_err(failed)?;
    let bound = socket.local_addr().map_err(failed)?;
    Ok((socket, bound))
}

/// Clients that are not accepted yet; the system may allow fewer. One more is not heard: it asks again after a second, then after two,
/// four and so on, so a short queue lets newcomers wait for long when many come at once.
const BACKLOG: u32 = 4_096;

fn listen_on_one(candidates: &[SocketAddr]) -> io::Result<TcpListener> {
    let mut failed = io::Error::new(io::ErrorKind::InvalidInput, "the name has no address");
    for candidate in candidates {
        match listen_on(*candidate) {
            Ok(socket) => return Ok(socket),
            Err(error) => failed = error,
        }
    }
    Err(failed)
}

fn listen_on(addr: SocketAddr) -> io::Result<TcpListener> {
    let socket = match addr {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    }?;
    // Or connections of an earlier run, which the system still remembers, would keep the port.
    socket.set_reuseaddr(true)?;
    socket.bind(addr)?;
    socket.listen(BACKLOG)
}

/// Segments and connections are open files, and the usual soft limit of 1024 is meant for `select`. Gives the limit that holds
/// from now on; none if there is none.
fn raise_open_files_limit() -> Option<u64> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let before = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: before.maximum,
        maximum: before.maximum,
    };
    if before.current == before.maximum {
        return before.current;
    }
    match setrlimit(Resource::Nofile, raised) {
        Ok(()) => {
            tracing::debug!(before = ?before.current, now = ?before.maximum, "limit of open files raised");
            before.maximum
        }
        Err(error) => {
            tracing::warn!(%error, soft = ?before.current, "the limit of open files stays as it is");
            before.current
        }
    }
}

/// Fewer partitions or connections than this are worth a word.
const FEW: usize = 1_000;

/// Shares the files that may be open out: at most nine sixteenths of them are for Kafka connections, a sixteenth for HTTP, an eighth for
/// readers, the journal and checkpoints: a broker out of files could write to no new segment, and would stop. What is left (a
/// quarter, or more if fewer connections are allowed) is for partitions, each of which has its active segment open twice while
/// it is written.
fn share_open_files(config: &mut Config, open_files: Option<u64>) {
    let Some(files) = open_files.and_then(|files| usize::try_from(files).ok()) else {
        return;
    };
    let default = Config::new("");
    let fit = |name, configured: &mut usize, default: usize, possible: usize| {
        if possible >= *configured {
            return;
        }
        // Nobody asked for the defaults, and most machines allow fewer of something than they do.
        if *configured != default || possible < FEW {
            tracing::info!(
                possible,
                configured,
                "the limit of open files, {files}, allows a smaller {name}"
            );
        } else {
            tracing::debug!(
                possible,
                configured,
                "the limit of open files, {files}, allows a smaller {name}"
            );
        }
        *configured = possible;
    };
    let kafka = &mut config.kafka.max_connections;
    fit(
        "kafka_max_connections",
        kafka,
        default.kafka.max_connections,
        files / 16 * 9,
    );
    let http = &mut config.http.max_connections;
    fit("http_max_connections", http, default.http.max_connections, files / 16);
    let left = files / 8 * 7 - *kafka - *http;
    let partitions = &mut config.broker.max_partitions;
    fit("max_partitions", partitions, default.broker.max_partitions, left / 2);
}

#[cfg(test)]
#[path = "server_tests.rs"]
mod tests;
