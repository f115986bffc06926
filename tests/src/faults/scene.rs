//! What every fault happens to: a server in its own process behind a network that misbehaves on request, a
//! town that talks, somebody who asks, and somebody who measures.
//!
//! ```text
//! town ───► proxy (toxics) ───► server ◄─── plain proxy ◄─── probe
//! ```
//! Both proxies have one address while the server moves to another port with each start.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use rand::rngs::StdRng;
use rand::{RngCore as _, SeedableRng as _};
use tempfile::TempDir;

use super::meter::{Bounds, Meter};
use super::probe::{Allowed, Probe};
use super::{End, Findings, Run};
use crate::checker::{Send, Violation};
use crate::node::{Process, Start, tertulia};
use crate::proxy::Proxy;
use crate::town::{Plan, Town, Traffic};

/// How long what must happen may take on a busy machine before the run gives up.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// How long everybody has to agree once a fault is over: many heartbeats of a second.
pub const HEAL_MAX: Duration = Duration::from_secs(20);
/// The same two for a server that is broken on purpose: it need not be waited for.
const SABOTAGED_PATIENCE: Duration = Duration::from_secs(10);
const SABOTAGED_HEAL_MAX: Duration = Duration::from_secs(6);
/// How long a server whose disk is well again has to begin anew: it looks every second, and stops in its grace.
const ANEW_MAX: Duration = Duration::from_secs(20);
/// With fewer acknowledgements a run proves nothing.
const ACKED_MIN: usize = 20;

/// What is special in a scene.
pub struct Setup {
    /// Settings of the server.
    pub settings: Vec<(&'static str, String)>,
    /// Further arguments of `tertulia serve`.
    pub args: Vec<String>,
    /// Further variables of its environment.
    pub env: Vec<(String, String)>,
    /// Where it keeps its data; a folder of its own when there is none.
    pub data: Option<PathBuf>,
    /// Who talks.
    pub plan: Plan,
    /// What they do.
    pub traffic: Traffic,
    /// What the server may take.
    pub bounds: Bounds,
    /// What the one who asks puts up with.
    pub allowed: Allowed,
    /// Whether the last device is behind a network of its own.
    pub narrow: bool,
}

impl Default for Setup {
    fn default() -> Self {
        let bounds = Bounds {
            memory_mib: 400,
            files: 400,
            threads: 100,
        };
        Setup {
            settings: Vec::new(),
            args: Vec::new(),
            env: Vec::new(),
            data: None,
            plan: Plan::default(),
            traffic: Traffic::default(),
            bounds,
            allowed: Allowed::default(),
            narrow: false,
        }
    }
}

/// A scene that is going on.
pub struct Scene {
    /// What chance decides.
    pub random: StdRng,
    /// Between the town and the server.
    pub proxy: Proxy,
    /// Between the last device and the server, when it has a network of its own.
    pub narrow: Proxy,
    /// A network without faults.
    pub plain: Proxy,
    /// Who talks.
    pub town: Town,
    /// What was sent beside the town.
    pub sends: Vec<Send>,
    /// What was found broken so far.
    pub violations: Vec<Violation>,
    /// The server, unless it was killed.
    pub server: Option<Process>,
    /// What it takes.
    pub meter: Meter,
    /// How long the town waits for acknowledgements.
    patience: Duration,
    /// How long everybody has to agree.
    pub heal_max: Duration,
    setup: Setup,
    data: PathBuf,
    log_file: PathBuf,
    probe: Probe,
    _folder: TempDir,
}

impl Scene {
    /// Starts the server and lets the town talk.
    ///
    /// # Errors
    /// When the server does not start or does not take the town.
    pub async fn open(run: Run, mut setup: Setup) -> Result<Scene> {
        let mut random = StdRng::seed_from_u64(run.seed);
        let (patience, heal_max) = match run.sabotage {
            Some(_) => (SABOTAGED_PATIENCE, SABOTAGED_HEAL_MAX),
            None => (PATIENCE, HEAL_MAX),
        };
        let folder = tempfile::tempdir()?;
        let data = setup
            .data
            .clone()
            .unwrap_or_else(|| folder.path().join("data"));
        let log = folder.path().join("log");
        let quick = [
            ("live.heartbeat_ms", "1000"),
            ("drain.spread_ms", "1000"),
            ("drain.grace_ms", "5000"),
        ];
        let own = quick.map(|(key, value)| (key, value.to_owned()));
        setup.settings.splice(0..0, own);
        if let Some(what) = run.sabotage {
            setup.args.extend([
                "--sabotage".into(),
                what.into(),
                "--confirm-sabotage".into(),
            ]);
        }
        let server = start(&data, &log, &setup, None).await?;
        let target = address(&server)?;
        let proxy = Proxy::start(target, random.next_u64()).await?;
        let narrow = Proxy::start(target, random.next_u64()).await?;
        let plain = Proxy::start(target, 0).await?;
        let meter = Meter::start();
        meter.watch(server.pid());
        let mut town = Town::found(
            &proxy.url(),
            setup.narrow.then(|| narrow.url()),
            &setup.plan,
        )
        .await?;
        let first = &town.devices[0];
        let (account, chat) = (first.account.clone(), first.chats[0]);
        let probe = Probe::start(&plain.url(), &account, chat, town.news(), setup.allowed).await?;
        town.act(&setup.traffic, &mut random);
        Ok(Scene {
            random,
            proxy,
            narrow,
            plain,
            town,
            sends: Vec::new(),
            violations: Vec::new(),
            server: Some(server),
            meter,
            patience,
            heal_max,
            setup,
            data,
            log_file: log,
            probe,
            _folder: folder,
        })
    }

    /// Waits until the town got so many more acknowledgements.
    ///
    /// # Errors
    /// When it gets none any more.
    pub async fn acked(&self, more: u64) -> Result<()> {
        self.town.more_acked(more, self.patience).await
    }

    /// The running server.
    ///
    /// # Errors
    /// When it was killed.
    pub fn server(&self) -> Result<&Process> {
        self.server.as_ref().context("the server was killed")
    }

    /// Ends the server with SIGKILL.
    pub async fn kill(&mut self) {
        if let Some(server) = self.server.take() {
            server.kill().await;
        }
    }

    /// Waits until the server has begun anew by itself, and gives how long that took.
    ///
    /// # Errors
    /// When it does not.
    pub async fn begun_anew(&mut self) -> Result<Duration> {
        let waiting = Instant::now();
        let server = self.server.as_mut().context("the server was killed")?;
        server.began_anew(ANEW_MAX).await?;
        let target = address(server)?;
        self.lead_to(target);
        Ok(waiting.elapsed())
    }

    fn lead_to(&self, target: SocketAddr) {
        for proxy in [&self.proxy, &self.narrow, &self.plain] {
            proxy.lead_to(target);
        }
    }

    /// What the server has logged, over all its starts.
    ///
    /// # Errors
    /// When it can not be read.
    pub fn log(&self) -> Result<String> {
        std::fs::read_to_string(&self.log_file).context("the log of the server")
    }

    /// Starts the server again on its folder; `crash` says where it shall abort.
    ///
    /// # Errors
    /// When it does not become ready.
    pub async fn start(&mut self, crash: Option<(&str, u64)>) -> Result<()> {
        let server = start(&self.data, &self.log_file, &self.setup, crash).await?;
        let target = address(&server)?;
        self.meter.watch(server.pid());
        self.lead_to(target);
        self.server = Some(server);
        Ok(())
    }

    /// Ends all faults of the network, lets everybody come to rest, and checks everything.
    ///
    /// # Errors
    /// When the logs can not be read, the last stop fails, or too little happened to prove anything.
    pub async fn judge(mut self, note: impl Into<String>) -> Result<End> {
        self.proxy.heal();
        self.narrow.heal();
        self.town.hush().await;
        let quiet = Instant::now();
        let (history, found) = self.town.verdict(self.heal_max, &self.sends).await?;
        let healed = quiet.elapsed();
        let asked = self.probe.stop().await;
        self.town.leave().await;
        let mut violations = BTreeSet::from_iter(self.violations);
        violations.extend(found);
        violations.extend(history.refused());
        violations.extend(asked.wrong);
        violations.extend(self.meter.over(self.setup.bounds));
        let server = self
            .server
            .take()
            .context("there is no server at the end")?;
        if !server.terminate().await?.success() {
            violations.insert(Violation::Dishonest("the last stop was not clean".into()));
        }
        violations.extend(verified(&self.data).await?);
        let acked = history.acked();
        anyhow::ensure!(
            acked >= ACKED_MIN || !violations.is_empty(),
            "too little happened to prove anything: {acked} acknowledgements"
        );
        let most = self.meter.most();
        let note = format!(
            "{}; healed in {:.1} s; {} of {} questions answered, the slowest in {} ms; at most {} MiB, {} files",
            note.into(),
            healed.as_secs_f64(),
            asked.right,
            asked.right + asked.later,
            asked.slowest.as_millis(),
            most.memory_mib,
            most.files
        );
        let violations = violations.into_iter().collect();
        Ok(End::Ran(Findings {
            history,
            violations,
            note,
        }))
    }
}

/// What `tertulia verify` finds in a data folder whose server has stopped.
async fn verified(data: &Path) -> Result<Option<Violation>> {
    let verified = tertulia().arg("verify").arg("--data").arg(data).output();
    let verified = verified.await.context("the folder can not be verified")?;
    let said = String::from_utf8_lossy(&verified.stdout).into_owned();
    let why = String::from_utf8_lossy(&verified.stderr).into_owned();
    Ok((!verified.status.success()).then(|| Violation::Untrue(said + &why)))
}

fn address(server: &Process) -> Result<SocketAddr> {
    server.address().parse().context("the server's address")
}

async fn start(
    data: &Path,
    log: &Path,
    setup: &Setup,
    crash: Option<(&str, u64)>,
) -> Result<Process> {
    let settings: Vec<(&str, &str)> = setup
        .settings
        .iter()
        .map(|(key, value)| (*key, value.as_str()))
        .collect();
    let start = Start {
        settings: &settings,
        args: &setup.args,
        env: &setup.env,
        crash,
        log: Some(log),
        ..Start::default()
    };
    Process::start(data, start).await
}
