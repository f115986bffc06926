//! Faults of a deployment of several nodes: of its nodes, its database, its bus, and the networks between them.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use futures::future::join_all;
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom as _, SliceRandom as _};
use rand::{Rng as _, RngCore as _, SeedableRng as _};

use super::operator::{Edge, Operator};
use super::presence::{self, Passer};
use super::scene::{HEAL_MAX, PATIENCE};
use super::{End, Findings, Run};
use crate::checker::{Outcome, Send, Violation};
use crate::cluster::{Binary, Cluster, Part};
use crate::node;
use crate::proxy::{Direction, Proxy, Toxics};
use crate::town::{Plan, Town, Traffic, password};
use crate::wire::{Person, path};

/// The nodes.
const PARTS: [Part; 3] = [Part::Edge, Part::Gateway, Part::Worker];
/// The nodes, when what is handed on goes straight to nodes of its own.
const APART: [Part; 4] = [Part::Straight, Part::Straight, Part::Service, Part::Service];
/// With fewer acknowledgements a run proves nothing.
const ACKED_MIN: usize = 20;
/// As in other scenes: heads come each second, and a stopping node gives its clients a second to go.
const SETTINGS: [(&str, &str); 6] = [
    ("live.heartbeat_ms", "1000"),
    ("drain.spread_ms", "1000"),
    ("drain.grace_ms", "5000"),
    // What callers spend is added up, and nobody spends all of it.
    ("limits.enabled", "true"),
    ("limits.login_burst", "100000"),
    ("limits.address_burst", "100000"),
];

/// A town that talks by way of several nodes. Who loses one goes to another.
pub(super) struct Scene {
    pub(super) random: StdRng,
    pub(super) cluster: Cluster,
    pub(super) town: Town,
    /// What was sent by others than the town.
    pub(super) sends: Vec<Send>,
    pub(super) violations: Vec<Violation>,
    /// Who works on the nodes meanwhile, and who comes and goes.
    beside: Option<(Operator, Passer)>,
}

impl Scene {
    /// With an operator at work, and with everybody listening to who is there.
    async fn open_operated(run: Run) -> Result<Scene> {
        let mut scene = Scene::open_of(&PARTS, None, &presence::SETTINGS, run).await?;
        presence::listen(&scene.town).await;
        scene.town.stay_signed_in();
        let serving = scene.cluster.nodes.iter();
        let edges = serving.filter(|node| node.part.serves_clients());
        let edges = edges.map(|node| Edge {
            url: node.door.url(),
            database: node.to_database.wellness(),
        });
        let devices = scene.town.devices.iter();
        let accounts = devices.map(|device| device.account.clone()).collect();
        let operator = Operator::start(edges.collect(), accounts, scene.random.next_u64());
        let passer = Passer::start(scene.cluster.urls(), scene.random.next_u64()).await;
        scene.beside = Some((operator, passer));
        Ok(scene)
    }

    async fn open(run: Run) -> Result<Scene> {
        Scene::open_from(None, run).await
    }

    /// With nodes of another version.
    async fn open_from(program: Option<&Path>, run: Run) -> Result<Scene> {
        Scene::open_of(&PARTS, program, &[], run).await
    }

    /// With these nodes, and settings beside the usual ones.
    pub(super) async fn open_of(
        parts: &[Part],
        program: Option<&Path>,
        further: &[(&str, &str)],
        run: Run,
    ) -> Result<Scene> {
        let settings = [&SETTINGS, further].concat();
        let mut random = StdRng::seed_from_u64(run.seed);
        let seed = random.next_u64();
        let harm = run.sabotage.map(|what| {
            let confirmed = "--confirm-sabotage";
            ["--sabotage", what, confirmed].map(str::to_owned)
        });
        let args = harm.as_ref().map_or(&[][..], |harm| &harm[..]);
        let binary = Binary { program, args };
        let cluster = Cluster::start_as(binary, parts, &settings, seed).await?;
        let plan = Plan {
            devices_each: 2,
            ..Plan::default()
        };
        let mut town = Town::found(&cluster.urls().join(","), None, &plan).await?;
        town.act(&Traffic::default(), &mut random);
        Ok(Scene {
            random,
            cluster,
            town,
            sends: Vec::new(),
            violations: Vec::new(),
            beside: None,
        })
    }

    pub(super) async fn acked(&self, more: u64) -> Result<()> {
        self.town.more_acked(more, PATIENCE).await
    }

    async fn stop(&mut self, node: usize) -> Result<()> {
        if !self.cluster.nodes[node].stop().await? {
            let words = "a node that was asked to stop did not end well";
            self.violations.push(Violation::Dishonest(words.into()));
        }
        Ok(())
    }

    /// Somebody looks people up on every edge, and gets an answer in the end.
    async fn looks_up_people(&mut self) -> Result<()> {
        let account = &self.town.devices[0].account;
        for url in self.cluster.urls() {
            let person = Person::of(account, &password(account)).sign_in(&url).await;
            let answered = async {
                let body = serde_json::json!({});
                while person.call(&url, path("GetMe"), body.clone()).await.status != 200 {}
            };
            let answered = tokio::time::timeout(PATIENCE, answered).await;
            answered.context("nobody looks people up any more")?;
        }
        self.acked(10).await
    }

    /// A node that chance chooses.
    fn any(&mut self) -> usize {
        self.random.random_range(0..self.cluster.nodes.len())
    }

    /// Ends all faults of the network, lets everybody come to rest, checks everything, and stops the nodes.
    pub(super) async fn judge(mut self, note: impl Into<String>) -> Result<End> {
        self.cluster.heal();
        let mut violations = self.violations;
        let mut note: String = note.into();
        let mut worked = None;
        if let Some((operator, passer)) = self.beside {
            let (done, seen) = tokio::join!(operator.stop(), passer.stop());
            note += &format!("; {}", done.note());
            violations.extend(seen);
            worked = Some(done);
        }
        self.town.hush().await;
        let quiet = Instant::now();
        let (history, found) = self.town.verdict(HEAL_MAX, &self.sends).await?;
        let healed = quiet.elapsed();
        if let Some(mut worked) = worked {
            let urls = self.cluster.urls();
            violations.append(&mut worked.violations);
            violations.extend(worked.stay_ended(&urls).await);
            violations.extend(presence::agreed(&urls, &self.town).await?);
        }
        self.town.leave().await;
        violations.extend(found);
        violations.extend(history.refused());
        for node in &mut self.cluster.nodes {
            if !node.stop().await? {
                violations.push(Violation::Dishonest("the last stop was not clean".into()));
            }
        }
        let acked = history.acked();
        ensure!(
            acked >= ACKED_MIN || !violations.is_empty(),
            "too little happened to prove anything: {acked} acknowledgements"
        );
        let healed = healed.as_secs_f64();
        Ok(End::Ran(Findings {
            history,
            violations,
            note: format!("{note}; healed in {healed:.1} s"),
        }))
    }
}

/// F07. The database ends as in a crash and is started again, while everybody writes.
pub async fn database_killed(run: Run) -> Result<End> {
    let mut scene = Scene::open(run).await?;
    let times = run.amount(3, 100);
    for _ in 0..times {
        scene.acked(30).await?;
        scene.cluster.restart_database();
    }
    scene.acked(30).await?;
    scene
        .judge(format!("the database was killed {times} times"))
        .await
}

/// F08. A standby that has not heard of the last commits takes over. They are gone, and everybody is told so: a new
/// history begins, and nobody holds what the server does not have.
pub async fn standby_takes_over(run: Run) -> Result<End> {
    let mut scene = Scene::open(run).await?;
    let times = run.amount(1, 8);
    let (mut lost, mut slowest) = (0, Duration::ZERO);
    for _ in 0..times {
        let primary = scene.cluster.database.address();
        let seed = scene.random.next_u64();
        let between = Proxy::start(primary, seed).await?;
        let standby = scene.cluster.standby(between.address);
        scene.acked(20).await?;
        scene.town.may_lose();
        tokio::task::block_in_place(|| standby.catch_up_with(&scene.cluster.database));
        between.set_both(Toxics::silent());
        let before = scene.town.acked();
        scene.acked(40).await?;
        let gone = Instant::now();
        scene.cluster.fail_over(standby).await?;
        slowest = slowest.max(gone.elapsed());
        lost += scene.town.acked() - before;
        scene.acked(30).await?;
    }
    let words = format!(
        "{times} times, {lost} acknowledged messages behind in all; all nodes back after {:.1} s at most",
        slowest.as_secs_f64()
    );
    scene.judge(words).await
}

/// F09. Each word to the database takes its time, and connections break in the middle of what is said.
pub async fn database_slow(run: Run) -> Result<End> {
    let scene = Scene::open(run).await?;
    let rounds = run.amount(2, 40);
    for _ in 0..rounds {
        for node in &scene.cluster.nodes {
            node.to_database
                .set(Direction::Down, Toxics::slow(Duration::from_millis(40)));
        }
        scene.acked(20).await?;
        for node in &scene.cluster.nodes {
            node.to_database
                .set(Direction::Down, Toxics::breaks_after(2_000..=60_000));
        }
        scene.acked(20).await?;
        scene.cluster.heal();
        scene.acked(40).await?;
    }
    scene.judge(format!("{rounds} times slow, and cut")).await
}

/// F11, between nodes. NATS ends and is started again, without end.
pub async fn bus_killed(run: Run) -> Result<End> {
    let mut scene = Scene::open_operated(run).await?;
    let times = run.amount(4, 100);
    for _ in 0..times {
        scene.cluster.kill_bus();
        scene.acked(20).await?;
        scene.cluster.restart_bus();
        scene.acked(20).await?;
    }
    scene.judge(format!("NATS was killed {times} times")).await
}

/// F14, between nodes. NATS stands still: nobody is told, and nothing comes.
pub async fn bus_stands_still(run: Run) -> Result<End> {
    let scene = Scene::open_operated(run).await?;
    let times = run.amount(2, 30);
    for _ in 0..times {
        scene.cluster.bus.pause();
        scene.acked(60).await?;
        scene.cluster.bus.go_on();
        scene.acked(20).await?;
    }
    scene.judge(format!("NATS stood still {times} times")).await
}

/// F15. Redis is emptied, stands still, and is killed. Nobody who talks sees anything of it.
pub async fn ledger_lost(run: Run) -> Result<End> {
    let mut scene = Scene::open_operated(run).await?;
    let times = run.amount(2, 40);
    for _ in 0..times {
        tokio::task::block_in_place(|| scene.cluster.ledger.flush());
        scene.acked(20).await?;
        scene.cluster.ledger.pause();
        scene.acked(20).await?;
        scene.cluster.ledger.go_on();
        scene.cluster.kill_ledger();
        scene.acked(20).await?;
        scene.cluster.restart_ledger();
    }
    scene.acked(10).await?;
    scene
        .judge(format!("emptied, paused and killed {times} times"))
        .await
}

/// F18. A node is cut off from NATS or from the database, in both directions or in one, and its clients stay.
pub async fn partitions(run: Run) -> Result<End> {
    let mut scene = Scene::open_operated(run).await?;
    let times = run.amount(4, 60);
    let ways = [
        &[Direction::Up][..],
        &[Direction::Down],
        &[Direction::Up, Direction::Down],
    ];
    for nth in 0..times {
        let node = scene.any();
        let cut = *ways.choose(&mut scene.random).context("there are some")?;
        let node = &scene.cluster.nodes[node];
        let proxy = match nth % 2 {
            0 => &node.to_bus,
            _ => &node.to_database,
        };
        cut.iter()
            .for_each(|direction| proxy.set(*direction, Toxics::silent()));
        scene.acked(30).await?;
        proxy.heal();
        // What was under way when the network went does not come any more.
        proxy.reset();
        scene.acked(10).await?;
    }
    scene.judge(format!("{times} partitions")).await
}

/// F01, of several nodes. SIGKILL of a node, whose clients go to the other one.
pub async fn node_killed(run: Run) -> Result<End> {
    let mut scene = Scene::open_operated(run).await?;
    let times = run.amount(4, 100);
    for _ in 0..times {
        let (node, moment) = (scene.any(), scene.random.random_range(1..30));
        scene.acked(moment).await?;
        scene.cluster.nodes[node].kill().await;
        scene.acked(20).await?;
        scene.cluster.nodes[node].start().await?;
    }
    scene.judge(format!("{times} nodes were killed")).await
}

/// F24, of several nodes. A node stands still, in the long form for longer than it may be a node without a word.
pub async fn node_stands_still(run: Run) -> Result<End> {
    let mut scene = Scene::open(run).await?;
    let (times, seconds) = run.amount((2, 3..=5), (8, 35..=90));
    for _ in 0..times {
        let (node, pause) = (scene.any(), scene.random.random_range(seconds.clone()));
        scene.acked(20).await?;
        scene.cluster.nodes[node].server()?.signal("STOP")?;
        // The pause is the fault.
        tokio::time::sleep(Duration::from_secs(pause)).await;
        scene.cluster.nodes[node].server()?.signal("CONT")?;
        scene.acked(20).await?;
    }
    scene.judge(format!("{times} times")).await
}

/// F26, of several nodes. The same message at the same time to all nodes: it is stored once, and all say the same.
pub async fn repeated(run: Run) -> Result<End> {
    let mut scene = Scene::open(run).await?;
    let first = &scene.town.devices[0];
    let (account, chat) = (first.account.clone(), first.chats[0]);
    let urls = scene.cluster.urls();
    let device = "device-that-repeats";
    let person = Person::of(&account, &password(&account))
        .sign_in_on(&urls[0], device)
        .await;
    let messages = run.amount(20, 500);
    for n in 0..messages {
        let (id, text) = (
            format!("repeated-{n:05}"),
            format!("once and not twice {n}"),
        );
        let chat_id = chat.to_string();
        let saying = urls.iter().map(|url| person.say(url, &chat_id, &id, &text));
        let answers = join_all(saying).await;
        for answer in &answers {
            let said = answer.json();
            let seq = said["seq"].as_str().and_then(|seq| seq.parse().ok());
            scene.sends.push(Send {
                key: (device.to_owned(), id.clone()),
                chat,
                text: text.clone(),
                outcome: Outcome::Acked(seq.with_context(|| format!("{id}: {}", answer.code()))?),
            });
            if said != answers[0].json() {
                let words = format!("{id} was answered by {} and {said}", answers[0].json());
                scene.violations.push(Violation::Dishonest(words));
            }
        }
    }
    scene.acked(10).await?;
    scene
        .judge(format!("{messages} messages to all nodes at once"))
        .await
}

/// F32. Nodes of an older version and of this one side by side: each is stopped and started as the other version, in an
/// order that chance chooses, first all of them to this one, then some back, and forth again.
pub async fn two_versions(run: Run) -> Result<End> {
    let older = match tokio::task::block_in_place(node::older) {
        Ok(older) => older,
        Err(why) => return Ok(End::Skipped(why.to_owned())),
    };
    let mut scene = Scene::open_from(Some(older), run).await?;
    let mut changes = 0;
    for _ in 0..run.amount(1, 12) {
        for program in [None, Some(older), None] {
            let mut order: Vec<usize> = (0..PARTS.len()).collect();
            order.shuffle(&mut scene.random);
            // One does not go back: both versions are there together all the time.
            order.truncate(PARTS.len() - usize::from(program.is_some()));
            for node in order {
                scene.acked(15).await?;
                scene.stop(node).await?;
                scene.cluster.nodes[node].program = program.map(Path::to_owned);
                scene.cluster.nodes[node].start().await?;
                changes += 1;
            }
        }
    }
    scene.acked(20).await?;
    scene
        .judge(format!("nodes changed their version {changes} times"))
        .await
}

/// Whether a backup has the table of people.
const IS_BACKED_UP: &str = "SELECT COUNT(*) > 0 FROM pg_locks JOIN pg_stat_activity USING (pid)
     WHERE application_name = 'pg_dump' AND relation = 'users'::regclass";

/// F33. The tables of an older version, with many people in them, are brought up to date while everybody writes. A
/// backup has them when the first node of this version comes, which waits and is killed; then two come at once.
pub async fn tables_change(run: Run) -> Result<End> {
    let older = match tokio::task::block_in_place(node::older) {
        Ok(older) => older,
        Err(why) => return Ok(End::Skipped(why.to_owned())),
    };
    let mut scene = Scene::open_from(Some(older), run).await?;
    let people = run.amount(200_000, 10_000_000);
    let many = format!(
        "INSERT INTO users (user_id, name, display_name, about, created_at_ms, changed_at_ms)
         SELECT n, 'somebody' || n, 'Somebody ' || n, '', 1, 1 FROM generate_series(1, {people}) n"
    );
    tokio::task::block_in_place(|| scene.cluster.database.ask(&many));
    for node in 1..PARTS.len() {
        scene.stop(node).await?;
        scene.cluster.nodes[node].program = None;
    }
    let backup = tokio::task::block_in_place(|| {
        let backup = scene.cluster.database.backup();
        while scene.cluster.database.ask(IS_BACKED_UP) != "t" {
            std::thread::yield_now();
        }
        backup
    });
    let Scene { cluster, town, .. } = &mut scene;
    let [_, one, other] = &mut cluster.nodes[..] else {
        bail!("there are {} nodes", PARTS.len());
    };
    tokio::select! {
        started = one.start() => {
            started?;
            bail!("this version changes no table of the one that tests/older-version names");
        }
        // Who is not started any more is killed.
        acked = town.more_acked(60, PATIENCE) => acked?,
    }
    tokio::task::block_in_place(|| backup.end());
    let began = Instant::now();
    tokio::try_join!(one.start(), other.start())?;
    let took = began.elapsed().as_secs_f64();
    scene.acked(20).await?;
    scene.stop(0).await?;
    scene.cluster.nodes[0].program = None;
    scene.cluster.nodes[0].start().await?;
    scene.acked(20).await?;
    let note = format!("{people} people; two nodes at once were ready {took:.1} s after a backup");
    scene.judge(note).await
}

/// F34, of several nodes. All nodes are stopped and started again, one after the other, while everybody writes.
pub async fn rolling_restart(run: Run) -> Result<End> {
    let mut scene = Scene::open(run).await?;
    let rounds = run.amount(1, 20);
    for _ in 0..rounds {
        for node in 0..PARTS.len() {
            scene.acked(30).await?;
            scene.stop(node).await?;
            scene.acked(20).await?;
            scene.cluster.nodes[node].start().await?;
        }
    }
    scene.acked(20).await?;
    scene.judge(format!("all nodes, {rounds} times")).await
}

/// A service has nodes of its own, and one after the other is killed, stands still, is cut off from those that call it, and
/// stopped. The calls that are handed on are those about people and members; who writes notices nothing.
pub async fn service_apart(run: Run) -> Result<End> {
    let mut scene = Scene::open_of(&APART, None, &[], run).await?;
    let rounds = run.amount(2_usize, 40);
    for nth in 0..rounds {
        let service = APART.len() - 1 - nth % 2;
        scene.acked(10).await?;
        scene.cluster.nodes[service].kill().await;
        scene.looks_up_people().await?;
        scene.cluster.nodes[service].start().await?;

        scene.cluster.nodes[service].server()?.signal("STOP")?;
        scene.looks_up_people().await?;
        scene.cluster.nodes[service].server()?.signal("CONT")?;

        scene.cluster.nodes[service].door.set_both(Toxics::silent());
        scene.looks_up_people().await?;
        scene.cluster.nodes[service].door.heal();
        scene.cluster.nodes[service].door.reset();

        scene.stop(service).await?;
        scene.looks_up_people().await?;
        scene.cluster.nodes[service].start().await?;
    }
    scene.acked(10).await?;
    scene
        .judge(format!("{rounds} rounds of all that can become of a node"))
        .await
}
