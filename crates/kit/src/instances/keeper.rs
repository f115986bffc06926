//! What holds the server of a test: a shell that ends it when nobody holds the other end of its input any more,
//! because the process of the test has ended, however that came.

#![allow(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "a test that has no server can not go on"
)]

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Duration;

use parking_lot::Mutex;

/// How long the shell may take to begin.
const BEGIN_MAX: Duration = Duration::from_secs(30);
/// How many lines of a log may wait to be looked at.
const LINES_MAX: usize = 1_024;

const SCRIPT: &str = r#"
    signal=$1; folder=$2; shift 2
    trap '' INT TERM HUP
    "$@" 2>&1 &
    server=$!
    echo "pid $server"
    read -r word
    # Else the shell tells that it was killed.
    exec 2>/dev/null
    kill -s "$signal" "$server"
    wait "$server"
    [ "$word" = keep ] || [ -z "$folder" ] || rm -rf "$folder"
"#;

/// A server that runs. Dropped, it ends, and its folder is taken away.
pub struct Keeper {
    shell: Child,
    pid: u32,
    // Guards what it says, for whoever reads that.
    said: Mutex<Said>,
}

struct Said {
    /// What came before we knew its process.
    early: VecDeque<String>,
    lines: Receiver<String>,
}

impl Keeper {
    /// Has a `shell` start a server, `signal` it at its end, and take away its folder if it has one.
    pub fn start<S: AsRef<OsStr>>(
        mut shell: Command,
        signal: &str,
        folder: Option<&Path>,
        server: impl IntoIterator<Item = S>,
    ) -> Keeper {
        shell.args(["-c", SCRIPT, "keeper", signal]);
        shell.arg(folder.unwrap_or(Path::new(""))).args(server);
        let shell = shell.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut shell = shell.unwrap();
        let lines = lines_of(&mut shell);
        let mut early = VecDeque::new();
        let pid = loop {
            let line = lines.recv_timeout(BEGIN_MAX);
            let line = line.expect("the shell tells the server's process");
            match line.strip_prefix("pid ") {
                Some(number) => break number.parse().unwrap(),
                None => early.push_back(line),
            }
        };
        let said = Mutex::new(Said { early, lines });
        Keeper { shell, pid, said }
    }

    /// The server's process.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// The next line that it says; none when it says nothing for so long, or has ended.
    pub fn next_line(&self, patience: Duration) -> Option<String> {
        let mut said = self.said.lock();
        let early = said.early.pop_front();
        early.or_else(|| said.lines.recv_timeout(patience).ok())
    }

    /// Sends it a signal.
    pub fn signal(&self, name: &str) {
        assert!(signal(name, self.pid), "it is gone");
    }

    /// Ends it and leaves its folder.
    pub fn end(mut self) {
        if let Some(input) = &mut self.shell.stdin {
            _ = writeln!(input, "keep");
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        drop(self.shell.stdin.take());
        _ = self.shell.wait();
    }
}

/// What it says, line by line, for as long as it runs: somebody must read it, or it would wait.
fn lines_of(shell: &mut Child) -> Receiver<String> {
    let (line, lines) = sync_channel(LINES_MAX);
    let said = BufReader::new(shell.stdout.take().unwrap());
    std::thread::spawn(move || {
        for text in said.lines().map_while(Result::ok) {
            // Nobody listens any more when it is ready.
            _ = line.try_send(text);
        }
    });
    lines
}

/// A shell, to be told what to start.
pub fn shell() -> Command {
    Command::new("/bin/sh")
}

/// Sends a signal to a process; whether that was there.
pub fn signal(name: &str, pid: u32) -> bool {
    let sent = Command::new("kill")
        .args(["-s", name, &pid.to_string()])
        .stderr(Stdio::null())
        .status();
    sent.unwrap().success()
}

/// Where a program is, as a script in the folder of scripts says; it is installed if it is not there and that can be
/// done.
pub fn found(script: &str) -> String {
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts");
    let found = Command::new(scripts.join(script))
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    assert!(found.status.success(), "{script} has found nothing");
    String::from_utf8(found.stdout).unwrap().trim().to_owned()
}

/// A port that nobody listens on, and that the system gives to nobody who connects: those begin at 32,768. Somebody
/// else who looks like this may still take it before the server does; then the server says so.
pub fn free_port() -> u16 {
    loop {
        let port = rand::random_range(16_384..32_768);
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
}
