//! SIGKILL at random moments under load, as `cargo evidence crash` does it by the thousand: see
//! `riverlog_evidence::stretch`.
//!
//! `RIVERLOG_KILLS` says how often (10 by default), `RIVERLOG_SEED` repeats the choices of a run, though not its timing.

use indicatif::ProgressBar;
use riverlog_evidence::stretch::Stretch;

use crate::server::{binary, temp_dir};

#[test]
fn nothing_acknowledged_is_lost_or_doubled_by_sigkill() {
    let number = |variable| std::env::var(variable).ok().map(|value| value.parse().unwrap());
    let crashes = number("RIVERLOG_KILLS").unwrap_or(10);
    let seed = number("RIVERLOG_SEED").unwrap_or_else(|| rand::random_range(0..1 << 32));
    println!("{crashes} kills, RIVERLOG_SEED={seed}");
    let dir = temp_dir();
    let (binary, data_dir) = (binary(), dir.path().join("data"));
    let stretch = Stretch {
        binary: &binary,
        data_dir: &data_dir,
        seed,
        crashes,
        disk: None,
        bar: &ProgressBar::hidden(),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let figures = runtime.block_on(stretch.run()).unwrap();
    println!(
        "{:?}, first acknowledgements after {:?} ms",
        figures.counts, figures.recovered_ms
    );
}
