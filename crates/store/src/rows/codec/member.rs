//! The rows of memberships, of invites and of scheduled messages.

use std::sync::Arc;

use tertulia_services::chats::{Draft, Invite, Membership, Notify, Scheduled, Settings};
use tertulia_services::ids::{ChatId, ScheduledId};

use super::parts::{key, mentions, put_key, put_mentions, put_role, role};
use super::*;

/// Writes a membership. Its chat and its user are in its key.
pub fn write_membership(out: &mut Vec<u8>, membership: &Membership) {
    start(out);
    put_membership(out, membership);
}

pub fn read_membership(bytes: &[u8]) -> Read<Membership> {
    let mut fields = Fields::of(bytes)?;
    let membership = membership(&mut fields)?;
    fields.end()?;
    Ok(membership)
}

/// Writes an invite. Its code is in its key.
pub fn write_invite(out: &mut Vec<u8>, invite: &Invite) {
    start(out);
    put_id(out, invite.chat.0);
    put_id(out, invite.created_by.0);
    put_number(out, invite.created_at_ms);
    put_number(out, invite.expires_at_ms);
    put_varint(out, u64::from(invite.uses_max));
    put_varint(out, u64::from(invite.uses));
    put_role(out, invite.role);
}

pub fn read_invite(bytes: &[u8], code: &str) -> Read<Invite> {
    let mut fields = Fields::of(bytes)?;
    let invite = Invite {
        code: code.to_owned(),
        chat: ChatId(fields.id()?),
        created_by: fields.user()?,
        created_at_ms: fields.number()?,
        expires_at_ms: fields.number()?,
        uses_max: fields.count()?,
        uses: fields.count()?,
        role: role(&mut fields)?,
    };
    fields.end()?;
    Ok(invite)
}

/// Writes a message to be sent later. Its id is in its key.
pub fn write_scheduled(out: &mut Vec<u8>, scheduled: &Scheduled) {
    start(out);
    put_scheduled(out, scheduled);
}

pub fn read_scheduled(bytes: &[u8], id: ScheduledId) -> Read<Scheduled> {
    let mut fields = Fields::of(bytes)?;
    let scheduled = scheduled(&mut fields, id)?;
    fields.end()?;
    Ok(scheduled)
}

pub(super) fn put_membership(out: &mut Vec<u8>, membership: &Membership) {
    put_role(out, membership.role);
    put_number(out, membership.joined_at_ms);
    put_number(out, membership.delivered);
    put_number(out, membership.seen);
    put_number(out, membership.shown_seen);
    put_number(out, membership.mentioned_max);
    put_varint(out, u64::from(membership.hidden));
    put_settings(out, &membership.settings);
    put_draft(out, membership.draft.as_deref());
}

pub(super) fn membership(fields: &mut Fields<'_>) -> Read<Membership> {
    Ok(Membership {
        role: role(fields)?,
        joined_at_ms: fields.number()?,
        delivered: fields.number()?,
        seen: fields.number()?,
        shown_seen: fields.number()?,
        mentioned_max: fields.number()?,
        hidden: fields.count()?,
        settings: settings(fields)?,
        draft: draft(fields)?,
    })
}

pub(super) fn put_settings(out: &mut Vec<u8>, settings: &Settings) {
    put_number(out, settings.muted_until_ms);
    out.push(match settings.notify {
        Notify::Default => 0,
        Notify::All => 1,
        Notify::Mentions => 2,
        Notify::None => 3,
    });
    out.push(u8::from(settings.archived));
    out.push(u8::from(settings.favorite));
    out.push(u8::from(settings.marked_unread));
}

pub(super) fn settings(fields: &mut Fields<'_>) -> Read<Settings> {
    Ok(Settings {
        muted_until_ms: fields.number()?,
        notify: match fields.byte()? {
            0 => Notify::Default,
            1 => Notify::All,
            2 => Notify::Mentions,
            3 => Notify::None,
            _ => return Err(Corrupt("an unknown choice of notifications")),
        },
        archived: fields.flag()?,
        favorite: fields.flag()?,
        marked_unread: fields.flag()?,
    })
}

pub(super) fn put_draft(out: &mut Vec<u8>, draft: Option<&Draft>) {
    out.push(u8::from(draft.is_some()));
    if let Some(draft) = draft {
        put_text(out, &draft.text);
        put_option(out, draft.reply_to);
        put_number(out, draft.at_ms);
    }
}

pub(super) fn draft(fields: &mut Fields<'_>) -> Read<Option<Arc<Draft>>> {
    if !fields.flag()? {
        return Ok(None);
    }
    Ok(Some(Arc::new(Draft {
        text: fields.text()?,
        reply_to: fields.option()?,
        at_ms: fields.number()?,
    })))
}

pub(super) fn put_scheduled(out: &mut Vec<u8>, scheduled: &Scheduled) {
    put_id(out, scheduled.user.0);
    put_id(out, scheduled.chat.0);
    put_number(out, scheduled.send_at_ms);
    put_key(out, &scheduled.key);
    put_text(out, &scheduled.text);
    put_option(out, scheduled.reply_to);
    put_option(out, scheduled.thread);
    put_mentions(out, &scheduled.mentions);
}

pub(super) fn scheduled(fields: &mut Fields<'_>, id: ScheduledId) -> Read<Scheduled> {
    Ok(Scheduled {
        id,
        user: fields.user()?,
        chat: ChatId(fields.id()?),
        send_at_ms: fields.number()?,
        key: key(fields)?,
        text: fields.text()?,
        reply_to: fields.option()?,
        thread: fields.option()?,
        mentions: mentions(fields)?,
    })
}
