//! A Redis server of one test, in a folder and on a port of its own: alone, a node of a cluster, or a sentinel that
//! watches another. It may be killed, paused, emptied and started again on the same port, and it ends with the process
//! of the test, however that ends. It writes nothing down: what it holds is gone with it.

#![allow(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "a test that has no server can not go on"
)]

use std::fs;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use super::certificate;
use super::keeper::{Keeper, found, free_port, shell};

/// How long a start may take.
const START_MAX: Duration = Duration::from_secs(30);
/// How long a server may take to answer a question.
const ANSWER_MAX: Duration = Duration::from_secs(30);
/// How often another port is drawn, when somebody else has taken the one that was free.
const PORTS_MAX: usize = 10;
/// How many nodes a cluster has: the fewest that can agree on one that is gone.
const CLUSTER_NODES: usize = 3;
/// How many slots all nodes of a cluster have between them.
const SLOTS: usize = 16_384;

/// A server.
pub struct Instance {
    program: String,
    folder: PathBuf,
    arguments: Vec<String>,
    /// What a sentinel begins with. It keeps what it learns in a file.
    watches: Option<String>,
    /// Where one with TLS is reached, and its certificate.
    tls: Option<(u16, PathBuf)>,
    port: u16,
    running: Option<Keeper>,
}

/// Why a server did not start.
enum NoStart {
    /// Somebody else has the port.
    PortTaken,
    Said(String),
}

impl Instance {
    /// Starts one on a free port.
    pub fn start() -> Instance {
        Instance::with(&[])
    }

    /// Starts one with further arguments, such as `--requirepass`.
    pub fn with(arguments: &[&str]) -> Instance {
        Instance::begin(arguments, None)
    }

    /// Starts one that is reached encrypted as well, by the name `localhost`.
    pub fn with_tls() -> Instance {
        let mut instance = Instance::start();
        instance.kill();
        let made = certificate::make(Command::new("openssl"), &instance.folder);
        let port = free_port();
        let path = |path: &Path| path.display().to_string();
        let arguments = [
            ("--tls-port", port.to_string()),
            ("--tls-cert-file", path(&made.certificate)),
            ("--tls-key-file", path(&made.key)),
            ("--tls-auth-clients", "no".to_owned()),
        ];
        for (name, value) in arguments {
            instance.arguments.extend([name.to_owned(), value]);
        }
        instance.tls = Some((port, made.certificate));
        instance.restart();
        instance
    }

    /// Where one with TLS is reached by a host.
    pub fn tls_url(&self, host: &str) -> String {
        let (port, _) = self.tls.as_ref().unwrap();
        format!("rediss://{host}:{port}")
    }

    /// The certificate of one with TLS, and its own authority.
    pub fn certificate(&self) -> &Path {
        &self.tls.as_ref().unwrap().1
    }

    /// Starts a sentinel that watches `master` under the name `main` and alone decides that it is gone, which it
    /// does after a second without an answer.
    pub fn sentinel(master: &Instance) -> Instance {
        let port = master.port;
        let watches = format!(
            "sentinel monitor main 127.0.0.1 {port} 1\n\
             sentinel down-after-milliseconds main 1000\n\
             sentinel failover-timeout main 10000\n"
        );
        Instance::begin(&[], Some(watches))
    }

    fn begin(arguments: &[&str], watches: Option<String>) -> Instance {
        let folder =
            std::env::temp_dir().join(format!("tertulia-redis-{:016x}", rand::random::<u64>()));
        fs::create_dir_all(&folder).unwrap();
        let mut instance = Instance {
            program: found("redis.sh"),
            folder,
            arguments: arguments.iter().map(|a| (*a).to_owned()).collect(),
            watches,
            tls: None,
            port: 0,
            running: None,
        };
        for _ in 0..PORTS_MAX {
            instance.port = free_port();
            match instance.try_start() {
                Ok(running) => {
                    instance.running = Some(running);
                    return instance;
                }
                Err(NoStart::PortTaken) => {}
                Err(NoStart::Said(said)) => panic!("the Redis server does not start:\n{said}"),
            }
        }
        panic!("of {PORTS_MAX} free ports none stayed free")
    }

    /// Where it is reached, also after a restart.
    pub fn url(&self) -> String {
        format!("redis://{}", self.address())
    }

    /// The address without the scheme.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The server's process, when it runs.
    pub fn pid(&self) -> Option<u32> {
        Some(self.running.as_ref()?.pid())
    }

    /// Ends it as a crash does. What it held is gone.
    pub fn kill(&mut self) {
        if let Some(keeper) = self.running.take() {
            keeper.end();
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

    /// Has it forget everything that it holds.
    pub fn flush(&self) {
        assert_eq!(self.ask("FLUSHALL"), "OK");
    }

    /// Starts it again, on its port, and waits until it takes connections.
    pub fn restart(&mut self) {
        assert!(self.running.is_none(), "it runs");
        match self.try_start() {
            Ok(running) => self.running = Some(running),
            Err(NoStart::PortTaken) => panic!("somebody else has taken port {}", self.port),
            Err(NoStart::Said(said)) => panic!("the Redis server does not start again:\n{said}"),
        }
    }

    /// What it answers to a command that is one line without blanks in its words, by a connection of its own. Of a
    /// list the number of its parts.
    pub fn ask(&self, command: &str) -> String {
        self.try_ask(command).unwrap()
    }

    fn try_ask(&self, command: &str) -> io::Result<String> {
        let mut connection = TcpStream::connect(self.address())?;
        connection.set_read_timeout(Some(ANSWER_MAX))?;
        connection.write_all(format!("{command}\r\n").as_bytes())?;
        let mut answer = BufReader::new(connection);
        let mut line = String::new();
        if answer.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let line = line.trim_end();
        match line.split_at_checked(1) {
            Some(("$", "-1")) => Ok(String::new()),
            Some(("$", length)) => {
                let mut text = vec![0; length.parse().unwrap()];
                answer.read_exact(&mut text)?;
                Ok(String::from_utf8(text).unwrap())
            }
            Some(("+" | ":" | "*", rest)) => Ok(rest.to_owned()),
            _ => panic!("{command}: {line:?}"),
        }
    }

    /// Asks again and again until the answer is as wanted. None is not as wanted either: a server that becomes the
    /// master lets go of everybody who is connected.
    pub fn ask_until(&self, command: &str, is_wanted: impl Fn(&str) -> bool) {
        let began = Instant::now();
        loop {
            let answer = self.try_ask(command);
            if answer.as_deref().is_ok_and(&is_wanted) {
                return;
            }
            assert!(began.elapsed() < START_MAX, "{command}: {answer:?}");
            std::thread::yield_now();
        }
    }

    fn try_start(&self) -> Result<Keeper, NoStart> {
        let path = |path: &Path| path.display().to_string();
        let mut server = vec![self.program.clone()];
        if let Some(watches) = &self.watches {
            let file = self.folder.join("sentinel.conf");
            // One that was killed goes on with what it has learnt.
            if !file.exists() {
                fs::write(&file, watches).unwrap();
            }
            server.extend([path(&file), "--sentinel".to_owned()]);
        }
        let port = self.port.to_string();
        let own = [
            "--port",
            &port,
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--appendonly",
            "no",
        ];
        server.extend(own.map(str::to_owned));
        server.extend(["--dir".to_owned(), path(&self.folder)]);
        server.extend(self.arguments.iter().cloned());
        let keeper = Keeper::start(shell(), "KILL", Some(&self.folder), server);
        let mut said = String::new();
        loop {
            let Some(line) = keeper.next_line(START_MAX) else {
                panic!("the Redis server is not ready after {START_MAX:?}:\n{said}")
            };
            if line.contains("Ready to accept connections") || line.contains("Sentinel ID is") {
                return Ok(keeper);
            }
            let is_taken = line.contains("Address already in use");
            let is_over = is_taken || line.contains("exiting") || line.contains("FATAL CONFIG");
            said += &(line + "\n");
            if is_over {
                keeper.end();
                return Err(match is_taken {
                    true => NoStart::PortTaken,
                    false => NoStart::Said(said),
                });
            }
        }
    }

    fn signal(&self, name: &str) {
        if let Some(keeper) = &self.running {
            keeper.signal(name);
        }
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        self.running = None;
        // Also of one that was killed.
        _ = fs::remove_dir_all(&self.folder);
    }
}

/// Servers that share one set of keys between them, each with a part of the slots.
pub struct Cluster {
    /// The nodes.
    pub nodes: Vec<Instance>,
}

impl Cluster {
    /// Starts one and waits until each node knows all others.
    pub fn start() -> Cluster {
        let nodes: Vec<Instance> = (0..CLUSTER_NODES).map(|_| Instance::of_cluster()).collect();
        for (at, node) in nodes.iter().enumerate() {
            let (first, next) = (at * SLOTS / CLUSTER_NODES, (at + 1) * SLOTS / CLUSTER_NODES);
            let slots: Vec<String> = (first..next).map(|slot| slot.to_string()).collect();
            node.ask(&format!("CLUSTER ADDSLOTS {}", slots.join(" ")));
            node.ask(&format!("CLUSTER SET-CONFIG-EPOCH {}", at + 1));
        }
        for node in &nodes[1..] {
            let (port, bus_port) = (node.port, node.bus_port());
            nodes[0].ask(&format!("CLUSTER MEET 127.0.0.1 {port} {bus_port}"));
        }
        let cluster = Cluster { nodes };
        cluster.settle();
        cluster
    }

    /// Waits until every node takes commands, as each sees it.
    pub fn settle(&self) {
        for node in &self.nodes {
            node.ask_until("CLUSTER INFO", |info| info.contains("cluster_state:ok"));
        }
    }

    /// All nodes, for a client that is to find the right one for each key.
    pub fn addresses(&self) -> String {
        let addresses: Vec<String> = self.nodes.iter().map(Instance::address).collect();
        addresses.join(",")
    }
}

impl Instance {
    /// A node of a cluster that does not know the others yet.
    fn of_cluster() -> Instance {
        let bus_port = free_port().to_string();
        Instance::with(&[
            "--cluster-enabled",
            "yes",
            "--cluster-node-timeout",
            "5000",
            "--cluster-port",
            &bus_port,
        ])
    }

    /// Where a node of a cluster talks with the others.
    fn bus_port(&self) -> &str {
        self.arguments.last().unwrap()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_can_be_killed_and_comes_back_empty_on_its_port_and_leaves_nothing() {
        let mut instance = Instance::start();
        let address = instance.address();
        assert_eq!(instance.ask("SET a b"), "OK");
        assert_eq!(instance.ask("GET a"), "b");
        instance.flush();
        assert_eq!(instance.ask("DBSIZE"), "0");
        assert_eq!(instance.ask("SET a b"), "OK");
        instance.kill();
        assert!(TcpStream::connect(&address).is_err());
        instance.restart();
        assert_eq!(instance.address(), address);
        assert_eq!(instance.ask("DBSIZE"), "0");
        let folder = instance.folder.clone();
        drop(instance);
        assert!(!folder.exists());
    }

    #[test]
    fn a_cluster_shares_the_keys_between_its_nodes() {
        let cluster = Cluster::start();
        for node in &cluster.nodes {
            assert!(node.ask("CLUSTER INFO").contains("cluster_known_nodes:3"));
        }
    }

    #[test]
    fn a_sentinel_knows_where_the_master_is() {
        let master = Instance::start();
        let sentinel = Instance::sentinel(&master);
        // A list of host and port.
        assert_eq!(sentinel.ask("SENTINEL GET-MASTER-ADDR-BY-NAME main"), "2");
    }
}
