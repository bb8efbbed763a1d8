//! What is needed before anything is measured, and what the commands that measure have in common.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, ensure};
use clap::{Args, ValueEnum};
use tempfile::TempDir;

use crate::broker::Programs;
use crate::kafka::Jars;
use crate::loads::Client;
use crate::notes::{Log, Note};
use crate::payload::Payloads;
use crate::rounds::{Bench, Pace};
use crate::{child, notes};

#[derive(Debug, Args)]
pub struct Setup {
    /// How long a round waits for a second in which others and the brokers do nothing. It runs then in any case.
    #[arg(long, default_value_t = 60)]
    quiet_seconds: u64,
    /// Leave free memory as it is.
    #[arg(long)]
    no_page_cache_fill: bool,
    /// Where both brokers have their data; what is there is removed at the end [default: target/peers/data].
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// A release build of riverlog; it is built if none is given.
    #[arg(long, value_name = "FILE")]
    riverlog: Option<PathBuf>,
}

impl Setup {
    /// Fetches and builds the programs. The data goes away with the directory that is returned.
    ///
    /// # Errors
    /// If something cannot be had.
    pub fn bench(&self, client: Client, pace: Pace) -> anyhow::Result<(Bench, TempDir)> {
        child::catch_interrupts()?;
        let dir = self.dir.clone().unwrap_or_else(|| home().join("data"));
        std::fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
        // Kafka needs the whole path, because its processes are started elsewhere.
        let dir = dir.canonicalize()?;
        remove_remains(&dir);
        let programs = Programs {
            riverlog: self.riverlog()?,
            jars: Jars::fetch(&root().join("benches/peers/pom.xml"), &home().join("kafka"))?,
        };
        let data = tempfile::Builder::new()
            .prefix(&format!("run-{}-", std::process::id()))
            .tempdir_in(&dir)
            .context("cannot create a directory for the data")?;
        let began = notes::now_s();
        let bench = Bench {
            note: Note {
                run: began,
                date: notes::date(began),
                commit: notes::commit(root()),
                kafka: programs.jars.version(),
                client: client_name(client),
                ..Note::default()
            },
            programs,
            payloads: Payloads::new(),
            client,
            pace,
            quiet_patience: Duration::from_secs(self.quiet_seconds),
            source_bytes: 0,
            start_bytes: 0,
            dir: data.path().to_owned(),
            log: Log::new(&home()),
            fills_page_cache: !self.no_page_cache_fill,
        };
        Ok((bench, data))
    }

    /// A release build of this tree, unless another binary is given.
    fn riverlog(&self) -> anyhow::Result<PathBuf> {
        if let Some(path) = &self.riverlog {
            return path.canonicalize().with_context(|| format!("no {}", path.display()));
        }
        let status = Command::new("cargo")
            .args([
                "build",
                "--release",
                "--quiet",
                "--locked",
                "--package",
                "riverlog",
                "--manifest-path",
            ])
            .arg(root().join("Cargo.toml"))
            .status()
            .context("cannot run cargo")?;
        ensure!(status.success(), "cargo could not build riverlog");
        let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
        let path = target.join("release/riverlog");
        path.canonicalize().with_context(|| format!("no {}", path.display()))
    }
}

/// The repository, from where this was built.
fn root() -> &'static Path {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here)
}

/// Where everything of ours is.
pub fn home() -> PathBuf {
    root().join("target/peers")
}

fn client_name(client: Client) -> String {
    let value = client.to_possible_value();
    value.map(|value| value.get_name().to_owned()).unwrap_or_default()
}

/// Data of runs that were killed before they could remove it.
fn remove_remains(dir: &Path) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let pid = name.strip_prefix("run-").and_then(|rest| rest.split('-').next());
        if pid.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}
