//! The tree's own rules. Who may know whom (see docs/ARCHITECTURE.md) is decided by what a file names, so these tests
//! read the sources. They start nothing.

use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The Rust files below a directory of the tree, without tests.
fn sources(dir: &str) -> Vec<(PathBuf, String)> {
    let base = root().join(dir);
    crate::server::files(&base)
        .into_iter()
        .filter(|file| file.extension().is_some_and(|extension| extension == "rs"))
        .filter(|file| !file.ends_with("tests.rs") && !file.to_string_lossy().ends_with("_tests.rs"))
        .map(|file| {
            (
                Path::new(dir).join(&file),
                code(&std::fs::read_to_string(base.join(file)).unwrap()),
            )
        })
        .collect()
}

/// A file without comments and without its unit tests, which may know anyone.
fn code(text: &str) -> String {
    let text = text.split("#[cfg(test)]\n").next().unwrap();
    // Kafka's hash of keys stands in the broker's room, but is a function that anybody may use.
    text.replace("crate::broker::partitioner", "")
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .collect::<Vec<_>>()
        .join("\n")
}

/// No file of these directories, but for the exceptions, names any of these.
fn assert_ignorant(dirs: &[&str], exceptions: &[&str], names: &[&str]) {
    let mut found = Vec::new();
    for (path, text) in dirs.iter().flat_map(|dir| sources(dir)) {
        if exceptions.iter().any(|exception| path == Path::new(exception)) {
            continue;
        }
        for name in names.iter().filter(|name| text.contains(**name)) {
            found.push(format!("{} names {name}", path.display()));
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn storage_knows_nothing_of_the_rest() {
    assert_ignorant(
        &["storage/src"],
        &[],
        &[
            "riverlog::",
            "riverlog_client",
            "tokio",
            "async fn",
            "std::net",
            "kafka_protocol",
        ],
    );
    let manifest = std::fs::read_to_string(root().join("storage/Cargo.toml")).unwrap();
    for name in ["tokio", "hyper", "kafka-protocol", "riverlog-client"] {
        assert!(!manifest.contains(name), "storage/Cargo.toml names {name}");
    }
}

#[test]
fn only_the_disk_and_the_clock_touch_the_system() {
    // The committer and the storage measure how long a sync took, and how long a thread waits; they decide nothing by it.
    // The disk's threads decide by it which of them does what.
    let exceptions = [
        "storage/src/disk/real.rs",
        "storage/src/disk/direct.rs",
        "storage/src/disk/mod.rs",
        "storage/src/disk/workers.rs",
        "storage/src/clock.rs",
        "storage/src/committer.rs",
        "storage/src/storage.rs",
        "storage/src/time_slice.rs",
    ];
    assert_ignorant(
        &["storage/src"],
        &exceptions,
        &[
            "std::fs::",
            "File::open",
            "SystemTime::now",
            "Instant::now",
            "rustix::",
            "libc::",
        ],
    );
}

/// Two system calls that no kept library makes. Whoever needs more looks for a library first.
#[test]
fn one_file_has_unsafe_code() {
    assert_ignorant(
        &[
            "src",
            "storage/src",
            "tools/client/src",
            "tools/evidence/src",
            "tools/replay/src",
        ],
        &["storage/src/time_slice.rs"],
        &["unsafe"],
    );
}

#[test]
fn groups_are_pure_state_machines() {
    assert_ignorant(
        &["src/groups"],
        &[],
        &[
            "tokio",
            "async fn",
            "async move",
            "std::fs",
            "std::net",
            "Instant::now",
            "SystemTime",
            "crate::broker",
            "crate::kafka",
            "crate::http",
            "rand::",
        ],
    );
}

#[test]
fn the_broker_has_no_sockets_and_knows_no_protocol() {
    assert_ignorant(
        &["src/broker"],
        &[],
        &[
            "TcpStream",
            "TcpListener",
            "tokio::net",
            "crate::kafka",
            "crate::http",
            "kafka_protocol",
            "hyper",
            "axum",
        ],
    );
}

#[test]
fn only_kafka_knows_wire_versions() {
    assert_ignorant(
        &[
            "src/broker",
            "src/groups",
            "src/http",
            "src/processing",
            "src/cli",
            "src/demo",
            "tools/evidence/src",
            "tools/replay/src",
        ],
        &[],
        &["kafka_protocol"],
    );
}

#[test]
fn kafka_and_http_do_not_know_each_other() {
    assert_ignorant(&["src/kafka"], &[], &["crate::http", "hyper", "axum"]);
    assert_ignorant(&["src/http"], &[], &["crate::kafka"]);
}

#[test]
fn processing_talks_to_the_log_through_one_trait() {
    assert_ignorant(
        &["src/processing"],
        // The trait; the broker's side of it; and storage's, for the simulation.
        &[
            "src/processing/log.rs",
            "src/processing/broker_log.rs",
            "src/processing/simulation.rs",
        ],
        &["crate::broker", "crate::kafka", "crate::http", "riverlog_client"],
    );
}

#[test]
fn files_are_short_enough_to_read() {
    // The one exception is generated.
    let long: Vec<String> = [
        "src",
        "storage/src",
        "tools/client/src",
        "tools/evidence/src",
        "tools/replay/src",
    ]
    .iter()
    .flat_map(|dir| sources(dir))
    .filter(|(path, text)| text.lines().count() > 700 && path != Path::new("src/kafka/schema_table.rs"))
    .map(|(path, text)| format!("{}: {} lines", path.display(), text.lines().count()))
    .collect();
    assert!(long.is_empty(), "{}", long.join("\n"));
}

#[test]
fn the_tree_has_no_leftovers() {
    // Put together here, so that this file does not find itself.
    let leftovers = [
        concat!("FIX", "ME"),
        concat!("XX", "X"),
        concat!("todo", "!("),
        concat!("unimplemented", "!("),
    ];
    assert_ignorant(&["src", "storage/src", "tools", "tests/it"], &[], &leftovers);
}

#[test]
fn the_architecture_page_names_only_what_is_there() {
    let page = std::fs::read_to_string(root().join("docs/ARCHITECTURE.md")).unwrap();
    let mut missing = Vec::new();
    for name in page.split('`').skip(1).step_by(2) {
        let is_path =
            name.contains('/') && !name.contains([' ', ':', '<', '*', '{', '(']) && !name.starts_with(['/', '-']);
        if is_path && !root().join(name).exists() {
            missing.push(name);
        }
    }
    assert!(missing.is_empty(), "docs/ARCHITECTURE.md names {missing:?}");
    assert!(
        page.matches("Invariant:").count() >= 8,
        "the page states the invariants"
    );
}

#[test]
fn the_gate_runs_the_readmes_test_command() {
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    let gate = std::fs::read_to_string(root().join(".ci/run")).unwrap();
    assert!(readme.contains("cargo test --workspace"));
    assert!(gate.contains("cargo test --workspace"));
}
