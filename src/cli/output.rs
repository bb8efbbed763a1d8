//! What client commands write to standard output.

use std::io::{self, Write};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

/// Writes text that is short enough to be held. Whoever closed the pipe has seen enough.
///
/// # Errors
/// When standard output cannot be written.
pub fn print(text: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(anyhow::Error::new(error).context("standard output"))
        }
        _ => Ok(()),
    }
}

/// Ends when nobody reads standard output any more, as when `head` has seen enough. A write finds that out too,
/// but who waits for something to write would wait on.
pub async fn closed() {
    // The thread has nothing to clean up; the process ends without it.
    let ended = tokio::task::spawn_blocking(|| {
        let out = io::stdout();
        // Asked for nothing, the system tells of errors and hang-ups alone.
        let mut watched = [PollFd::new(&out, PollFlags::empty())];
        loop {
            match poll(&mut watched, None) {
                Err(Errno::INTR) => {}
                ended => return ended,
            }
        }
    });
    if !matches!(ended.await, Ok(Ok(_))) {
        // It cannot be watched, so the next write has to tell.
        std::future::pending().await
    }
}

/// Columns as wide as they need to be, numbers to the right.
#[must_use]
pub fn table(header: &[&str], rows: Vec<Vec<String>>) -> String {
    let numeric: Vec<bool> = (0..header.len())
        .map(|column| {
            let mut cells = rows.iter().filter_map(|row| row.get(column));
            cells.all(|cell| cell == "-" || cell.parse::<i64>().is_ok())
        })
        .collect();
    let header = header.iter().map(|name| (*name).to_owned()).collect();
    let lines: Vec<Vec<String>> = std::iter::once(header).chain(rows).collect();
    let widths: Vec<usize> = (0..numeric.len())
        .map(|column| {
            let cells = lines.iter().filter_map(|line| line.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        })
        .collect();
    let mut text = String::new();
    for line in &lines {
        let cells: Vec<String> = line
            .iter()
            .zip(widths.iter().zip(&numeric))
            .map(|(cell, (width, numeric))| match numeric {
                true => format!("{cell:>width$}"),
                false => format!("{cell:<width$}"),
            })
            .collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::table;

    #[test]
    fn aligns_columns() {
        let rows = vec![
            vec!["flights".to_owned(), "4".to_owned()],
            vec!["w".to_owned(), "12".to_owned()],
        ];
        let text = table(&["TOPIC", "N"], rows);
        assert_eq!(text, "TOPIC     N\nflights   4\nw        12\n");
    }
}
