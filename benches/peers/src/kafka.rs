//! Apache Kafka: fetched from Maven Central, one node (KRaft), with heap, collector and settings as its own scripts and
//! its own `config/server.properties` have them.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};

use crate::child::{self, PATIENCE, Process};

/// What `kafka-server-start.sh` and `kafka-run-class.sh` give the virtual machine.
const BROKER_JAVA: [&str; 8] = [
    "-Xmx1G",
    "-Xms1G",
    "-server",
    "-XX:+UseG1GC",
    "-XX:MaxGCPauseMillis=20",
    "-XX:InitiatingHeapOccupancyPercent=35",
    "-XX:+ExplicitGCInvokesConcurrent",
    "-Djava.awt.headless=true",
];

/// What `kafka-producer-perf-test.sh` and `kafka-consumer-perf-test.sh` give it.
const TOOL_JAVA: [&str; 6] = [
    "-Xmx512M",
    "-server",
    "-XX:+UseG1GC",
    "-XX:MaxGCPauseMillis=20",
    "-XX:InitiatingHeapOccupancyPercent=35",
    "-XX:+ExplicitGCInvokesConcurrent",
];

/// The jars.
#[derive(Clone, Debug)]
pub struct Jars {
    dir: PathBuf,
}

impl Jars {
    /// Fetches them with Maven, unless they are there.
    ///
    /// # Errors
    /// If there is no Maven, no Java, or no network.
    pub fn fetch(pom: &Path, dir: &Path) -> anyhow::Result<Self> {
        let complete = dir.join("complete");
        let pom_text = fs::read_to_string(pom).with_context(|| format!("cannot read {}", pom.display()))?;
        // Another version in the pom is another set of jars.
        if fs::read_to_string(&complete).is_ok_and(|text| text == pom_text) {
            return Ok(Self { dir: dir.to_owned() });
        }
        eprintln!("peers: fetching Apache Kafka from Maven Central into {}", dir.display());
        let _ = fs::remove_dir_all(dir);
        fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
        let status = Command::new("mvn")
            .args(["-q", "-B", "-f"])
            .arg(pom)
            .arg("dependency:copy-dependencies")
            .arg(format!("-DoutputDirectory={}", dir.display()))
            .status()
            .context("cannot run mvn (the Debian packages are maven and default-jdk-headless)")?;
        ensure!(status.success(), "mvn could not fetch Apache Kafka: {status}");
        fs::write(complete, pom_text)?;
        Ok(Self { dir: dir.to_owned() })
    }

    /// The version, as the jar of the broker has it in its name.
    pub fn version(&self) -> String {
        let names = fs::read_dir(&self.dir).into_iter().flatten().flatten();
        let mut names = names.map(|entry| entry.file_name().to_string_lossy().into_owned());
        let version = names.find_map(|name| Some(name.strip_prefix("kafka_2.13-")?.strip_suffix(".jar")?.to_owned()));
        version.unwrap_or_else(|| "unknown".to_owned())
    }

    /// One of its own tools.
    pub fn tool(&self, class: &str) -> Command {
        self.java(&TOOL_JAVA, class)
    }

    fn java(&self, options: &[&str], class: &str) -> Command {
        let mut command = child::command("java");
        command
            .args(options)
            .arg("-cp")
            .arg(format!("{}/*", self.dir.display()))
            .arg(class);
        command
    }

    /// Makes a new data directory.
    ///
    /// # Errors
    /// If Kafka's own tool cannot.
    pub fn format(&self, dir: &Path, port: u16, controller_port: u16) -> anyhow::Result<()> {
        fs::create_dir_all(dir)?;
        let properties = dir.join("server.properties");
        fs::write(&properties, server_properties(dir, port, controller_port))?;
        let log = File::create(dir.join("format.log"))?;
        let mut command = self.tool("kafka.tools.StorageTool");
        command
            .args(["format", "--cluster-id", "cml2ZXJsb2ctcGVlcnMtMQ", "--config"])
            .arg(&properties)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        let status = Process::spawn(&mut command)?.wait(PATIENCE)?;
        let said = fs::read_to_string(dir.join("format.log")).unwrap_or_default();
        ensure!(status.success(), "Kafka could not format {}: {said}", dir.display());
        Ok(())
    }

    /// The broker on a directory that was formatted.
    pub fn broker(&self, dir: &Path) -> Command {
        let mut command = self.java(&BROKER_JAVA, "kafka.Kafka");
        command.arg(dir.join("server.properties"));
        command
    }
}

/// `config/server.properties` as it is shipped, but for addresses, the directory, and how late the files of a deleted
/// topic are removed: that goes by the broker's own default of 60 s, whatever the topic says, and each round would wait
/// for it.
fn server_properties(dir: &Path, port: u16, controller_port: u16) -> String {
    let dir = dir.display();
    format!(
        "process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller_port}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}
inter.broker.listener.name=PLAINTEXT
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
num.network.threads=3
num.io.threads=8
socket.send.buffer.bytes=102400
socket.receive.buffer.bytes=102400
socket.request.max.bytes=104857600
log.dirs={dir}/logs
num.partitions=1
num.recovery.threads.per.data.dir=2
offsets.topic.replication.factor=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
log.retention.hours=168
log.segment.bytes=1073741824
log.retention.check.interval.ms=300000
log.segment.delete.delay.ms=1000
"
    )
}
