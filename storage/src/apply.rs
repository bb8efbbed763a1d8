//! How a durable group comes into its segments. It is not synced: until a checkpoint the journal has it.

use std::io;
use std::sync::Arc;

use bytes::Bytes;

use crate::append::Way;
use crate::disk::{Job, Open};
use crate::extent;
use crate::frame::Part;
use crate::segment::SegmentFile;
use crate::sequencer::Run;
use crate::shared::Shared;

/// What writes a run that its frame has, from where its batches are.
pub(crate) fn inline_job(shared: &Arc<Shared>, run: &Run, file: &Arc<SegmentFile>, way: Way) -> Job<'static> {
    let (shared, part, file) = (Arc::clone(shared), run.part, Arc::clone(file));
    let pieces: Vec<Bytes> = run.pieces().collect();
    Box::new(move || {
        let pieces: Vec<&[u8]> = pieces.iter().map(|piece| &piece[..]).collect();
        inline(&shared, &part, &file, &pieces, way)
    })
}

/// Writes a run that its frame has, in pieces.
pub(crate) fn inline(
    shared: &Shared,
    part: &Part,
    file: &Arc<SegmentFile>,
    pieces: &[&[u8]],
    way: Way,
) -> io::Result<()> {
    let handles = file.handles(&*shared.disk, Open::ReadWrite)?;
    let unsynced_bytes = file.append(&handles, pieces, u64::from(part.position), way)?;
    note(shared, part, file, u64::from(part.length), unsynced_bytes);
    Ok(())
}

/// Writes the byte that an extent lacks.
pub(crate) fn complete_extent(shared: &Shared, part: &Part, file: &Arc<SegmentFile>) -> io::Result<()> {
    let handles = file.handles(&*shared.disk, Open::ReadWrite)?;
    let position = u64::from(part.position) + extent::WITHHELD_AT as u64;
    handles.writer.write_at(&[extent::WITHHELD], position)?;
    note(shared, part, file, 1, 1);
    Ok(())
}

/// Takes note of what the checkpoint must sync: noted before, it could be synced before it is written.
fn note(shared: &Shared, part: &Part, file: &Arc<SegmentFile>, bytes: u64, unsynced_bytes: u64) {
    shared.spend(bytes);
    file.note_written(unsynced_bytes);
    file.note_grown(u64::from(part.length));
    let key = (part.log, part.segment_base);
    shared.dirty.lock().segments.insert(key, file.clone());
}
