//! A NATS server of one test, on a port of its own. It may be killed, paused and started again on the same port, and
//! it ends with the process of the test, however that ends. It keeps nothing: a start is always with an empty one.

#![allow(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "a test that has no server can not go on"
)]

use std::time::Duration;

use super::keeper::{Keeper, found, shell};

/// How long a start may take.
const START_MAX: Duration = Duration::from_secs(30);

/// A server.
pub struct Instance {
    program: String,
    arguments: Vec<String>,
    port: u16,
    running: Option<Keeper>,
}

impl Instance {
    /// Starts one on a free port.
    pub fn start() -> Instance {
        Instance::with(&[])
    }

    /// Starts one with further arguments, such as `--user`.
    pub fn with(arguments: &[&str]) -> Instance {
        let mut instance = Instance {
            program: found("nats.sh"),
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
        Some(self.running.as_ref()?.pid())
    }

    /// Ends it as a crash does.
    pub fn kill(&mut self) {
        self.running = None;
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
        let own = ["--addr", "127.0.0.1", "--port", &port];
        let program = std::iter::once(self.program.as_str()).chain(own);
        let server = program.chain(self.arguments.iter().map(String::as_str));
        let keeper = Keeper::start(shell(), "KILL", None, server);
        let mut said = String::new();
        loop {
            let Some(line) = keeper.next_line(START_MAX) else {
                panic!("the NATS server is not ready after {START_MAX:?}:\n{said}")
            };
            if let Some((_, port)) = line.split_once("client connections on 127.0.0.1:") {
                self.port = port.trim().parse().unwrap();
            }
            if line.contains("Server is ready") {
                self.running = Some(keeper);
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
        if let Some(keeper) = &self.running {
            keeper.signal(name);
        }
    }
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
