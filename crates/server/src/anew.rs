//! How a node comes back when what it knows of its store may no longer be true.
//!
//! *A disk that failed*: full, or with a write or a sync that did not succeed. The engine of the logs takes no more writes then, and rightly so: what is on the disk is not known until it is
//! read again. Until the disk takes writes, the node answers what is read, refuses what is to be written with
//! an error that says so, and is not ready.
//!
//! *A standby that took over* from the database server. It may lack what was acknowledged last, and the node holds
//! that in its caches.
//!
//! Then the node stops in order, so that clients are told when to come back, and begins anew in its own place: the
//! same process with the same arguments, and nothing kept in memory.

use std::convert::Infallible;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::time::Duration;

use tertulia_kit::lifecycle::{Lifecycle, StoppedBy};
use tertulia_store::fjall::ChatLog;
use tertulia_store::postgres;
use tokio_util::sync::CancellationToken;

/// How often it is tried whether the disk takes writes.
const TRY_EVERY: Duration = Duration::from_secs(1);
/// How much the disk must take, in bytes: enough for a start and for some minutes of chat.
const ROOM_BYTES: usize = 8 << 20;
/// What is written to try it, in the data folder.
const TRIAL: &str = "trial";

/// What the process ends with when it can not begin anew by itself; who supervises it starts it again. It is
/// `EX_TEMPFAIL` of sysexits.h.
pub const START_ME_AGAIN: u8 = 75;

/// Waits until the logs take no more writes and the disk does, and asks the node to begin anew.
pub async fn watch(
    log: Arc<ChatLog>,
    folder: Arc<Path>,
    node: Lifecycle,
    stopping: CancellationToken,
) {
    let waiting = async {
        log.closed_by_failure().await;
        loop {
            let folder = Arc::clone(&folder);
            let tried = tokio::task::spawn_blocking(move || try_to_write(&folder)).await;
            if let Ok(Ok(())) = tried {
                return node.ask_to_stop(StoppedBy::Anew("the disk takes writes again"));
            }
            tokio::time::sleep(TRY_EVERY).await;
        }
    };
    stopping.run_until_cancelled(waiting).await;
}

/// Waits until another server answers in the place of the one that the logs were opened on, and asks the node to
/// begin anew.
pub async fn watch_server(
    log: Arc<postgres::ChatLog>,
    node: Lifecycle,
    stopping: CancellationToken,
) {
    if stopping
        .run_until_cancelled(log.taken_over())
        .await
        .is_some()
    {
        node.ask_to_stop(StoppedBy::Anew("a standby of the database took over"));
    }
}

/// Writes and syncs as much as a start needs, and takes it away again.
fn try_to_write(folder: &Path) -> io::Result<()> {
    let path = folder.join(TRIAL);
    let write = || {
        let mut file = File::create(&path)?;
        file.write_all(&vec![1; ROOM_BYTES])?;
        file.sync_all()
    };
    let written = write();
    // Also when there was room for a part of it.
    let removed = fs::remove_file(&path);
    written.and(removed)
}

/// Begins anew in the place of this process. When that can not be, it ends with [`START_ME_AGAIN`].
pub fn begin() -> ExitCode {
    let Err(error) = replace();
    eprintln!("tertulia: this process can not begin anew by itself: {error}");
    ExitCode::from(START_ME_AGAIN)
}

#[cfg(unix)]
fn replace() -> Result<Infallible, io::Error> {
    use std::os::unix::process::CommandExt as _;
    // The program that runs, also when another one was put in its place meanwhile.
    let program = std::env::current_exe().ok().filter(|path| path.exists());
    let program = program.unwrap_or_else(|| "/proc/self/exe".into());
    let mut arguments = std::env::args_os();
    let name = arguments.next().unwrap_or_else(|| "tertulia".into());
    Err(Command::new(program).arg0(name).args(arguments).exec())
}

#[cfg(not(unix))]
fn replace() -> Result<Infallible, io::Error> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trial_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        try_to_write(folder.path()).unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        let nowhere = folder.path().join("nowhere");
        assert!(try_to_write(&nowhere).is_err());
    }
}
