//! Somebody who signs out and stays on the line (I6): the session may live on for a moment, and after that no
//! event and no answer may come over it.

use std::time::Duration;

use anyhow::Result;
use serde_json::{Value, json};
use tokio::time::{Instant, timeout_at};

use crate::checker::Violation;
use crate::town::password;
use crate::wire::{Came, Person, Socket, post};

/// How long a session may hear events after its login was ended: three heartbeats of a second. With a bus that
/// works it is a matter of milliseconds.
pub(super) const REVOKED_MAX: Duration = Duration::from_secs(3);
/// How long what comes afterwards is watched.
const WATCHED: Duration = Duration::from_secs(2);

/// What somebody heard who signed out.
#[derive(Debug, Default)]
pub struct Leaver {
    /// How many frames came before.
    pub heard: usize,
    /// What came too late.
    pub leaks: Vec<Violation>,
}

impl Leaver {
    /// Signs in as `account` on a device of its own, hears for `moment`, signs out, and stays on the line.
    ///
    /// # Errors
    /// When the server does not take the login.
    pub async fn stay(url: &str, account: &str, moment: Duration) -> Result<Leaver> {
        let person = Person::of(account, &password(account)).sign_in(url).await;
        let (mut socket, welcome) = Socket::hello(url, &person.token, "").await;
        let cursor = welcome["missed"]["cursor"].clone();
        let mut leaver = Leaver::default();
        let leaving = Instant::now() + moment;
        while let Some(Came::Frame(frame)) = next(&mut socket, leaving).await {
            leaver.heard += 1;
            alive(&mut socket, &frame).await;
        }
        let logout = "tertulia.identity.v1.IdentityService/Logout";
        let answer = post(url, logout, Some(&person.token), json!({})).await;
        anyhow::ensure!(
            answer.status == 200,
            "a login can not be ended: {}",
            answer.code()
        );
        let ended = Instant::now();
        let mut asked = false;
        while let Some(Came::Frame(frame)) = next(&mut socket, ended + REVOKED_MAX + WATCHED).await
        {
            alive(&mut socket, &frame).await;
            if ended.elapsed() <= REVOKED_MAX {
                continue;
            }
            leaver.leaks.extend(leak(&frame, ended.elapsed()));
            if !std::mem::replace(&mut asked, true) {
                socket.send(json!({"catchUp": {"cursor": cursor}})).await;
                let call = json!({"callId": "1", "method": "tertulia.chats.v1.ChatsService/ListChats", "json": {}});
                socket.send(json!({"call": call})).await;
            }
        }
        Ok(leaver)
    }
}

/// Answers a heartbeat.
pub(super) async fn alive(socket: &mut Socket, frame: &Value) {
    if frame.get("heartbeat").is_some() {
        socket.send(json!({"alive": {}})).await;
    }
}

/// The next thing that comes before a moment.
async fn next(socket: &mut Socket, until: Instant) -> Option<Came> {
    timeout_at(until, socket.next()).await.ok()
}

/// What a frame tells to whom it should not.
pub(super) fn leak(frame: &Value, after: Duration) -> Option<Violation> {
    let what = ["chatEvent", "ownEvent", "caughtUp"]
        .into_iter()
        .find(|kind| frame.get(kind).is_some());
    let answered = frame["reply"].get("json").is_some().then_some("an answer");
    let what = what.or(answered)?;
    Some(Violation::Leaked(format!(
        "{what} came {} ms after the login was ended",
        after.as_millis()
    )))
}
