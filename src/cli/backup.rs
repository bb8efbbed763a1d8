//! `riverlog backup`: takes a backup of a running server, and checks it.

use std::fs::File;
use std::io::{self, BufReader, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::{Request, Response, header};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::output::print;
use crate::archive::{self, Contents};
use crate::config::HostPort;

/// The answer begins behind a checkpoint.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(300);
/// A server that sends nothing for this long is gone.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(60);
/// Of a problem document.
const MAX_PROBLEM_BYTES: usize = 64 << 10;

/// Arguments of `riverlog backup`.
#[derive(Debug, clap::Args)]
pub struct BackupArgs {
    /// File to write, which must not exist yet
    file: PathBuf,
    /// HTTP address of the server
    #[arg(
        long,
        value_name = "HOST:PORT",
        env = "RIVERLOG_HTTP",
        default_value = "127.0.0.1:8080"
    )]
    http: HostPort,
}

/// Writes to FILE.partial, checks all of it, and only then gives it its name.
///
/// # Errors
/// When the server gives no backup or breaks it off, when it does not check, or when the file cannot be written.
pub async fn run(args: BackupArgs) -> anyhow::Result<()> {
    let (file, partial) = (&args.file, args.file.with_added_extension("partial"));
    ensure!(
        !file.exists(),
        "{} exists; name another file, or remove it",
        file.display()
    );
    let out = File::create_new(&partial).with_context(|| {
        let partial = partial.display();
        format!("cannot create {partial}; if no other backup is being written to it, it is what one left, and can be removed")
    })?;
    let taken = take(&args.http, out, &partial).await;
    let kept = taken.and_then(|()| keep(&partial, file));
    if kept.is_err() {
        // What is wrong is said; what is left of it is of no use.
        let _ = std::fs::remove_file(&partial);
    }
    let contents = kept?;
    for note in &contents.notes {
        eprintln!("riverlog: the backup has damage as the original has: {note}");
    }
    let Contents { lsn, files, bytes, .. } = contents;
    print(&format!(
        "{}: {files} files with {bytes} bytes, everything up to journal frame {lsn}, checked\n",
        file.display()
    ))
}

/// Streams the server's answer into a file.
async fn take(http: &HostPort, mut out: File, partial: &Path) -> anyhow::Result<()> {
    let mut body = ask(http).await?.into_body();
    loop {
        let frame = tokio::time::timeout(SILENCE_TIMEOUT, body.frame()).await;
        let Some(frame) = frame.ok().context("the server sends nothing any more")? else {
            return Ok(());
        };
        let frame = frame.context("the server broke the backup off; its log says why")?;
        if let Some(bytes) = frame.data_ref() {
            // The disk is waited for, and with it the server, by TCP.
            tokio::task::block_in_place(|| out.write_all(bytes))
                .with_context(|| format!("cannot write {}", partial.display()))?;
        }
    }
}

async fn ask(http: &HostPort) -> anyhow::Result<Response<Incoming>> {
    let stream = TcpStream::connect((http.host.as_str(), http.port)).await;
    let stream =
        stream.with_context(|| format!("cannot connect to {http}; does a server run there? (--http HOST:PORT)"))?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let request = Request::get("/backup")
        .header(header::HOST, http.to_string())
        .body(Empty::<Bytes>::new())?;
    let answer = tokio::time::timeout(ANSWER_TIMEOUT, sender.send_request(request)).await;
    let answer = answer
        .ok()
        .context("the server does not answer")?
        .context("the server does not answer")?;
    if answer.status().is_success() {
        return Ok(answer);
    }
    let status = answer.status();
    let body = http_body_util::Limited::new(answer.into_body(), MAX_PROBLEM_BYTES);
    let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let problem: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
    let detail = problem.get("detail").and_then(|detail| detail.as_str());
    bail!("{http} gives no backup: {}", detail.unwrap_or(status.as_str()))
}

fn keep(partial: &Path, file: &Path) -> anyhow::Result<Contents> {
    let taken = File::open(partial).with_context(|| format!("cannot open {}", partial.display()))?;
    let contents = archive::read(BufReader::new(&taken), |_, bytes| {
        io::copy(bytes, &mut io::sink())?;
        Ok(())
    })?;
    taken
        .sync_all()
        .with_context(|| format!("cannot sync {}", partial.display()))?;
    std::fs::rename(partial, file).with_context(|| format!("cannot rename {}", partial.display()))?;
    let dir = file
        .parent()
        .filter(|dir| !dir.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let synced = File::open(dir).and_then(|dir| dir.sync_all());
    synced.with_context(|| format!("cannot sync {}", dir.display()))?;
    Ok(contents)
}
