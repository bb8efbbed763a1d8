//! `HOST:PORT`, as people write it.

use std::fmt;
use std::str::FromStr;

/// A host name or an IP address, and a port. IPv6 addresses stand in brackets when written.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(try_from = "String")]
pub struct HostPort {
    /// Without brackets.
    pub host: String,
    /// 0 means a free port, where a socket is meant.
    pub port: u16,
}

/// Not a `HOST:PORT`.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not HOST:PORT (for example 127.0.0.1:9092, localhost:0 or [::1]:9092){hint}", hint = hint(.0))]
pub struct HostPortError(String);

fn hint(text: &str) -> &'static str {
    match text.contains("://") {
        true => "; leave out what stands before the host, and any path",
        false => "",
    }
}

impl HostPort {
    /// From its parts.
    #[must_use]
    pub fn new(host: impl Into<String>, port: u16) -> Self {
        Self {
            host: host.into(),
            port,
        }
    }

    /// Whether the host stands for every interface, which a socket may do and a client cannot.
    #[must_use]
    pub fn is_wildcard(&self) -> bool {
        self.host
            .parse::<std::net::IpAddr>()
            .is_ok_and(|ip| ip.to_canonical().is_unspecified())
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl FromStr for HostPort {
    type Err = HostPortError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || HostPortError(text.to_owned());
        let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
        let port = port.parse().map_err(|_| wrong())?;
        let host = match host.strip_prefix('[') {
            Some(bracketed) => {
                let ip = bracketed.strip_suffix(']').ok_or_else(wrong)?;
                ip.parse::<std::net::Ipv6Addr>().map_err(|_| wrong())?;
                ip
            }
            None => host,
        };
        let plain = |c: char| c.is_ascii_alphanumeric() || "-._:%".contains(c);
        // Kafka's Metadata carries the host, and DNS ends at 253 characters.
        if host.is_empty()
            || host.len() > 253
            || !host.chars().all(plain)
            || (host.contains(':') && !text.starts_with('['))
        {
            return Err(wrong());
        }
        Ok(Self {
            host: host.to_owned(),
            port,
        })
    }
}

impl TryFrom<String> for HostPort {
    type Error = HostPortError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}
