//! A long random history, done to a store and to memory step by step: every answer, every fact and every read
//! must agree, and what is counted must be what a recount finds.

use std::collections::BTreeMap;
use std::sync::Arc;

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use tertulia_kit::clock::{Clock as _, ManualClock};

use super::Place;
use super::bench::*;
use super::recount::recount;
use crate::chats::command::*;
use crate::chats::memory::Memory;
use crate::chats::model::*;
use crate::chats::ports::*;
use crate::ids::{ChatId, MessageId, ScheduledId, UserId};

/// How many commands a history has.
const STEPS: i64 = 1_500;
/// How many it has at most, to have every kind of act in it.
const STEPS_MAX: i64 = 6_000;
/// How many people take part, by their ids from 1.
const USERS: i64 = 7;
/// How many chats are made at most.
const CHATS_MAX: usize = 8;
/// After how many commands everything is read and compared.
const COMPARED_EVERY: i64 = 50;
/// How many kinds of acts there are.
const KINDS_OF_ACTS: usize = 26;
const EMOJIS: [&str; 4] = ["👍", "❤️", "🎉", "👩🏽‍🚀"];

pub async fn a_random_history_agrees_with_memory(place: &dyn Place) {
    let seed = seed();
    let mut both = Both::at(place).await;
    let mut author = Author::new(seed);
    for step in 1..=STEPS_MAX {
        if step > STEPS && author.accepted.len() == KINDS_OF_ACTS {
            break;
        }
        let command = author.next(step, &both.memory, &both.bench.clock).await;
        let act = name(&command.act);
        if both.write(step, command).await {
            *author.accepted.entry(act).or_default() += 1;
        }
        if author.one_in(40) {
            both.marks.push(both.positions().await);
        }
        if author.one_in(30) {
            both.bench
                .clock
                .advance_ms(author.random.random_range(0..DAY_MS / 4));
        }
        if author.one_in(100) {
            both.bench.reopen().await;
        }
        if author.one_in(5) {
            both.compare_some(&mut author).await;
        }
        if step % COMPARED_EVERY == 0 {
            both.compare_all(&author).await;
        }
    }
    both.bench.reopen().await;
    both.compare_all(&author).await;
    author.check_that_enough_happened();
}

/// A store and memory, to which the same is done.
struct Both<'a> {
    bench: Bench<'a>,
    memory: Arc<Memory>,
    heard: Arc<Listener>,
    /// How many facts were compared.
    compared: usize,
    /// Positions of the store and of memory, taken at the same time.
    marks: Vec<(Position, Position)>,
}

impl<'a> Both<'a> {
    async fn at(place: &'a dyn Place) -> Both<'a> {
        let bench = Bench::at(place).await;
        let heard = Arc::new(Listener::default());
        let memory = Memory::new(Epoch(0), heard.clone(), bench.clock.clone());
        let mut both = Both {
            bench,
            memory,
            heard,
            compared: 0,
            marks: Vec::new(),
        };
        both.marks.push(both.positions().await);
        both
    }

    async fn positions(&self) -> (Position, Position) {
        let memory = self.memory.position().await.unwrap();
        (self.bench.position().await, memory)
    }

    /// Does something to both, and says whether it was accepted.
    async fn write(&mut self, step: i64, command: Command) -> bool {
        let told = format!("step {step}: {command:?}");
        let one = self.bench.store().write(command.clone()).await;
        let two = self.memory.write(command).await;
        match (one, two) {
            (Ok(one), Ok(two)) => {
                assert_eq!(one, two, "{told}");
                true
            }
            (Err(one), Err(two)) => {
                assert_eq!(one.reason(), two.reason(), "{told}");
                false
            }
            (one, two) => panic!("{one:?} and in memory {two:?} at {told}"),
        }
    }

    /// Reads that may be of any part.
    async fn compare_some(&self, author: &mut Author) {
        let (store, memory) = (self.bench.store(), &self.memory);
        let (chat, other, user) = (author.chat(), author.chat(), author.user());
        let after = author.seq(memory, chat).await - 1;
        let to = author.seq(memory, chat).await;
        let limit = author.random.random_range(1..40);
        macro_rules! agree {
            ($($read:tt)*) => {
                assert_eq!(store.$($read)*.await.unwrap(), memory.$($read)*.await.unwrap())
            };
        }
        agree!(events_after(chat, after, limit));
        agree!(events_before(chat, after, limit));
        agree!(events_at(chat, &[after, to, 1, -1]));
        agree!(changes(chat, after.max(1)..=to, to / 2, limit));
        agree!(thread(chat, to, after, limit));
        agree!(mine(user, chat, &(after..after + 50).collect::<Vec<_>>()));
        agree!(reactions(chat, to, limit));
        agree!(members(chat, user, 3));
        agree!(banned(chat, user, 3));
        agree!(user_events_after(user, after, limit));
        agree!(standings(user, &[chat, other]));
        agree!(audience(chat));
        self.compare_moved(author, user, limit).await;
    }

    async fn compare_moved(&self, author: &mut Author, user: UserId, limit: usize) {
        let (store, memory) = (self.bench.store(), &self.memory);
        let (here, there) = self.marks[author.random.random_range(0..self.marks.len())];
        let one = store.moved_since(user, here).await.unwrap().unwrap();
        let two = memory.moved_since(user, there).await.unwrap().unwrap();
        let chats = by_id(one.chats);
        assert_eq!(chats, by_id(two.chats));
        assert_eq!(sorted(one.receipts), sorted(two.receipts));
        assert_eq!(one.own_head, two.own_head);
        assert_eq!(one.position, store.position().await.unwrap());
        for limit in [limit, usize::MAX] {
            let one = store.events_since(&chats, here, limit).await.unwrap();
            let two = memory.events_since(&chats, there, limit).await.unwrap();
            assert_eq!(one, two);
        }
    }

    /// All facts, and all that there is to read.
    async fn compare_all(&mut self, author: &Author) {
        let count = self.heard.count();
        let (one, two) = (
            self.bench.listener.wait_for(count).await,
            self.heard.wait_for(count).await,
        );
        assert_eq!(one.len(), two.len(), "more facts than in memory");
        assert_eq!(one[self.compared..], two[self.compared..]);
        self.compared = count;
        for chat in &author.chats {
            self.compare_chat(*chat).await;
        }
        for user in author.users() {
            self.compare_user(user, &author.chats).await;
        }
        let (store, memory) = (self.bench.store(), &self.memory);
        let now_ms = self.bench.clock.now_ms();
        for ahead_ms in [0, DAY_MS, 400 * DAY_MS] {
            let one = store.due(now_ms + ahead_ms, usize::MAX).await.unwrap();
            let two = memory.due(now_ms + ahead_ms, usize::MAX).await.unwrap();
            assert_eq!(sorted(one.expired), sorted(two.expired));
            assert_eq!(sorted(one.scheduled), sorted(two.scheduled));
        }
        for (.., code) in &author.codes {
            assert_eq!(
                store.invite(code).await.unwrap(),
                memory.invite(code).await.unwrap()
            );
        }
    }

    async fn compare_chat(&self, chat: ChatId) {
        let (store, memory) = (&**self.bench.store(), &*self.memory);
        assert_eq!(
            store.chat(chat).await.unwrap(),
            memory.chat(chat).await.unwrap()
        );
        if memory.chat(chat).await.unwrap().is_none() {
            return;
        }
        assert_eq!(whole_log(store, chat).await, whole_log(memory, chat).await);
        let by_code = |mut invites: Vec<Invite>| {
            invites.sort_by(|a, b| a.code.cmp(&b.code));
            invites
        };
        let one = by_code(store.invites(chat).await.unwrap());
        assert_eq!(one, by_code(memory.invites(chat).await.unwrap()));
        recount(store, chat).await;
    }

    async fn compare_user(&self, user: UserId, chats: &[ChatId]) {
        let (store, memory) = (self.bench.store(), &self.memory);
        let places = ListPlace::BOTTOM..ListPlace::TOP;
        let one = store.chats_of(user, places.clone(), usize::MAX).await;
        let two = memory.chats_of(user, places, usize::MAX).await;
        assert_eq!(one.unwrap(), two.unwrap());
        let one = store.user_events_after(user, 0, usize::MAX).await.unwrap();
        let two = memory.user_events_after(user, 0, usize::MAX).await.unwrap();
        assert_eq!(one, two);
        let one = store.standings(user, chats).await.unwrap();
        assert_eq!(one, memory.standings(user, chats).await.unwrap());
        for chat in chats {
            let one = store.role(*chat, user).await.unwrap();
            assert_eq!(one, memory.role(*chat, user).await.unwrap());
            let all: Vec<Seq> = (1..=STEPS_MAX).collect();
            let one = store.mine(user, *chat, &all).await.unwrap();
            assert_eq!(one, memory.mine(user, *chat, &all).await.unwrap());
        }
        let by_id = |mut scheduled: Vec<Scheduled>| {
            scheduled.sort_by_key(|scheduled| scheduled.id);
            scheduled
        };
        let one = by_id(store.scheduled(user).await.unwrap());
        assert_eq!(one, by_id(memory.scheduled(user).await.unwrap()));
    }
}

fn sorted<T: Ord>(mut all: Vec<T>) -> Vec<T> {
    all.sort_unstable();
    all
}

/// Makes up what happens.
struct Author {
    random: StdRng,
    chats: Vec<ChatId>,
    /// With where and by whom they were made.
    codes: Vec<(ChatId, UserId, String)>,
    scheduled: Vec<(UserId, ScheduledId)>,
    /// What has a key, to be done again.
    keyed: Vec<Command>,
    /// How often each kind of act was accepted.
    accepted: BTreeMap<&'static str, u32>,
}

impl Author {
    fn new(seed: u64) -> Author {
        Author {
            random: StdRng::seed_from_u64(seed),
            chats: vec![ChatId(-1)],
            codes: Vec::new(),
            scheduled: Vec::new(),
            keyed: Vec::new(),
            accepted: BTreeMap::new(),
        }
    }

    fn one_in(&mut self, n: u32) -> bool {
        self.random.random_ratio(1, n)
    }

    fn users(&self) -> impl Iterator<Item = UserId> + use<> {
        (1..=USERS).map(UserId)
    }

    fn user(&mut self) -> UserId {
        UserId(self.random.random_range(1..=USERS))
    }

    fn some_users(&mut self) -> Vec<UserId> {
        let users = self.users();
        users.filter(|_| self.random.random_ratio(1, 3)).collect()
    }

    fn chat(&mut self) -> ChatId {
        self.chats[self.random.random_range(0..self.chats.len())]
    }

    /// Some event of a chat, most often one of the newest messages, sometimes one that is not there.
    async fn seq(&mut self, memory: &Memory, chat: ChatId) -> Seq {
        let page = memory.events_before(chat, 0, 40).await.unwrap();
        let mut seqs = page.events.iter().filter(|event| {
            let message = event.message();
            message.is_some_and(|message| message.deletion.is_none() || self.one_in(4))
        });
        let newest: Vec<Seq> = seqs.by_ref().map(|event| event.seq).collect();
        match newest.len() {
            0 => self.random.random_range(0..=page.head + 1),
            _ if self.one_in(4) => self.random.random_range(0..=page.head + 1),
            count => newest[self.random.random_range(0..count)],
        }
    }

    /// Most often somebody who is in a chat with this role or a higher one.
    async fn member(&mut self, memory: &Memory, chat: ChatId, role: Role) -> UserId {
        let all = memory.members(chat, UserId(0), usize::MAX).await.unwrap();
        let able: Vec<UserId> = all
            .into_iter()
            .filter(|(_, membership)| membership.role >= role)
            .map(|(user, _)| user)
            .collect();
        match able.len() {
            0 => self.user(),
            _ if self.one_in(6) => self.user(),
            count => able[self.random.random_range(0..count)],
        }
    }

    async fn some_seqs(&mut self, memory: &Memory, chat: ChatId) -> Vec<Seq> {
        let mut seqs = Vec::new();
        for _ in 0..self.random.random_range(1..4) {
            seqs.push(self.seq(memory, chat).await);
        }
        seqs.sort_unstable();
        seqs.dedup();
        seqs
    }

    fn text(&mut self, step: i64) -> String {
        let more = "ñ🫖".repeat(self.random.random_range(0..20));
        format!("{step} {more}")
    }

    fn emoji(&mut self) -> &'static str {
        EMOJIS[self.random.random_range(0..EMOJIS.len())]
    }

    fn role(&mut self) -> Role {
        let all = [Role::Reader, Role::Member, Role::Admin, Role::Owner];
        all[self.random.random_range(0..all.len())]
    }

    fn mentions(&mut self) -> Mentions {
        match self.random.random_range(0..6) {
            0 => mentions(&self.some_users()),
            1 => Mentions {
                everyone: self.one_in(2),
                role: Some(self.role()),
                users: self.some_users(),
            },
            _ => Mentions::default(),
        }
    }

    fn limits(&mut self) -> Limits {
        Limits {
            group_members_max: 5,
            channel_members_max: 5,
            receipts_members_max: self.random.random_range(2..6),
            ..Limits::default()
        }
    }

    async fn next(&mut self, step: i64, memory: &Memory, clock: &ManualClock) -> Command {
        let mut actor = UserId::SERVER;
        let act = self.act(step, &mut actor, memory, clock.now_ms()).await;
        let command = Command {
            actor,
            at_ms: clock.now_ms(),
            act,
            limits: self.limits(),
        };
        // The promise about a key begins with its first use.
        let key = key_of(&command.act);
        let is_again = self.keyed.iter().any(|there| key_of(&there.act) == key);
        if key.is_some() && !is_again {
            self.keyed.push(command.clone());
        }
        command
    }

    async fn act(&mut self, step: i64, actor: &mut UserId, memory: &Memory, now_ms: i64) -> Act {
        let chat = self.chat();
        let kind = self.random.random_range(0..100);
        let role = match kind {
            // What only those may do who keep order.
            63..66 | 75..91 if !self.one_in(4) => Role::Admin,
            _ => Role::Member,
        };
        *actor = self.member(memory, chat, role).await;
        match kind {
            0..8 if self.chats.len() < CHATS_MAX => self.new_chat(step, *actor),
            0..30 => {
                let root = self.seq(memory, chat).await;
                let reply = self.seq(memory, chat).await;
                Act::Send(NewMessage {
                    text: self.text(step),
                    thread: self.one_in(4).then_some(root),
                    reply_to: self.one_in(4).then_some(reply),
                    mentions: self.mentions(),
                    ..message(chat, *actor, step)
                })
            }
            30..33 => Act::Forward {
                chat,
                key: key(&device(*actor), step),
                copies: self.copies(step),
            },
            33..38 => match self.again(actor, step, now_ms) {
                Some(act) => act,
                None => Act::Leave { chat },
            },
            38..45 => Act::Edit {
                chat,
                message: self.own(memory, chat, actor).await,
                text: self.text(step),
                mentions: self.mentions(),
            },
            45..50 => Act::Delete {
                chat,
                messages: match self.one_in(2) {
                    true => vec![self.own(memory, chat, actor).await],
                    false => self.some_seqs(memory, chat).await,
                },
            },
            50..53 => Act::Hide {
                chat,
                messages: self.some_seqs(memory, chat).await,
            },
            53..61 => {
                let message = self.seq(memory, chat).await;
                react(chat, message, self.emoji(), !self.one_in(3))
            }
            61..66 => Act::Pin {
                chat,
                message: self.seq(memory, chat).await,
                on: !self.one_in(3),
            },
            66..72 => {
                let (delivered, seen) =
                    (self.seq(memory, chat).await, self.seq(memory, chat).await);
                mark(
                    chat,
                    delivered,
                    (!self.one_in(3)).then_some(seen),
                    !self.one_in(4),
                )
            }
            72..75 => self.choice(step, memory, chat, now_ms).await,
            75..85 => self.membership(chat, actor),
            85..89 => self.way_in(step, chat, actor, now_ms),
            89..91 => self.change(chat, step),
            91..95 => self.schedule(step, chat, actor, now_ms),
            _ => self.by_itself(step, memory, actor, now_ms).await,
        }
    }

    /// Chats of each kind in turn.
    fn new_chat(&mut self, step: i64, actor: UserId) -> Act {
        self.chats.push(ChatId(step));
        let kind = match self.chats.len() % 3 {
            0 => {
                let other = UserId(actor.0 % USERS + 1);
                return open_direct(actor, other, step);
            }
            1 => ChatKind::Channel,
            _ => ChatKind::Group,
        };
        Act::Create(new_chat(step, kind, actor, &self.some_users()))
    }

    fn copies(&mut self, step: i64) -> Vec<ForwardedCopy> {
        let count = self.random.random_range(1..4);
        let copies = (0..count).map(|n| ForwardedCopy {
            id: MessageId(-step * 10 - n),
            text: format!("copy {n} of {step}"),
            from: Forward {
                user: UserId(1 + n),
                at_ms: step,
            },
        });
        copies.collect()
    }

    /// A message of somebody, who acts.
    async fn own(&mut self, memory: &Memory, chat: ChatId, actor: &mut UserId) -> Seq {
        let seq = self.seq(memory, chat).await;
        let page = memory.events_at(chat, &[seq]).await.unwrap();
        if let Some(event) = page.events.first()
            && event.actor != UserId::SERVER
            && !self.one_in(8)
        {
            *actor = event.actor;
        }
        seq
    }

    /// Something with a key again, or almost again. Keys beyond the promise are left alone.
    fn again(&mut self, actor: &mut UserId, step: i64, now_ms: i64) -> Option<Act> {
        self.keyed
            .retain(|command| now_ms - command.at_ms < SEND_KEYS_KEPT_MS);
        if self.keyed.is_empty() {
            return None;
        }
        let which = self.random.random_range(0..self.keyed.len());
        let mut command = self.keyed[which].clone();
        *actor = command.actor;
        let is_other = self.one_in(3);
        match &mut command.act {
            Act::Send(new) => {
                new.id = MessageId(-step);
                if is_other {
                    new.text.push('!');
                }
            }
            Act::Forward { copies, .. } if is_other => _ = copies.pop(),
            Act::Create(new) => new.id = ChatId(-step),
            _ => {}
        }
        if let Act::Forward { chat, key, copies } = &command.act
            && self.one_in(2)
        {
            command.act = Act::ForwardAgain {
                chat: *chat,
                key: key.clone(),
                count: copies.len(),
            };
        }
        let is_empty = matches!(&command.act, Act::Forward { copies, .. } if copies.is_empty());
        (!is_empty).then_some(command.act)
    }

    async fn choice(&mut self, step: i64, memory: &Memory, chat: ChatId, now_ms: i64) -> Act {
        if self.one_in(2) {
            let settings = Settings {
                muted_until_ms: self.random.random_range(-1..2),
                archived: self.one_in(2),
                favorite: self.one_in(2),
                marked_unread: self.one_in(2),
                notify: Notify::Mentions,
            };
            return Act::Choose { chat, settings };
        }
        let reply = self.seq(memory, chat).await;
        let draft = Arc::new(Draft {
            text: self.text(step),
            reply_to: self.one_in(2).then_some(reply),
            at_ms: now_ms,
        });
        let draft = (!self.one_in(3)).then_some(draft);
        Act::Draft { chat, draft }
    }

    fn membership(&mut self, chat: ChatId, actor: &mut UserId) -> Act {
        let user = self.user();
        match self.random.random_range(0..10) {
            0..4 => Act::Add {
                chat,
                users: self.some_users(),
                role: self.one_in(4).then(|| self.role()),
            },
            4 => {
                *actor = user;
                Act::Leave { chat }
            }
            5..7 => Act::Remove {
                chat,
                user,
                ban: self.one_in(2),
            },
            7 => Act::Unban { chat, user },
            _ => Act::SetRole {
                chat,
                user,
                role: self.role(),
            },
        }
    }

    fn way_in(&mut self, step: i64, chat: ChatId, actor: &mut UserId, now_ms: i64) -> Act {
        let known = match self.codes.len() {
            0 => None,
            count => {
                Some(self.codes[count - 1 - self.random.random_range(0..count.min(4))].clone())
            }
        };
        match (self.random.random_range(0..6), known) {
            (0, Some((chat, maker, code))) => {
                *actor = maker;
                Act::RevokeInvite { chat, code }
            }
            (1..4, Some((.., code))) => {
                *actor = self.user();
                Act::Join { code }
            }
            _ => {
                let code = format!("code-{step}");
                self.codes.push((chat, *actor, code.clone()));
                let in_time = self.one_in(2);
                Act::MakeInvite {
                    invite: Invite {
                        code,
                        chat,
                        created_by: *actor,
                        created_at_ms: now_ms,
                        expires_at_ms: if in_time { now_ms + HOUR_MS } else { 0 },
                        uses_max: self.random.random_range(0..3),
                        uses: 0,
                        role: Role::Reader,
                    },
                    role_chosen: self.one_in(2),
                    key: key(&device(*actor), step),
                }
            }
        }
    }

    fn change(&mut self, chat: ChatId, step: i64) -> Act {
        let (a, b, c) = (self.one_in(2), self.one_in(2), self.one_in(2));
        let ttl_s = [0, 60, 3_600, 86_400][self.random.random_range(0..4)];
        Act::Change {
            chat,
            title: a.then(|| format!("title {step}")),
            topic: b.then(|| format!("topic {}", step % 3)),
            avatar: c.then(|| self.emoji().into()),
            message_ttl_s: (!a).then_some(ttl_s),
        }
    }

    fn schedule(&mut self, step: i64, chat: ChatId, actor: &mut UserId, now_ms: i64) -> Act {
        if self.one_in(3) && !self.scheduled.is_empty() {
            let newest = self.scheduled.len().min(4);
            let which = self.scheduled.len() - 1 - self.random.random_range(0..newest);
            let (user, scheduled) = self.scheduled[which];
            *actor = user;
            return Act::CallOff { scheduled };
        }
        let actor = *actor;
        self.scheduled.push((actor, ScheduledId(step)));
        Act::Schedule(Scheduled {
            id: ScheduledId(step),
            user: actor,
            chat,
            send_at_ms: now_ms + self.random.random_range(1..DAY_MS),
            key: key(&device(actor), step),
            text: self.text(step),
            reply_to: None,
            thread: None,
            mentions: self.mentions(),
        })
    }

    /// What the server does when a time has come; now and then too early.
    async fn by_itself(
        &mut self,
        step: i64,
        memory: &Memory,
        actor: &mut UserId,
        now_ms: i64,
    ) -> Act {
        *actor = UserId::SERVER;
        let due = memory.due(now_ms, 3).await.unwrap();
        if let Some(scheduled) = due.scheduled.first() {
            return Act::SendScheduled {
                scheduled: *scheduled,
                id: MessageId(-step),
            };
        }
        let chat = match due.expired.first() {
            Some((chat, _)) => *chat,
            None => self.chat(),
        };
        let of_chat = due.expired.iter().filter(|(at, _)| *at == chat);
        let mut messages: Vec<Seq> = of_chat.map(|(_, seq)| *seq).collect();
        messages.extend(self.some_seqs(memory, chat).await);
        messages.sort_unstable();
        messages.dedup();
        Act::Expire { chat, messages }
    }

    /// A history in which a kind of act is missing proves nothing about it.
    fn check_that_enough_happened(&self) {
        let accepted = &self.accepted;
        println!("accepted: {accepted:?}");
        assert_eq!(accepted.len(), KINDS_OF_ACTS, "{accepted:?}");
    }
}

fn name(act: &Act) -> &'static str {
    match act {
        Act::OpenDirect { .. } => "open_direct",
        Act::Create(_) => "create",
        Act::Send(_) => "send",
        Act::SendScheduled { .. } => "send_scheduled",
        Act::Forward { .. } => "forward",
        Act::ForwardAgain { .. } => "forward_again",
        Act::Edit { .. } => "edit",
        Act::Delete { .. } => "delete",
        Act::Expire { .. } => "expire",
        Act::Hide { .. } => "hide",
        Act::React { .. } => "react",
        Act::Pin { .. } => "pin",
        Act::Change { .. } => "change",
        Act::Add { .. } => "add",
        Act::Join { .. } => "join",
        Act::Leave { .. } => "leave",
        Act::Remove { .. } => "remove",
        Act::Unban { .. } => "unban",
        Act::SetRole { .. } => "set_role",
        Act::MakeInvite { .. } => "make_invite",
        Act::RevokeInvite { .. } => "revoke_invite",
        Act::Mark { .. } => "mark",
        Act::Choose { .. } => "choose",
        Act::Draft { .. } => "draft",
        Act::Schedule(_) => "schedule",
        Act::CallOff { .. } => "call_off",
    }
}

/// The key of what is known when it comes again.
fn key_of(act: &Act) -> Option<&SendKey> {
    match act {
        Act::Send(new) => Some(&new.key),
        Act::Forward { key, .. } | Act::MakeInvite { key, .. } => Some(key),
        Act::Create(new) => Some(&new.key),
        Act::Schedule(scheduled) => Some(&scheduled.key),
        _ => None,
    }
}
