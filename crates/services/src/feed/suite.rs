//! The proof that an [`Outbox`] and [`Consumers`] keep the word of their ports. An adapter of the first says
//! `outbox_suite!(place)`, of the second `consumers_suite!(fresh)`, where `fresh` gives what must be kept alive and the
//! adapter; each claim becomes a test.

#![allow(
    clippy::unwrap_used,
    reason = "this is a test, only compiled where an adapter asks for it"
)]

mod consumers;
mod outbox;

use std::sync::Arc;

use async_trait::async_trait;
use tertulia_kit::clock::SharedClock;

use super::ports::Outbox;
use crate::chats::ChatStore;

pub use consumers::*;
pub use outbox::*;

/// Where logs and their outbox are kept while stores come and go.
#[async_trait]
pub trait Place: Send + Sync {
    /// Opens the store, or opens it again after all handles to it were dropped. What is committed now is in the outbox
    /// if `is_fed` says so.
    async fn open(&self, is_fed: bool, clock: SharedClock)
    -> (Arc<dyn ChatStore>, Arc<dyn Outbox>);
}

/// Makes a test of every claim about an outbox, each with a new `$place`.
#[macro_export]
macro_rules! outbox_suite {
    ($place:expr) => {
        $crate::outbox_suite!(@ $place;
            the_feed_has_what_the_logs_have_in_their_order
            who_follows_while_others_write_meets_every_event_once
            a_part_is_as_large_as_was_asked_and_never_empty
            what_was_committed_together_is_given_in_parts
            what_is_no_event_is_not_in_the_feed
            a_deleted_message_leaves_the_feed_as_well
            places_are_the_same_after_reopening
            what_was_dropped_is_a_gap_and_nothing_else_is
            what_is_young_and_among_the_newest_is_kept
            what_was_committed_without_a_feed_is_a_gap
            how_long_something_waits_is_known
        );
    };
    (@ $place:expr; $($claim:ident)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $claim() {
                $crate::feed::suite::$claim(&$place).await;
            }
        )*
    };
}

/// Makes a test of every claim about consumers.
#[macro_export]
macro_rules! consumers_suite {
    ($fresh:expr) => {
        $crate::consumers_suite!(@ $fresh;
            a_consumer_is_made_once_and_stays_where_it_is
            the_furthest_acknowledgement_counts
            who_was_removed_is_moved_by_nobody
            consumers_are_listed_by_name
        );
    };
    (@ $fresh:expr; $($claim:ident)*) => {
        $(
            #[tokio::test]
            async fn $claim() {
                let (_keep, consumers) = $fresh;
                $crate::feed::suite::$claim(&*consumers).await;
            }
        )*
    };
}
