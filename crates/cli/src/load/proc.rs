//! What the kernel says of a process and of the machine. Linux only: elsewhere there is nothing to read, and
//! the figures that need it are left out.

use std::fs;
use std::time::Duration;

/// A process that is watched.
#[derive(Debug, Clone, Copy)]
pub struct Process(pub u32);

impl Process {
    /// The one that asks.
    pub fn this() -> Self {
        Process(std::process::id())
    }

    /// The processor time that it has used, in its own code and in the kernel.
    pub fn cpu(self) -> Option<Duration> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.0)).ok()?;
        let ticks = cpu_ticks(&stat)?;
        Some(Duration::from_secs_f64(
            ticks as f64 / rustix::param::clock_ticks_per_second() as f64,
        ))
    }

    /// The memory that it holds.
    pub fn resident_bytes(self) -> Option<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.0)).ok()?;
        kilobytes(&status, "VmRSS:").map(|kb| kb * 1024)
    }

    /// What it has given to the disk.
    pub fn written_bytes(self) -> Option<u64> {
        let io = fs::read_to_string(format!("/proc/{}/io", self.0)).ok()?;
        io.lines()
            .find_map(|l| l.strip_prefix("write_bytes:"))?
            .trim()
            .parse()
            .ok()
    }
}

/// A process with all that it has started, such as a database server.
#[derive(Debug, Clone, Copy)]
pub struct Family(pub u32);

impl Family {
    /// The processor time of those that run now, and of those that have ended and were waited for.
    pub fn cpu(self) -> Option<Duration> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.0)).ok()?;
        let ended = ticks(&stat, 13)? + ticks(&stat, 14)?;
        let ended =
            Duration::from_secs_f64(ended as f64 / rustix::param::clock_ticks_per_second() as f64);
        let own = Process(self.0).cpu()?;
        let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", self.0)).ok()?;
        let children = children.split_ascii_whitespace();
        let running = children.filter_map(|pid| Process(pid.parse().ok()?).cpu());
        Some(own + ended + running.sum())
    }
}

/// User and system time in ticks. The second field is the program's name, which may hold anything, so what is
/// counted begins behind its last bracket.
fn cpu_ticks(stat: &str) -> Option<u64> {
    Some(ticks(stat, 11)? + ticks(stat, 12)?)
}

/// The n-th field behind the name.
fn ticks(stat: &str, nth: usize) -> Option<u64> {
    let fields = stat.get(stat.rfind(')')? + 1..)?;
    fields.split_ascii_whitespace().nth(nth)?.parse().ok()
}

fn kilobytes(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|l| l.strip_prefix(name))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

/// The machine in a few words: processors, memory, kernel.
pub fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(0, |n| n.get());
    let memory = fs::read_to_string("/proc/meminfo").ok();
    let memory = memory.and_then(|text| kilobytes(&text, "MemTotal:"));
    let memory = memory.map_or("unknown".to_owned(), |kb| {
        format!("{:.1} GiB", kb as f64 / 1_048_576.0)
    });
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let model = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = model
        .lines()
        .find_map(|l| l.strip_prefix("model name")?.split_once(": "));
    let model = model.map_or("unknown processor", |(_, name)| name);
    format!(
        "{cores} cores ({model}), {memory} of memory, kernel {}",
        kernel.trim()
    )
}

/// The memory that the kernel holds for itself: for sockets among other things, none of which is a process's.
pub fn kernel_bytes() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    kilobytes(&text, "Slab:").map(|kb| kb * 1024)
}

/// How many threads wanted to run over the last minute, on average.
pub fn load_average() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_ascii_whitespace()
        .next()
        .unwrap_or("unknown")
        .to_owned()
}

/// Lets this process and its children open as many files as the system allows, and says how many that is.
pub fn raise_open_files() -> u64 {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // When it is refused the old limit stands.
    _ = setrlimit(Resource::Nofile, limit);
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// Lets this thread run only when nobody else wants to, as far as the system's scheduler does that.
pub fn step_back() {
    // When it is refused the thread runs as before.
    _ = rustix::process::setpriority_process(None, 19);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_program_does_not_move_the_fields() {
        let stat = "42 (a b) c) S 1 42 42 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 3 0 1";
        assert_eq!(cpu_ticks(stat), Some(300));
        assert_eq!(cpu_ticks("42"), None);
    }

    #[test]
    fn memory_is_read_in_kilobytes() {
        assert_eq!(
            kilobytes("VmPeak:\t 9 kB\nVmRSS:\t   1234 kB\n", "VmRSS:"),
            Some(1234)
        );
        assert_eq!(kilobytes("VmRSS:\t 12\n", "VmRSS:"), None);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn this_process_can_be_watched() {
        assert!(Process::this().resident_bytes().unwrap() > 100_000);
        assert!(Process::this().cpu().is_some());
        assert!(Process(u32::MAX).cpu().is_none());
        assert!(Family(Process::this().0).cpu() >= Process::this().cpu());
        assert!(Family(u32::MAX).cpu().is_none());
    }
}
