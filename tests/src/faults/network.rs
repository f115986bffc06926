//! Faults between clients and the server.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use tertulia_client::Connection;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::meter::{Bounds, Taken};
use super::scene::{PATIENCE, Scene, Setup};
use super::{End, Run};
use crate::checker::Violation;
use crate::proxy::{Direction, Toxics};
use crate::town::{Plan, Traffic, password};
use crate::wire::Socket;

/// How long the server may keep a peer that vanished: two and a half heartbeats of a second, the last words,
/// and what a busy machine adds.
const LET_GO_MAX: Duration = Duration::from_secs(12);

/// For how many rounds all but one device stay, so that it has something to hold, and for how many it is away:
/// until there is more in its chats than it reads event by event.
const ROUNDS_THERE: usize = 2;
const ROUNDS_AWAY: usize = 6;

/// F00. Nothing that the list names: connections break in the middle of what is said, devices go away and come
/// back to much that they missed, and one to so much that it skips it and must hear of changes of what it holds.
/// It is what most clients see most of the time.
pub async fn come_and_go(run: Run) -> Result<End> {
    let mut setup = Setup::default();
    setup.plan.devices_each = 2;
    setup.plan.others_skip = true;
    // Who was away for a while is told where the chats end and no more.
    setup.settings = vec![("chats.delta_events_max", "200".into())];
    let scene = Scene::open(run, setup).await?;
    let period = ROUNDS_THERE + ROUNDS_AWAY;
    let rounds = run.amount(period, 40 * period);
    let devices = scene.town.devices.clone();
    let mut absent = Arc::clone(&devices[1]);
    for round in 0..rounds {
        match round % period {
            0 => absent.client.start(),
            ROUNDS_THERE => {
                // One of those that skip.
                absent = Arc::clone(&devices[(2 * (round / period) + 1) % devices.len()]);
                absent.client.stop().await;
            }
            _ => {}
        }
        // Answers are lost while they are said, and so are calls.
        scene
            .proxy
            .set(Direction::Down, Toxics::breaks_after(300..=20_000));
        scene
            .proxy
            .set(Direction::Up, Toxics::breaks_after(3_000..=30_000));
        scene.acked(15).await?;
        scene.proxy.heal();
        // Another one each time, and never the one that is away for long.
        let mut away = devices.iter().cycle().skip(round);
        let device = away.find(|device| device.name != absent.name);
        let device = Arc::clone(device.context("there are others")?);
        device.client.stop().await;
        scene.acked(120).await?;
        device.client.start();
    }
    absent.client.start();
    let connections = scene.proxy.accepted();
    scene
        .judge(format!("{connections} connections, {rounds} times away"))
        .await
}

/// F19. The network keeps every socket and passes nothing. Both sides must notice by themselves: clients come
/// back on new connections, and the server lets the old ones go.
pub async fn half_open(run: Run) -> Result<End> {
    let setup = Setup {
        // One of them may vanish between its handshake and its first frame.
        settings: vec![
            ("http.header_timeout_ms", "3000".into()),
            ("live.hello_timeout_ms", "3000".into()),
        ],
        ..Setup::default()
    };
    let mut scene = Scene::open(run, setup).await?;
    let rounds = run.amount(2, 30);
    let mut slowest = Duration::ZERO;
    for _ in 0..rounds {
        scene.acked(30).await?;
        let peers = scene.proxy.open() as u64;
        let pid = scene.server()?.pid();
        // Without those of who asks, which come and go by another way.
        let sockets = || {
            let all = Taken::now(pid).map_or(0, |taken| taken.sockets);
            all.saturating_sub(scene.plain.open() as u64)
        };
        // New connections would take the places of those that are let go.
        scene.proxy.refuse(true);
        scene.proxy.set_both(Toxics::silent());
        let (began, before) = (Instant::now(), sockets());
        let let_go = async {
            while sockets() + peers > before {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        if tokio::time::timeout(LET_GO_MAX, let_go).await.is_err() {
            let still = format!(
                "{} of {before} sockets are open {LET_GO_MAX:?} after {peers} peers vanished",
                sockets()
            );
            scene.violations.push(Violation::Unbounded(still));
        }
        slowest = slowest.max(began.elapsed());
        scene.proxy.heal();
        scene.proxy.reset();
    }
    scene
        .judge(format!(
            "{rounds} times, let go within {:.1} s",
            slowest.as_secs_f64()
        ))
        .await
}

/// How many frames the server of a slow reader keeps for it.
const SLOW_FRAMES_MAX: u64 = 64;
/// How many peers never read.
const DEAF: usize = 20;

/// F20. One device gets a hundred bytes a second, others read nothing at all, while everybody else writes much.
/// It costs the slow ones their queue, and nobody else anything; when the network is good again the slow device
/// has everything.
pub async fn slow_reader(run: Run) -> Result<End> {
    let mut setup = Setup {
        settings: vec![
            ("live.outbound_frames_max", SLOW_FRAMES_MAX.to_string()),
            ("live.outbound_bytes_max", "65536".into()),
        ],
        narrow: true,
        ..Setup::default()
    };
    setup.traffic.text_chars = 2_000..=4_000;
    let mut scene = Scene::open(run, setup).await?;
    let slow = scene.town.devices.len() - 1;
    let account = scene.town.devices[slow].account.clone();
    let mut deaf = Vec::new();
    let person = crate::wire::Person::of(&account, &password(&account))
        .sign_in(&scene.plain.url())
        .await;
    for _ in 0..DEAF {
        // It never reads again, so that the window closes.
        deaf.push(Socket::hello(&scene.plain.url(), &person.token, "").await.0);
    }
    let pid = scene.server()?.pid();
    let before = Taken::now(pid).map_or(0, |taken| taken.sockets);
    let narrow = Toxics {
        bytes_per_second: Some(100),
        ..Toxics::default()
    };
    scene.narrow.set(Direction::Down, narrow);
    let began = Instant::now();
    scene.acked(run.amount(300, 5_000)).await?;
    let wrote = began.elapsed();
    let gone = async {
        while Taken::now(pid).map_or(0, |taken| taken.sockets) + DEAF as u64 > before {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    if tokio::time::timeout(LET_GO_MAX, gone).await.is_err() {
        let words = format!("{DEAF} peers that read nothing are not let go after {LET_GO_MAX:?}");
        scene.violations.push(Violation::Unbounded(words));
    }
    drop(deaf);
    scene
        .judge(format!(
            "much was written in {:.1} s beside them",
            wrote.as_secs_f64()
        ))
        .await
}

/// How long a peer may dribble: the timeouts below, and what a busy machine adds.
const DRIBBLE_MAX: Duration = Duration::from_secs(12);
/// What peers dribble.
const DRIBBLES: [&str; 6] = [
    "nothing at all",
    "nothing after the beginning of HTTP/2",
    "the head of a request",
    "the body of a request",
    "nothing after a handshake",
    "the first frame",
];

/// F21. Peers that say nothing, or a byte now and then: of the head of a request, of its body, of a first frame, and
/// of a frame. Each is let go in time, and nobody else is held up.
pub async fn dribble(run: Run) -> Result<End> {
    let each = run.amount(25, 500);
    let mut setup = Setup {
        settings: vec![
            ("http.header_timeout_ms", "2000".into()),
            ("http.call_timeout_ms", "2000".into()),
            ("live.hello_timeout_ms", "2000".into()),
        ],
        ..Setup::default()
    };
    setup.bounds.files += DRIBBLES.len() as u64 * each;
    let mut scene = Scene::open(run, setup).await?;
    let address = scene.plain.address;
    let host = format!("Host: {address}\r\n");
    let upgrade = format!(
        "GET /live HTTP/1.1\r\n{host}Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Protocol: tertulia.v1.json\r\n\r\n"
    );
    let body = format!(
        "POST /tertulia.identity.v1.IdentityService/Login HTTP/1.1\r\n{host}Content-Type: application/json\r\n\
         Content-Length: 1000\r\n\r\n"
    );
    // A text frame of 125 bytes of a client, masked by zeroes.
    let frame = [upgrade.as_bytes(), &[0x81, 0xfd, 0, 0, 0, 0]].concat();
    let begun: [&[u8]; DRIBBLES.len()] = [
        b"",
        b"PRI * HTTP/2.0\r\n",
        b"GET / HTTP/1.1\r\nX-Slow: ",
        body.as_bytes(),
        upgrade.as_bytes(),
        &frame,
    ];
    let mut peers = tokio::task::JoinSet::new();
    for (what, begin) in DRIBBLES.into_iter().zip(begun) {
        for _ in 0..each {
            let begin = begin.to_vec();
            let silent = what.starts_with("nothing");
            peers.spawn(async move { (what, dribbled(address, &begin, silent).await) });
        }
    }
    scene.acked(30).await?;
    let mut slowest = Duration::ZERO;
    while let Some(peer) = peers.join_next().await {
        match peer? {
            (_, Some(after)) => slowest = slowest.max(after),
            (what, None) => {
                let words = format!("who dribbles {what} is not let go after {DRIBBLE_MAX:?}");
                scene.violations.push(Violation::Unbounded(words));
            }
        }
    }
    let note = format!(
        "{} peers dribbled, let go within {:.1} s",
        DRIBBLES.len() as u64 * each,
        slowest.as_secs_f64()
    );
    scene.judge(note).await
}

/// Says `begin` and then a byte every now and then; gives after how long the server has let go.
async fn dribbled(address: SocketAddr, begin: &[u8], silent: bool) -> Option<Duration> {
    let began = Instant::now();
    let until_gone = async {
        let mut peer = TcpStream::connect(address).await?;
        peer.write_all(begin).await?;
        let (mut from, mut to) = peer.split();
        let hears = async {
            let mut heard = [0; 1_024];
            while from.read(&mut heard).await? > 0 {}
            std::io::Result::Ok(())
        };
        let says = async {
            loop {
                tokio::time::sleep(Duration::from_millis(300)).await;
                if !silent {
                    to.write_all(b"x").await?;
                }
            }
        };
        tokio::select! {
            end = hears => end,
            end = says => end,
        }
    };
    // An error is an end as well.
    let gone = tokio::time::timeout(DRIBBLE_MAX, until_gone).await.is_ok();
    gone.then(|| began.elapsed())
}

/// F23. One chat that everybody hears and many write to: two people with many devices, the largest chat that
/// there is. Others are answered meanwhile.
pub async fn hot_chat(run: Run) -> Result<End> {
    let devices_each = run.amount(15, 50);
    let mut setup = Setup {
        plan: Plan {
            people: 2,
            devices_each,
            ..Plan::default()
        },
        ..Setup::default()
    };
    // Each may come back before its old session is let go.
    setup.settings = vec![("live.sessions_per_user_max", (3 * devices_each).to_string())];
    setup.bounds.memory_mib = 600;
    setup.bounds.files = 600;
    setup.traffic.waiting_max = 4;
    setup.traffic.thought = Duration::from_millis(20)..=Duration::from_millis(150);
    let scene = Scene::open(run, setup).await?;
    let began = Instant::now();
    let messages = run.amount(600, 50_000);
    scene.acked(messages).await?;
    let rate = messages as f64 / began.elapsed().as_secs_f64();
    scene
        .judge(format!(
            "{rate:.0} messages a second to {} devices",
            2 * devices_each
        ))
        .await
}

/// F22. All connections are reset at once while everybody says one last thing, and nobody says anything
/// after it: what falls between two connections is not brought to light by what follows.
pub async fn storm(run: Run) -> Result<End> {
    let (people, devices_each) = run.amount((30, 2), (200, 5));
    let connections = (people * devices_each) as u64;
    let setup = Setup {
        plan: Plan {
            people,
            devices_each,
            ..Plan::default()
        },
        traffic: Traffic {
            waiting_max: 4,
            thought: Duration::from_millis(200)..=Duration::from_millis(2_000),
            ..Traffic::default()
        },
        bounds: Bounds {
            memory_mib: 600,
            files: 200 + 4 * connections,
            threads: 100,
        },
        ..Setup::default()
    };
    let mut scene = Scene::open(run, setup).await?;
    scene.acked(100).await?;
    scene.town.hush().await;
    let rounds = run.amount(4, 40);
    let mut slowest = Duration::ZERO;
    for round in 0..rounds {
        all_online(&scene).await?;
        scene.proxy.reset();
        let began = Instant::now();
        for (at, device) in scene.town.devices.iter().enumerate() {
            let chat = device.chats[round % device.chats.len()];
            device
                .say(chat, format!("{} says in storm {round}", device.name))
                .await?;
            if at % 8 == 0 {
                tokio::task::yield_now().await;
            }
        }
        all_online(&scene).await?;
        slowest = slowest.max(began.elapsed());
        let quiet = scene.town.history(scene.heal_max, &[]).await?;
        scene.violations.extend(quiet.check());
        if !scene.violations.is_empty() {
            break;
        }
    }
    let note = format!(
        "{rounds} storms of {connections}, all back within {:.1} s",
        slowest.as_secs_f64()
    );
    scene.judge(note).await
}

/// Waits until every device is connected.
async fn all_online(scene: &Scene) -> Result<()> {
    for device in &scene.town.devices {
        let mut connection = device.client.connection();
        let online = connection.wait_for(|now| matches!(now, Connection::Online));
        let waited = tokio::time::timeout(PATIENCE, online).await;
        anyhow::ensure!(
            waited.is_ok(),
            "{} is not back after {PATIENCE:?}",
            device.name
        );
    }
    Ok(())
}
