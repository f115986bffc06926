//! Messages to be sent later.

use std::sync::Arc;

use tertulia_kit::error::{Kind, Result};

use super::{Plan, Used, Write};
use crate::chats::command::{Done, NewMessage, SCHEDULED_MAX};
use crate::chats::input;
use crate::chats::model::{Scheduled, UserEventBody};
use crate::chats::roles::Right;
use crate::errors;
use crate::ids::{MessageId, ScheduledId};

impl Plan<'_> {
    pub(super) fn schedule(&mut self, scheduled: Scheduled) -> Result<Done> {
        if let Some(used) = self.view.used(self.actor, &scheduled.key)? {
            let Used::Scheduled(id) = used else {
                return Err(errors::client_message_id_reused());
            };
            // One that was sent or called off since is answered as it was asked for.
            let there = self.view.scheduled(id)?;
            let there = there.unwrap_or(Scheduled { id, ..scheduled });
            return Ok(Done::Scheduled(Box::new(there)));
        }
        let latest_ms = self.at_ms + input::AHEAD_S_MAX * 1_000;
        if scheduled.send_at_ms <= self.at_ms || scheduled.send_at_ms > latest_ms {
            return Err(errors::bad_time());
        }
        self.here(scheduled.chat, Right::Send)?;
        if self.view.scheduled_count(self.actor)? >= SCHEDULED_MAX {
            let words = format!("at most {SCHEDULED_MAX} messages are scheduled at once");
            return Err(errors::too_many(words));
        }
        let used = Used::Scheduled(scheduled.id);
        self.writes
            .push(Write::Used(self.actor, scheduled.key.clone(), used));
        self.writes.push(Write::Scheduled(scheduled.clone()));
        let body = UserEventBody::ScheduleChanged {
            id: scheduled.id,
            scheduled: Some(Arc::new(scheduled.clone())),
        };
        self.own(self.actor, body)?;
        Ok(Done::Scheduled(Box::new(scheduled)))
    }

    pub(super) fn call_off(&mut self, id: ScheduledId) -> Result<Done> {
        let scheduled = self.view.scheduled(id)?;
        let scheduled = scheduled
            .filter(|scheduled| scheduled.user == self.actor)
            .ok_or_else(errors::scheduled_not_found)?;
        self.gone(scheduled)?;
        Ok(Done::Nothing)
    }

    pub(super) fn send_scheduled(&mut self, id: ScheduledId, message: MessageId) -> Result<Done> {
        let Some(scheduled) = self.view.scheduled(id)? else {
            return Ok(Done::Nothing);
        };
        self.actor = scheduled.user;
        let new = NewMessage {
            chat: scheduled.chat,
            id: message,
            key: scheduled.key.clone(),
            text: scheduled.text.clone(),
            reply_to: scheduled.reply_to,
            thread: scheduled.thread,
            mentions: scheduled.mentions.clone(),
        };
        let said = self
            .here(scheduled.chat, Right::Send)
            .and_then(|mut here| Ok((self.say(&mut here, new, None)?, here)));
        let done = match said {
            Ok((sent, here)) => {
                self.spoken(here)?;
                Done::Sent(sent)
            }
            // Whoever may not write there any more has nothing to wait for.
            Err(failure) if is_refusal(failure.kind()) => {
                self.writes.clear();
                Done::Nothing
            }
            Err(failure) => return Err(failure),
        };
        self.gone(scheduled)?;
        Ok(done)
    }

    fn gone(&mut self, scheduled: Scheduled) -> Result<()> {
        let body = UserEventBody::ScheduleChanged {
            id: scheduled.id,
            scheduled: None,
        };
        let user = scheduled.user;
        self.writes.push(Write::ScheduledGone(scheduled));
        self.own(user, body)
    }
}

/// Whether it would be refused however often it was tried.
fn is_refusal(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::NotFound | Kind::PermissionDenied | Kind::FailedPrecondition | Kind::InvalidArgument
    )
}
