//! HTTP as a plain client speaks it: a connection for each request.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

const ANSWERED: Duration = Duration::from_secs(30);

/// A status and a body.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// As it came.
    pub body: String,
}

impl Answer {
    /// What a JSON pointer (RFC 6901) finds in the body; `null` if that is nothing.
    pub fn at(&self, pointer: &str) -> serde_json::Value {
        let document: serde_json::Value = serde_json::from_str(&self.body).unwrap_or_default();
        document.pointer(pointer).cloned().unwrap_or_default()
    }
}

/// `GET` of a path.
///
/// # Errors
/// When there is no answer in time, or none that is HTTP.
pub async fn get(http: SocketAddr, path: &str) -> anyhow::Result<Answer> {
    ask(
        http,
        &format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"),
    )
    .await
}

/// `POST` of a JSON document.
///
/// # Errors
/// When there is no answer in time, or none that is HTTP.
pub async fn post(http: SocketAddr, path: &str, body: &serde_json::Value) -> anyhow::Result<Answer> {
    let (body, head) = (
        body.to_string(),
        format!("POST {path} HTTP/1.1\r\nhost: x\r\nconnection: close"),
    );
    let length = body.len();
    let head = format!("{head}\r\ncontent-type: application/json\r\ncontent-length: {length}");
    ask(http, &format!("{head}\r\n\r\n{body}")).await
}

async fn ask(http: SocketAddr, request: &str) -> anyhow::Result<Answer> {
    let line = request.lines().next().unwrap_or_default();
    let asked = timeout(ANSWERED, async {
        let mut stream = TcpStream::connect(http).await?;
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        std::io::Result::Ok(answer)
    });
    let answer = asked.await.with_context(|| format!("{line}: no answer"))?;
    let answer = String::from_utf8(answer.with_context(|| format!("{line}: no connection"))?)?;
    let (head, body) = answer.split_once("\r\n\r\n").context("no end of the head")?;
    ensure!(!head.to_lowercase().contains("transfer-encoding"), "{line}: chunked");
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    Ok(Answer {
        status: status.with_context(|| format!("{line}: {head:?}"))?,
        body: body.to_owned(),
    })
}
