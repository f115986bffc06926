//! The server that load is put on.

use anyhow::{Context as _, Result};

use super::child::Running;
use super::meter::Meter;
use super::people::Server;
use super::proc::Process;

/// A server: the one at the address, or one of our own with its folder.
pub struct Host {
    /// Where it is.
    pub server: Server,
    /// Its process, when it is on this machine and known.
    pub process: Option<Process>,
    /// Its numbers, when they can be read.
    pub meter: Option<Meter>,
    own: Option<(Running, tempfile::TempDir)>,
}

impl Host {
    /// The server at `url` with this process, or one of our own with these settings.
    ///
    /// # Errors
    /// When the address is wrong, or the server does not start.
    pub async fn at(url: Option<&str>, pid: Option<u32>, settings: &[&str]) -> Result<Self> {
        if let Some(url) = url {
            return Ok(Host {
                server: Server::at(url).await?,
                process: pid.map(Process),
                meter: None,
                own: None,
            });
        }
        let folder = tempfile::tempdir().context("no folder for the server's data")?;
        Host::own(folder, settings).await
    }

    async fn own(folder: tempfile::TempDir, settings: &[&str]) -> Result<Self> {
        let running = Running::start_with(folder.path(), settings).await?;
        Ok(Host {
            server: running.server,
            process: Some(running.process),
            meter: Some(running.meter),
            own: Some((running, folder)),
        })
    }

    /// Starts it anew with other settings, when it is our own.
    ///
    /// # Errors
    /// When it does not stop in order, or does not start.
    pub async fn restarted(self, settings: &[&str]) -> Result<Self> {
        let Some((running, folder)) = self.own else {
            return Ok(self);
        };
        running.stop().await?;
        Host::own(folder, settings).await
    }

    /// Stops what was started.
    ///
    /// # Errors
    /// When it does not stop in order.
    pub async fn stop(self) -> Result<()> {
        if let Some((running, folder)) = self.own {
            running.stop().await?;
            folder
                .close()
                .context("the server's data could not be removed")?;
        }
        Ok(())
    }
}
