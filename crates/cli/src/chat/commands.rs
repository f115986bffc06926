//! What can be typed, and what comes of it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tertulia_client::proto::chats::event::Body;
use tertulia_client::proto::chats::{Mentions, Role};
use tertulia_client::proto::users::User;
use tertulia_client::{ChatId, ChatUpdate, Entry, Error, Invitation, NewMessage, State};

use super::app::{App, Flow, OPENED_EVENTS};
use super::{sentences, words};
use crate::terminal::one_line;

pub const HELP: &str = "\
/with NAME         talk with somebody     /group TITLE NAME… make a group
/chats             list your chats        /open NUMBER       one of that list
/find TEXT         find people by name    /join CODE         use an invite
/back [COUNT]      show older messages    /pins              list what is pinned
/reply N TEXT      answer message N       /thread N TEXT     into its thread
/edit N TEXT       give it another text   /delete N…         for everybody
/hide N…           delete for you alone   /forward N NUMBER  copy it there
/react N EMOJI     react to it            /unreact N EMOJI   take that back
/pin N  /unpin N   pin it, unpin it       /later MIN TEXT    send it in so long
/scheduled         what is sent later     /cancel ID         call that off
/members           who is in this chat    /add NAME…         bring people in
/remove NAME       remove somebody        /ban NAME  /unban NAME
/role NAME ROLE    reader, member, admin or owner
/invite [HOURS]    make an invite         /title TEXT  /topic TEXT
/presence on|off   whether others see that you are here, and you them
/mute [HOURS]      be told nothing        /unmute            be told again
/leave             leave this chat        /verify            ask the server
/retry  /discard   what was refused       /me  /logout  /quit  /help
//TEXT             a message that begins with a slash
Everything else is a message; @NAME mentions a member, @all everybody.
… it waits to be sent   ✓ it is stored   ✓✓ it was seen";

/// How many older events /back shows when it is not said.
const BACK_EVENTS: usize = 20;
/// How many chats /chats lists.
const LISTED_MAX: usize = 50;
/// How many members /members lists.
const MEMBERS_MAX: u32 = 100;

impl App {
    /// Does what was typed. Failures are said, not returned: the person types on.
    pub async fn take(&mut self, line: &str) -> Flow {
        let line = line.trim_end();
        if line.is_empty() {
            return Flow::Stay;
        }
        if line.split_whitespace().next() == Some("/quit") {
            return Flow::Quit;
        }
        if let Err(error) = self.act(line).await {
            self.say(words(&error));
        }
        Flow::Stay
    }

    async fn act(&mut self, line: &str) -> Result<(), Error> {
        let (command, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let rest = rest.trim();
        match command {
            "/help" => HELP.lines().for_each(|line| self.say(line)),
            "/with" => self.with(rest).await?,
            "/group" => self.group(rest).await?,
            "/find" => self.find(rest).await?,
            "/chats" => self.chats().await?,
            "/open" => self.open_listed(rest).await?,
            "/join" => {
                let chat = self.client.join(rest).await?;
                self.show(chat.chat_id).await;
            }
            "/retry" | "/discard" => self.refused(command == "/retry")?,
            "/scheduled" => self.scheduled(),
            "/cancel" => match rest.parse() {
                Ok(id) => {
                    self.client.cancel_scheduled(id).await?;
                    self.say("called off");
                }
                Err(_) => self.say("which? /scheduled lists them"),
            },
            "/me" => {
                let me = self.client.me().await?;
                let (name, display_name) = (one_line(&me.name), one_line(&me.display_name));
                self.say(format!("you are {name} ({display_name})"));
            }
            "/presence" => self.share_presence(rest).await?,
            "/logout" => {
                self.client.sign_out().await?;
                self.open = None;
                self.say("signed out; /quit leaves");
            }
            text if !text.starts_with('/') || text.starts_with("//") => {
                if let Some(chat) = self.opened() {
                    let text = line.strip_prefix('/').unwrap_or(line);
                    self.write(chat, text.into()).await?;
                }
            }
            _ => {
                if let Some(chat) = self.opened() {
                    self.act_in(chat, command, rest).await?;
                }
            }
        }
        Ok(())
    }

    /// What needs a chat that is open.
    async fn act_in(&mut self, chat: ChatId, command: &str, rest: &str) -> Result<(), Error> {
        let (first, text) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
        let text = text.trim();
        let seq = first.parse::<i64>().ok().filter(|seq| *seq > 0);
        let client = self.client.clone();
        match (command, seq) {
            ("/back", _) => self.back = rest.parse().unwrap_or(BACK_EVENTS),
            ("/pins", _) => self.pins(chat),
            ("/members", _) => self.members(chat).await?,
            ("/add", _) => {
                let users = self.users(rest).await?;
                if !users.is_empty() {
                    client.add_members(chat, users, Role::default()).await?;
                }
            }
            ("/remove" | "/ban" | "/unban" | "/role", _) => {
                let Some(user) = self.user(first).await? else {
                    return Ok(());
                };
                match command {
                    "/remove" => client.remove_member(chat, user.user_id).await?,
                    "/ban" => client.ban(chat, user.user_id).await?,
                    "/unban" => client.unban(chat, user.user_id).await?,
                    _ => match role(text) {
                        Some(role) => client.set_role(chat, user.user_id, role).await?,
                        None => return self.ask("as what? reader, member, admin or owner"),
                    },
                };
            }
            ("/invite", _) => {
                let valid_s = rest.parse::<i64>().map_or(0, |hours| hours * 3_600);
                let invitation = Invitation {
                    valid_s,
                    ..Default::default()
                };
                let invite = client.create_invite(chat, invitation).await?;
                self.say(format!("/join {} brings people in", one_line(&invite.code)));
            }
            ("/title" | "/topic", _) => {
                let (title, topic) = match command {
                    "/title" => (Some(rest.to_owned()), None),
                    _ => (None, Some(rest.to_owned())),
                };
                let update = ChatUpdate {
                    title,
                    topic,
                    ..Default::default()
                };
                client.update_chat(chat, update).await?;
            }
            ("/mute", _) => {
                let hours = rest.parse::<i64>().ok();
                let until = hours.map_or(-1, |hours| now_ms() + hours * 3_600_000);
                client.mute(chat, until).await?;
                self.say("muted");
            }
            ("/unmute", _) => {
                client.mute(chat, 0).await?;
                self.say("no longer muted");
            }
            ("/leave", _) => {
                client.leave(chat).await?;
                self.open = None;
                self.say("you have left");
            }
            ("/verify", _) => {
                let verified = client.verify(chat).await?;
                let (compared, healed) = (verified.compared, verified.healed);
                self.say(match healed {
                    0 => format!("{compared} events are as the server has them"),
                    _ => format!("{healed} of {compared} events were read again"),
                });
            }
            ("/reply" | "/thread" | "/edit", Some(seq)) if !text.is_empty() => {
                let mut new = NewMessage::from(text);
                match command {
                    "/reply" => new.reply_to_seq = seq,
                    "/thread" => new.thread_seq = seq,
                    _ => {
                        let mentions = self.mentioned(chat, text).await?;
                        client.edit(chat, seq, text, mentions).await?;
                        return Ok(());
                    }
                }
                self.write(chat, new).await?;
            }
            ("/later", Some(minutes)) if !text.is_empty() => {
                let at = now_ms() + minutes * 60_000;
                let kept = client.schedule(chat, text.into(), at).await?;
                self.say(format!(
                    "{} will be sent in {minutes} minutes",
                    kept.scheduled_id
                ));
            }
            ("/react" | "/unreact", Some(seq)) if !text.is_empty() => {
                match command {
                    "/react" => client.react(chat, seq, text).await?,
                    _ => client.unreact(chat, seq, text).await?,
                };
            }
            ("/pin", Some(seq)) => _ = client.pin(chat, seq).await?,
            ("/unpin", Some(seq)) => _ = client.unpin(chat, seq).await?,
            ("/forward", Some(seq)) => match self.listed_chat(text) {
                Some(to) => _ = client.forward(chat, vec![seq], to).await?,
                None => return self.ask("where to? /chats lists the numbers"),
            },
            ("/delete" | "/hide", Some(_)) => {
                let seqs = rest.split_whitespace().map(str::parse);
                match (seqs.collect::<Result<Vec<i64>, _>>(), command) {
                    (Ok(seqs), "/delete") => _ = client.delete(chat, seqs).await?,
                    (Ok(seqs), _) => client.hide(chat, seqs).await?,
                    (Err(_), _) => return self.ask("which? messages have numbers"),
                }
            }
            (known, _) if HELP.split_whitespace().any(|word| word == known) => {
                self.say(format!("{known} needs more; /help says what"));
            }
            (other, _) => {
                let other = one_line(other);
                self.say(format!("there is no {other}; /help lists what there is"));
            }
        }
        Ok(())
    }

    fn ask(&mut self, question: &str) -> Result<(), Error> {
        self.say(question);
        Ok(())
    }

    fn opened(&mut self) -> Option<ChatId> {
        if self.open.is_none() {
            self.say("no chat is open; /with NAME opens one");
        }
        self.open
    }

    /// Puts a message into the outbox, with whom it mentions.
    async fn write(&mut self, chat: ChatId, mut new: NewMessage) -> Result<(), Error> {
        new.mentions = self.mentioned(chat, &new.text).await?;
        self.client.send_message(chat, new).await.map(drop)
    }

    /// Whom a text mentions: `@name`, as far as the name is known, and `@all`.
    async fn mentioned(&mut self, chat: ChatId, text: &str) -> Result<Option<Mentions>, Error> {
        let named = text
            .split_whitespace()
            .filter_map(|word| word.strip_prefix('@'));
        let named: Vec<String> = named
            .map(|name| {
                name.trim_end_matches(|c: char| !c.is_alphanumeric())
                    .to_lowercase()
            })
            .filter(|name| !name.is_empty())
            .collect();
        if named.is_empty() {
            return Ok(None);
        }
        self.learn_members(chat).await;
        let mut mentions = Mentions {
            everyone: named.iter().any(|name| name == "all"),
            ..Default::default()
        };
        for name in named {
            mentions.user_ids.extend(self.known_by_name(&name));
        }
        let is_empty = mentions.user_ids.is_empty() && !mentions.everyone;
        Ok((!is_empty).then_some(mentions))
    }

    // ---- people

    /// Somebody by the beginning of the name; says so when it is not clear who.
    async fn user(&mut self, name: &str) -> Result<Option<User>, Error> {
        if name.is_empty() {
            self.say("whom?");
            return Ok(None);
        }
        let found = self.client.search(name, 20).await?.users;
        let exact = found.iter().find(|user| user.name == name.to_lowercase());
        let user = match (exact, found.as_slice()) {
            (Some(user), _) => user.clone(),
            (None, [only]) => only.clone(),
            (None, []) => {
                self.say(format!("nobody is called {}", one_line(name)));
                return Ok(None);
            }
            (None, several) => {
                let names: Vec<String> = several.iter().map(|user| one_line(&user.name)).collect();
                self.say(format!("whom of {}?", names.join(", ")));
                return Ok(None);
            }
        };
        self.know(user.clone());
        Ok(Some(user))
    }

    /// Several; none at all when one of them is not clear.
    async fn users(&mut self, names: &str) -> Result<Vec<i64>, Error> {
        let mut users = Vec::new();
        for name in names.split_whitespace() {
            match self.user(name).await? {
                Some(user) => users.push(user.user_id),
                None => return Ok(Vec::new()),
            }
        }
        if users.is_empty() {
            self.say("whom?");
        }
        Ok(users)
    }

    async fn with(&mut self, name: &str) -> Result<(), Error> {
        if let Some(user) = self.user(name).await? {
            let chat = self.client.open_direct(user.user_id).await?;
            self.show(chat.chat_id).await;
        }
        Ok(())
    }

    async fn group(&mut self, rest: &str) -> Result<(), Error> {
        let (title, names) = match rest.strip_prefix('"').and_then(|r| r.split_once('"')) {
            Some(quoted) => quoted,
            None => rest.split_once(char::is_whitespace).unwrap_or((rest, "")),
        };
        if title.is_empty() {
            return self.ask("how is it called? /group \"TITLE\" NAME…");
        }
        let members = match names.trim() {
            "" => Vec::new(),
            names => {
                let users = self.users(names).await?;
                if users.is_empty() {
                    return Ok(());
                }
                users
            }
        };
        let chat = self.client.create_group(title, members).await?;
        self.show(chat.chat_id).await;
        Ok(())
    }

    async fn find(&mut self, text: &str) -> Result<(), Error> {
        if text.is_empty() {
            return self.ask("whom? /find TEXT");
        }
        let answer = self.client.search(text, 20).await?;
        if answer.users.is_empty() {
            self.say("nobody");
        }
        for user in answer.users {
            let (name, display_name) = (one_line(&user.name), one_line(&user.display_name));
            self.say(format!("{name}  {display_name}"));
            self.know(user);
        }
        if answer.more {
            self.say("and more");
        }
        Ok(())
    }

    async fn members(&mut self, chat: ChatId) -> Result<(), Error> {
        let page = self.client.members(chat, 0, MEMBERS_MAX).await?;
        self.learn(page.members.iter().map(|member| member.user_id))
            .await;
        for member in &page.members {
            let role = sentences::role(member.role.as_known().unwrap_or_default());
            let presence = self.presence_of(member.user_id);
            let presence = presence.map(|told| format!(", {told}")).unwrap_or_default();
            self.say(format!("{} is {role}{presence}", self.name(member.user_id)));
        }
        if page.more {
            self.say("and more");
        }
        Ok(())
    }

    // ---- chats

    async fn chats(&mut self) -> Result<(), Error> {
        // Without a connection, the chats that are known here.
        match self.client.list_chats(LISTED_MAX as u32, "").await {
            Err(Error::Unreachable(_) | Error::Offline(_) | Error::Timeout(_)) => {
                self.say("no connection; these are known here");
            }
            listed => _ = listed?,
        }
        self.learn_names().await;
        let views = self.client.chats();
        let views: Vec<_> = views.iter().filter(|view| view.left.is_none()).collect();
        // What is listed is no news.
        self.noticed(&views);
        let listed = views.iter().take(LISTED_MAX);
        self.listed = listed.map(|view| view.chat.chat_id).collect();
        if views.is_empty() {
            self.say("no chats yet; /with NAME opens one");
        }
        for (number, view) in views.iter().take(LISTED_MAX).enumerate() {
            let last = view.last_message.as_ref();
            let last = last.map(|event| self.event_line(event)).unwrap_or_default();
            let (title, unread) = (self.title(view.chat.chat_id), sentences::unread(view));
            self.say(format!("{}  {title}{unread}  {last}", number + 1));
        }
        Ok(())
    }

    fn listed_chat(&self, number: &str) -> Option<ChatId> {
        let at = number.parse::<usize>().ok()?.checked_sub(1)?;
        self.listed.get(at).copied()
    }

    async fn open_listed(&mut self, number: &str) -> Result<(), Error> {
        match self.listed_chat(number) {
            Some(chat) => self.show(chat).await,
            None => self.say("which? /chats lists them with their numbers"),
        }
        Ok(())
    }

    pub(super) async fn show(&mut self, chat: ChatId) {
        self.open = Some(chat);
        self.client.warm(vec![chat]).await;
        self.client.watch(vec![chat]).await;
        let view = self.client.chat(chat, OPENED_EVENTS);
        if view.is_some_and(|view| view.older && view.events.len() < OPENED_EVENTS) {
            // Offline, what is here is shown; /back tries again.
            if let Err(error) = self.client.older(chat, OPENED_EVENTS as u32).await {
                self.say(words(&error));
            }
        }
        self.learn_names().await;
        self.say(format!("talking with {}", self.title(chat)));
    }

    async fn share_presence(&mut self, choice: &str) -> Result<(), Error> {
        let share = match choice {
            "on" => true,
            "off" => false,
            _ => {
                let shares = self.client.shares_presence().await?;
                self.say(shared(shares));
                return Ok(());
            }
        };
        self.client.share_presence(share).await?;
        self.client.watch(self.open.into_iter().collect()).await;
        self.say(shared(share));
        Ok(())
    }

    fn pins(&mut self, chat: ChatId) {
        let pinned = self.client.chat(chat, 0).map(|view| view.chat.pinned_seqs);
        let pinned = pinned.unwrap_or_default();
        if pinned.is_empty() {
            self.say("nothing is pinned");
        }
        for seq in pinned {
            let line = match self.client.event(chat, seq) {
                Some(event) => self.event_line(&event),
                None => format!("{seq} (further back)"),
            };
            self.say(line);
        }
    }

    fn scheduled(&mut self) {
        let all = self.client.scheduled();
        if all.is_empty() {
            self.say("nothing is to be sent later");
        }
        for message in all {
            let minutes = (message.send_at_ms - now_ms()).max(0) / 60_000;
            let (id, text) = (message.scheduled_id, one_line(&message.text));
            let title = self.title(message.chat_id);
            self.say(format!("{id} to {title} in {minutes} minutes: {text}"));
        }
    }

    fn refused(&mut self, again: bool) -> Result<(), Error> {
        let mut failed: Vec<Entry> = self.client.outbox();
        failed.retain(|entry| matches!(entry.state, State::Failed(_)));
        if failed.is_empty() {
            self.say("nothing was refused");
        }
        for entry in failed {
            if again {
                self.client.retry(entry.chat, &entry.client_message_id)?;
            } else {
                self.client.discard(entry.chat, &entry.client_message_id)?;
            }
        }
        Ok(())
    }

    /// `seq name: text`, or `seq * sentence`.
    pub fn event_line(&self, event: &tertulia_client::proto::chats::Event) -> String {
        let name = |user| self.name(user);
        let seq = event.seq;
        match &event.body {
            Some(Body::Message(message)) => {
                let actor = self.name(event.actor_id);
                format!("{seq} {actor}: {}", sentences::message(message))
            }
            None => format!("{seq} * something that this version can not show"),
            Some(_) => {
                let said = sentences::sentence(event, &name);
                let said = said.or_else(|| sentences::change(event, &name));
                format!("{seq} * {}", said.unwrap_or_default())
            }
        }
    }
}

fn role(text: &str) -> Option<Role> {
    match text {
        "reader" => Some(Role::ROLE_READER),
        "member" => Some(Role::ROLE_MEMBER),
        "admin" => Some(Role::ROLE_ADMIN),
        "owner" => Some(Role::ROLE_OWNER),
        _ => None,
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "a terminal client stands alone, without the kit"
)]
pub(super) fn now_ms() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.unwrap_or(Duration::ZERO).as_millis() as i64
}

fn shared(shares: bool) -> &'static str {
    match shares {
        true => "others see whether you are here, and you see them",
        false => "nobody sees whether you are here, and you see nobody",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_help_fits_a_screen_and_names_every_command_once() {
        let lines: Vec<&str> = HELP.lines().collect();
        assert!(lines.len() <= 22, "{}", lines.len());
        assert!(
            lines
                .iter()
                .all(|line| crate::terminal::columns(line) <= 80)
        );
        let mut commands: Vec<&str> = HELP
            .split_whitespace()
            .filter(|word| word.starts_with('/') && !word.starts_with("//"))
            .collect();
        let all = commands.len();
        commands.sort_unstable();
        commands.dedup();
        assert_eq!(commands.len(), all);
    }

    #[test]
    fn roles_are_typed_as_they_are_called() {
        assert_eq!(role("admin"), Some(Role::ROLE_ADMIN));
        assert_eq!(role("king"), None);
    }
}
