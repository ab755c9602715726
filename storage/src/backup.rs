//! What a copy of a running store tells about itself.

/// What was copied.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct BackedUp {
    pub files: u64,
    /// The bytes of these files.
    pub bytes: u64,
    /// How many of these bytes the copy shares with the store, by hard links.
    pub linked_bytes: u64,
}
