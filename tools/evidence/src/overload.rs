//! Overload: thousands of clients that mean no good against the real server. Meanwhile a producer, a consumer, newcomers and
//! somebody who looks at the metrics must be answered in time, and the server must stay within its memory.

mod attackers;
mod honest;
mod server;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::Context;

use self::attackers::Target;
use self::honest::Honest;
use self::server::Server;
use crate::log::{Log, Note};

/// Arguments of `evidence overload`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The server to start
    #[arg(long, default_value = "target/release/riverlog")]
    riverlog: PathBuf,
    /// How many attackers
    #[arg(long, default_value_t = 10_000)]
    connections: usize,
    /// How long they attack
    #[arg(long, default_value_t = 60)]
    seconds: u64,
}

const MIB: u64 = 1 << 20;
/// What each of the three budgets (requests, answers, HTTP bodies) is by default…
const BUDGET_BYTES: u64 = 256 * MIB;
/// …for so many attackers. With fewer of them it is less, so that they can use it up, but not less than this.
const FULL_CONNECTIONS: u64 = 10_000;
const SMALLEST_BUDGET_BYTES: u64 = 16 * MIB;

/// Whoever behaves is answered in this time, whatever others do.
const ANSWERED: Duration = Duration::from_secs(10);
/// When the attack is over, everything is as before after at most this.
const RECOVERED: Duration = Duration::from_secs(30);
const CALM: Duration = Duration::from_secs(4);

/// Runs the attack once.
pub fn run(args: &Args) -> anyhow::Result<()> {
    raise_open_files_limit(args.connections)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let started = Instant::now();
    let log = Log::open()?;
    println!(
        "overload: {} connections for {} s, commit {}",
        args.connections,
        args.seconds,
        log.commit()
    );
    let broken = runtime.block_on(attack(args))?;
    for found in &broken {
        println!("  FOUND: {found}");
    }
    let outcome = if broken.is_empty() {
        "bounds held"
    } else {
        "bounds broken"
    };
    log.add(Note {
        campaign: format!("overload, {} connections", args.connections),
        count: 1,
        failures: u64::from(!broken.is_empty()),
        outcomes: BTreeMap::from([(outcome.to_owned(), 1)]),
        seconds: started.elapsed().as_secs_f64(),
        ..Note::default()
    })?;
    anyhow::ensure!(broken.is_empty(), "overload: {} bounds are broken", broken.len());
    println!("overload: all bounds held; noted in {}", log.path().display());
    Ok(())
}

/// Gives the bounds that did not hold.
async fn attack(args: &Args) -> anyhow::Result<Vec<String>> {
    let connections = args.connections as u64;
    let budget_bytes = (BUDGET_BYTES * connections / FULL_CONNECTIONS).clamp(SMALLEST_BUDGET_BYTES, BUDGET_BYTES);
    let http = args.connections / 10;
    let kafka = args.connections - http;
    // Room for all attackers, for those who behave, and for some more.
    let most_connections = kafka + 100 + args.connections / 10;
    let server = Server::start(&args.riverlog, budget_bytes, most_connections).await?;
    let topic = "bulk".to_owned();
    let filled = honest::fill(&server, &topic, 4 * budget_bytes / 5).await;
    filled.with_context(|| server.last_words())?;

    let mut honest = Honest::start(&server).await.with_context(|| server.last_words())?;
    tokio::time::sleep(CALM).await;
    let calm = honest.report();
    let base_bytes = server.resident_bytes()?;
    let watch = server.watch();

    let target = Arc::new(Target {
        kafka: server.kafka,
        http: server.http,
        topic,
        // Together twice what all requests may have.
        slow_request_bytes: 2 * budget_bytes as usize / (kafka / attackers::SLOW_WRITER_OF).max(1),
        returns: 0.into(),
    });
    let attack = attackers::start(&target, kafka, http);
    let until = Instant::now() + Duration::from_secs(args.seconds);
    let mut most = server::Told::default();
    while Instant::now() < until {
        tokio::time::sleep(Duration::from_millis(500)).await;
        if let Some(told) = honest.told() {
            most = most.max(told);
        }
    }
    let under_attack = honest.report();

    // Then more than may be there at once, while no newcomer needs a place.
    drop(attack);
    honest.pause_newcomers();
    let crowd = attackers::open_idle(&target, most_connections + 400).await;
    let refused_by = Instant::now() + ANSWERED;
    while most.refused == 0 && Instant::now() < refused_by {
        tokio::time::sleep(Duration::from_millis(200)).await;
        most = most.max(honest.told().unwrap_or_default());
    }
    drop(crowd);
    honest.resume_newcomers();

    let ended = Instant::now();
    // A third of all budgets may stay in the allocator's hands.
    let most_after_bytes = base_bytes + base_bytes / 5 + budget_bytes;
    let (mut rest, mut resident_bytes);
    loop {
        tokio::time::sleep(Duration::from_millis(500)).await;
        rest = honest.told().unwrap_or_default();
        resident_bytes = server.resident_bytes()?;
        let recovered = rest.connections < 50 && rest.in_use_bytes < MIB && resident_bytes <= most_after_bytes;
        if recovered || ended.elapsed() > RECOVERED {
            break;
        }
    }
    let recovery = ended.elapsed();
    honest.forget_times();
    tokio::time::sleep(CALM).await;
    let after = honest.report();
    let peak_bytes = watch.peak_bytes();
    let most_bytes = (3 * budget_bytes + base_bytes) * 6 / 5;

    println!(
        "  memory budget {} MiB (requests, answers and HTTP bodies, {} MiB each)",
        3 * budget_bytes / MIB,
        budget_bytes / MIB
    );
    println!(
        "  resident: {} MiB before, {} MiB at most (bound {} MiB), {} MiB {:.1} s after",
        base_bytes / MIB,
        peak_bytes / MIB,
        most_bytes / MIB,
        resident_bytes / MIB,
        recovery.as_secs_f64()
    );
    println!(
        "  /metrics told of at most {} connections, {} refused, {} cut, {} MiB in use; the attackers came back {} times",
        most.connections,
        most.refused,
        most.cut,
        most.in_use_bytes / MIB,
        target.returns.load(Ordering::Relaxed)
    );
    for (when, report) in [("calm", &calm), ("attack", &under_attack), ("after", &after)] {
        println!("  {when}: {report}");
    }

    let mut broken = Vec::new();
    let mut check = |holds: bool, what: String| {
        if !holds {
            broken.push(what);
        }
    };
    check(
        peak_bytes <= most_bytes,
        format!("{} MiB resident, more than {}", peak_bytes / MIB, most_bytes / MIB),
    );
    check(
        resident_bytes <= most_after_bytes,
        format!(
            "{} MiB resident after the attack, more than {}",
            resident_bytes / MIB,
            most_after_bytes / MIB
        ),
    );
    check(
        rest.connections < 50 && rest.in_use_bytes < MIB,
        format!("not as before after {} s: {rest:?}", RECOVERED.as_secs()),
    );
    check(
        most.connections >= connections * 6 / 10,
        format!("only {} connections were open", most.connections),
    );
    check(most.refused > 0, "no connection was refused".to_owned());
    check(
        most.in_use_bytes > budget_bytes,
        format!("only {} MiB were in use", most.in_use_bytes / MIB),
    );
    for (when, report) in [("calm", calm), ("attack", under_attack), ("after", after)] {
        broken.extend(
            report
                .broken(ANSWERED)
                .into_iter()
                .map(|found| format!("{when}: {found}")),
        );
    }
    broken.extend(honest.lost().await);
    broken.extend(server.complaints()?);
    Ok(broken)
}

/// Every attacker is an open file of ours.
fn raise_open_files_limit(connections: usize) -> anyhow::Result<()> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let before = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: before.maximum,
        maximum: before.maximum,
    };
    setrlimit(Resource::Nofile, raised).context("cannot raise the limit of open files")?;
    let needed = connections as u64 * 3 / 2 + 1000;
    anyhow::ensure!(
        before.maximum.is_none_or(|files| files >= needed),
        "{connections} connections need a limit of {needed} open files, here it is {:?}",
        before.maximum
    );
    Ok(())
}
