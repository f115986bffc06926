//! An operator at work while things fail: sessions are ended and come back, nodes are drained and taken back, logins are
//! revoked. Who was sent away misses nothing, which the verdict looks at; what was said to be done is done (I6, I8), on
//! every node that can read the database.

use std::sync::Arc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};
use serde_json::{Value, json};
use tertulia_kit::secret::Secret;
use tertulia_kit::transport::nats::NodeKey;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep, timeout};

use super::leaver::{REVOKED_MAX, alive, leak};
use crate::checker::Violation;
use crate::many::NODE_KEY;
use crate::proxy::Wellness;
use crate::town::password;
use crate::wire::{Answer, Came, Person, Socket, node_token, path, try_post_as};

/// How long a node that can read the database may let in a login that was revoked on another: the second that is
/// promised, and one for a busy machine.
const KNOWN_MAX: Duration = Duration::from_secs(2);
/// The same of a node that could not, from then on: it has to connect again.
const KNOWN_AGAIN_MAX: Duration = Duration::from_secs(5);
/// For how long a revoked login is tried; when all is over it is once more.
const TRIED: Duration = Duration::from_secs(4);
/// How long an answer is waited for.
const ANSWER_MAX: Duration = Duration::from_secs(5);
/// Over how long sessions are told to go, and how long a drained node may still have some.
const SPREAD_MS: u64 = 200;
const EMPTY_MAX: Duration = Duration::from_secs(15);
/// How long everything is to have been done once, when the fault is over already.
const ONCE_MAX: Duration = Duration::from_secs(30);
/// Between two acts.
const PAUSE_MS: std::ops::Range<u64> = 100..600;

/// A node that serves clients.
#[derive(Clone)]
pub(super) struct Edge {
    /// Where it is reached.
    pub url: String,
    /// Whether it can read the database.
    pub database: Wellness,
}

/// The operator, until it is told to stop.
pub(super) struct Operator {
    stop: watch::Sender<bool>,
    working: JoinHandle<Worked>,
}

/// What was done, and what came of it.
#[derive(Default)]
pub(super) struct Worked {
    kicked: usize,
    drained: usize,
    revoked: usize,
    /// How long after it was revoked a login was let in last, of all logins and nodes that could know.
    latest: Duration,
    /// What should not have been.
    pub violations: Vec<Violation>,
    /// Logins that are over.
    ended: Vec<Person>,
}

impl Operator {
    /// Begins to work, at these nodes and with these people.
    pub fn start(edges: Vec<Edge>, accounts: Vec<String>, seed: u64) -> Operator {
        let stop = watch::Sender::new(false);
        let key =
            NodeKey::new(Secret::new(NODE_KEY.as_bytes().to_vec())).expect("it is long enough");
        let desk = Desk {
            edges: edges.into(),
            accounts,
            key: Arc::new(key),
            random: StdRng::seed_from_u64(seed),
        };
        let working = tokio::spawn(desk.work(stop.subscribe()));
        Operator { stop, working }
    }

    /// Stops when everything was done at least once. All nodes take sessions then.
    pub async fn stop(self) -> Worked {
        self.stop.send_replace(true);
        self.working.await.expect("the operator does not panic")
    }
}

impl Worked {
    /// A line for people.
    pub fn note(&self) -> String {
        format!(
            "{} times sessions were ended, {} drains, {} revocations, let in for {} ms at most",
            self.kicked,
            self.drained,
            self.revoked,
            self.latest.as_millis()
        )
    }

    /// All nodes refuse all logins that are over, with everything that they had.
    pub async fn stay_ended(&self, urls: &[String]) -> Vec<Violation> {
        let mut found = Vec::new();
        for person in &self.ended {
            for url in urls {
                found.extend(is_good(person, url).await);
            }
        }
        found
    }
}

/// What of a login that is over is good at a node.
async fn is_good(person: &Person, url: &str) -> Option<Violation> {
    let called = person.try_call(url, "GetMe", json!({})).await;
    let refresh = json!({"refreshToken": person.refresh_token});
    let refreshed = try_post_as(url, path("Refresh"), None, refresh).await;
    let was_let_in = |answer: anyhow::Result<Answer>| answer.is_ok_and(|it| it.status == 200);
    let what = match (was_let_in(called), was_let_in(refreshed)) {
        (false, false) => return None,
        (true, _) => "access token",
        (false, true) => "refresh token",
    };
    let words = format!("the {what} of a revoked login is good when all is over");
    Some(Violation::Leaked(words))
}

/// Where the operator sits.
struct Desk {
    edges: Arc<[Edge]>,
    accounts: Vec<String>,
    key: Arc<NodeKey>,
    random: StdRng,
}

impl Desk {
    async fn work(mut self, mut stop: watch::Receiver<bool>) -> Worked {
        let mut worked = Worked::default();
        let mut trying: JoinSet<Tried> = JoinSet::new();
        let mut over = None;
        for nth in 0.. {
            if *stop.borrow() {
                let since = *over.get_or_insert_with(Instant::now);
                let is_all = worked.kicked > 0 && worked.drained > 0 && worked.revoked > 0;
                if is_all {
                    break;
                }
                if since.elapsed() > ONCE_MAX {
                    let words =
                        format!("an operator can not do everything once: {}", worked.note());
                    worked.violations.push(Violation::Dishonest(words));
                    break;
                }
            }
            match nth % 4 {
                0 => worked.kicked += usize::from(self.kick().await),
                1 => self.revoke_guest(&mut trying, &mut worked).await,
                2 => self.drain(&mut worked).await,
                _ => self.revoke_all(&mut worked).await,
            }
            let pause = Duration::from_millis(self.random.random_range(PAUSE_MS));
            _ = timeout(pause, stop.wait_for(|stops| *stops && over.is_none())).await;
        }
        while let Some(tried) = trying.join_next().await {
            let tried = tried.expect("who tries does not panic");
            worked.latest = worked.latest.max(tried.latest);
            worked.violations.extend(tried.violations);
            worked.ended.push(tried.person);
        }
        for edge in self.edges.iter() {
            self.resume(edge).await;
        }
        worked
    }

    /// Ends the sessions of one person, or of all; they come back.
    async fn kick(&mut self) -> bool {
        let target = match self.random.random_bool(0.5) {
            true => json!({"everybody": true}),
            false => json!({"userId": self.somebody_s_id().await}),
        };
        let body = json!({"target": target, "comeBack": true, "spreadMs": SPREAD_MS});
        self.asked("EndSessions", body).await.is_some()
    }

    /// Somebody signs in beside their other devices, and that login is revoked while they listen on another node.
    async fn revoke_guest(&mut self, trying: &mut JoinSet<Tried>, worked: &mut Worked) {
        let Some((person, login)) = self.guest().await else {
            return;
        };
        let at = self.random.random_range(0..self.edges.len());
        let listening = Listening::begin(&self.edges[at], &person);
        let listening = timeout(ANSWER_MAX, listening).await.ok().flatten();
        if self
            .asked("RevokeLogins", json!({"loginId": login}))
            .await
            .is_none()
        {
            // Who knows whether it was done.
            return;
        }
        worked.revoked += 1;
        let edges = Arc::clone(&self.edges);
        trying.spawn(tried(person, edges, listening, Instant::now()));
    }

    /// All logins of a person are revoked; they sign in again.
    async fn revoke_all(&mut self, worked: &mut Worked) {
        let id = self.somebody_s_id().await;
        let revoked = self.asked("RevokeLogins", json!({"userId": id})).await;
        worked.revoked += usize::from(revoked.is_some());
    }

    /// A node is emptied, and takes sessions again.
    async fn drain(&mut self, worked: &mut Worked) {
        let Some(edge) = self.edges.choose(&mut self.random).cloned() else {
            return;
        };
        let body = json!({"onlyHere": true, "spreadMs": SPREAD_MS});
        let Some(answer) = self.asked_at(&edge, "Drain", body).await else {
            return;
        };
        if answer["node"]["drained"] != true {
            return;
        }
        let began = Instant::now();
        loop {
            let body = json!({"onlyHere": true});
            let node = self.asked_at(&edge, "ListNodes", body).await;
            // It was killed meanwhile, and one that begins is not drained.
            let Some(node) = node.map(|answer| answer["nodes"][0].clone()) else {
                break;
            };
            if node["drained"] != true {
                break;
            }
            match node["sessions"].as_u64().unwrap_or_default() {
                0 => {
                    worked.drained += 1;
                    break;
                }
                left if began.elapsed() > EMPTY_MAX => {
                    let words = format!("a node that was drained still has {left} sessions");
                    worked.violations.push(Violation::Late(words));
                    break;
                }
                _ => sleep(Duration::from_millis(50)).await,
            }
        }
        self.resume(&edge).await;
    }

    /// A node that is there takes sessions again.
    async fn resume(&self, edge: &Edge) {
        let resumed = async {
            loop {
                let resumed = self.asked_at(edge, "Resume", json!({"onlyHere": true}));
                match resumed.await {
                    Some(_) => return,
                    None => sleep(Duration::from_millis(100)).await,
                }
            }
        };
        // One that does not answer for so long was killed, and is not drained when it begins.
        _ = timeout(ONCE_MAX, resumed).await;
    }

    /// A new login of somebody, and its id.
    async fn guest(&mut self) -> Option<(Person, Value)> {
        let account = self.accounts.choose(&mut self.random)?;
        let edge = self.edges.choose(&mut self.random)?;
        let person = Person::of(account, &password(account));
        let signing_in = async {
            let person = person.try_sign_in(&edge.url).await?;
            let listed = person.try_call(&edge.url, "ListLogins", json!({})).await;
            let listed = listed.ok()?.json();
            let mut logins = listed["logins"].as_array()?.iter();
            let own = logins.find(|login| login["current"] == true)?;
            Some((person, own["loginId"].clone()))
        };
        timeout(ANSWER_MAX, signing_in).await.ok().flatten()
    }

    /// The id of one of the people, as far as somebody says it now.
    async fn somebody_s_id(&mut self) -> Value {
        let guest = self.guest().await;
        guest.map_or(json!("1"), |(person, _)| json!(person.user_id))
    }

    /// Asks one node after the other, until one has done it.
    async fn asked(&mut self, method: &str, body: Value) -> Option<Value> {
        let first = self.random.random_range(0..self.edges.len());
        for nth in 0..self.edges.len() {
            let edge = &self.edges[(first + nth) % self.edges.len()];
            if let Some(answer) = self.asked_at(edge, method, body.clone()).await {
                return Some(answer);
            }
        }
        None
    }

    async fn asked_at(&self, edge: &Edge, method: &str, body: Value) -> Option<Value> {
        let token = node_token(&self.key, method);
        let asking = try_post_as(&edge.url, path(method), Some(&token), body);
        let answer: Answer = timeout(ANSWER_MAX, asking).await.ok()?.ok()?;
        (answer.status == 200).then(|| answer.json())
    }
}

/// What came of trying a login that is over.
struct Tried {
    person: Person,
    latest: Duration,
    violations: Vec<Violation>,
}

/// Tries a login that was revoked at `revoked` on all nodes, and listens to the session that it had.
async fn tried(
    person: Person,
    edges: Arc<[Edge]>,
    listening: Option<Listening>,
    revoked: Instant,
) -> Tried {
    let knocking = async {
        let (mut latest, mut violations) = (Duration::ZERO, Vec::new());
        while revoked.elapsed() < TRIED {
            for edge in edges.iter() {
                let asked = Instant::now();
                let may_not_know = edge.database.since();
                let answer = person.try_call(&edge.url, "GetMe", json!({}));
                let Ok(Ok(answer)) = timeout(ANSWER_MAX, answer).await else {
                    continue;
                };
                let Some(after) = should_know(edge, revoked, asked) else {
                    continue;
                };
                if answer.status == 200 && may_not_know.is_some() {
                    latest = latest.max(asked - revoked);
                    violations.extend(after.map(|late| {
                        let late = late.as_millis();
                        Violation::Leaked(format!("a revoked login is let in {late} ms too late"))
                    }));
                }
            }
            sleep(Duration::from_millis(20)).await;
        }
        (latest, violations)
    };
    let hearing = async {
        match listening {
            Some(listening) => listening.until_the_end(revoked).await,
            None => Vec::new(),
        }
    };
    let ((latest, mut violations), heard) = tokio::join!(knocking, hearing);
    violations.extend(heard);
    Tried {
        person,
        latest,
        violations,
    }
}

/// How much later than a node should have known it, a call was made; none of it when it was not later. None when the node
/// could not read the database.
fn should_know(edge: &Edge, revoked: Instant, asked: Instant) -> Option<Option<Duration>> {
    let well = Instant::from_std(edge.database.since()?);
    let known = match well + KNOWN_MAX > revoked {
        true => (revoked + KNOWN_MAX).max(well + KNOWN_AGAIN_MAX),
        false => revoked + KNOWN_MAX,
    };
    Some(
        asked
            .checked_duration_since(known)
            .filter(|late| !late.is_zero()),
    )
}

/// A session of a login that is to be revoked.
struct Listening {
    socket: Socket,
    edge: Edge,
}

impl Listening {
    async fn begin(edge: &Edge, person: &Person) -> Option<Listening> {
        let mut socket = Socket::open(&edge.url, "tertulia.v1.json").await.ok()?;
        let hello = json!({"hello": {"accessToken": person.token}});
        socket.send(hello).await;
        loop {
            match socket.next().await {
                Came::Frame(frame) if frame.get("welcome").is_some() => break,
                Came::Frame(_) => {}
                Came::Closed(_) => return None,
            }
        }
        let edge = edge.clone();
        Some(Listening { socket, edge })
    }

    /// What it is told that it should not be. It is closed before that.
    async fn until_the_end(mut self, revoked: Instant) -> Vec<Violation> {
        let mut leaks = Vec::new();
        let listening = async {
            while let Came::Frame(frame) = self.socket.next().await {
                alive(&mut self.socket, &frame).await;
                let came = Instant::now();
                let may_not = came.checked_sub(REVOKED_MAX.saturating_sub(KNOWN_MAX));
                let late = may_not.and_then(|came| should_know(&self.edge, revoked, came)?);
                if late.is_some() {
                    leaks.extend(leak(&frame, came - revoked));
                }
            }
        };
        _ = timeout(TRIED, listening).await;
        leaks
    }
}
