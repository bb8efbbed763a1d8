//! What a server is told to do: defaults, under the config file, under `RIVERLOG_…` variables, under flags.

mod address;
mod resolve;
mod settings;

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

pub use address::{HostPort, HostPortError};
use riverlog_storage::Options;
pub use settings::{ListenerSetting, Settings};

use crate::broker::BrokerOptions;
use crate::kafka;
use crate::telemetry::LogFormat;

/// Everything a [`Server`](crate::server::Server) needs to start, checked as far as it can be without a socket.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where the data is, and how the journal is kept.
    pub storage: Options,
    /// Where Kafka clients connect. Never empty; the first one is the one printed as `kafka`.
    pub listeners: Vec<ListenerConfig>,
    /// The broker's own options.
    pub broker: BrokerOptions,
    /// Limits of the Kafka side, over all listeners.
    pub kafka: kafka::Limits,
    /// Where HTTP is served.
    pub http_addr: HostPort,
    /// Limits of the HTTP side.
    pub http: HttpLimits,
    /// The operator knows that anyone who reaches the ports may read and write everything.
    pub allow_insecure_public_listen: bool,
    /// How the log looks.
    pub log_format: LogFormat,
    /// What is logged, as `tracing` directives.
    pub log: String,
    /// How long a drain may take before connections are cut.
    pub drain_timeout: Duration,
}

/// One socket for Kafka clients, and the address that Metadata answers give for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerConfig {
    /// Where to listen.
    pub addr: HostPort,
    /// What clients are told to connect to; port 0 stands for the port that was bound.
    pub advertised: HostPort,
}

/// Bounds on what HTTP clients may ask of the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpLimits {
    /// Connections served at a time; further ones wait in the kernel's queue.
    pub max_connections: usize,
    /// Largest body that is held in memory (raw and JSON), and longest line of an NDJSON body.
    pub max_body_bytes: usize,
    /// What all request bodies together may hold in memory, and half of it at most all answers with records.
    pub memory_bytes: usize,
    /// Longest silence inside a request body, and longest time that a client may leave an answer unread.
    pub body_idle_timeout: Duration,
    /// Longest time for a request head to arrive, which is also the longest silence between two requests.
    pub header_timeout: Duration,
}

impl Default for HttpLimits {
    fn default() -> Self {
        Self {
            max_connections: 1024,
            max_body_bytes: 8 << 20,
            memory_bytes: 256 << 20,
            body_idle_timeout: Duration::from_secs(30),
            header_timeout: Duration::from_secs(30),
        }
    }
}

/// A configuration that cannot be used; each variant says what to change.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("config file {}: {source}", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The file is not TOML, or names a setting that does not exist.
    #[error("config file {}: {reason}", path.display())]
    Parse {
        /// Which file.
        path: PathBuf,
        /// Where and what, in the words of the TOML parser.
        reason: String,
    },
    /// A wildcard address would be advertised.
    #[error(
        "{what} {addr} is every interface, which no client can connect to: say with --advertised-addr HOST:PORT (or `advertised_addr`) by which name or address clients reach this server"
    )]
    WildcardAdvertised {
        /// `kafka address` or `advertised address`.
        what: &'static str,
        /// As configured.
        addr: HostPort,
    },
    /// A port is open to others although nothing asks who they are.
    #[error(
        "{what} {addr} is reachable from other machines and Riverlog has no authentication yet: listen on 127.0.0.1, or accept that anyone who reaches it can read and delete everything with --allow-insecure-public-listen"
    )]
    PublicWithoutAuthentication {
        /// `kafka address` or `http address`.
        what: &'static str,
        /// The address as given.
        addr: HostPort,
    },
    /// A number outside its range.
    #[error("`{name}` is {value}, but must be {} to {}", range.start(), range.end())]
    OutOfRange {
        /// The setting as the config file names it.
        name: &'static str,
        /// What was given.
        value: u64,
        /// What would be accepted.
        range: RangeInclusive<u64>,
    },
    /// One setting allows what another one makes impossible.
    #[error(
        "`{name}` is {value}, but `{bound}` is {bound_value}, which has room for {most}: lower `{name}` to {most} or raise `{bound}` to {least}"
    )]
    TooLargeFor {
        /// The setting that allows too much.
        name: &'static str,
        /// Its value.
        value: u64,
        /// The setting that bounds it.
        bound: &'static str,
        /// Its value.
        bound_value: u64,
        /// The largest value of the first that the second has room for.
        most: u64,
        /// The smallest value of the second that has room for the first.
        least: u64,
    },
}

impl Config {
    /// The defaults, on a data directory.
    #[must_use]
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        let local = |port| HostPort::new("127.0.0.1", port);
        Self {
            storage: Options::new(data_dir),
            listeners: vec![ListenerConfig {
                addr: local(9092),
                advertised: local(0),
            }],
            broker: BrokerOptions::default(),
            kafka: kafka::Limits::default(),
            http_addr: local(8080),
            http: HttpLimits::default(),
            allow_insecure_public_listen: false,
            log_format: LogFormat::Text,
            log: "info".to_owned(),
            drain_timeout: Duration::from_secs(10),
        }
    }

    /// The defaults, on free ports of the loopback interface: what tests and embedded servers start from.
    #[must_use]
    pub fn ephemeral(data_dir: impl Into<PathBuf>) -> Self {
        let any_port = HostPort::new("127.0.0.1", 0);
        let listener = ListenerConfig {
            addr: any_port.clone(),
            advertised: any_port.clone(),
        };
        Self {
            listeners: vec![listener],
            http_addr: any_port,
            ..Self::new(data_dir)
        }
    }

    /// Refuses an address that other machines can reach, unless the operator has accepted what that means.
    ///
    /// # Errors
    /// [`ConfigError::PublicWithoutAuthentication`].
    pub fn check_exposure(&self, what: &'static str, addr: &HostPort, bound: SocketAddr) -> Result<(), ConfigError> {
        if bound.ip().is_loopback() || self.allow_insecure_public_listen {
            return Ok(());
        }
        Err(ConfigError::PublicWithoutAuthentication {
            what,
            addr: addr.clone(),
        })
    }
}

#[cfg(test)]
mod tests;
