//! The list of a user's chats, the newest first, page by page. What a page costs does not depend on how many chats the
//! user has.
//!
//! A store has the chats of a user by the hour in which they were last spoken in ([`ListPlace`]); here those of an hour
//! are put into the order of their newest messages. For that the whole hour has to be read in which a page ends. When it
//! has too many chats for that they stay in the order of their ids, and the token says so to the next page.

use std::cmp::Reverse;
use std::collections::HashSet;

use tertulia_kit::error::Result;

use super::cursor::PageToken;
use super::model::{Chat, ListPlace};
use super::ports::ChatStore;
use crate::ids::{ChatId, UserId};

/// How many chats are read beyond a page to find where its last hour ends.
const HOUR_CHATS_MAX: usize = 100;
/// How many channels are read at once.
const CHANNELS_AT_ONCE: usize = 500;

/// Small for what comes first: the hour, when it was active unless it is told by its id, and the id.
type Order = Reverse<(i64, i64, ChatId)>;

/// The chats of a user that come after `after`, at most `limit` of them, and after which one the next page begins; none
/// when there are no more.
///
/// # Errors
/// The failure of the store.
pub async fn page(
    store: &dyn ChatStore,
    user: UserId,
    after: Option<PageToken>,
    limit: usize,
) -> Result<(Vec<Chat>, Option<PageToken>)> {
    let mut list = List::new(after);
    let mut end = ListPlace::TOP;
    loop {
        let channels = ListPlace::behind(ListPlace::ALWAYS)..end;
        let some = store.chats_of(user, channels, CHANNELS_AT_ONCE).await?;
        let is_last = some.len() < CHANNELS_AT_ONCE;
        end = some.last().map_or(end, |(place, _)| *place);
        // Where they belong; a chat whose hour is not known yet as well.
        list.add(some.into_iter().map(|(_, chat)| {
            let hour = ListPlace::hour_of(chat.active_at_ms());
            (hour, chat)
        }));
        if is_last {
            break;
        }
    }
    let (mut end, mut walked) = (list.begins(), 0);
    while walked <= limit {
        let places = ListPlace::BOTTOM..end;
        let some = store.chats_of(user, places, limit + 1).await?;
        let is_last = some.len() <= limit;
        end = some.last().map_or(end, |(place, _)| *place);
        walked += list.add(some.into_iter().map(|(place, chat)| (place.hour, chat)));
        if is_last {
            return Ok(list.page(limit));
        }
    }
    list.end_hour(store, user, end, limit).await?;
    Ok(list.page(limit))
}

/// What was read of it.
struct List {
    after: Option<PageToken>,
    /// The hour of which the chats are told by their ids.
    by_id: Option<i64>,
    /// Each with its hour.
    chats: Vec<(i64, Chat)>,
    /// Which they are: one that is put in its place between two reads is read at both.
    known: HashSet<ChatId>,
}

impl List {
    fn new(after: Option<PageToken>) -> List {
        let by_id = after.filter(|after| after.active_at_ms.is_none());
        List {
            after,
            by_id: by_id.map(|after| after.hour),
            chats: Vec::new(),
            known: HashSet::new(),
        }
    }

    /// Before what the reading begins.
    fn begins(&self) -> ListPlace {
        match self.after {
            None => ListPlace::behind(ListPlace::ALWAYS),
            Some(after) if after.active_at_ms.is_some() => ListPlace::before(after.hour),
            Some(PageToken { hour, chat, .. }) => ListPlace { hour, chat },
        }
    }

    /// Takes those that come after where it begins; says how many that were.
    fn add(&mut self, chats: impl Iterator<Item = (i64, Chat)>) -> usize {
        let before = self.chats.len();
        let after = self.after.map(|after| {
            let active_at_ms = after.active_at_ms.unwrap_or(0);
            Reverse((after.hour, active_at_ms, after.chat))
        });
        for (hour, chat) in chats {
            if after.is_none_or(|after| self.order(hour, &chat) > after)
                && self.known.insert(chat.id)
            {
                self.chats.push((hour, chat));
            }
        }
        self.chats.len() - before
    }

    fn order(&self, hour: i64, chat: &Chat) -> Order {
        let active_at_ms = match self.by_id == Some(hour) {
            true => 0,
            false => chat.active_at_ms(),
        };
        Reverse((hour, active_at_ms, chat.id))
    }

    /// Reads what is left of the hour in which the reading ended, if the page ends in it.
    async fn end_hour(
        &mut self,
        store: &dyn ChatStore,
        user: UserId,
        end: ListPlace,
        limit: usize,
    ) -> Result<()> {
        let hour = end.hour;
        let before = self.chats.iter().filter(|(of, _)| *of > hour).count();
        if before >= limit || self.by_id == Some(hour) {
            return Ok(());
        }
        // The page before has told a part of it in the order of time, and so does this one.
        let is_begun = self.after.is_some_and(|after| after.hour == hour);
        let most = if is_begun { usize::MAX } else { HOUR_CHATS_MAX };
        let rest = ListPlace::behind(hour)..end;
        let rest = store.chats_of(user, rest, most).await?;
        if rest.len() == most {
            self.by_id = Some(hour);
        } else {
            self.add(rest.into_iter().map(|(place, chat)| (place.hour, chat)));
        }
        Ok(())
    }

    fn page(mut self, limit: usize) -> (Vec<Chat>, Option<PageToken>) {
        let mut chats = std::mem::take(&mut self.chats);
        chats.sort_unstable_by_key(|(hour, chat)| self.order(*hour, chat));
        let more = chats.len() > limit;
        chats.truncate(limit);
        let next = chats.last().filter(|_| more).map(|(hour, chat)| PageToken {
            hour: *hour,
            active_at_ms: (self.by_id != Some(*hour)).then(|| chat.active_at_ms()),
            chat: chat.id,
        });
        (chats.into_iter().map(|(_, chat)| chat).collect(), next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chats::model::Pair;

    #[test]
    fn a_chat_that_is_put_in_its_place_between_two_reads_is_told_once() {
        let pair = Pair::new(UserId(1), UserId(2)).unwrap();
        let chat = Chat::direct(ChatId(7), pair, 5);
        let hour = chat.list_place().hour;
        let mut list = List::new(None);
        assert_eq!(list.add([(hour, chat.clone())].into_iter()), 1);
        assert_eq!(list.add([(hour, chat.clone())].into_iter()), 0);
        assert_eq!(list.page(10), (vec![chat], None));
    }
}
