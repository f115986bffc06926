//! What an event is to one member: the event, and beside it what only this member is told.

use std::sync::Arc;

use tertulia_kit::error::Result;

use super::model::{Event, Seq};
use super::ports::{ChatStore, Mine, Page};
use crate::ids::{ChatId, UserId};

/// An event as one member sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// The event.
    pub event: Arc<Event>,
    /// The member has deleted the message for themselves: its text is not for them.
    pub hidden: bool,
    /// The member's reactions to the message.
    pub mine: Vec<String>,
}

/// A part of a log as one member sees it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ShownPage {
    /// Oldest first.
    pub events: Vec<Shown>,
    /// Where the log ends.
    pub head: Seq,
}

/// Changed messages as one member sees them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ShownChanges {
    /// The one that was changed first coming first.
    pub events: Vec<Shown>,
    /// All changes up to here are in the answer.
    pub through: Seq,
    /// There are more.
    pub more: bool,
}

/// A page as somebody sees it.
pub async fn page(
    store: &dyn ChatStore,
    user: UserId,
    chat: ChatId,
    page: Page<Event>,
) -> Result<ShownPage> {
    Ok(ShownPage {
        events: events(store, user, chat, page.events).await?,
        head: page.head,
    })
}

/// Events of one chat as somebody sees them. Asks the store only when there is something to ask about.
pub async fn events(
    store: &dyn ChatStore,
    user: UserId,
    chat: ChatId,
    events: Vec<Arc<Event>>,
) -> Result<Vec<Shown>> {
    let there = events.iter().filter(|event| {
        let message = event.message();
        message.is_some_and(|message| message.deletion.is_none())
    });
    let seqs: Vec<Seq> = there.map(|event| event.seq).collect();
    let mine = match seqs.is_empty() {
        true => Mine::default(),
        false => store.mine(user, chat, &seqs).await?,
    };
    Ok(events
        .into_iter()
        .map(|event| {
            let own = mine.reactions.iter().filter(|(seq, _)| *seq == event.seq);
            Shown {
                hidden: mine.hidden.binary_search(&event.seq).is_ok(),
                mine: own.map(|(_, emoji)| emoji.clone()).collect(),
                event,
            }
        })
        .collect())
}
