//! Deliberate bugs. Each leaves one rule of the storage contract out, so that a test can show that the
//! simulation would notice. Only with the feature `planted`, which nothing that runs ever has.

/// A rule that is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(not(feature = "planted"), allow(dead_code))]
pub enum Planted {
    /// The journal is not synced before the answer.
    SkipSync,
    /// Records are shown before the journal is synced.
    PublishBeforeSync,
    /// Recovery does not write a batch that the segment above the checkpoint seems to have.
    TrustSegment,
    /// A job's state is left out of its write set.
    DropJobState,
    /// A failed sync is tried again in place.
    RetrySync,
    /// Damage is taken for a torn tail.
    DamageIsTornTail,
    /// The journal is trimmed before the manifest stands.
    TrimBeforeManifest,
    /// The checkpoint does not sync segments, nor directories if it would sync them all together.
    SkipSegmentSync,
    /// A duplicate, or a refusal, is answered before what it rests on is published. (1)
    AnswerBeforePublished,
    /// Recovery appends to the segment instead of using the frame's position. (2)
    IgnorePosition,
    /// Only the batches' own checksums are looked at, not the frame's, nor the offsets. (2)
    BodyUnchecked,
    /// A frame does not list the ends of the group before it. (2)
    NoPreviousEnds,
    /// A new journal file's name is not synced. (2)
    SkipJournalDirectorySync,
    /// C is fixed when the manifest is written, after the syncs. (3)
    FixCheckpointLate,
    /// The directories of new segments are not synced, unless all is synced together. (3)
    SkipDirectorySync,
    /// Recovery loads the newest producer snapshot instead of the one that the manifest names. (3)
    NewestSnapshot,
    /// A start goes by a manifest whose name a power cut may take back. (3)
    TrustManifestName,
    /// Files go as soon as a log start is moved. (3)
    RemoveAtOnce,
    /// A frame that checks in one pass and not in the next is skipped. (4)
    AcceptUnstableFrame,
    /// Recovery skips batches below the log's start. (4)
    SkipBelowStart,
    /// Segments above the manifest's that no frame names are kept. (4)
    KeepUnnamedSegments,
    /// The manifest forgets fences. (4)
    ForgetFences,
    /// The checkpoint syncs through a file description opened after the writes, unless all is synced together. (5)
    SyncThroughNewDescription,
    /// A sync ahead of the checkpoint that fails is forgotten. (5)
    ForgetFailedSyncAhead,
    /// A sync of the whole file system that fails is forgotten. (5)
    ForgetFailedFileSystemSync,
    /// Reads do not check batches. (5)
    ReadUnchecked,
    /// What does not check above C is called damage. (5)
    DamageAboveCheckpoint,
    /// Files go although a backup is being copied that names them.
    UnpinnedBackup,
    /// Runs that went straight to their segments are not synced with the journal. (6)
    ExtentUnsynced,
    /// The name of a segment that such a run goes to is not synced. (6)
    ExtentNameUnsynced,
    /// Recovery does not look whether the segment holds such a run. (6)
    ExtentUnchecked,
    /// Such a run is whole before its frame is durable. (6)
    ExtentShownEarly,
    /// What a page has before a run that goes past the page cache becomes zeros.
    ForgetTail,
    /// A slice of a large frame is not written.
    SliceUnwritten,
}

/// Every bug.
#[cfg(feature = "planted")]
pub const ALL: [Planted; 34] = [
    Planted::SkipSync,
    Planted::PublishBeforeSync,
    Planted::TrustSegment,
    Planted::DropJobState,
    Planted::RetrySync,
    Planted::DamageIsTornTail,
    Planted::TrimBeforeManifest,
    Planted::SkipSegmentSync,
    Planted::AnswerBeforePublished,
    Planted::IgnorePosition,
    Planted::BodyUnchecked,
    Planted::NoPreviousEnds,
    Planted::SkipJournalDirectorySync,
    Planted::FixCheckpointLate,
    Planted::SkipDirectorySync,
    Planted::NewestSnapshot,
    Planted::TrustManifestName,
    Planted::RemoveAtOnce,
    Planted::AcceptUnstableFrame,
    Planted::SkipBelowStart,
    Planted::KeepUnnamedSegments,
    Planted::ForgetFences,
    Planted::SyncThroughNewDescription,
    Planted::ForgetFailedSyncAhead,
    Planted::ForgetFailedFileSystemSync,
    Planted::ReadUnchecked,
    Planted::DamageAboveCheckpoint,
    Planted::UnpinnedBackup,
    Planted::ExtentUnsynced,
    Planted::ExtentNameUnsynced,
    Planted::ExtentUnchecked,
    Planted::ExtentShownEarly,
    Planted::ForgetTail,
    Planted::SliceUnwritten,
];

#[cfg(feature = "planted")]
thread_local! {
    static PRESENT: std::cell::Cell<Option<Planted>> = const { std::cell::Cell::new(None) };
}

/// Plants a bug for everything that this thread does from now on.
#[cfg(feature = "planted")]
pub fn plant(bug: Option<Planted>) {
    PRESENT.set(bug);
}

/// The variable that plants a bug, by its name, in a whole process.
#[cfg(feature = "planted")]
pub const VARIABLE: &str = "RIVERLOG_PLANT";

#[cfg(feature = "planted")]
static IN_PROCESS: std::sync::LazyLock<Option<Planted>> = std::sync::LazyLock::new(|| {
    let name = std::env::var(VARIABLE).ok()?;
    let bug = ALL.into_iter().find(|bug| format!("{bug:?}") == name);
    // `evidence mutants` looks for this line, to see that it was given the right binary.
    tracing::warn!("{VARIABLE} is {name}; planted: {bug:?}");
    bug
});

/// Whether this bug is planted here.
#[cfg(feature = "planted")]
pub(crate) fn planted(bug: Planted) -> bool {
    PRESENT.get().or(*IN_PROCESS) == Some(bug)
}

/// Never, in a build that is run.
#[cfg(not(feature = "planted"))]
pub(crate) const fn planted(_bug: Planted) -> bool {
    false
}
