//! `riverlog backup`: takes a backup of a running server, and checks it, or one that is there.

use std::fs::File;
use std::io::{self, BufReader, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, anyhow, bail, ensure};
use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::{Request, Response, header};
use hyper_util::rt::TokioIo;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;
use tokio::net::TcpStream;

use super::DamageFound;
use super::output::print;
use crate::archive::{self, Batches, Contents};
use crate::config::HostPort;
use crate::shutdown::Signals;

/// The answer begins behind a checkpoint.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(300);
/// A server that sends nothing for this long is gone.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(60);
/// Of a problem document.
const MAX_PROBLEM_BYTES: usize = 64 << 10;

/// Arguments of `riverlog backup`.
#[derive(Debug, clap::Args)]
pub struct BackupArgs {
    /// File to write, which must not exist yet; with --check, the backup to read
    file: PathBuf,
    /// Check a backup that is there, its checksums and every record batch, and ask no server
    #[arg(long)]
    check: bool,
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
/// When the server gives no backup or breaks it off, when it does not check, or when the file cannot be written. With
/// [`DamageFound`] when the backup is kept, and has damage that the server has.
pub async fn run(args: BackupArgs) -> anyhow::Result<()> {
    let file = &args.file;
    if args.check {
        let checked = archive::verify(BufReader::new(open(file)?));
        return tell(file, checked.with_context(|| file.display().to_string())?);
    }
    refuse_name(&args)?;
    let partial = file.with_added_extension("partial");
    let mut signals = Signals::install().context("installing signal handlers")?;
    let out = File::create_new(&partial).map_err(|error| cannot_create(error, &partial))?;
    let taken = async {
        take(&args.http, out, &partial).await?;
        let partial = partial.clone();
        // On a thread of its own, so that a signal is heard meanwhile.
        tokio::task::spawn_blocking(move || check_and_sync(&partial)).await?
    };
    let taken = tokio::select! {
        taken = taken => taken,
        signal = signals.next() => Err(anyhow!("no backup was taken, because of {signal}")),
    };
    signals.end_at_the_second();
    if taken.is_err() {
        // What is wrong is said; what is left of it is of no use.
        let _ = std::fs::remove_file(&partial);
    }
    let checked = taken?;
    keep(&partial, file)?;
    tell(file, checked)
}

/// Opens a backup to read it.
pub(super) fn open(file: &Path) -> anyhow::Result<File> {
    ensure!(
        file != Path::new("-"),
        "a backup is read from a file, not from standard input"
    );
    let opened = File::open(file).with_context(|| format!("cannot open {}", file.display()))?;
    let is_dir = opened.metadata().is_ok_and(|metadata| metadata.is_dir());
    ensure!(!is_dir, "{} is a directory; name the file of a backup", file.display());
    Ok(opened)
}

fn refuse_name(BackupArgs { file, http, .. }: &BackupArgs) -> anyhow::Result<()> {
    let told = file.display();
    ensure!(
        file != Path::new("-"),
        "a backup is written to a file, where it is checked; `curl -f http://{http}/backup` writes one to standard output"
    );
    ensure!(
        !file.is_dir() && !file.as_os_str().as_encoded_bytes().ends_with(b"/"),
        "{told} is a directory; name a file in it"
    );
    ensure!(!file.exists(), "{told} exists; name another file, or remove it");
    Ok(())
}

fn cannot_create(error: io::Error, partial: &Path) -> anyhow::Error {
    let hint = match error.kind() {
        io::ErrorKind::AlreadyExists => {
            "; if no other backup is being written to it, it is what one left, and can be removed"
        }
        _ => "",
    };
    let what = format!("cannot create {}{hint}", partial.display());
    anyhow::Error::new(error).context(what)
}

/// Says what was checked, and which damage the backup has.
fn tell(file: &Path, (contents, batches): (Contents, Batches)) -> anyhow::Result<()> {
    for note in &contents.notes {
        eprintln!("riverlog: the server knows of this damage, and the backup has it as well: {note}");
    }
    for place in &batches.places {
        eprintln!("riverlog: a damaged batch: {place}");
    }
    let Contents { lsn, files, bytes, .. } = contents;
    let Batches {
        segments, good, bad, ..
    } = batches;
    print(&format!(
        "{}: {files} files with {bytes} bytes, everything up to journal frame {lsn}; checked: the checksum of each file, and \
         all batches of {segments} segments: {good} good, {bad} damaged\n",
        file.display()
    ))?;
    match contents.notes.len() as u64 + bad {
        0 => Ok(()),
        _ => bail!(DamageFound(format!(
            "{} is what the server had, with the damage that is listed above",
            file.display()
        ))),
    }
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
    let stream = tokio::time::timeout(SILENCE_TIMEOUT, TcpStream::connect((http.host.as_str(), http.port))).await;
    let stream = stream.unwrap_or_else(|late| Err(late.into()));
    let stream =
        stream.with_context(|| format!("cannot connect to {http}; does a server run there? (--http HOST:PORT)"))?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let request = Request::get("/backup")
        .header(header::HOST, http.to_string())
        .body(Empty::<Bytes>::new())?;
    let answer = tokio::time::timeout(ANSWER_TIMEOUT, sender.send_request(request)).await;
    let answer = answer.ok().context("the server does not answer")?.map_err(|error| {
        // A server for Kafka clients closes the connection when it sees HTTP.
        let what = format!(
            "{http} does not answer as HTTP does, or has just ended; --http names the HTTP address of a server, not that for \
             Kafka clients"
        );
        anyhow::Error::new(error).context(what)
    })?;
    if answer.status().is_success() {
        return Ok(answer);
    }
    let status = answer.status();
    let body = http_body_util::Limited::new(answer.into_body(), MAX_PROBLEM_BYTES);
    let body = tokio::time::timeout(SILENCE_TIMEOUT, body.collect()).await;
    let body = body
        .ok()
        .and_then(Result::ok)
        .map(|body| body.to_bytes())
        .unwrap_or_default();
    let problem: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
    let detail = problem.get("detail").and_then(|detail| detail.as_str());
    bail!("{http} gives no backup: {}", detail.unwrap_or(status.as_str()))
}

fn check_and_sync(partial: &Path) -> anyhow::Result<(Contents, Batches)> {
    let taken = File::open(partial).with_context(|| format!("cannot open {}", partial.display()))?;
    let checked = archive::verify(BufReader::new(&taken)).context("what the server sent")?;
    taken
        .sync_all()
        .with_context(|| format!("cannot sync {}", partial.display()))?;
    Ok(checked)
}

fn keep(partial: &Path, file: &Path) -> anyhow::Result<()> {
    let named = match renameat_with(CWD, partial, CWD, file, RenameFlags::NOREPLACE) {
        // Not every file system can look and rename at once.
        Err(Errno::INVAL) => std::fs::rename(partial, file),
        named => named.map_err(io::Error::from),
    };
    let told = || {
        format!(
            "the backup is whole, as {}, but cannot be renamed to {}",
            partial.display(),
            file.display()
        )
    };
    named.with_context(told)?;
    let dir = file
        .parent()
        .filter(|dir| !dir.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let synced = File::open(dir).and_then(|dir| dir.sync_all());
    synced.with_context(|| format!("cannot sync {}", dir.display()))
}
