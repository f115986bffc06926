//! A private server of a peer: started on a free port with a folder of its own, and ended by its process id.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};

const START_TIMEOUT: Duration = Duration::from_secs(60);
const STOP_TIMEOUT: Duration = Duration::from_secs(20);
/// How often the log is looked at while a server starts.
const LOOK: Duration = Duration::from_millis(20);
/// How much of a log is shown when a server does not start.
const SHOWN_LINES: usize = 12;

/// A running server. When it is dropped without [`stop`](Self::stop) it is killed.
pub struct Server {
    child: Child,
    pid: u32,
    /// Where it listens.
    pub address: SocketAddr,
}

impl Server {
    /// Starts a server whose log says, behind `marker`, where it listens. What it writes to its output is the log.
    ///
    /// # Errors
    /// When it can not be started, ends, or does not become ready in a minute; with the end of its log.
    pub async fn start(mut command: Command, folder: &Path, marker: &str) -> Result<Self> {
        let log = folder.join("output.log");
        let output = fs::File::create(&log)?;
        command
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .kill_on_drop(true);
        let program = PathBuf::from(command.as_std().get_program());
        let mut child = command
            .spawn()
            .with_context(|| format!("{} can not be started", program.display()))?;
        let pid = child.id().context("the server has no id")?;
        let give_up = Instant::now() + START_TIMEOUT;
        loop {
            let text = fs::read_to_string(&log).unwrap_or_default();
            if let Some(address) = address_behind(&text, marker) {
                return Ok(Server {
                    child,
                    pid,
                    address,
                });
            }
            let ended = child.try_wait()?;
            if ended.is_some() || Instant::now() >= give_up {
                let why = ended.map_or("is not ready in a minute".to_owned(), |status| {
                    format!("ended with {status}")
                });
                let shown = last_lines(&log);
                bail!("{} {why}:\n{shown}", program.display());
            }
            sleep(LOOK).await;
        }
    }

    /// Its process, for watching it.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Asks it to stop, and waits until it has; what does not stop is killed.
    ///
    /// # Errors
    /// When it can not be waited for.
    pub async fn stop(mut self) -> Result<()> {
        let pid = Pid::from_raw(self.pid as i32).context("the server has no id")?;
        kill_process(pid, Signal::TERM)?;
        if timeout(STOP_TIMEOUT, self.child.wait()).await.is_err() {
            self.child.kill().await?;
        }
        Ok(())
    }
}

/// A port that was free just now, for servers that can not choose one themselves.
///
/// # Errors
/// When there is none.
pub async fn free_port() -> Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    Ok(listener.local_addr()?.port())
}

/// The address behind the first marker whose line is whole.
fn address_behind(text: &str, marker: &str) -> Option<SocketAddr> {
    let (_, rest) = text.split_once(marker)?;
    let (line, _) = rest.split_once('\n')?;
    let end = line.find(|c: char| !(c.is_ascii_hexdigit() || "[]:.".contains(c)));
    line[..end.unwrap_or(line.len())].parse().ok()
}

fn last_lines(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(SHOWN_LINES)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_when_its_line_is_whole() {
        let ready = "ready at http://";
        let read = |text| address_behind(text, ready).map(|a| a.to_string());
        assert_eq!(
            read("x\nready at http://127.0.0.1:8080\n"),
            Some("127.0.0.1:8080".into())
        );
        assert_eq!(
            read("ready at http://[::1]:81 for all\n"),
            Some("[::1]:81".into())
        );
        assert_eq!(read("ready at http://127.0.0.1:80"), None);
        assert_eq!(read("starting\n"), None);
    }

    #[tokio::test]
    async fn what_a_server_said_before_it_ended_is_shown() {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", "echo no room left >&2; exit 3"]);
        let failed = Server::start(command, folder.path(), "ready at ").await;
        let said = format!("{:#}", failed.err().unwrap());
        assert!(said.contains("no room left"), "{said}");
    }
}
