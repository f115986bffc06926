//! A NATS server of one test, on a port of its own. It may be killed, paused and started again on the same port, and
//! it ends with the process of the test, however that ends. It keeps nothing: a start is always with an empty one.

#![allow(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "a test that has no server can not go on"
)]

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Duration;

/// How long a start may take.
const START_MAX: Duration = Duration::from_secs(30);
/// How many lines of its log may wait to be looked at.
const LINES_MAX: usize = 1_024;

/// What ends the server when nobody holds the other end of its input any more.
const KEEPER: &str = r#"
    trap '' INT TERM HUP
    "$@" 2>&1 &
    server=$!
    echo "pid $server"
    read -r word
    # Else the shell tells that it was killed.
    exec 2>/dev/null
    kill -KILL "$server" 2>/dev/null
    wait "$server"
"#;

/// A server.
pub struct Instance {
    program: String,
    arguments: Vec<String>,
    port: u16,
    running: Option<Running>,
}

struct Running {
    keeper: Child,
    /// The server itself.
    pid: u32,
}

impl Instance {
    /// Starts one on a free port.
    pub fn start() -> Instance {
        Instance::with(&[])
    }

    /// Starts one with further arguments, such as `--user`.
    pub fn with(arguments: &[&str]) -> Instance {
        let mut instance = Instance {
            program: program(),
            arguments: arguments.iter().map(|a| (*a).to_owned()).collect(),
            port: 0,
            running: None,
        };
        instance.restart();
        instance
    }

    /// Where it is reached, also after a restart.
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// The address without the scheme.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The server's process, when it runs.
    pub fn pid(&self) -> Option<u32> {
        Some(self.running.as_ref()?.pid)
    }

    /// Ends it as a crash does.
    pub fn kill(&mut self) {
        if let Some(mut running) = self.running.take() {
            // Its end is the sign to kill.
            drop(running.keeper.stdin.take());
            running.keeper.wait().unwrap();
        }
    }

    /// Stops all that it does for a while; [`Instance::go_on`] ends that. Who is connected does not notice at once.
    pub fn pause(&self) {
        self.signal("STOP");
    }

    /// Goes on after a pause.
    pub fn go_on(&self) {
        self.signal("CONT");
    }

    /// Starts it again, on its port, and waits until it takes connections.
    pub fn restart(&mut self) {
        assert!(self.running.is_none(), "it runs");
        // 0 would be the usual port, -1 is a free one.
        let port = match self.port {
            0 => "-1".to_owned(),
            port => port.to_string(),
        };
        let mut command = Command::new("/bin/sh");
        command.args(["-c", KEEPER, "keeper", &self.program]);
        command.args(["--addr", "127.0.0.1", "--port", &port]);
        let mut keeper = command
            .args(&self.arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = lines_of(&mut keeper);
        let (mut said, mut pid) = (String::new(), 0);
        loop {
            let Ok(line) = lines.recv_timeout(START_MAX) else {
                panic!("the NATS server is not ready after {START_MAX:?}:\n{said}")
            };
            if let Some(number) = line.strip_prefix("pid ") {
                pid = number.parse().unwrap();
            }
            if let Some((_, port)) = line.split_once("client connections on 127.0.0.1:") {
                self.port = port.trim().parse().unwrap();
            }
            if line.contains("Server is ready") {
                self.running = Some(Running { keeper, pid });
                return;
            }
            assert!(
                !line.contains("[FTL]"),
                "the NATS server does not start:\n{line}"
            );
            said += &(line + "\n");
        }
    }

    fn signal(&self, name: &str) {
        let Some(running) = &self.running else { return };
        let sent = Command::new("kill")
            .args(["-s", name, &running.pid.to_string()])
            .status();
        assert!(sent.unwrap().success(), "it is gone");
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The program; it is installed if it is not there and that can be done.
fn program() -> String {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../scripts/nats.sh");
    let found = Command::new(script)
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    assert!(found.status.success(), "there is no NATS server");
    String::from_utf8(found.stdout).unwrap().trim().to_owned()
}

/// What it says, line by line, for as long as it runs: somebody must read it, or it would wait.
fn lines_of(keeper: &mut Child) -> Receiver<String> {
    let (line, lines) = sync_channel(LINES_MAX);
    let said = BufReader::new(keeper.stdout.take().unwrap());
    std::thread::spawn(move || {
        for text in said.lines().map_while(Result::ok) {
            // Nobody listens any more when it is ready.
            _ = line.try_send(text);
        }
    });
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpStream;

    #[test]
    fn an_instance_can_be_killed_and_comes_back_on_its_port() {
        let mut instance = Instance::start();
        let address = instance.address();
        assert!(TcpStream::connect(&address).is_ok());
        instance.kill();
        assert!(TcpStream::connect(&address).is_err());
        instance.restart();
        assert_eq!(instance.address(), address);
        assert!(TcpStream::connect(&address).is_ok());
    }
}
