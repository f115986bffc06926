//! Processor time, as the kernel counts it in /proc: user and system, of a process and of all that it started.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

/// The processor time that a process and all below it have used, with that of children that have ended.
/// A child that left its parent is not found. None when the process is gone.
pub fn of_tree(pid: u32) -> Option<Duration> {
    let mut stats = BTreeMap::new();
    for entry in fs::read_dir("/proc").ok()?.flatten() {
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        else {
            continue;
        };
        // A process may end while it is looked at.
        let text = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        if let Some(stat) = Stat::parse(&text) {
            stats.insert(pid, stat);
        }
    }
    let ticks = ticks_of_tree(&stats, pid)?;
    let per_second = rustix::param::clock_ticks_per_second() as f64;
    Some(Duration::from_secs_f64(ticks as f64 / per_second))
}

/// The processor time of this process alone.
pub fn of_this() -> Option<Duration> {
    let text = fs::read_to_string("/proc/self/stat").ok()?;
    let ticks = Stat::parse(&text)?.own_ticks;
    let per_second = rustix::param::clock_ticks_per_second() as f64;
    Some(Duration::from_secs_f64(ticks as f64 / per_second))
}

/// What is taken from a line of /proc/PID/stat.
struct Stat {
    parent: u32,
    own_ticks: u64,
    /// Of children that have ended and were waited for.
    ended_ticks: u64,
}

impl Stat {
    /// The second field is the program's name, which may hold anything, so what counts begins behind its last bracket.
    fn parse(text: &str) -> Option<Self> {
        let rest = text.get(text.rfind(')')? + 1..)?;
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        let number = |at: usize| fields.get(at)?.parse::<u64>().ok();
        Some(Stat {
            parent: fields.get(1)?.parse().ok()?,
            own_ticks: number(11)? + number(12)?,
            ended_ticks: number(13)? + number(14)?,
        })
    }
}

fn ticks_of_tree(stats: &BTreeMap<u32, Stat>, root: u32) -> Option<u64> {
    let top = stats.get(&root)?;
    let mut ticks = top.own_ticks + top.ended_ticks;
    for (child, stat) in stats {
        if stat.parent == root && *child != root {
            ticks += ticks_of_tree(stats, *child)?;
        }
    }
    Some(ticks)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_program_does_not_move_the_fields() {
        let stat = Stat::parse("42 (a b) c) S 7 42 42 0 -1 4194560 1 0 0 0 250 50 20 5 20 0 3 0 1");
        let stat = stat.unwrap();
        assert_eq!(
            (stat.parent, stat.own_ticks, stat.ended_ticks),
            (7, 300, 25)
        );
    }

    #[test]
    fn children_and_their_children_count_and_strangers_do_not() {
        let stat = |parent, own_ticks| Stat {
            parent,
            own_ticks,
            ended_ticks: 1,
        };
        let stats = BTreeMap::from([
            (10, stat(1, 100)),
            (11, stat(10, 20)),
            (12, stat(11, 3)),
            (13, stat(1, 5000)),
        ]);
        assert_eq!(ticks_of_tree(&stats, 10), Some(126));
        assert_eq!(ticks_of_tree(&stats, 99), None);
    }

    #[test]
    fn this_process_is_found() {
        assert!(of_tree(std::process::id()).is_some());
        assert!(of_this().is_some());
        assert!(of_tree(u32::MAX).is_none());
    }
}
