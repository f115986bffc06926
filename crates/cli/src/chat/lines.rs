//! Talking by lines: what is typed comes line by line, and what is shown is printed once.
//!
//! ```text
//! 12 bo: hello       event 12 of the open chat
//! 13 * bo left       an event that is no message
//! … ana: hi          written here, not stored by the server yet
//! * online           about the client itself
//! ```

use std::collections::{HashMap, HashSet};
use std::io::Write;
use std::time::Duration;

use tertulia_client::proto::chats::Event;
use tertulia_client::{Change, ChatId, Client, State, UserId};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::app::{self, App, Flow, OPENED_EVENTS};
use super::sentences;
use crate::terminal::{one_line, stdin_lines};

/// How long the end of the input waits until what was typed is stored.
const END_TIMEOUT: Duration = Duration::from_secs(10);
/// How many older events are asked for at once.
const OLDER_MAX: usize = 200;
/// More than is ever kept.
const ALL: usize = usize::MAX;

/// Talks until `/quit` or the end of standard input.
pub async fn run(app: App) -> anyhow::Result<()> {
    talk(app, stdin_lines(), std::io::stdout()).await
}

/// Talks by the given lines.
pub async fn talk(
    app: App,
    mut typed: mpsc::Receiver<String>,
    out: impl Write,
) -> anyhow::Result<()> {
    let mut changes = app.client.changes();
    let mut printer = Printer {
        app,
        printed: HashMap::new(),
        waiting: HashSet::new(),
        seen: HashMap::new(),
        out,
    };
    printer.connection()?;
    loop {
        tokio::select! {
            line = typed.recv() => {
                let Some(line) = line else { break };
                if printer.app.take(&line).await == Flow::Quit {
                    return Ok(());
                }
                printer.flush().await?;
            }
            change = changes.recv() => match change {
                Ok(change) => printer.change(change).await?,
                // What was lost on the way is read from the client.
                Err(RecvError::Lagged(_)) => printer.flush().await?,
                Err(RecvError::Closed) => return Ok(()),
            },
        }
    }
    let settled = async {
        while !printer.app.client.is_settled() {
            match changes.recv().await {
                Ok(change) => printer.change(change).await?,
                Err(RecvError::Lagged(_)) => printer.flush().await?,
                Err(RecvError::Closed) => break,
            }
        }
        printer.flush().await
    };
    match timeout(END_TIMEOUT, settled).await {
        Ok(settled) => settled,
        Err(_) => printer.line("* not everything was sent; it will be the next time"),
    }
}

struct Printer<W> {
    app: App,
    /// The first and the last printed seq of each chat.
    printed: HashMap<ChatId, (i64, i64)>,
    /// The messages that were printed as waiting.
    waiting: HashSet<String>,
    /// Up to which message it was printed that somebody has seen it.
    seen: HashMap<UserId, i64>,
    out: W,
}

impl<W: Write> Printer<W> {
    fn line(&mut self, line: &str) -> anyhow::Result<()> {
        writeln!(self.out, "{line}")?;
        Ok(self.out.flush()?)
    }

    fn connection(&mut self) -> anyhow::Result<()> {
        let state = app::connection(&self.app.client.connection().borrow());
        self.line(&format!("* {state}"))
    }

    async fn change(&mut self, change: Change) -> anyhow::Result<()> {
        match &change {
            Change::Connection(state) => self.line(&format!("* {}", app::connection(state)))?,
            Change::Message {
                chat,
                client_message_id,
                state: State::Queued,
            } if self.app.open == Some(*chat) => {
                let view = self.app.client.chat(*chat, 0);
                let entry = view.and_then(|v| {
                    v.pending
                        .into_iter()
                        .find(|e| e.client_message_id == *client_message_id)
                });
                let waits = entry.filter(|e| matches!(e.state, State::Queued | State::Sending));
                // One that is tried again is not printed again.
                if let Some(entry) =
                    waits.filter(|e| self.waiting.insert(e.client_message_id.clone()))
                {
                    let line = format!(
                        "… {}: {}",
                        self.app.name(self.app.me),
                        one_line(&entry.text)
                    );
                    self.line(&line)?;
                }
            }
            Change::Message {
                client_message_id,
                state: State::Sent(_),
                ..
            } => _ = self.waiting.remove(client_message_id),
            Change::Typing { chat, user } if self.app.open == Some(*chat) => {
                self.app.learn([*user]).await;
                let line = format!("* {} is typing", self.app.name(*user));
                self.line(&line)?;
            }
            Change::Presence(user) => self.presence(*user)?,
            Change::Receipts(chat) if self.app.open == Some(*chat) => self.seen(*chat)?,
            // A log that begins anew is printed anew.
            Change::Reset => self.printed.clear(),
            _ => {}
        }
        self.app.notice(change).await;
        self.flush().await
    }

    /// Prints what was said, what is new in the open chat, and what was asked for of its past.
    async fn flush(&mut self) -> anyhow::Result<()> {
        for said in self.app.said() {
            self.line(&format!("* {said}"))?;
        }
        let back = std::mem::take(&mut self.app.back);
        let Some(chat) = self.app.open else {
            return Ok(());
        };
        if back > 0 {
            self.older(chat, back).await?;
        }
        let Some(view) = self.app.client.chat(chat, ALL) else {
            return Ok(());
        };
        let newest = view.events.len().saturating_sub(OPENED_EVENTS);
        let Some(start) = view.events.get(newest).map(|e| e.seq) else {
            return Ok(());
        };
        let (from, to) = self
            .printed
            .get(&chat)
            .copied()
            .unwrap_or((start, start - 1));
        let news: Vec<Event> = view.events.iter().filter(|e| e.seq > to).cloned().collect();
        self.app.learn(news.iter().flat_map(sentences::named)).await;
        self.print(news.iter())?;
        let last = view.events.last().map_or(to, |e| e.seq);
        self.printed.insert(chat, (from, last.max(to)));
        self.app.saw();
        Ok(())
    }

    /// Prints who has seen the newest message of this person, once.
    fn seen(&mut self, chat: ChatId) -> anyhow::Result<()> {
        let view = self.app.client.chat(chat, OPENED_EVENTS);
        let seen = view.and_then(|view| sentences::seen_by(&view, self.app.me));
        let Some((seq, users)) = seen else {
            return Ok(());
        };
        for user in users {
            if self.seen.insert(user, seq) != Some(seq) {
                let line = format!("* {} has seen {seq}", self.app.name(user));
                self.line(&line)?;
            }
        }
        Ok(())
    }

    /// Prints whether the other one of the open direct chat is there.
    fn presence(&mut self, told: Option<UserId>) -> anyhow::Result<()> {
        let other = self.app.open.and_then(|chat| self.app.other(chat));
        let concerned = other.filter(|other| told.is_none_or(|user| user == *other));
        if let Some(user) = concerned
            && let Some(presence) = self.app.presence_of(user)
        {
            let line = format!("* {} is {presence}", self.app.name(user));
            self.line(&line)?;
        }
        Ok(())
    }

    /// Prints `count` events before those that were printed, from here or from the server.
    async fn older(&mut self, chat: ChatId, count: usize) -> anyhow::Result<()> {
        let Some(&(from, to)) = self.printed.get(&chat) else {
            return Ok(());
        };
        let before = |client: &Client| -> Vec<Event> {
            let events = client
                .chat(chat, ALL)
                .map(|view| view.events)
                .unwrap_or_default();
            events.into_iter().filter(|e| e.seq < from).collect()
        };
        let mut older = before(&self.app.client);
        if older.len() < count {
            let wanted = (count - older.len()).min(OLDER_MAX) as u32;
            if let Err(error) = self.app.client.older(chat, wanted).await {
                self.line(&format!("* {}", super::words(&error)))?;
            }
            older = before(&self.app.client);
        }
        let older = &older[older.len().saturating_sub(count)..];
        match older.first() {
            None => self.line("* this is the beginning"),
            Some(first) => {
                self.printed.insert(chat, (first.seq, to));
                self.print(older.iter())
            }
        }
    }

    fn print<'a>(&mut self, events: impl Iterator<Item = &'a Event>) -> anyhow::Result<()> {
        for event in events {
            let line = self.app.event_line(event);
            self.line(&line)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::Arc;

    use tertulia_client::proto::chats::event::Body;
    use tertulia_client::proto::chats::list_events_request::From;
    use tertulia_client::proto::chats::{
        AddReactionRequest, AddReactionResponse, ChatReceipts, ListChatsRequest, ListChatsResponse,
        ListEventsRequest, ListEventsResponse, MessageEdited, Pin, Receipt,
    };
    use tertulia_client::proto::live::{ChatEvent, Reset, Typing};
    use tertulia_client::proto::users::{GetUsersRequest, GetUsersResponse, User};
    use tokio::sync::watch;

    use super::super::peer::{self, ME, PATIENCE, Peer};
    use super::*;

    /// What was printed, to be waited for.
    #[derive(Clone)]
    struct Paper(Arc<watch::Sender<String>>);

    impl Write for Paper {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let text = std::str::from_utf8(bytes).expect("lines are whole");
            self.0.send_modify(|all| all.push_str(text));
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Paper {
        async fn reads(&self, line: &str) {
            let mut read = self.0.subscribe();
            let wanted = read.wait_for(|all| all.lines().any(|l| l == line));
            let found = timeout(PATIENCE, wanted).await.is_ok();
            assert!(found, "never printed: {line}\n{}", *self.0.borrow());
        }
    }

    #[tokio::test]
    async fn a_script_talks_by_lines() {
        let mut peer = Peer::start().await;
        let client = peer.client(Arc::default()).await;
        let unread = Reset {
            chats: vec![peer::chat(3, 1)],
            ..peer::fresh(3)
        };
        let (mut session, _) = peer.welcome(b"one", unread).await;
        session.answers_reads = true;
        peer::online(&client).await;
        let paper = Paper(Arc::new(watch::Sender::new(String::new())));
        let (typing, typed) = mpsc::channel(8);
        let script = async {
            typing.send("hello?".into()).await.unwrap();
            paper.reads("* no chat is open; /with NAME opens one").await;

            typing.send("/chats".into()).await.unwrap();
            let (call, _) = session.call::<ListChatsRequest>("ListChats").await;
            session
                .reply(
                    call,
                    ListChatsResponse {
                        chats: vec![peer::chat(3, 1)],
                        ..Default::default()
                    },
                )
                .await;
            let (call, request) = session.call::<GetUsersRequest>("GetUsers").await;
            assert_eq!(request.user_ids, [ME, 9]);
            let user = |user_id, name: &str| User {
                user_id,
                name: name.into(),
                ..Default::default()
            };
            let users = vec![user(ME, "ana"), user(9, "bo")];
            session
                .reply(
                    call,
                    GetUsersResponse {
                        users,
                        ..Default::default()
                    },
                )
                .await;
            paper.reads("* 1  bo (2 unread)  3 bo: text 3").await;

            typing.send("/open 1".into()).await.unwrap();
            let (call, request) = session.call::<ListEventsRequest>("ListEvents").await;
            assert_eq!(request.from, Some(From::BeforeSeq(3)));
            let events = vec![peer::said(1), peer::said(2)];
            session
                .reply(
                    call,
                    ListEventsResponse {
                        events,
                        head: 3,
                        ..Default::default()
                    },
                )
                .await;
            paper.reads("1 bo: text 1").await;
            paper.reads("3 bo: text 3").await;

            typing.send("hi".into()).await.unwrap();
            let (call, request) = session.message().await;
            assert_eq!(request.text, "hi");
            paper.reads("… ana: hi").await;
            session.stored(call, 4).await;
            paper.reads("4 ana: hi").await;

            let mut evil = peer::said(5);
            if let Some(Body::Message(m)) = &mut evil.body {
                m.text = "\x1b]0;gotcha\x07\n6 ana: not me".into();
            }
            session
                .send(ChatEvent {
                    prev: 4,
                    event: evil.into(),
                    ..Default::default()
                })
                .await;
            paper.reads("5 bo: ]0;gotcha ⏎ 6 ana: not me").await;

            let edited = MessageEdited {
                message_seq: 3,
                text: "better".into(),
                ..Default::default()
            };
            session
                .send(peer::frame(peer::happened(6, 9, edited)))
                .await;
            paper.reads("6 * bo edited 3").await;
            let pinned = Body::Pinned(Box::new(Pin {
                message_seq: 3,
                ..Default::default()
            }));
            session
                .send(peer::frame(peer::happened(7, 9, pinned)))
                .await;
            paper.reads("7 * bo pinned 3").await;
            typing.send("/pins".into()).await.unwrap();
            paper.reads("* 3 bo: better (edited) 📌").await;

            session
                .send(Typing {
                    chat_id: 1,
                    user_id: 9,
                    ..Default::default()
                })
                .await;
            paper.reads("* bo is typing").await;
            let receipt = Receipt {
                user_id: 9,
                delivered_seq: 7,
                seen_seq: 7,
                ..Default::default()
            };
            session
                .send(ChatReceipts {
                    chat_id: 1,
                    receipts: vec![receipt],
                    ..Default::default()
                })
                .await;
            paper.reads("* bo has seen 4").await;

            typing.send("/reply 5 no, not you".into()).await.unwrap();
            let (call, request) = session.message().await;
            assert_eq!(request.reply_to_seq, 5);
            session.stored(call, 8).await;
            paper.reads("8 ana: ↩5 no, not you").await;
            typing.send("/react 5 👍".into()).await.unwrap();
            let (call, request) = session.call::<AddReactionRequest>("AddReaction").await;
            assert_eq!((request.message_seq, request.emoji.as_str()), (5, "👍"));
            session.reply(call, AddReactionResponse::default()).await;
            typing.send("/delete five".into()).await.unwrap();
            paper.reads("* /delete needs more; /help says what").await;
            typing.send("/dance".into()).await.unwrap();
            paper
                .reads("* there is no /dance; /help lists what there is")
                .await;

            typing.send("//slash".into()).await.unwrap();
            // The end of the input waits until what was typed is stored.
            drop(typing);
            let (call, request) = session.message().await;
            assert_eq!(request.text, "/slash");
            session.stored(call, 9).await;
            paper.reads("9 ana: /slash").await;
        };
        let app = App::new(client.clone(), ME);
        let (done, ()) = tokio::join!(talk(app, typed, paper.clone()), script);
        done.unwrap();
        let printed = paper.0.borrow().clone();
        for seq in 1..=9 {
            let lines = printed
                .lines()
                .filter(|l| l.starts_with(&format!("{seq} ")))
                .count();
            assert_eq!(lines, 1, "{seq} is printed once:\n{printed}");
        }
    }
}
