//! Sends that come twice, with other words, or after days.

use anyhow::{Context as _, Result, ensure};
use futures::future::join_all;
use serde_json::{Value, json};

use super::clock::Clock;
use super::scene::{Scene, Setup};
use super::{End, Run};
use crate::checker::{Outcome, Send, Violation};
use crate::town::password;
use crate::wire::{Answer, Person};

/// How often a message is sent at once.
const AT_ONCE: usize = 4;
/// Days after which a repeat is still known.
const DAYS_KNOWN: u32 = 6;

/// A device without a client, that sends what it wants as often as it wants.
struct Doubler {
    person: Person,
    device: String,
    chat: i64,
}

impl Doubler {
    async fn join(scene: &Scene) -> Doubler {
        let first = &scene.town.devices[0];
        let account = Person::of(&first.account, &password(&first.account));
        let device = "device-that-repeats".to_owned();
        let person = account.sign_in_on(&scene.plain.url(), &device).await;
        Doubler {
            person,
            device,
            chat: first.chats[0],
        }
    }

    /// Signs out, and in again on the same device.
    async fn sign_in_again(&mut self, scene: &Scene) {
        let url = scene.plain.url();
        let logout = "tertulia.identity.v1.IdentityService/Logout";
        self.person.call(&url, logout, json!({})).await;
        self.person = self.person.sign_in_on(&url, &self.device).await;
    }

    async fn say(&self, scene: &Scene, id: &str, text: &str) -> Answer {
        let (url, chat) = (scene.plain.url(), self.chat.to_string());
        self.person.say(&url, &chat, id, text).await
    }

    /// What was sent once, for the checker.
    fn sent(&self, id: &str, text: &str, answer: &Answer) -> Result<Send> {
        let seq = answer.json()["seq"]
            .as_str()
            .and_then(|seq| seq.parse().ok());
        Ok(Send {
            key: (self.device.clone(), id.to_owned()),
            chat: self.chat,
            text: text.to_owned(),
            outcome: Outcome::Acked(
                seq.with_context(|| format!("no seq for {id}: {}", answer.code()))?,
            ),
        })
    }
}

/// F26. The same message over several connections at once, after a kill, after days, and after signing out and
/// in on the same device: it is stored once and answered with the same words. There is one node in this build.
pub async fn repeated(run: Run) -> Result<End> {
    let clock = Clock::new();
    let mut setup = Setup::default();
    let days = match &clock {
        Ok(clock) => {
            setup.env = clock.env();
            setup.allowed.signed_out = true;
            format!("after {DAYS_KNOWN} days")
        }
        Err(_) => "not after days, as libfaketime is not installed".into(),
    };
    let mut scene = Scene::open(run, setup).await?;
    let mut doubler = Doubler::join(&scene).await;
    let messages = run.amount(12, 500);
    let mut first: Vec<(String, String, Value)> = Vec::new();
    for n in 0..messages {
        let (id, text) = (
            format!("repeated-{n:05}"),
            format!("once and not twice {n}"),
        );
        let answers = join_all((0..AT_ONCE).map(|_| doubler.say(&scene, &id, &text))).await;
        for answer in &answers {
            scene.sends.push(doubler.sent(&id, &text, answer)?);
            if answer.json() != answers[0].json() {
                let words = format!(
                    "{id} was answered by {} and {}",
                    answers[0].json(),
                    answer.json()
                );
                scene.violations.push(Violation::Dishonest(words));
            }
        }
        first.push((id, text, answers[0].json()));
    }
    for round in ["a kill", "signing in again", "days"] {
        match (round, &clock) {
            ("a kill", _) => {
                scene.kill().await;
                scene.start(None).await?;
            }
            ("days", Ok(clock)) => {
                clock.set(&format!("+{DAYS_KNOWN}d"))?;
                // A start looks at the clock anew.
                scene.kill().await;
                scene.start(None).await?;
                doubler.sign_in_again(&scene).await;
            }
            _ => doubler.sign_in_again(&scene).await,
        }
        for (id, text, before) in &first {
            let mut answer = doubler.say(&scene, id, text).await;
            // The server takes a leap of its clock within a second, and tokens of before are over then.
            if round == "days" && answer.code() == "unauthenticated" {
                doubler.sign_in_again(&scene).await;
                answer = doubler.say(&scene, id, text).await;
            }
            if answer.json() != *before {
                let words = format!(
                    "after {round} {id} was answered by {} and not {before}",
                    answer.json()
                );
                scene.violations.push(Violation::Dishonest(words));
            }
            if answer.status == 200 {
                scene.sends.push(doubler.sent(id, text, &answer)?);
            }
        }
    }
    scene.acked(10).await?;
    scene
        .judge(format!(
            "{messages} messages {} times each, {days}",
            AT_ONCE + 3
        ))
        .await
}

/// F27. The same message id with other words: refused by name, and the first words stay.
pub async fn changed(run: Run) -> Result<End> {
    let mut scene = Scene::open(run, Setup::default()).await?;
    let doubler = Doubler::join(&scene).await;
    let messages = run.amount(20, 1_000);
    for n in 0..messages {
        let (id, text) = (format!("changed-{n:05}"), format!("the first words {n}"));
        let (one, two) = tokio::join!(doubler.say(&scene, &id, &text), async {
            // Half of them at once: then either may be the first.
            match n % 2 {
                0 => Some(doubler.say(&scene, &id, "other words").await),
                _ => None,
            }
        });
        let late = doubler.say(&scene, &id, "later words").await;
        let (kept, refused) = match two {
            Some(two) if two.status == 200 => ((two, "other words"), vec![one, late]),
            two => (
                (one, text.as_str()),
                two.into_iter().chain([late]).collect(),
            ),
        };
        scene.sends.push(doubler.sent(&id, kept.1, &kept.0)?);
        for answer in refused {
            if answer.code() != "already_exists" {
                let words = format!("{id} with other words was answered by {}", answer.json());
                scene.violations.push(Violation::Dishonest(words));
            }
        }
    }
    scene.acked(20).await?;
    scene
        .judge(format!(
            "{messages} messages with other words under their ids"
        ))
        .await
}

/// F28. A device wrote much while it was away for three days, and comes back to a server with budgets: all of
/// it goes out, in its order, as fast as the server says.
pub async fn after_days(run: Run) -> Result<End> {
    let clock = Clock::new();
    let mut setup = Setup {
        settings: vec![
            ("limits.enabled", "true".into()),
            ("limits.login_per_second", "100".into()),
            ("limits.login_burst", "50".into()),
        ],
        ..Setup::default()
    };
    setup.traffic.thought =
        std::time::Duration::from_millis(50)..=std::time::Duration::from_millis(200);
    if let Ok(clock) = &clock {
        setup.env = clock.env();
    }
    setup.allowed.signed_out = true;
    let messages = run.amount(300, 1_000);
    setup.plan.options.outbox_max = messages + 100;
    let mut scene = Scene::open(run, setup).await?;
    scene.acked(10).await?;
    scene.town.hush().await;
    let away = std::sync::Arc::clone(&scene.town.devices[0]);
    away.client.stop().await;
    let already = away.client.outbox().len();
    for n in 0..messages {
        let chat = away.chats[n % away.chats.len()];
        away.say(chat, format!("written on the way {n}")).await?;
    }
    ensure!(
        away.client.outbox().len() == messages + already,
        "something went out"
    );
    let days = match &clock {
        Ok(clock) => {
            clock.set("+3d")?;
            "three days"
        }
        Err(_) => "no days, as libfaketime is not installed",
    };
    away.client.start();
    let traffic = crate::town::Traffic::default();
    scene.town.act(&traffic, &mut scene.random);
    scene.acked(messages as u64).await?;
    scene
        .judge(format!("{messages} messages after {days}"))
        .await
}
