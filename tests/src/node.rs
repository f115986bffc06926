//! A node of our own for one test: its own folder, its own port.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use tempfile::TempDir;
use tertulia_kit::config::{self, Sources};
use tertulia_kit::instances::postgres::Instance;
use tertulia_kit::secret::Secret;
use tertulia_kit::transport::nats::NodeKey;
use tertulia_server::config::SCHEMA;
use tertulia_server::harm::Harm;
use tertulia_server::wiring::{self, Node};
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::sync::watch;

use crate::many::{InTurn, NODE_KEY, PEPPER, Shared, Stand};
use crate::wire::Person;

/// Hashing that costs nothing worth waiting for, and no limits but those that a test sets itself.
const QUICK: [(&str, &str); 4] = [
    ("identity.argon2_memory_kib", "8192"),
    ("identity.argon2_passes", "1"),
    ("limits.enabled", "false"),
    ("limits.account_attempts_per_minute", "10000"),
];

/// What the server says when it is ready, before its address.
const READY: &str = "Tertulia is ready at ";

/// What it says before that, before the address of its numbers.
const METRICS: &str = "Metrics are at ";

/// A node in this process.
pub struct Local {
    /// The node.
    pub node: Node,
    /// Where it is reached.
    pub url: String,
    folder: TempDir,
    /// What keeps everything, when that is not the folder.
    database: Option<Instance>,
    /// What makes it one of several.
    beside: Option<Beside>,
}

/// Another node that has the same, what they share, and the address of both.
struct Beside {
    node: Node,
    _folder: TempDir,
    _shared: Shared,
    _address: InTurn,
}

impl Local {
    /// Starts one.
    pub async fn start() -> Local {
        Local::with(&[]).await
    }

    /// Starts one with other settings.
    pub async fn with(settings: &[(&str, &str)]) -> Local {
        Local::with_secrets(settings, &[]).await
    }

    /// Starts one with other settings and with secrets, which are no flags.
    pub async fn with_secrets(settings: &[(&str, &str)], secrets: &[(&str, &str)]) -> Local {
        let is_own = |(key, _): &(&str, &str)| ["store.url", "bus.url", "redis.url"].contains(key);
        let stand = match Stand::wanted() {
            _ if secrets.iter().any(is_own) => Stand::Folder,
            wanted => wanted,
        };
        match stand {
            Stand::Folder => Box::pin(Local::alone(settings, secrets, None)).await,
            Stand::Postgres => {
                Box::pin(Local::alone(settings, secrets, Some(Instance::start()))).await
            }
            Stand::Cluster => Box::pin(Local::one_of_two(settings, secrets)).await,
        }
    }

    /// Starts one on its folder, whatever the nodes of this run stand on, and says why it is no other.
    pub async fn one(why: &str) -> Local {
        let wanted = Stand::wanted();
        if wanted != Stand::Folder {
            println!("one node on its folder, not {wanted:?}: {why}");
        }
        Box::pin(Local::alone(&[], &[], None)).await
    }

    async fn one_of_two(settings: &[(&str, &str)], secrets: &[(&str, &str)]) -> Local {
        let shared = Shared::start();
        let told = shared.secrets();
        let told = told.iter().map(|(key, value)| (*key, value.as_str()));
        // What a test sets itself comes last, and counts.
        let secrets: Vec<_> = told.chain(secrets.iter().copied()).collect();
        let one = Local::alone(settings, &secrets, None).await;
        let other = Local::alone(settings, &secrets, None).await;
        let nodes = vec![one.node.address, other.node.address];
        let address = InTurn::start(nodes).await.unwrap();
        Local {
            url: format!("http://{}", address.address),
            beside: Some(Beside {
                node: other.node,
                _folder: other.folder,
                _shared: shared,
                _address: address,
            }),
            ..one
        }
    }

    async fn alone(
        settings: &[(&str, &str)],
        secrets: &[(&str, &str)],
        database: Option<Instance>,
    ) -> Local {
        let folder = tempfile::tempdir().unwrap();
        let address = database.as_ref().map(Instance::url);
        let kept = address.as_deref().map(|url| ("store.url", url));
        let data = folder.path().join("data").display().to_string();
        let own = [("data", data.as_str()), ("listen", "127.0.0.1:0")];
        let flags = own.iter().chain(&QUICK).chain(settings);
        let flags = flags
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect();
        let mut sources = Sources::of_process(None, flags);
        sources
            .env
            .extend(secrets.iter().chain(&kept).map(|(key, value)| {
                let name = SCHEMA.env_name(SCHEMA.field(key).unwrap());
                (name.into(), (*value).into())
            }));
        let config = config::load(&SCHEMA, sources).unwrap_or_else(|e| panic!("{e}"));
        let node = wiring::start(config.value, Harm::default()).await.unwrap();
        let url = format!("http://{}", node.address);
        Local {
            node,
            url,
            folder,
            database,
            beside: None,
        }
    }

    /// Where each of the nodes behind [`Local::url`] is reached alone, for what a test says of one node: a limit, or
    /// what a node may learn within a second.
    pub fn urls(&self) -> Vec<String> {
        let other = self.beside.as_ref().map(|beside| &beside.node);
        let all = std::iter::once(&self.node).chain(other);
        all.map(|node| format!("http://{}", node.address)).collect()
    }

    /// A token of a person that this node made an hour ago, signed with its own key.
    pub fn expired_token(&self, person: &Person) -> String {
        let seed = self.signing_seed();
        // An Ed25519 key in PKCS #8 (RFC 8410) is a fixed head and the seed.
        let mut der = vec![
            0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20,
        ];
        der.extend_from_slice(&seed);
        let header = jsonwebtoken::decode_header(&person.token).unwrap();
        let payload = person.token.split('.').nth(1).unwrap();
        let mut claims: Value =
            serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap();
        for claim in ["iat", "nbf", "exp"] {
            if let Some(at) = claims[claim].as_i64() {
                claims[claim] = json!(at - 3_600);
            }
        }
        let key = jsonwebtoken::EncodingKey::from_ed_der(&der);
        jsonwebtoken::encode(&header, &claims, &key).unwrap()
    }

    /// What shows it that somebody may act as a node.
    pub fn node_key(&self) -> NodeKey {
        let key = match self.beside {
            Some(_) => NODE_KEY.into(),
            None => std::fs::read(self.folder.path().join("data/node.key")).unwrap(),
        };
        NodeKey::new(Secret::new(key)).unwrap()
    }

    /// The seed of its key: a file of its own, or what all nodes on one database make of the pepper.
    fn signing_seed(&self) -> Vec<u8> {
        let read = |name: &str| std::fs::read(self.folder.path().join("data").join(name)).unwrap();
        let pepper = match (&self.beside, &self.database) {
            (Some(_), _) => PEPPER.into(),
            (None, Some(_)) => read("pepper.key"),
            (None, None) => return read("signing.key"),
        };
        let pepper = jsonwebtoken::EncodingKey::from_secret(&pepper);
        let algorithm = jsonwebtoken::Algorithm::HS256;
        let seed = jsonwebtoken::crypto::sign(b"tertulia seed\0access tokens", &pepper, algorithm);
        URL_SAFE_NO_PAD.decode(seed.unwrap()).unwrap()
    }
}

/// A server in its own process, to be killed.
pub struct Process {
    child: Child,
    /// Where it is reached.
    pub url: String,
    /// Where its numbers are read.
    pub metrics: String,
    /// Where it said that it is reached, each time when it began.
    ready: watch::Receiver<Doors>,
}

/// How a process is started.
#[derive(Debug, Clone, Default)]
pub struct Start<'a> {
    /// The address; a free one when empty.
    pub listen: Option<&'a str>,
    /// Settings beside the quick ones.
    pub settings: &'a [(&'a str, &'a str)],
    /// Aborts at this step of the n-th send.
    pub crash: Option<(&'a str, u64)>,
    /// Further arguments of `tertulia serve`.
    pub args: &'a [String],
    /// Further variables of its environment.
    pub env: &'a [(String, String)],
    /// What it logs goes into this file; nowhere when there is none.
    pub log: Option<&'a Path>,
    /// The binary, when it is not the one that is built here.
    pub program: Option<&'a Path>,
}

impl Process {
    /// Starts the real binary on a folder and waits until it is ready.
    ///
    /// # Errors
    /// When it does not become ready.
    pub async fn start(folder: &Path, start: Start<'_>) -> Result<Process> {
        let mut child = spawn(folder, &start)?;
        let mut lines = BufReader::new(child.stdout.take().context("no stdout")?).lines();
        let ready = tokio::time::timeout(Duration::from_secs(60), doors(&mut lines)).await;
        let doors_open = match ready
            .context("the server is not ready after a minute")
            .and_then(|r| r)
        {
            Ok(doors) => doors,
            Err(error) => {
                _ = child.start_kill();
                let output = child.wait_with_output().await?;
                return Err(error.context(String::from_utf8_lossy(&output.stderr).into_owned()));
            }
        };
        // What it logs from here on is read at once, so that it never waits for us.
        let mut stderr = child.stderr.take().context("no stderr")?;
        match start.log {
            Some(path) => {
                let options = std::fs::OpenOptions::new()
                    .create(true)
                    .append(true)
                    .open(path);
                let mut file =
                    tokio::fs::File::from_std(options.context("the log can not be kept")?);
                tokio::spawn(async move { tokio::io::copy(&mut stderr, &mut file).await });
            }
            None => {
                tokio::spawn(
                    async move { tokio::io::copy(&mut stderr, &mut tokio::io::sink()).await },
                );
            }
        }
        let (said, ready) = watch::channel(doors_open.clone());
        tokio::spawn(async move {
            while let Ok(doors) = doors(&mut lines).await {
                said.send_replace(doors);
            }
        });
        let Doors { url, metrics } = doors_open;
        Ok(Process {
            child,
            url,
            metrics,
            ready,
        })
    }

    /// Starts the real binary on a folder and kills it after `moment`, ready or not.
    ///
    /// # Errors
    /// When it can not be started, or ends by itself before that.
    pub async fn start_and_kill(folder: &Path, moment: Duration) -> Result<()> {
        let mut child = spawn(folder, &Start::default())?;
        if tokio::time::timeout(moment, child.wait()).await.is_ok() {
            let output = child.wait_with_output().await?;
            bail!(
                "it ended by itself: {}",
                String::from_utf8_lossy(&output.stderr)
            );
        }
        Ok(child.kill().await?)
    }

    /// Waits until it has begun anew by itself, in the same process, maybe at another address.
    ///
    /// # Errors
    /// When it does not, or ends.
    pub async fn began_anew(&mut self, patience: Duration) -> Result<()> {
        let said = tokio::time::timeout(patience, self.ready.changed()).await;
        said.with_context(|| format!("it does not begin anew in {patience:?}"))?
            .context("it has ended")?;
        let Doors { url, metrics } = self.ready.borrow_and_update().clone();
        (self.url, self.metrics) = (url, metrics);
        Ok(())
    }

    /// The address without the scheme.
    pub fn address(&self) -> &str {
        self.url.trim_start_matches("http://")
    }

    /// The process.
    pub fn pid(&self) -> u32 {
        self.child.id().unwrap_or_default()
    }

    /// Sends it a signal by its name, such as `STOP`.
    ///
    /// # Errors
    /// When it is gone.
    pub fn signal(&self, name: &str) -> Result<()> {
        let sent = std::process::Command::new("kill")
            .args(["-s", name, &self.pid().to_string()])
            .status()?;
        ensure!(sent.success(), "kill -s {name} failed");
        Ok(())
    }

    /// Ends it with SIGKILL and waits until it is gone.
    pub async fn kill(mut self) {
        _ = self.child.kill().await;
    }

    /// Waits until it ends by itself, for at most half a minute.
    ///
    /// # Errors
    /// When it goes on.
    pub async fn ended(mut self) -> Result<std::process::ExitStatus> {
        Ok(tokio::time::timeout(Duration::from_secs(30), self.child.wait()).await??)
    }

    /// Asks it to stop, as an operator does.
    ///
    /// # Errors
    /// When it does not.
    pub async fn terminate(self) -> Result<std::process::ExitStatus> {
        self.signal("TERM")?;
        self.ended().await
    }
}

/// Where a process is reached.
#[derive(Clone)]
struct Doors {
    url: String,
    metrics: String,
}

/// What the server says when it is ready: it reads until then.
async fn doors(lines: &mut Lines<BufReader<ChildStdout>>) -> Result<Doors> {
    let mut metrics = String::new();
    while let Some(line) = lines.next_line().await? {
        if let Some(url) = line.strip_prefix(METRICS) {
            url.clone_into(&mut metrics);
        }
        if let Some(url) = line.strip_prefix(READY) {
            let url = url.to_owned();
            return Ok(Doors { url, metrics });
        }
    }
    bail!("the server ended before it was ready")
}

/// Starts the real binary without waiting for anything.
fn spawn(folder: &Path, start: &Start<'_>) -> Result<Child> {
    let mut command = program(start.program.unwrap_or_else(|| binary()));
    command.arg("serve").arg("--data").arg(folder);
    command.args(["--listen", start.listen.unwrap_or("127.0.0.1:0")]);
    command.args(["--set", "metrics.listen=127.0.0.1:0"]);
    for (key, value) in QUICK.iter().chain(start.settings) {
        command.args(["--set", &format!("{key}={value}")]);
    }
    if let Some((step, nth)) = start.crash {
        command.args(["--crash-at", step, "--crash-after", &nth.to_string()]);
    }
    command.args(start.args);
    command.envs(start.env.iter().map(|(name, value)| (name, value)));
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command.spawn().context("the server can not be started")
}

/// The binary, to be given a command. The settings of whoever runs the tests are not the test's.
pub fn tertulia() -> Command {
    program(binary())
}

fn program(path: &Path) -> Command {
    let mut command = Command::new(path);
    let foreign =
        std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("TERTULIA_"));
    foreign.for_each(|(name, _)| _ = command.env_remove(name));
    command
}

/// The binary of an older version, built if it is not.
///
/// # Errors
/// When it can not be built from this clone, and why.
pub fn older() -> Result<&'static Path, &'static str> {
    static OLDER: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let older = OLDER.get_or_init(|| {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/older.sh");
        let done = std::process::Command::new(script).output();
        let done = done.map_err(|error| error.to_string())?;
        let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        match done.status.success() {
            true => Ok(said(&done.stdout).into()),
            false => Err(said(&done.stderr)),
        }
    });
    older.as_deref().map_err(String::as_str)
}

/// The binary, built if it is not.
pub fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        let mut cargo = std::process::Command::new(env!("CARGO"));
        // What it says of the package whose test this is would make other packages be built anew.
        let own = std::env::vars_os().filter(|(name, _)| {
            let name = name.to_string_lossy();
            name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_")
        });
        own.for_each(|(name, _)| _ = cargo.env_remove(name));
        let built = cargo
            .args([
                "build",
                "--quiet",
                "-p",
                "tertulia-server",
                "--bin",
                "tertulia",
            ])
            .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
            .status();
        assert!(
            built.is_ok_and(|status| status.success()),
            "the server does not build"
        );
        // A test is at target/<profile>/deps/<name>, a program at target/<profile>/<name>.
        let here = std::env::current_exe().expect("a test has a path");
        let mut folder = here.parent().expect("it lies in a folder");
        if folder.ends_with("deps") {
            folder = folder.parent().expect("deps lies in a folder");
        }
        folder.join("tertulia")
    })
}
