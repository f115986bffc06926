//! What one end of a pair knows of the chat, and what it finds wrong.

use std::collections::VecDeque;

use anyhow::{Context as _, Result, bail, ensure};
use buffa::MessageView as _;
use tertulia_proto::chats::event::BodyView;
use tertulia_proto::chats::{EventView, SendMessageResponseView};
use tertulia_proto::live::missed::AnswerView;
use tertulia_proto::live::reply::ResultView;
use tertulia_proto::live::{MissedView, ReplyView};
use tokio::time::Instant;

use crate::load::measure::Run;
use crate::load::template::Template;

/// A server that refuses so many calls is not measured any further.
const FAILED_MAX: u64 = 100;

/// A message of which not everything has come.
pub struct Pending {
    pub due: u64,
    pub acked_seq: Option<i64>,
    pub event_seq: Option<i64>,
}

/// The part of an end that frames change, apart from the socket that they are read from.
pub struct Ledger<'a> {
    pub run: &'a Run,
    pub user_id: i64,
    pub chat_id: i64,
    pub last_seq: &'a mut i64,
    pub pending: &'a mut VecDeque<Pending>,
    pub first_pending: &'a mut u64,
    pub unanswered: &'a mut usize,
    pub next_from_other: &'a mut u64,
    pub now: Instant,
}

impl Ledger<'_> {
    /// Takes an answer.
    pub fn reply(&mut self, reply: &ReplyView<'_>) -> Result<()> {
        let n = Template::number_of_call(reply.call_id).unwrap_or(u64::MAX);
        let at = n.checked_sub(*self.first_pending).unwrap_or(u64::MAX) as usize;
        let pending = self.pending.get_mut(at).filter(|p| p.acked_seq.is_none());
        let pending = pending
            .with_context(|| format!("an answer to call {} that is not open", reply.call_id))?;
        *self.unanswered -= 1;
        match &reply.result {
            Some(ResultView::Proto(bytes)) => {
                pending.acked_seq = Some(SendMessageResponseView::decode_view(bytes)?.seq);
                let due = pending.due;
                self.run
                    .count(&self.run.acked, &self.run.ack_ns, due, self.now);
            }
            Some(ResultView::Error(error)) => {
                self.run.violated(|v| v.failed += 1);
                ensure!(
                    self.run.violations.get().failed < FAILED_MAX,
                    "too many calls fail, the last one with {}: {}",
                    error.code,
                    error.message
                );
                // It has no place in the log; nothing more is expected of it.
                (pending.acked_seq, pending.event_seq) = (Some(0), Some(0));
            }
            _ => bail!("an answer without a result"),
        }
        self.settle();
        Ok(())
    }

    /// Takes what was missed.
    pub fn caught_up(&mut self, missed: &MissedView<'_>) {
        match &missed.answer {
            Some(AnswerView::Delta(delta)) => delta
                .events
                .iter()
                .for_each(|event| self.event(event, true)),
            // Too much was missed to be listed, so that nothing in it can be checked: it counts as missing.
            _ => self.run.violated(|v| v.missing += 1),
        }
    }

    /// Takes an event. Only an answer to catching up may begin with what is known.
    pub fn event(&mut self, event: &EventView<'_>, may_repeat: bool) {
        if event.chat_id != self.chat_id {
            return;
        }
        if event.seq <= *self.last_seq {
            if !may_repeat {
                self.run.violated(|v| v.repeated += 1);
            }
            return;
        }
        if event.seq != *self.last_seq + 1 {
            self.run.violated(|v| v.holes += 1);
        }
        *self.last_seq = event.seq;
        let Some(BodyView::Message(message)) = &event.body else {
            return;
        };
        let number = Template::number_of_message(message.client_message_id);
        let stamp = Template::stamp_of(message.text);
        let (Some(n), Some(due)) = (number, stamp) else {
            return;
        };
        if event.actor_id == self.user_id {
            self.own(n, event.seq)
        } else {
            self.other(n, due)
        }
    }

    fn own(&mut self, n: u64, seq: i64) {
        let at = n.checked_sub(*self.first_pending).unwrap_or(u64::MAX) as usize;
        let Some(Pending {
            event_seq: None, ..
        }) = self.pending.get(at)
        else {
            return self.run.violated(|v| v.repeated += 1);
        };
        if self
            .pending
            .iter()
            .take(at)
            .any(|earlier| earlier.event_seq.is_none())
        {
            self.run.violated(|v| v.disordered += 1);
        }
        self.pending[at].event_seq = Some(seq);
        self.settle();
    }

    fn other(&mut self, n: u64, due: u64) {
        if n != *self.next_from_other {
            self.run.violated(|v| v.disordered += 1);
        }
        *self.next_from_other = (*self.next_from_other).max(n + 1);
        self.run
            .count(&self.run.delivered, &self.run.delivery_ns, due, self.now);
    }

    /// Lets go of the oldest messages of which both the answer and the event have come.
    fn settle(&mut self) {
        while let Some(Pending {
            acked_seq: Some(acked),
            event_seq: Some(event),
            ..
        }) = self.pending.front()
        {
            if acked != event {
                self.run.violated(|v| v.misplaced += 1);
            }
            self.pending.pop_front();
            *self.first_pending += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::load::measure::Violations;
    use tertulia_proto::chats::MessageView;

    const ME: i64 = 1;
    const OTHER: i64 = 2;
    const CHAT: i64 = 9;

    /// An end that has written `sent` messages into an empty chat.
    struct Fixture {
        run: Run,
        last_seq: i64,
        pending: VecDeque<Pending>,
        first_pending: u64,
        unanswered: usize,
        next_from_other: u64,
    }

    impl Fixture {
        fn after_sending(sent: usize) -> Self {
            let run = Run::default();
            run.counting.set(true);
            let pending = (0..sent)
                .map(|_| Pending {
                    due: 0,
                    acked_seq: None,
                    event_seq: None,
                })
                .collect();
            Fixture {
                run,
                last_seq: 0,
                pending,
                first_pending: 0,
                unanswered: sent,
                next_from_other: 0,
            }
        }

        fn ledger(&mut self) -> Ledger<'_> {
            Ledger {
                run: &self.run,
                user_id: ME,
                chat_id: CHAT,
                last_seq: &mut self.last_seq,
                pending: &mut self.pending,
                first_pending: &mut self.first_pending,
                unanswered: &mut self.unanswered,
                next_from_other: &mut self.next_from_other,
                now: Instant::now(),
            }
        }

        fn event(&mut self, seq: i64, actor_id: i64, n: u64) {
            self.event_of(seq, actor_id, n, false);
        }

        fn event_of(&mut self, seq: i64, actor_id: i64, n: u64, may_repeat: bool) {
            let (id, text) = (format!("{:016x}-{n:012x}", 7), "0".repeat(16));
            let message = MessageView {
                client_message_id: &id,
                text: &text,
                ..Default::default()
            };
            let body = Some(BodyView::Message(Box::new(message)));
            let event = EventView {
                chat_id: CHAT,
                seq,
                actor_id,
                body,
                ..Default::default()
            };
            self.ledger().event(&event, may_repeat);
        }

        fn ack(&mut self, n: u64, seq: i64) -> Result<()> {
            use buffa::Message as _;
            let answer = tertulia_proto::chats::SendMessageResponse {
                seq,
                ..Default::default()
            };
            let bytes = answer.encode_to_vec();
            let call_id = (1 << 28) + n;
            let result = Some(ResultView::Proto(&bytes));
            self.ledger().reply(&ReplyView {
                call_id,
                result,
                ..Default::default()
            })
        }

        fn violations(&self) -> Violations {
            self.run.violations.get()
        }
    }

    #[test]
    fn what_comes_once_and_in_order_is_no_violation() {
        let mut end = Fixture::after_sending(2);
        end.event(1, ME, 0);
        end.ack(0, 1).unwrap();
        end.event(2, OTHER, 0);
        end.ack(1, 3).unwrap();
        end.event(3, ME, 1);
        end.event(4, OTHER, 1);
        assert_eq!(end.violations(), Violations::default());
        assert_eq!((end.run.acked.get(), end.run.delivered.get()), (2, 2));
        assert_eq!(
            (end.pending.len(), end.unanswered, end.first_pending),
            (0, 0, 2)
        );
    }

    #[test]
    fn an_event_that_comes_twice_is_counted() {
        let mut end = Fixture::after_sending(0);
        end.event(1, OTHER, 0);
        end.event(1, OTHER, 0);
        assert_eq!(
            end.violations(),
            Violations {
                repeated: 1,
                ..Default::default()
            }
        );
        assert_eq!(end.run.delivered.get(), 1);
    }

    #[test]
    fn a_message_that_is_stored_twice_is_counted() {
        let mut end = Fixture::after_sending(1);
        end.event(1, ME, 0);
        end.event(2, ME, 0);
        assert_eq!(
            end.violations(),
            Violations {
                repeated: 1,
                ..Default::default()
            }
        );
    }

    #[test]
    fn an_event_that_is_left_out_is_counted() {
        let mut end = Fixture::after_sending(0);
        end.event(1, OTHER, 0);
        end.event(3, OTHER, 1);
        assert_eq!(
            end.violations(),
            Violations {
                holes: 1,
                ..Default::default()
            }
        );
    }

    #[test]
    fn messages_in_another_order_than_they_were_written_are_counted() {
        let mut end = Fixture::after_sending(2);
        end.event(1, OTHER, 1);
        end.event(2, ME, 1);
        assert_eq!(
            end.violations(),
            Violations {
                disordered: 2,
                ..Default::default()
            }
        );
    }

    #[test]
    fn an_acknowledgement_that_names_another_place_is_counted() {
        let mut end = Fixture::after_sending(1);
        end.ack(0, 5).unwrap();
        end.event(1, ME, 0);
        assert_eq!(
            end.violations(),
            Violations {
                misplaced: 1,
                ..Default::default()
            }
        );
    }

    #[test]
    fn an_answer_to_no_call_ends_the_run() {
        let mut end = Fixture::after_sending(1);
        end.ack(0, 1).unwrap();
        assert!(end.ack(0, 1).is_err());
        assert!(end.ack(7, 1).is_err());
    }

    #[test]
    fn catching_up_may_begin_with_what_is_known() {
        let mut end = Fixture::after_sending(0);
        end.event(1, OTHER, 0);
        end.event_of(1, OTHER, 0, true);
        end.event_of(2, OTHER, 1, true);
        assert_eq!(end.violations(), Violations::default());
        assert_eq!(end.next_from_other, 2);
    }

    #[test]
    fn a_window_that_is_full_counts_from_when_a_message_was_due() {
        let mut end = Fixture::after_sending(1);
        let late = end.run.base + Duration::from_secs(3);
        let mut ledger = end.ledger();
        ledger.now = late;
        ledger.other(0, 0);
        let longest = end.run.delivery_ns.borrow().max();
        assert!(longest >= 2_990_000_000, "{longest}");
    }
}
