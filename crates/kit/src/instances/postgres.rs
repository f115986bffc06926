//! A PostgreSQL of one test: its own folder, reached through a socket in it, with everything synced as it is in
//! earnest. It may be killed and started again, and it ends with the process of the test, however that ends.
//!
//! A first instance on a machine makes an empty database folder beside the test programs; all others copy it.

#![allow(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "a test that has no database can not go on"
)]

use std::fs::{self, Permissions};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::certificate;
use super::keeper::{Keeper, found, free_port, signal};

/// How long a start may take, with what a crash has left to be done.
const START_MAX: Duration = Duration::from_secs(60);

/// What a test may want to be otherwise; fsync stays on.
const SETTINGS: &[&str] = &[
    "listen_addresses=",
    "shared_buffers=32MB",
    "max_connections=100",
    "max_wal_size=256MB",
    // What happens in a database is what its test does.
    "autovacuum=off",
];

/// A server.
pub struct Instance {
    folder: PathBuf,
    programs: PathBuf,
    owner: Option<Owner>,
    settings: Vec<String>,
    /// On which port of this machine it listens, when it does.
    port: Option<u16>,
    certificate: Option<PathBuf>,
    running: Option<Keeper>,
}

/// A backup that is being made.
#[derive(Debug)]
pub struct Backup(Child);

impl Backup {
    /// Lets it read everything and waits until it is done.
    pub fn end(mut self) {
        let mut all = self.0.stdout.take().unwrap();
        std::io::copy(&mut all, &mut std::io::sink()).unwrap();
        assert!(self.0.wait().unwrap().success(), "a backup failed");
    }
}

impl Drop for Backup {
    fn drop(&mut self) {
        _ = self.0.kill();
        _ = self.0.wait();
    }
}

/// Whom it runs as: it refuses to be root.
#[derive(Debug, Clone, Copy)]
struct Owner {
    uid: u32,
    gid: u32,
}

impl Instance {
    /// Starts an empty one.
    pub fn start() -> Instance {
        Instance::with(&[])
    }

    /// Starts one with further settings, such as `max_connections=20`.
    pub fn with(settings: &[&str]) -> Instance {
        let programs = PathBuf::from(found("postgres.sh"));
        let folder = new_folder();
        let owner = owner();
        let mut instance = Instance {
            settings: SETTINGS
                .iter()
                .chain(settings)
                .map(|s| (*s).to_owned())
                .collect(),
            folder,
            programs,
            owner,
            port: None,
            certificate: None,
            running: None,
        };
        instance.fill();
        instance.restart();
        instance
    }

    /// Starts an empty one that is reached over the network as well, encrypted, by the name `localhost`.
    pub fn with_tls() -> Instance {
        let mut instance = Instance::over_network();
        instance.kill();
        let made = certificate::make(instance.command("openssl"), &instance.folder);
        instance.settings.extend([
            "ssl=on".to_owned(),
            format!("ssl_cert_file={}", made.certificate.display()),
            format!("ssl_key_file={}", made.key.display()),
        ]);
        instance.certificate = Some(made.certificate);
        instance.restart();
        instance
    }

    /// Starts an empty one that is reached over the network as well.
    pub fn over_network() -> Instance {
        let port = free_port();
        let mut instance = Instance::with(&["listen_addresses=127.0.0.1", &format!("port={port}")]);
        instance.port = Some(port);
        instance
    }

    /// Starts one that follows this one, which it reaches at `primary`, and takes over when it is
    /// [promoted](Instance::promote).
    pub fn standby(&self, primary: SocketAddr) -> Instance {
        let port = free_port();
        let mut standby = Instance {
            folder: new_folder(),
            programs: self.programs.clone(),
            owner: self.owner,
            settings: self.settings.clone(),
            port: Some(port),
            certificate: None,
            running: None,
        };
        // The last of two that contradict each other holds.
        let network = [
            "listen_addresses=127.0.0.1".to_owned(),
            format!("port={port}"),
        ];
        standby.settings.extend(network);
        standby.make_folder();
        let mut copying = standby.command(self.programs.join("pg_basebackup"));
        copying.arg("-D").arg(standby.data()).args([
            "-d",
            &format!("host=127.0.0.1 port={} user=postgres", primary.port()),
            "--checkpoint=fast",
            "--no-sync",
            "--write-recovery-conf",
        ]);
        succeed(copying);
        standby.restart();
        standby
    }

    /// Waits until a standby has all that `primary` has committed by now.
    pub fn catch_up_with(&self, primary: &Instance) {
        let end = primary.ask("SELECT pg_current_wal_flush_lsn()");
        let has = format!("SELECT pg_last_wal_replay_lsn() >= '{end}'");
        while self.ask(&has) != "t" {
            std::thread::yield_now();
        }
    }

    /// Makes a standby one that takes writes, with what it has.
    pub fn promote(&self) {
        let mut promoting = self.command(self.programs.join("pg_ctl"));
        promoting.args(["promote", "--wait", "--silent", "-D"]);
        promoting.arg(self.data());
        succeed(promoting);
    }

    /// What a statement answers, which has no more than one line to say.
    pub fn ask(&self, sql: &str) -> String {
        let mut asking = self.client("psql");
        asking.args(["-At", "-c", sql]);
        succeed(asking)
    }

    /// Begins a backup of everything, which goes no further than it has to until it is [ended](Backup::end).
    pub fn backup(&self) -> Backup {
        let mut reading = self.client("pg_dump");
        // Nobody listens: it waits with all tables in its hands.
        let child = reading.stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
        Backup(child.unwrap())
    }

    /// One of its own programs, to be given what to ask.
    fn client(&self, name: &str) -> Command {
        let mut client = self.command(self.programs.join(name));
        let port = self.port.unwrap_or(5_432).to_string();
        client.arg("-h").arg(&self.folder);
        client.args(["-p", &port, "-U", "postgres"]);
        client
    }

    /// Where one with a network is reached.
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port.unwrap()).into()
    }

    /// Where one with TLS is reached over the network, by a host and with further parameters.
    pub fn network_url(&self, host: &str, parameters: &str) -> String {
        let port = self.port.unwrap();
        format!("postgres://postgres@{host}:{port}/postgres?{parameters}")
    }

    /// The certificate of one with TLS, and its own authority.
    pub fn certificate(&self) -> PathBuf {
        self.certificate.clone().unwrap()
    }

    /// Where it is reached: its only database, whose owner asks.
    pub fn url(&self) -> String {
        let host = self.folder.display().to_string().replace('/', "%2F");
        let port = self.port.unwrap_or(5_432);
        format!("postgres://postgres@localhost:{port}/postgres?host={host}")
    }

    fn socket(&self) -> PathBuf {
        let port = self.port.unwrap_or(5_432);
        self.folder.join(format!(".s.PGSQL.{port}"))
    }

    /// The processor time that it has taken, in seconds, with all its processes that are running or were waited for.
    pub fn cpu_s(&self) -> f64 {
        let Some(running) = &self.running else {
            return 0.0;
        };
        let ticks: u64 = fs::read_dir("/proc")
            .unwrap()
            .filter_map(|entry| stat(&entry.ok()?.path()))
            .filter(|stat| stat.pid == running.pid() || stat.parent == running.pid())
            .map(|stat| stat.ticks)
            .sum();
        // The kernel counts hundredths of a second for programs on every machine that we know.
        ticks as f64 / 100.0
    }

    /// Its first process, when it runs.
    pub fn pid(&self) -> Option<u32> {
        Some(self.running.as_ref()?.pid())
    }

    /// Ends it as a crash does: nothing is finished, nothing is written.
    pub fn kill(&mut self) {
        let Some(running) = self.running.take() else {
            return;
        };
        running.signal("KILL");
        running.end();
        // Its other processes hold the socket until they notice.
        while UnixStream::connect(self.socket()).is_ok() {
            std::thread::yield_now();
        }
    }

    /// Stops all that it does for a while; [`Instance::go_on`] ends that. Who is connected does not notice at once.
    pub fn pause(&self) {
        self.signal_all("STOP");
    }

    /// Goes on after a pause.
    pub fn go_on(&self) {
        self.signal_all("CONT");
    }

    /// Starts it again, after what a crash has left was mended, and waits until it takes connections.
    pub fn restart(&mut self) {
        assert!(self.running.is_none(), "it runs");
        let tries = 100;
        for _ in 0..tries {
            match self.try_start() {
                Ok(running) => {
                    self.running = Some(running);
                    return;
                }
                // The processes of one that was killed go when they notice, and hold its memory until then.
                Err(said) if said.contains("is still in use") || said.contains("lock file") => {}
                Err(said) => panic!("PostgreSQL does not start:\n{said}"),
            }
        }
        panic!("what was killed does not go away");
    }

    fn try_start(&self) -> Result<Keeper, String> {
        let path = |path: &Path| path.display().to_string();
        let mut server = vec![path(&self.programs.join("postgres"))];
        server.extend(["-D".to_owned(), path(&self.data())]);
        server.extend(["-k".to_owned(), path(&self.folder)]);
        for setting in &self.settings {
            server.extend(["-c".to_owned(), setting.clone()]);
        }
        let shell = self.command("/bin/sh");
        let keeper = Keeper::start(shell, "QUIT", Some(&self.folder), server);
        let mut said = String::new();
        loop {
            let Some(line) = keeper.next_line(START_MAX) else {
                panic!("PostgreSQL is not ready after {START_MAX:?}:\n{said}")
            };
            if line.contains("system is ready to accept") {
                return Ok(keeper);
            }
            // It ends after that; only the keeper still has our end of the pipe. Whoever asks it too early is
            // refused with the same word, and that is no end.
            let over = line.contains("FATAL") && !line.contains("the database system is");
            said += &(line + "\n");
            if over {
                keeper.end();
                return Err(said);
            }
        }
    }

    /// Puts an empty database into the folder.
    fn fill(&self) {
        self.make_folder();
        let kept = self.kept();
        if !kept.exists() {
            self.make(&self.data());
            // Complete or not at all; who comes second keeps that of the first.
            let making = kept.with_extension(format!("{:016x}", rand::random::<u64>()));
            copy(&self.data(), &making);
            if fs::rename(&making, &kept).is_err() {
                fs::remove_dir_all(&making).unwrap();
            }
            return;
        }
        copy(&kept, &self.data());
        if self.owner.is_some() {
            self.give_all(&self.data());
        }
    }

    fn make_folder(&self) {
        fs::create_dir_all(&self.folder).unwrap();
        fs::set_permissions(&self.folder, Permissions::from_mode(0o700)).unwrap();
        self.give(&self.folder);
    }

    fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// Where the empty database is kept that others are copied from: beside the program that runs, for each
    /// version.
    fn kept(&self) -> PathBuf {
        let version = Command::new(self.programs.join("postgres"))
            .arg("--version")
            .output()
            .unwrap();
        let version = String::from_utf8(version.stdout).unwrap();
        let version = version.split_ascii_whitespace().nth(2).unwrap();
        let program = std::env::current_exe().unwrap();
        program
            .parent()
            .unwrap()
            .join(format!("postgres-{}-empty", version.replace('.', "-")))
    }

    fn make(&self, data: &Path) {
        let mut command = self.command(self.programs.join("initdb"));
        command.arg("-D").arg(data).args([
            "--username=postgres",
            "--auth=trust",
            "--encoding=UTF8",
            "--locale=C.UTF-8",
            "--wal-segsize=1",
            "--no-sync",
        ]);
        succeed(command);
    }

    /// A program, run as the owner of the folder.
    fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        command.current_dir(&self.folder);
        if let Some(owner) = self.owner {
            command.gid(owner.gid).uid(owner.uid);
        }
        command
    }

    fn give(&self, path: &Path) {
        if let Some(owner) = self.owner {
            chown(path, Some(owner.uid), Some(owner.gid)).unwrap();
        }
    }

    fn give_all(&self, path: &Path) {
        self.give(path);
        if path.is_dir() {
            for entry in fs::read_dir(path).unwrap() {
                self.give_all(&entry.unwrap().path());
            }
        }
    }

    fn signal_all(&self, name: &str) {
        let Some(running) = &self.running else { return };
        for entry in fs::read_dir("/proc").unwrap() {
            let stat = stat(&entry.unwrap().path());
            if let Some(stat) = stat.filter(|s| s.pid == running.pid() || s.parent == running.pid())
            {
                // It may have gone meanwhile.
                _ = signal(name, stat.pid);
            }
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

fn new_folder() -> PathBuf {
    let name = format!("tertulia-postgres-{:016x}", rand::random::<u64>());
    std::env::temp_dir().join(name)
}

/// Runs a program to its end, and gives what it says.
fn succeed(mut command: Command) -> String {
    let done = command.stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{command:?} failed:\n{said}");
    String::from_utf8(done.stdout).unwrap().trim().to_owned()
}

/// Whom the server is to run as when we are root.
fn owner() -> Option<Owner> {
    let own = fs::metadata("/proc/self").unwrap();
    if std::os::unix::fs::MetadataExt::uid(&own) != 0 {
        return None;
    }
    let users = fs::read_to_string("/etc/passwd").unwrap();
    let user = |name: &str| {
        let line = users
            .lines()
            .find(|line| line.split(':').next() == Some(name))?;
        let mut numbers = line.split(':').skip(2).map(str::parse);
        Some(Owner {
            uid: numbers.next()?.ok()?,
            gid: numbers.next()?.ok()?,
        })
    };
    Some(user("postgres").or_else(|| user("nobody")).unwrap())
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    fs::set_permissions(to, Permissions::from_mode(0o700)).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

/// What the kernel says of a process.
struct Stat {
    pid: u32,
    parent: u32,
    /// Of itself and of its children that it has waited for, in hundredths of a second.
    ticks: u64,
}

fn stat(process: &Path) -> Option<Stat> {
    let pid = process.file_name()?.to_str()?.parse().ok()?;
    let text = fs::read_to_string(process.join("stat")).ok()?;
    // The name may hold anything, also brackets and spaces.
    let rest: Vec<&str> = text.rsplit_once(')')?.1.split_ascii_whitespace().collect();
    let number = |at: usize| rest.get(at)?.parse::<u64>().ok();
    Some(Stat {
        pid,
        parent: u32::try_from(number(1)?).ok()?,
        ticks: number(11)? + number(12)? + number(13)? + number(14)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_can_be_killed_and_comes_back_and_leaves_nothing() {
        let mut instance = Instance::start();
        assert!(UnixStream::connect(instance.socket()).is_ok());
        instance.kill();
        assert!(UnixStream::connect(instance.socket()).is_err());
        instance.restart();
        assert!(UnixStream::connect(instance.socket()).is_ok());
        assert!(instance.cpu_s() >= 0.0);
        let folder = instance.folder.clone();
        drop(instance);
        assert!(!folder.exists());
    }
}
