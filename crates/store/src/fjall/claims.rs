//! What the rows of the small tables say, held against what they say it of.

use tertulia_kit::error::Result;
use tertulia_services::chats::decide::ReactionKey;
use tertulia_services::chats::{Message, Pair, Seq};
use tertulia_services::ids::{ChatId, ScheduledId, UserId};

use super::reader::Reader;
use super::verify::Problem;
use crate::rows::index::*;
use crate::rows::{codec, corrupt};

/// What is wrong with a row, if anything is.
pub fn wrong(reader: &Reader<'_>, row: &[u8], value: &[u8]) -> Result<Option<Problem>> {
    let table = row.first().copied().unwrap_or(0);
    let there = |holds: bool, place: Place, what: &str| {
        let problem = || place.problem(what);
        Ok((!holds).then(problem))
    };
    match table {
        PAIR => {
            let ([a, b], _) = numbers(row)?;
            let chat = ChatId(codec::read_value(value).map_err(corrupt)?);
            let pair = Pair::new(UserId(a), UserId(b));
            let stored = reader.chat(chat, None)?.and_then(|row| row.chat.pair());
            let holds = pair.is_some() && stored == pair;
            there(
                holds,
                Place::chat(chat),
                "a pair leads to it that it is not of",
            )
        }
        CHAT_OF => {
            let ([user, chat], _) = numbers(row)?;
            let (user, chat) = (UserId(user), ChatId(chat));
            let holds = reader.membership(chat, user)?.is_some();
            let what = "the user's list has a chat that the user is not in";
            there(holds, Place::member(chat, user), what)
        }
        LISTED => {
            let ([user, hour, chat], _) = numbers(row)?;
            let (user, chat) = (UserId(user), ChatId(!chat));
            let stands = reader
                .chat(chat, None)?
                .map(|row| row.chat.list_place().hour);
            let holds = stands == Some(!hour) && reader.membership(chat, user)?.is_some();
            let what = "the user's list has the chat where it does not stand";
            there(holds, Place::member(chat, user), what)
        }
        BAN => {
            let ([chat, user], _) = numbers(row)?;
            let (chat, user) = (ChatId(chat), UserId(user));
            let holds = reader.head(chat)?.is_some() && reader.membership(chat, user)?.is_none();
            there(
                holds,
                Place::member(chat, user),
                "a ban of a member or of no chat",
            )
        }
        REACTION => {
            let ([chat, message], rest) = numbers(row)?;
            let (emoji, user) = emoji_and_user(rest)?;
            let place = Place::event(ChatId(chat), message);
            let mirrored = key_with_text(MINE, [user.0, chat, message], emoji);
            let holds = reader.has(&mirrored)?
                && is_message(reader, place, |m| {
                    m.reactions.iter().any(|r| r.emoji == emoji)
                })?;
            there(
                holds,
                place,
                "a reaction that is not counted or not its user's",
            )
        }
        MINE => {
            let ([user, chat, message], emoji) = numbers(row)?;
            let place = Place::event(ChatId(chat), message);
            if emoji.is_empty() {
                let holds = is_message(reader, place, |_| true)?;
                return there(holds, place, "something is hidden that is no message");
            }
            let reaction = ReactionKey {
                chat: ChatId(chat),
                message,
                emoji: text(emoji)?.to_owned(),
                user: UserId(user),
            };
            there(
                reacted(reader, &reaction)?,
                place,
                "a user's reaction that it has not",
            )
        }
        CHANGE => {
            let ([chat, now, message], _) = numbers(row)?;
            let place = Place::event(ChatId(chat), message);
            let holds = is_message(reader, place, |m| m.changed == now)?;
            there(holds, place, "a change that is not its latest")
        }
        DELETED => {
            let ([chat, message], _) = numbers(row)?;
            let place = Place::event(ChatId(chat), message);
            let holds = is_message(reader, place, |m| m.deletion.is_some())?;
            there(holds, place, "a deletion that did not happen")
        }
        MENTION => {
            let ([user, chat, message], _) = numbers(row)?;
            let place = Place::event(ChatId(chat), message);
            let user = UserId(user);
            let holds = is_message(reader, place, |m| m.mentions.users.contains(&user))?;
            there(holds, place, "a mention that is not in it")
        }
        CALL => {
            let ([chat, role, message], _) = numbers(row)?;
            let place = Place::event(ChatId(chat), message);
            let called = |m: &Message| m.mentions.calls().map(codec::role_number);
            let holds = is_message(reader, place, |m| called(m) == Some(role))?;
            there(holds, place, "a call that is not in it")
        }
        REPLY => {
            let ([chat, thread, message], _) = numbers(row)?;
            let place = Place::event(ChatId(chat), message);
            let holds = is_message(reader, place, |m| m.thread == Some(thread))?;
            there(holds, place, "a thread that it is not in")
        }
        EXPIRY => {
            let ([at_ms, chat, message], _) = numbers(row)?;
            let place = Place::event(ChatId(chat), message);
            let holds = is_message(reader, place, |m| m.expires_at_ms == at_ms)?;
            there(holds, place, "an end at a time that is not its own")
        }
        INVITE => {
            let ([], code) = numbers(row)?;
            let code = text(code)?;
            let invite = codec::read_invite(value, code).map_err(corrupt)?;
            let of_chat = key_with_text(INVITE_OF, [invite.chat.0], code);
            let holds = reader.has(&of_chat)? && reader.head(invite.chat)?.is_some();
            there(
                holds,
                Place::chat(invite.chat),
                "an invite that is not in its list",
            )
        }
        INVITE_OF => {
            let ([chat], code) = numbers(row)?;
            let invite = invite(reader, text(code)?)?;
            let holds = invite.is_some_and(|invite| invite.chat.0 == chat);
            there(
                holds,
                Place::chat(ChatId(chat)),
                "its list has an invite that is not there",
            )
        }
        SCHEDULED => {
            let ([id], _) = numbers(row)?;
            let scheduled = codec::read_scheduled(value, ScheduledId(id)).map_err(corrupt)?;
            let of_user = key(SCHEDULED_OF, [scheduled.user.0, id]);
            let at = key(SCHEDULED_AT, [scheduled.send_at_ms, id]);
            let holds = reader.has(&of_user)? && reader.has(&at)?;
            let what = "a scheduled message that nobody will find";
            there(holds, Place::user(scheduled.user), what)
        }
        SCHEDULED_OF => {
            let ([user, id], _) = numbers(row)?;
            let scheduled = scheduled(reader, ScheduledId(id))?;
            let holds = scheduled.is_some_and(|scheduled| scheduled.user.0 == user);
            let what = "the user's list has a scheduled message that is not there";
            there(holds, Place::user(UserId(user)), what)
        }
        SCHEDULED_AT => {
            let ([at_ms, id], _) = numbers(row)?;
            let scheduled = scheduled(reader, ScheduledId(id))?;
            let holds = scheduled.is_some_and(|scheduled| scheduled.send_at_ms == at_ms);
            there(
                holds,
                Place::default(),
                "a time at which nothing is to be sent",
            )
        }
        _ => there(
            false,
            Place::default(),
            "a row of a table that is not known",
        ),
    }
}

fn is_message(
    reader: &Reader<'_>,
    place: Place,
    holds: impl FnOnce(&Message) -> bool,
) -> Result<bool> {
    let (Some(chat), Some(seq)) = (place.chat, place.seq) else {
        return Ok(false);
    };
    let event = reader.event(chat, seq)?;
    let message = event.as_ref().and_then(|event| event.message());
    Ok(message.is_some_and(holds))
}

/// What a row is about.
#[derive(Clone, Copy, Default)]
struct Place {
    chat: Option<ChatId>,
    user: Option<UserId>,
    seq: Option<Seq>,
}

impl Place {
    fn chat(chat: ChatId) -> Place {
        Place {
            chat: Some(chat),
            ..Place::default()
        }
    }

    fn user(user: UserId) -> Place {
        Place {
            user: Some(user),
            ..Place::default()
        }
    }

    fn member(chat: ChatId, user: UserId) -> Place {
        Place {
            user: Some(user),
            ..Place::chat(chat)
        }
    }

    fn event(chat: ChatId, seq: Seq) -> Place {
        Place {
            seq: Some(seq),
            ..Place::chat(chat)
        }
    }

    fn problem(self, what: &str) -> Problem {
        Problem {
            chat: self.chat,
            user: self.user,
            seq: self.seq,
            what: what.to_owned(),
        }
    }
}
