//! Faults of the product, made on purpose and outside of it: a simulation that does not notice them proves
//! nothing.

use std::fmt;

/// What is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Sabotage {
    /// Of the events that were missed, one is not told.
    DropsAMissedEvent,
    /// What happens between attaching and the answer is not kept for the session.
    DoesNotBuffer,
    /// A send that comes again is taken for a new one.
    ForgetsIdempotency,
    /// A crash takes back the last seq, and it is given again.
    ReusesASeq,
    /// A send is acknowledged while its commit is still waiting.
    AcksBeforeCommit,
    /// A chat that has moved is not among those that are told.
    HidesAHead,
    /// What was missed comes without its reactions, and says that it is as it is now.
    ForgetsReactions,
    /// Who is in a group no longer hears on what happens in it.
    TellsTheRemoved,
}

impl Sabotage {
    /// All of them.
    pub const ALL: [Sabotage; 8] = [
        Sabotage::DropsAMissedEvent,
        Sabotage::DoesNotBuffer,
        Sabotage::ForgetsIdempotency,
        Sabotage::ReusesASeq,
        Sabotage::AcksBeforeCommit,
        Sabotage::HidesAHead,
        Sabotage::ForgetsReactions,
        Sabotage::TellsTheRemoved,
    ];

    /// By its name, as [`Display`](fmt::Display) writes it.
    pub fn by_name(name: &str) -> Option<Sabotage> {
        Self::ALL.into_iter().find(|s| s.to_string() == name)
    }
}

impl fmt::Display for Sabotage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Sabotage::DropsAMissedEvent => "drops-a-missed-event",
            Sabotage::DoesNotBuffer => "does-not-buffer",
            Sabotage::ForgetsIdempotency => "forgets-idempotency",
            Sabotage::ReusesASeq => "reuses-a-seq",
            Sabotage::AcksBeforeCommit => "acks-before-commit",
            Sabotage::HidesAHead => "hides-a-head",
            Sabotage::ForgetsReactions => "forgets-reactions",
            Sabotage::TellsTheRemoved => "tells-the-removed",
        })
    }
}
