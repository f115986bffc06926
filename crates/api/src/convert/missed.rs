//! What was missed.

use tertulia_proto::live as wire;
use tertulia_services::chats::{Answer, Missed, ResetReason, Seq};
use tertulia_services::ids::ChatId;

use super::{chat, chat_receipts, event, user_event};

pub fn missed(from: &Missed) -> wire::Missed {
    let answer: Option<wire::__buffa::oneof::missed::Answer> = match &from.answer {
        Answer::Delta { own_events, events } => wire::Delta {
            own_events: own_events.iter().map(|e| user_event(e)).collect(),
            events: events.iter().map(event).collect(),
            ..Default::default()
        }
        .into(),
        Answer::Changed { chats } => wire::Changed {
            chats: chats.iter().map(chat).collect(),
            own_head: from.own_head,
            ..Default::default()
        }
        .into(),
        Answer::Reset {
            reason,
            chats,
            more,
            epoch,
        } => wire::Reset {
            reason: reset_reason(*reason).into(),
            chats: chats.iter().map(chat).collect(),
            more: *more,
            own_head: from.own_head,
            epoch: format!("{:016x}", epoch.0),
            ..Default::default()
        }
        .into(),
    };
    wire::Missed {
        cursor: from.cursor.clone(),
        answer,
        receipts: from.receipts.iter().map(chat_receipts).collect(),
        ..Default::default()
    }
}

/// Where logs end.
pub fn heads(from: &[(ChatId, Seq)]) -> Vec<wire::Head> {
    from.iter()
        .map(|(chat, seq)| wire::Head {
            chat_id: chat.0,
            seq: *seq,
            ..Default::default()
        })
        .collect()
}

fn reset_reason(from: ResetReason) -> wire::ResetReason {
    match from {
        ResetReason::First => wire::ResetReason::RESET_REASON_FIRST,
        ResetReason::Epoch => wire::ResetReason::RESET_REASON_EPOCH,
        ResetReason::UnknownCursor => wire::ResetReason::RESET_REASON_UNKNOWN_CURSOR,
    }
}
