//! A server of our own: started from this very binary, on a free port, and stopped in order.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

use super::people::Server;
use super::proc::Process;

/// A running server.
pub struct Running {
    child: Child,
    /// Held open: a server that can not write its lines would stop.
    _lines: Lines<BufReader<ChildStdout>>,
    /// Where it listens.
    pub server: Server,
    /// For watching it.
    pub process: Process,
    /// From starting the process to the line that says it is ready.
    pub started_in: Duration,
}

const READY: &str = "Tertulia is ready at ";
const START_TIMEOUT: Duration = Duration::from_secs(60);
const STOP_TIMEOUT: Duration = Duration::from_secs(20);

impl Running {
    /// Starts a server that keeps everything in `data`.
    ///
    /// # Errors
    /// When it does not become ready.
    pub async fn start(data: &Path) -> Result<Self> {
        let program = std::env::current_exe().context("this program does not know its own path")?;
        let began = Instant::now();
        let mut child = Command::new(program)
            .args(["serve", "--listen", "127.0.0.1:0"])
            .arg("--data")
            .arg(data)
            // One address stands for everybody here, so that limits for one would measure only themselves.
            .args(["--set", "limits.enabled=false", "--set", "live.sessions_per_user_max=10000"])
            .args(["--set", "log.levels=warn"])
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
            while let Some(line) = lines.next_line().await? {
                if let Some(url) = line.strip_prefix(READY) {
                    return Ok(url.trim().to_owned());
                }
            }
            bail!("the server ended before it was ready")
        };
        let url = tokio::time::timeout(START_TIMEOUT, ready)
            .await
            .context("the server does not start")??;
        let started_in = began.elapsed();
        let server = Server::at(&url).await?;
        Ok(Running {
            child,
            _lines: lines,
            server,
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
