//! What a server takes, as the kernel tells it, over its whole run (I7).

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::checker::Violation;

/// How often it looks.
const LOOK: Duration = Duration::from_millis(100);

/// What a server may take.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Resident memory, in MiB.
    pub memory_mib: u64,
    /// Open files, sockets among them.
    pub files: u64,
    /// Threads.
    pub threads: u64,
}

/// The most that was taken.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Taken {
    /// Resident memory, in MiB.
    pub memory_mib: u64,
    /// Open files.
    pub files: u64,
    /// Open sockets.
    pub sockets: u64,
    /// Threads.
    pub threads: u64,
}

impl Taken {
    /// What a process takes now; none when it is gone.
    pub fn now(pid: u32) -> Option<Taken> {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            line.split_ascii_whitespace().next()?.parse::<u64>().ok()
        };
        let files = fs::read_dir(format!("/proc/{pid}/fd")).ok()?.flatten();
        let files: Vec<_> = files.map(|entry| entry.path()).collect();
        Some(Taken {
            memory_mib: field("VmRSS:")? / 1_024,
            files: files.len() as u64,
            sockets: files.iter().filter(|file| is_socket(file)).count() as u64,
            threads: field("Threads:")?,
        })
    }

    fn at_least(self, other: Taken) -> Taken {
        Taken {
            memory_mib: self.memory_mib.max(other.memory_mib),
            files: self.files.max(other.files),
            sockets: self.sockets.max(other.sockets),
            threads: self.threads.max(other.threads),
        }
    }
}

fn is_socket(file: &Path) -> bool {
    fs::read_link(file).is_ok_and(|target| target.to_string_lossy().starts_with("socket:"))
}

/// Looks at a server until it is dropped.
pub struct Meter {
    pid: watch::Sender<u32>,
    most: Arc<parking_lot::Mutex<Taken>>,
}

impl Meter {
    /// Looks at no process yet.
    pub fn start() -> Meter {
        let (pid, mut watched) = watch::channel(0);
        let most: Arc<parking_lot::Mutex<Taken>> = Arc::default();
        let kept = Arc::clone(&most);
        tokio::spawn(async move {
            loop {
                let now = Taken::now(*watched.borrow_and_update());
                if let Some(now) = now {
                    let mut most = kept.lock();
                    *most = most.at_least(now);
                }
                if let Ok(Err(_)) = tokio::time::timeout(LOOK, watched.changed()).await {
                    return;
                }
            }
        });
        Meter { pid, most }
    }

    /// From now on it looks at this process.
    pub fn watch(&self, pid: u32) {
        self.pid.send_replace(pid);
    }

    /// The most that was seen.
    pub fn most(&self) -> Taken {
        *self.most.lock()
    }

    /// What went over its bound.
    pub fn over(&self, bounds: Bounds) -> Vec<Violation> {
        let most = self.most();
        let rows = [
            ("MiB of memory", most.memory_mib, bounds.memory_mib),
            ("open files", most.files, bounds.files),
            ("threads", most.threads, bounds.threads),
        ];
        let over = rows.into_iter().filter(|(_, most, bound)| most > bound);
        over.map(|(what, most, bound)| {
            Violation::Unbounded(format!("{most} {what}, {bound} allowed"))
        })
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_process_takes_is_read() {
        let now = Taken::now(std::process::id()).unwrap();
        assert!(
            now.memory_mib > 0 && now.files > 2 && now.threads > 0,
            "{now:?}"
        );
        assert_eq!(Taken::now(0), None);
    }

    #[tokio::test]
    async fn what_is_over_its_bound_is_told() {
        let meter = Meter::start();
        *meter.most.lock() = Taken {
            memory_mib: 10,
            files: 20,
            sockets: 5,
            threads: 30,
        };
        let enough = Bounds {
            memory_mib: 10,
            files: 20,
            threads: 30,
        };
        assert_eq!(meter.over(enough), []);
        assert_eq!(
            meter
                .over(Bounds {
                    files: 19,
                    ..enough
                })
                .len(),
            1
        );
    }
}
