//! What it costs to come back: the time and the bytes until a client knows what it missed.
//!
//! Each figure is taken several times over one session after the other; nothing is cached on the client.

use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use tertulia_proto::chats::{
    DeleteMessagesRequest, DeleteMessagesResponse, EditMessageRequest, EditMessageResponse,
    ListChangesRequest, ListChangesResponse,
};
use tertulia_proto::live::Welcome;
use tertulia_proto::live::missed::Answer;

use super::people::{Account, Pair, Server};
use super::report::Figure;
use super::socket::Socket;
use super::talk::{Talk, is_all};

/// What is to be done.
#[derive(Debug, Clone)]
pub struct Plan {
    /// How often each figure is taken.
    pub runs: usize,
    /// In how many chats the busy user is.
    pub chats: usize,
    /// How many events lie between what is held and what is asked about.
    pub events: u64,
}

/// How long a text is.
const TEXT_BYTES: usize = 128;
/// How many messages are missed in the two cases.
const MISSED: [u64; 2] = [100, 10_000];
/// How many messages a device holds whose changes it asks for.
const HELD: u64 = 1_000;
/// How many of them were edited, and how many deleted.
const CHANGED: i64 = 50;
/// How many changed messages are asked for at once.
const PAGE: u32 = 100;

const CHATS: &str = "tertulia.chats.v1.ChatsService";
const MESSAGES: &str = "tertulia.chats.v1.MessagesService";

/// Takes every figure.
///
/// # Errors
/// When something can not be made ready, or the server's answer is not the one that the figure is of.
pub async fn run(server: Server, plan: &Plan) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    let pairs = server.pairs(1 + MISSED.len() + 1).await?;
    let mut pairs = pairs.iter();
    let mut next = || pairs.next().context("there are as many pairs");

    let reader = &next()?.ends[0];
    let cursor = cursor(server, reader).await?;
    let welcomes = welcomes(server, reader, &cursor, plan.runs, is_delta).await?;
    figures.extend(rows("connect, nothing missed", &welcomes));

    for missed in MISSED {
        let pair = next()?;
        let [reader, writer] = &pair.ends;
        let cursor = self::cursor(server, reader).await?;
        talk(server, writer).await?.say_all(pair, missed).await?;
        let is_right: fn(&Welcome) -> bool = if missed <= 1_000 {
            is_delta
        } else {
            is_changed
        };
        let welcomes = self::welcomes(server, reader, &cursor, plan.runs, is_right).await?;
        figures.extend(rows(&format!("connect, {missed} missed"), &welcomes));
    }

    let busy = server.accounts(1).await?.remove(0);
    server.groups(&busy, &[], plan.chats).await?;
    let name = format!("user of {} chats", plan.chats);
    let welcomes = self::welcomes(server, &busy, &[], plan.runs, |_| true).await?;
    figures.extend(rows(&format!("{name}, first connect"), &welcomes));
    let cursor = self::cursor(server, &busy).await?;
    let welcomes = self::welcomes(server, &busy, &cursor, plan.runs, is_delta).await?;
    figures.extend(rows(&format!("{name}, nothing missed"), &welcomes));

    let changes = changes(server, next()?, plan).await?;
    let name = format!("{} changes, {} events later", 2 * CHANGED, plan.events);
    figures.extend(rows(&name, &changes));
    Ok(figures)
}

/// What one coming back took.
struct Cost {
    milliseconds: f64,
    bytes: f64,
}

fn rows(name: &str, costs: &[Cost]) -> Vec<Figure> {
    let times = costs.iter().map(|cost| cost.milliseconds).collect();
    let bytes = costs.iter().map(|cost| cost.bytes).collect();
    let times = Figure::of(name, "ms", times);
    let bytes = Figure::of(format!("{name}, answer"), "B", bytes);
    times.into_iter().chain(bytes).collect()
}

fn is_delta(welcome: &Welcome) -> bool {
    matches!(welcome.missed.answer, Some(Answer::Delta(_)))
}

fn is_changed(welcome: &Welcome) -> bool {
    matches!(welcome.missed.answer, Some(Answer::Changed(_)))
}

async fn cursor(server: Server, account: &Account) -> Result<Vec<u8>> {
    let (socket, welcome) = Socket::open(server.0, None, &account.access_token).await?;
    socket.close().await;
    Ok(welcome.missed.cursor.clone())
}

async fn talk(server: Server, account: &Account) -> Result<Talk> {
    let (socket, _) = Socket::open(server.0, None, &account.access_token).await?;
    Ok(Talk::new(socket))
}

impl Talk {
    async fn say_all(mut self, pair: &Pair, count: u64) -> Result<()> {
        self.say(pair.chat_id, count, TEXT_BYTES).await?;
        self.close().await;
        Ok(())
    }
}

/// Comes back with a cursor again and again: from the first byte of the connection to the whole welcome.
async fn welcomes(
    server: Server,
    account: &Account,
    cursor: &[u8],
    runs: usize,
    is_right: impl Fn(&Welcome) -> bool,
) -> Result<Vec<Cost>> {
    let mut costs = Vec::with_capacity(runs);
    for _ in 0..runs {
        let began = Instant::now();
        let token = &account.access_token;
        let (socket, welcome) = Socket::resume(server.0, None, token, cursor.to_vec()).await?;
        costs.push(Cost {
            milliseconds: began.elapsed().as_secs_f64() * 1e3,
            bytes: socket.received_bytes() as f64,
        });
        ensure!(
            is_right(&welcome),
            "another answer than the one to be measured"
        );
        socket.close().await;
    }
    Ok(costs)
}

/// A device holds messages, much happens, some of them are changed; what does it take to learn which?
async fn changes(server: Server, pair: &Pair, plan: &Plan) -> Result<Vec<Cost>> {
    let [reader, writer] = &pair.ends;
    let chat_id = pair.chat_id;
    let mut talk = self::talk(server, writer).await?;
    talk.say(chat_id, HELD, TEXT_BYTES).await?;
    talk.say(chat_id, plan.events, TEXT_BYTES).await?;
    for n in 0..CHANGED {
        // Spread over what is held: one is edited, another deleted.
        let message_seq = 1 + n * (HELD as i64 / CHANGED);
        let edit = EditMessageRequest {
            chat_id,
            message_seq,
            text: format!("{:TEXT_BYTES$}", "another text"),
            ..Default::default()
        };
        let _: EditMessageResponse = talk.call(&format!("{MESSAGES}/EditMessage"), &edit).await?;
        let delete = DeleteMessagesRequest {
            chat_id,
            message_seqs: vec![message_seq + 1],
            ..Default::default()
        };
        let method = format!("{MESSAGES}/DeleteMessages");
        let _: DeleteMessagesResponse = talk.call(&method, &delete).await?;
    }
    talk.close().await;

    let mut talk = self::talk(server, reader).await?;
    let mut costs = Vec::with_capacity(plan.runs);
    for _ in 0..plan.runs {
        let (began, before) = (Instant::now(), talk.received_bytes());
        let (mut after_seq, mut changed) = (HELD as i64, 0);
        loop {
            let request = ListChangesRequest {
                chat_id,
                from_seq: 1,
                to_seq: HELD as i64,
                after_seq,
                limit: PAGE,
                ..Default::default()
            };
            let method = format!("{CHATS}/ListChanges");
            let answer: ListChangesResponse = talk.call(&method, &request).await?;
            changed += answer.events.len() as i64;
            if !answer.more {
                break;
            }
            is_all(answer.through_seq <= after_seq)?;
            after_seq = answer.through_seq;
        }
        ensure!(
            changed == 2 * CHANGED,
            "{changed} messages are said to have changed"
        );
        costs.push(Cost {
            milliseconds: began.elapsed().as_secs_f64() * 1e3,
            bytes: (talk.received_bytes() - before) as f64,
        });
    }
    talk.close().await;
    Ok(costs)
}
