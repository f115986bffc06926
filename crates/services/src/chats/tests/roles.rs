//! The table of rights, as docs/guides/roles.md shows it.

use std::fs;
use std::path::Path;

use super::bench::*;
use crate::chats::roles::TABLE;

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/guides/roles.md");
const BEGIN: &str = "<!-- begin: written by `make docs` -->\n";
const END: &str = "<!-- end -->\n";

#[test]
fn the_guide_shows_the_table_of_roles_as_it_is() {
    let page = fs::read_to_string(Path::new(PAGE)).unwrap();
    let (before, rest) = page
        .split_once(BEGIN)
        .expect("a mark where the table begins");
    let (_, after) = rest.split_once(END).expect("a mark where the table ends");
    let wanted = format!("{before}{BEGIN}{}{END}{after}", table());
    if std::env::var_os("TERTULIA_REFRESH").is_some() {
        fs::write(Path::new(PAGE), &wanted).unwrap();
        return;
    }
    assert!(
        page == wanted,
        "docs/guides/roles.md is stale: `make docs` writes it anew"
    );
}

fn table() -> String {
    let mut table = "| Right | in a group | in a channel | in a direct chat |\n\
                     |---|---|---|---|\n"
        .to_owned();
    for (right, in_group, in_channel, in_direct) in TABLE {
        let in_direct = if *in_direct { "both" } else { "nobody" };
        let (words, group, channel) = (words(*right), role(*in_group), role(*in_channel));
        table += &format!("| {words} | {group} | {channel} | {in_direct} |\n");
    }
    table
}

fn role(lowest: Role) -> &'static str {
    match lowest {
        Role::Reader => "readers",
        Role::Member => "members",
        Role::Admin => "admins",
        Role::Owner => "the owner",
    }
}

fn words(right: Right) -> &'static str {
    match right {
        Right::Read => "read, choose what the chat is to oneself, leave",
        Right::React => "react to messages",
        Right::Send => "send messages, edit one's own",
        Right::Pin => "pin and unpin messages",
        Right::ChangeChat => "change title, topic, avatar, and how long messages stay",
        Right::MentionAll => "mention everybody or all of a role",
        Right::DeleteOthers => "delete messages of others",
        Right::AddMembers => "bring people in",
        Right::Invite => "make, list and end invites",
        Right::RemoveMembers => "remove and ban people, lift bans",
        Right::ChangeRoles => "give roles",
    }
}
