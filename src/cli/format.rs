//! A record as a line of output.

use std::io::{self, Write};

use clap::ValueEnum;
use riverlog_client::StoredRecord;

use crate::record_json::RecordJson;

/// How records are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// The value.
    Text,
    /// Everything, as it is read over HTTP.
    Json,
}

impl Format {
    /// Writes the record and ends the line.
    ///
    /// # Errors
    /// When `out` cannot be written.
    pub fn write(self, out: &mut impl Write, partition: i32, record: &StoredRecord) -> io::Result<()> {
        match self {
            Self::Text => out.write_all(record.value.as_deref().unwrap_or_default())?,
            Self::Json => serde_json::to_writer(&mut *out, &RecordJson::new(partition, record))?,
        }
        out.write_all(b"\n")
    }
}
