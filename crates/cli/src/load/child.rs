//! A server of our own: started from this very binary, on a free port, and stopped in order.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

use super::meter::Meter;
use super::people::Server;
use super::proc::Process;

/// A running server.
pub struct Running {
    child: Child,
    /// Held open: a server that can not write its lines would stop.
    _lines: Lines<BufReader<ChildStdout>>,
    /// Where it listens.
    pub server: Server,
    /// Its numbers.
    pub meter: Meter,
    /// For watching it.
    pub process: Process,
    /// From starting the process to the line that says it is ready.
    pub started_in: Duration,
}

const READY: &str = "Tertulia is ready at ";
const METRICS: &str = "Metrics are at http://";
const START_TIMEOUT: Duration = Duration::from_secs(60);
const STOP_TIMEOUT: Duration = Duration::from_secs(20);

impl Running {
    /// Starts a server that keeps everything in `data`.
    ///
    /// # Errors
    /// When it does not become ready.
    pub async fn start(data: &Path) -> Result<Self> {
        Running::start_with(data, &[]).await
    }

    /// The same with settings such as `live.heartbeat_ms=20000`.
    ///
    /// # Errors
    /// When it does not become ready.
    pub async fn start_with(data: &Path, settings: &[&str]) -> Result<Self> {
        let program = std::env::current_exe().context("this program does not know its own path")?;
        let began = Instant::now();
        let mut child = Command::new(program)
            .args(["serve", "--listen", "127.0.0.1:0"])
            .arg("--data")
            .arg(data)
            // One address stands for everybody here, so that limits for one would measure only themselves.
            .args(["--set", "limits.enabled=false", "--set", "live.sessions_per_user_max=10000"])
            .args(["--set", "log.levels=warn"])
            .args(["--set", "metrics.listen=127.0.0.1:0"])
            .args(settings.iter().flat_map(|setting| ["--set", setting]))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let process = Process(child.id().context("the server ended at once")?);
        let stdout = child
            .stdout
            .take()
            .context("the server's output is not there")?;
        let mut lines = BufReader::new(stdout).lines();
        let ready = async {
            let mut meter = None;
            while let Some(line) = lines.next_line().await? {
                if let Some(at) = line.strip_prefix(METRICS) {
                    let address = at.trim().trim_end_matches("/metrics").parse()?;
                    meter = Some(Meter(address));
                }
                if let Some(url) = line.strip_prefix(READY) {
                    let meter = meter.context("the server shows no metrics")?;
                    return Ok((url.trim().to_owned(), meter));
                }
            }
            bail!("the server ended before it was ready")
        };
        let (url, meter) = tokio::time::timeout(START_TIMEOUT, ready)
            .await
            .context("the server does not start")??;
        let started_in = began.elapsed();
        let server = Server::at(&url).await?;
        Ok(Running {
            child,
            _lines: lines,
            server,
            meter,
            process,
            started_in,
        })
    }

    /// Asks it to stop, and waits until it has.
    ///
    /// # Errors
    /// When it does not stop, or fails while it stops.
    pub async fn stop(mut self) -> Result<()> {
        let pid = rustix::process::Pid::from_raw(self.process.0 as i32)
            .context("the server has no id")?;
        rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
        match tokio::time::timeout(STOP_TIMEOUT, self.child.wait()).await {
            Ok(status) if status.as_ref().is_ok_and(|s| s.success()) => Ok(()),
            Ok(status) => bail!("the server stopped with {}", status?),
            Err(_) => {
                self.child.kill().await?;
                bail!("the server did not stop in {STOP_TIMEOUT:?}")
            }
        }
    }
}
