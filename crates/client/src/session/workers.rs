//! What runs beside the wire of a session.

use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use tertulia_proto::chats::list_events_request::From as Start;
use tertulia_proto::chats::{
    Delivered, GetChatRequest, ListChatsRequest, ListEventsRequest, ListScheduledMessagesRequest,
    ListUserEventsRequest, MarkDeliveredRequest, SendMessageRequest, SendMessageResponse,
};
use tertulia_proto::errors::Reason;
use tokio::sync::watch;
use tokio::time::Instant;

use super::End;
use crate::calls::{Asked, Calls};
use crate::core::{Core, Job, Next, empty};
use crate::error::{Error, Result};
use crate::outbox::Entry;

/// How many events are asked for at once: the longest ones must fit into one frame.
const PAGE_EVENTS: u32 = 100;
/// How many events of the own log are asked for at once.
const PAGE_OWN_EVENTS: u32 = 200;
/// How many chats are listed at once.
const PAGE_CHATS: u32 = 100;
/// How many chats one report of what was delivered names.
const DELIVERED_MAX: usize = 200;

/// Waits until there may be something to do.
async fn woken(wake: &mut watch::Receiver<u64>) {
    // The sender lives in the core, as long as we do.
    _ = wake.changed().await;
}

/// Sends what is queued, one message of a chat at a time.
pub(super) async fn send_messages(core: &Core, calls: &Calls) -> End {
    let mut wake = core.wake.subscribe();
    let mut sending = FuturesUnordered::new();
    let mut backoff = core.backoff();
    loop {
        wake.mark_unchanged();
        let room = core.options.sending_max.saturating_sub(sending.len());
        for entry in core.messages_to_send(room) {
            sending.push(send_message(core, calls, entry));
        }
        let (entry, sent) = tokio::select! {
            biased;
            Some(done) = sending.next() => done,
            () = woken(&mut wake) => continue,
        };
        match sent {
            Ok(answer) => {
                backoff.reset();
                if let Err(error) = core.message_stored(&entry, answer) {
                    return error.into();
                }
            }
            Err(error) => {
                if error.is_retryable() {
                    // Its chat waits, and with it all: a server that is busy with one is busy.
                    tokio::time::sleep(backoff.next(error.retry_after())).await;
                }
                if let Err(error) = core.message_refused(&entry, &error) {
                    return error.into();
                }
                if error.wants_new_token() || error.ends_login() {
                    return error.into();
                }
            }
        }
    }
}

async fn send_message(
    core: &Core,
    calls: &Calls,
    entry: Entry,
) -> (Entry, Result<SendMessageResponse>) {
    let request = SendMessageRequest {
        chat_id: entry.chat,
        client_message_id: entry.client_message_id.clone(),
        text: entry.text.clone(),
        reply_to_seq: entry.reply_to_seq,
        thread_seq: entry.thread_seq,
        mentions: entry.mentions.clone().into(),
        ..Default::default()
    };
    let sent = calls.ask(&request, core.options.call_timeout).await;
    (entry, sent)
}

/// Fills holes, some at a time.
pub(super) async fn repair(core: &Core, calls: &Calls) -> End {
    let mut wake = core.wake.subscribe();
    let mut running = FuturesUnordered::new();
    let mut backoff = core.backoff();
    loop {
        wake.mark_unchanged();
        let mut next_look = Instant::now() + Duration::from_secs(3600);
        while running.len() < core.options.repairs_max {
            match core.next_job() {
                Next::Do(job, after, page) => {
                    running.push(async move { (job, fill(core, calls, job, after, page).await) })
                }
                Next::Wait(at) => {
                    next_look = at;
                    break;
                }
                Next::Nothing => break,
            }
        }
        let (job, filled) = tokio::select! {
            biased;
            Some(done) = running.next() => done,
            () = woken(&mut wake) => continue,
            () = tokio::time::sleep_until(next_look) => continue,
        };
        let hopeless = match filled {
            Ok(progress) => {
                backoff.reset();
                !progress
            }
            Err(Error::Store(error)) => return Error::Store(error).into(),
            Err(error) if error.wants_new_token() || error.ends_login() => return error.into(),
            Err(error) if error.is_retryable() => {
                tokio::time::sleep(backoff.next(error.retry_after())).await;
                false
            }
            Err(error) => {
                tracing::warn!(%error, "what is missing can not be read");
                true
            }
        };
        if let Err(error) = core.job_done(job, hopeless) {
            return error.into();
        }
    }
}

/// Does one job. False when it brought nothing.
async fn fill(
    core: &Core,
    calls: &Calls,
    job: Job,
    after: i64,
    page_token: String,
) -> Result<bool> {
    let wait = core.options.call_timeout;
    let asked_at = core.own_tip();
    match job {
        Job::Hole(chat_id) => {
            let request = ListEventsRequest {
                chat_id,
                from: Some(Start::AfterSeq(after)),
                limit: PAGE_EVENTS,
                ..Default::default()
            };
            match calls.ask(&request, wait).await {
                Ok(page) => core.filled(chat_id, after, page.events, page.head),
                Err(error) if is_gone(&error) => core.chat_gone(chat_id, asked_at),
                Err(error) => Err(error),
            }
        }
        Job::Chat(chat_id) => {
            let request = GetChatRequest {
                chat_id,
                ..Default::default()
            };
            match calls.ask(&request, wait).await {
                Ok(answer) => {
                    core.chat_read(answer.chat.into_option().ok_or_else(|| empty("chat"))?)
                }
                Err(error) if is_gone(&error) => core.chat_gone(chat_id, asked_at),
                Err(error) => Err(error),
            }
        }
        Job::Own => {
            let request = ListUserEventsRequest {
                after_seq: after,
                limit: PAGE_OWN_EVENTS,
                ..Default::default()
            };
            let page = calls.ask(&request, wait).await?;
            core.own_filled(after, page.events, page.head)
        }
        Job::Chats => {
            let is_first = page_token.is_empty();
            let request = ListChatsRequest {
                limit: PAGE_CHATS,
                page_token,
                ..Default::default()
            };
            match calls.ask(&request, wait).await {
                Ok(page) => core.chats_listed(page),
                Err(error) if !is_first && is_of_token(&error) => core.list_anew(),
                Err(error) => Err(error),
            }
        }
        Job::Scheduled => {
            let request = ListScheduledMessagesRequest::default();
            let answer = calls.ask(&request, wait).await?;
            core.scheduled_listed(after, answer.scheduled)
        }
    }
}

/// Whether the server can not read the token that says where to go on.
fn is_of_token(error: &Error) -> bool {
    error.reason() == Some(Reason::REASON_BAD_CURSOR)
}

/// Whether the server says that the user is in no such chat.
fn is_gone(error: &Error) -> bool {
    error.reason() == Some(Reason::REASON_CHAT_NOT_FOUND)
}

/// Tells the server what has reached this device: at once when nothing was told for a while, else gathered.
pub(super) async fn tell_delivered(core: &Core, calls: &Calls) -> End {
    let mut wake = core.wake.subscribe();
    let mut backoff = core.backoff();
    loop {
        wake.mark_unchanged();
        let reached = core.undelivered(DELIVERED_MAX);
        if reached.is_empty() {
            woken(&mut wake).await;
            continue;
        }
        let delivered = reached.iter().map(|&(chat_id, seq)| Delivered {
            chat_id,
            seq,
            ..Default::default()
        });
        let request = MarkDeliveredRequest {
            delivered: delivered.collect(),
            ..Default::default()
        };
        match calls.ask(&request, core.options.call_timeout).await {
            Err(error) if error.is_retryable() => {
                tokio::time::sleep(backoff.next(error.retry_after())).await;
                continue;
            }
            Err(error) if error.wants_new_token() || error.ends_login() => return error.into(),
            // Refused for good, it would be refused again.
            Err(error) => tracing::warn!(%error, "what was delivered can not be told"),
            Ok(_) => backoff.reset(),
        }
        if let Err(error) = core.told(reached) {
            return error.into();
        }
        tokio::time::sleep(core.options.delivered_pause).await;
    }
}

/// Puts a new token in the place of the old one, in time.
pub(super) async fn renew(core: &Core, mut token: String, calls: &Calls) -> End {
    let mut backoff = core.backoff();
    loop {
        let wait = core.renew_in();
        tokio::time::sleep(wait).await;
        match core.fresh_token(Some(&token)).await {
            Ok(next) => {
                backoff.reset();
                token = next;
                if let Err(error) = calls.put(Asked::Renew(token.clone())).await {
                    return error.into();
                }
            }
            Err(error) if error.is_retryable() => {
                tokio::time::sleep(backoff.next(error.retry_after())).await
            }
            Err(error) => return error.into(),
        }
    }
}

impl Core {
    fn renew_in(&self) -> Duration {
        // Never at once: a token that lives shorter than that is not worth renewing.
        self.mind()
            .life
            .map_or(Duration::from_secs(60), |life| life.renew_in())
            .max(Duration::from_millis(200))
    }
}
