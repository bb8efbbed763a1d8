//! The demo's progress: bars on a terminal, plain lines elsewhere.

use std::fmt::Write;
use std::time::Duration;

use indicatif::{HumanCount, MultiProgress, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

/// The two bars, one above the other.
pub struct Stage {
    bars: MultiProgress,
    /// Records acknowledged.
    pub published: ProgressBar,
    /// Records whose effect the job has committed.
    pub processed: ProgressBar,
}

impl Stage {
    /// Bars over `total` records. Where standard error is not a terminal, nothing is drawn.
    #[must_use]
    pub fn new(total: u64) -> Self {
        let bars = MultiProgress::with_draw_target(ProgressDrawTarget::stderr());
        let bar = |name: &'static str| {
            let bar = bars.add(ProgressBar::new(total));
            let template = "  {prefix:<18} {bar:20} {human_pos:>6} of {human_len}  {rate}/s  {eta} left";
            if let Ok(style) = ProgressStyle::with_template(template) {
                // The built-in rate has four decimals, which nobody reads.
                let rate = |state: &ProgressState, out: &mut dyn Write| {
                    let _ = write!(out, "{}", HumanCount(state.per_sec() as u64));
                };
                bar.set_style(style.with_key("rate", rate));
            }
            bar.set_prefix(name);
            bar.enable_steady_tick(Duration::from_millis(100));
            bar
        };
        Self {
            published: bar("durable in the log"),
            processed: bar("through the job"),
            bars,
        }
    }

    /// Prints a line above the bars.
    pub fn say(&self, line: &str) {
        self.bars.suspend(|| println!("{line}"));
    }

    /// Takes the bars away.
    pub fn end(&self) {
        self.published.finish_and_clear();
        self.processed.finish_and_clear();
    }
}
