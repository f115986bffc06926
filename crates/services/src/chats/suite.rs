//! The proof that a store of logs keeps the word of its port. An adapter names the place where its logs are
//! kept and says `chat_store_suite!(place)`; each claim becomes a test with a place of its own.
//!
//! What is decided is the same for every store, because [`decide`](super::decide::decide) decides. The suite asks
//! whether the store shows decisions the rows as they are, writes down all that they come to, tells it in order,
//! and reads it back. `history` does that at random and compares with memory, `recount` checks what a store
//! counts against a whole log, the others ask one question each.

#![allow(
    clippy::unwrap_used,
    reason = "this is a test, only compiled where an adapter asks for it"
)]

pub(crate) mod bench;
mod chats;
mod due;
mod history;
mod log;
mod marks;
mod members;
mod messages;
mod positions;
mod recount;

use std::sync::Arc;

use async_trait::async_trait;
use tertulia_kit::clock::SharedClock;

use super::ports::{ChatStore, Committed};

pub use bench::chats_of;
pub use chats::*;
pub use due::*;
pub use history::*;
pub use log::*;
pub use marks::*;
pub use members::*;
pub use messages::*;
pub use positions::*;

/// Where logs are kept while stores come and go.
#[async_trait]
pub trait Place: Send + Sync {
    /// Opens the store, or opens it again after all handles to it were dropped.
    async fn open(&self, committed: Arc<dyn Committed>, clock: SharedClock) -> Arc<dyn ChatStore>;
}

/// Makes a test of every claim of the suite, each with a new `$place`.
#[macro_export]
macro_rules! chat_store_suite {
    ($place:expr) => {
        $crate::chat_store_suite!(@ $place;
            a_pair_has_one_chat_whoever_opens_it
            opening_is_told_in_the_log_of_each_member
            an_unknown_chat_has_an_empty_log_and_takes_nothing
            a_refused_command_writes_and_tells_nothing
            the_list_of_chats_is_whole_and_has_the_last_messages
            a_list_is_walked_hour_by_hour
            what_changes_of_a_chat_is_kept
            a_chat_made_again_is_the_same_chat
            seqs_rise_by_one_from_one
            a_repeat_gives_the_first_answer_and_writes_nothing
            a_repeat_is_known_for_seven_days
            a_key_used_for_something_else_is_a_conflict
            keys_of_other_senders_and_devices_are_other_keys
            one_sending_repeated_at_once_is_written_once
            many_tasks_append_without_holes_and_in_the_order_of_each
            texts_of_any_kind_come_back_as_they_were
            an_edit_rewrites_the_message_and_keeps_what_was_sent_first
            a_deleted_message_has_its_text_nowhere
            reactions_are_counted_by_kind_and_named_by_user
            what_is_mine_is_of_one_user
            what_was_hidden_stays_hidden_after_coming_back
            pins_are_listed_with_the_newest_first
            a_thread_has_its_messages_and_its_root_counts_them
            copies_are_sent_together
            pages_have_no_holes_at_any_border
            events_are_found_by_their_seqs
            changes_are_exactly_the_changed_messages_of_a_part
            what_one_event_changed_is_never_divided
            no_change_is_missed_while_others_write
            what_moved_is_told_and_nothing_else
            receipts_that_moved_are_named_beside
            the_events_since_a_position_are_told_whole_or_not_at_all
            a_rewritten_event_keeps_its_position
            a_position_from_the_future_is_refused
            a_reader_who_follows_by_positions_never_has_a_hole
            facts_are_told_once_in_the_order_of_the_commits
            a_group_is_heard_by_who_is_in_it_after_the_commit
            a_channel_is_heard_by_whoever_has_it_warm
            a_direct_chat_is_heard_by_the_two
            who_comes_and_goes_is_told_in_their_own_log
            roles_are_as_they_were_given
            members_and_banned_are_listed_in_pages_by_id
            a_banned_user_stays_out_until_the_ban_is_lifted
            an_invite_lets_in_as_many_as_it_says
            the_limit_of_members_holds_when_many_come_at_once
            read_states_are_exact_on_every_step
            mentions_and_calls_are_counted
            a_mark_never_goes_back
            receipts_are_told_in_small_chats_only
            settings_and_drafts_are_kept_and_told_to_the_own_devices
            standings_are_those_of_the_members_in_the_order_asked
            a_message_is_due_when_its_time_is_over
            a_scheduled_message_is_due_until_it_is_sent_or_called_off
            everything_is_there_after_reopening
            a_random_history_agrees_with_memory
        );
    };
    (@ $place:expr; $($claim:ident)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $claim() {
                $crate::chats::suite::$claim(&$place).await;
            }
        )*
    };
}
