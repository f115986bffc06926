//! Faults of who does what is to be done once in a deployment.

use anyhow::{Context as _, Result};
use futures::future::join_all;
use serde_json::json;
use tertulia_kit::clock::{Clock as _, SystemClock};
use tokio::time::timeout;

use super::cluster::Scene;
use super::scene::PATIENCE;
use super::{End, Run};
use crate::checker::{Outcome, Send, Violation};
use crate::cluster::Part;
use crate::town::password;
use crate::wire::{Person, request};

const PARTS: [Part; 3] = [Part::Edge, Part::Worker, Part::Worker];
const WORKERS: [usize; 2] = [1, 2];
/// What is due is looked for so often that there are many moments in the middle of it.
const SETTINGS: [(&str, &str); 1] = [("chats.due_interval_ms", "100")];
const DEVICE: &str = "device-that-schedules";
/// How many messages are scheduled for one round, how far ahead and apart, and how many are sent before the fault.
const MESSAGES: usize = 80;
const AHEAD_MS: i64 = 3_000;
const APART_MS: i64 = 40;
const BEFORE: usize = 10;

/// Somebody who schedules messages.
struct Scheduler {
    person: Person,
    url: String,
    chat: i64,
    sends: Vec<Send>,
}

impl Scheduler {
    async fn schedule(&mut self) {
        let (first, now) = (self.sends.len(), SystemClock::default().now_ms());
        for n in 0..MESSAGES {
            self.sends.push(Send {
                key: (DEVICE.to_owned(), format!("scheduled-{:05}", first + n)),
                chat: self.chat,
                text: format!("said later {}", first + n),
                outcome: Outcome::Unknown,
            });
        }
        let scheduling = self.sends[first..].iter().zip(1..).map(|(send, n)| {
            let later = json!({
                "chatId": self.chat.to_string(),
                "clientMessageId": send.key.1,
                "text": send.text,
                "sendAtMs": (now + AHEAD_MS + n * APART_MS).to_string(),
            });
            self.person.ok(&self.url, "ScheduleMessage", later)
        });
        join_all(scheduling).await;
    }

    /// Waits until no more than so many are left to be sent.
    async fn left(&self, most: usize) -> Result<()> {
        let looking = async {
            loop {
                let asked = self
                    .person
                    .ok(&self.url, "ListScheduledMessages", json!({}));
                let left = asked.await["scheduled"].as_array().map_or(0, Vec::len);
                if left <= most {
                    return;
                }
            }
        };
        let looked = timeout(PATIENCE, looking).await;
        looked.context("what is due is not done")
    }

    /// Everything that it has scheduled, each with the place at which it was sent first.
    async fn sent(mut self) -> (Vec<Send>, Vec<Violation>) {
        let (mut after, mut violations) = (0, Vec::new());
        loop {
            let asked = json!({
                "chatId": self.chat.to_string(), "afterSeq": after.to_string(), "limit": 100,
            });
            let page = self.person.ok(&self.url, "ListEvents", asked).await;
            let events = page["events"].as_array().cloned().unwrap_or_default();
            for event in &events {
                let number = |field: &str| event[field].as_str().and_then(|n| n.parse().ok());
                after = number("seq").unwrap_or(after);
                let message = &event["message"];
                let id = message["clientMessageId"].as_str().unwrap_or_default();
                let sent = self.sends.iter_mut().find(|send| send.key.1 == id);
                if let Some(send) = sent.filter(|send| send.outcome == Outcome::Unknown) {
                    send.outcome = Outcome::Acked(after);
                }
            }
            if events.is_empty() {
                break;
            }
        }
        for send in self.sends.iter().filter(|s| s.outcome == Outcome::Unknown) {
            let words = format!("{} was scheduled and is not sent", send.key.1);
            violations.push(Violation::Dishonest(words));
        }
        (self.sends, violations)
    }
}

/// Which worker leads now, other than one that does not.
async fn leader(scene: &Scene, other_than: Option<usize>) -> Result<usize> {
    let looking = async {
        loop {
            for node in WORKERS.into_iter().filter(|node| Some(*node) != other_than) {
                let metrics = &scene.cluster.nodes[node].server()?.metrics;
                let answer = request("GET", metrics, &[], "").await;
                let text = String::from_utf8_lossy(&answer.body).into_owned();
                if text.lines().any(|line| line == "tertulia_leads_due 1") {
                    return anyhow::Ok(node);
                }
            }
        }
    };
    timeout(PATIENCE, looking).await.context("nobody leads")?
}

/// F44. Of two workers the one that does what is due is killed in the middle of it, or stands still until the other one
/// has done the rest, and then goes on with what it was about to do.
pub async fn lost(run: Run) -> Result<End> {
    let mut scene = Scene::open_of(&PARTS, None, &SETTINGS, run).await?;
    let first = &scene.town.devices[0];
    let (account, chat) = (first.account.clone(), first.chats[0]);
    let url = scene.cluster.urls().remove(0);
    let person = Person::of(&account, &password(&account));
    let mut scheduler = Scheduler {
        person: person.sign_in_on(&url, DEVICE).await,
        url,
        chat,
        sends: Vec::new(),
    };
    let times = run.amount(2, 30);
    for nth in 0..times {
        scheduler.schedule().await;
        scheduler.left(MESSAGES - BEFORE).await?;
        let leading = leader(&scene, None).await?;
        match nth % 2 {
            0 => {
                scene.cluster.nodes[leading].server()?.signal("STOP")?;
                leader(&scene, Some(leading)).await?;
                scheduler.left(0).await?;
                scene.cluster.nodes[leading].server()?.signal("CONT")?;
            }
            _ => {
                scene.cluster.nodes[leading].kill().await;
                leader(&scene, Some(leading)).await?;
                scheduler.left(0).await?;
                scene.cluster.nodes[leading].start().await?;
            }
        }
        scene.acked(10).await?;
    }
    let (sends, unsent) = scheduler.sent().await;
    scene.sends.extend(sends);
    scene.violations.extend(unsent);
    let note = format!("{times} times, {} messages on time", times * MESSAGES);
    scene.judge(note).await
}
