//! Figures for people, as a table in Markdown, and for programs, as JSON.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::process::Command;

use anyhow::Result;
use hdrhistogram::Histogram;
use serde::Serialize;
use serde_json::json;

use crate::load::Plan;
use crate::peers::Peer;

/// What one load of one run measured, in the measured time, and what was checked, from the first message to the last.
#[derive(Debug, Clone, Serialize)]
pub struct Outcome {
    /// How many messages of one sender were unanswered at most.
    pub in_flight: usize,
    /// How long was measured.
    pub seconds: f64,
    /// Messages written from the first to the last.
    pub sent_in_all: u64,
    /// Messages and acknowledgements that had not come a minute after the end; they may have come later.
    pub late: u64,
    /// Messages that were acknowledged.
    pub acked: u64,
    /// Messages that came to the other end.
    pub delivered: u64,
    /// The same in a second.
    pub delivered_per_second: f64,
    /// The processor time of the server and all its processes for a delivered message.
    pub server_cpu_us: Option<f64>,
    /// From writing to acknowledgement, the median; none when nothing was acknowledged.
    pub ack_p50_ms: Option<f64>,
    /// And the 99th percentile.
    pub ack_p99_ms: Option<f64>,
    /// From writing to delivery, the median; none when nothing was delivered.
    pub delivery_p50_ms: Option<f64>,
    /// And the 99th percentile.
    pub delivery_p99_ms: Option<f64>,
    /// The processor time of the load generator, of one processor.
    pub load_cpu_percent: Option<f64>,
    /// What may never happen, and how often it did.
    pub violations: BTreeMap<String, u64>,
}

/// Everything about a peer.
pub struct PeerResult {
    /// Which one.
    pub peer: Peer,
    /// Which version of it.
    pub version: String,
    /// Every load of every run.
    pub outcomes: Vec<Outcome>,
    /// Why it was not run, or not to the end.
    pub not_run: Option<String>,
}

impl PeerResult {
    /// One that will be measured, or can not be.
    pub fn of(peer: Peer, version: Result<String>) -> Self {
        let mut result = PeerResult {
            peer,
            version: String::new(),
            outcomes: Vec::new(),
            not_run: None,
        };
        match version {
            Ok(version) => result.version = version,
            Err(error) => result.fail(&error),
        }
        result
    }

    /// It will not be measured any more.
    pub fn fail(&mut self, error: &anyhow::Error) {
        eprintln!("{}: not run: {error:#}", self.peer.title());
        self.not_run = Some(format!("{error:#}"));
    }

    /// Whether something happened that may never happen.
    pub fn is_broken(&self) -> bool {
        self.outcomes.iter().any(|o| !o.violations.is_empty())
    }

    fn of_load(&self, in_flight: usize) -> Vec<&Outcome> {
        let outcomes = self.outcomes.iter();
        outcomes.filter(|o| o.in_flight == in_flight).collect()
    }
}

/// Where and when it was measured.
pub struct Machine {
    description: String,
    date: String,
    load_average: String,
}

impl Machine {
    /// This one, now.
    pub fn this() -> Self {
        let cores = std::thread::available_parallelism().map_or(0, |n| n.get());
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        let line = |text: &str, name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            line.map(|rest| rest.trim_matches([':', ' ', '\t']).to_owned())
        };
        let processor = line(&read("/proc/cpuinfo"), "model name");
        let memory = line(&read("/proc/meminfo"), "MemTotal");
        let kernel = read("/proc/sys/kernel/osrelease");
        let date = Command::new("date")
            .args(["-u", "+%Y-%m-%d %H:%M UTC"])
            .output();
        let date = date.map_or_else(|_| Vec::new(), |output| output.stdout);
        Machine {
            description: format!(
                "{cores} cores ({}), {} of memory, Linux {}",
                processor.as_deref().unwrap_or("unknown processor"),
                memory.as_deref().unwrap_or("unknown size"),
                kernel.trim(),
            ),
            date: String::from_utf8_lossy(&date).trim().to_owned(),
            load_average: read("/proc/loadavg").trim().to_owned(),
        }
    }
}

/// Everything that was measured, run by run.
///
/// # Errors
/// When it can not be written as JSON.
pub fn json(machine: &Machine, plan: &Plan, results: &[PeerResult]) -> Result<String> {
    let peers = results.iter().map(|result| {
        json!({
            "peer": result.peer.name(),
            "title": result.peer.title(),
            "promise": result.peer.promise(),
            "version": result.version,
            "not_run": result.not_run,
            "runs": result.outcomes,
        })
    });
    let all = json!({
        "machine": machine.description,
        "date": machine.date,
        "load_average_before": machine.load_average,
        "pairs": plan.pairs,
        "rate": plan.rate,
        "bytes": plan.bytes,
        "seconds": plan.measured.as_secs_f64(),
        "peers": peers.collect::<Vec<_>>(),
    });
    Ok(serde_json::to_string_pretty(&all)? + "\n")
}

/// The medians as a table, and below it what else must be known.
pub fn markdown(machine: &Machine, plan: &Plan, results: &[PeerResult]) -> String {
    let mut text = format!(
        "{} pairs, both ends write {} bytes, {} s measured; medians. {}, {}, load average before {}. Server and \
         load generator share the machine.\n",
        plan.pairs,
        plan.bytes,
        plan.measured.as_secs(),
        machine.description,
        machine.date,
        machine.load_average.split(' ').next().unwrap_or("unknown"),
    );
    for &in_flight in &plan.in_flight {
        text += &format!(
            "\n{in_flight} in flight for each of {} senders{}:\n\n",
            plan.pairs * 2,
            plan.rate.map_or(String::new(), |rate| format!(
                ", {rate} messages/s together"
            )),
        );
        text += "| What | delivered/s (lowest – highest) | server CPU, µs a message | ack p50, ms | ack p99, ms \
                 | promise | version |\n|---|---|---|---|---|---|---|\n";
        for result in results {
            text += &row(result, in_flight);
        }
    }
    for note in results.iter().flat_map(notes) {
        _ = write!(text, "\n- {note}");
    }
    text + "\n"
}

fn row(result: &PeerResult, in_flight: usize) -> String {
    let outcomes = result.of_load(in_flight);
    let of = |figure: &dyn Fn(&Outcome) -> Option<f64>| {
        let mut values: Vec<f64> = outcomes.iter().filter_map(|o| figure(o)).collect();
        values.sort_by(f64::total_cmp);
        values
    };
    let middle = |figure: &dyn Fn(&Outcome) -> Option<f64>| {
        median(&of(figure)).map_or("-".to_owned(), |value| format!("{value:.1}"))
    };
    let rates = of(&|o| Some(o.delivered_per_second));
    let rate = match (median(&rates), rates.first(), rates.last()) {
        (Some(middle), Some(lowest), Some(highest)) => format!(
            "{} ({} – {})",
            grouped(middle),
            grouped(*lowest),
            grouped(*highest)
        ),
        _ => "not run".to_owned(),
    };
    format!(
        "| {} | {rate} | {} | {} | {} | {} | {} |\n",
        result.peer.title(),
        middle(&|o| o.server_cpu_us),
        middle(&|o| o.ack_p50_ms),
        middle(&|o| o.ack_p99_ms),
        result.peer.promise(),
        result.version,
    )
}

/// The load generator has one thread; near this it measures itself.
const GENERATOR_FULL_PERCENT: f64 = 90.0;

fn notes(result: &PeerResult) -> Vec<String> {
    let title = result.peer.title();
    let mut notes = Vec::new();
    if let Some(why) = &result.not_run {
        notes.push(format!("{title}: not run: {}", why.replace('\n', " / ")));
    }
    for outcome in &result.outcomes {
        let in_flight = outcome.in_flight;
        for (what, times) in &outcome.violations {
            notes.push(format!(
                "{title}, {in_flight} in flight: **broken: {times} {what}**"
            ));
        }
        if outcome.late > 0 {
            notes.push(format!(
                "{title}, {in_flight} in flight: {} messages and acknowledgements had not come a minute after the end",
                grouped(outcome.late as f64)
            ));
        }
        if let Some(percent) = outcome
            .load_cpu_percent
            .filter(|p| *p >= GENERATOR_FULL_PERCENT)
        {
            notes.push(format!(
                "{title}, {in_flight} in flight: the load generator used {percent:.0} % of a processor, so it is \
                 the limit"
            ));
        }
    }
    notes
}

/// The middle one of sorted values; of an even number the mean of the two in the middle.
fn median(sorted: &[f64]) -> Option<f64> {
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        n if n % 2 == 1 => Some(sorted[middle]),
        _ => Some((sorted[middle - 1] + sorted[middle]) / 2.0),
    }
}

/// A quantile in milliseconds; of nothing there is none.
pub fn milliseconds(histogram: &Histogram<u64>, quantile: f64) -> Option<f64> {
    (!histogram.is_empty()).then(|| histogram.value_at_quantile(quantile) as f64 / 1e6)
}

/// A whole number as people read it: 1,234,567.
fn grouped(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(delivered_per_second: f64) -> Outcome {
        Outcome {
            in_flight: 1,
            seconds: 10.0,
            sent_in_all: 0,
            late: 0,
            acked: 0,
            delivered: 0,
            delivered_per_second,
            server_cpu_us: None,
            ack_p50_ms: Some(1.0),
            ack_p99_ms: Some(2.0),
            delivery_p50_ms: Some(1.0),
            delivery_p99_ms: Some(2.0),
            load_cpu_percent: Some(10.0),
            violations: BTreeMap::new(),
        }
    }

    #[test]
    fn the_median_is_the_middle_one() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[1.0, 2.0, 3.0]), Some(2.0));
        assert_eq!(median(&[1.0, 2.0, 3.0, 4.0]), Some(2.5));
    }

    #[test]
    fn a_row_has_the_median_and_the_spread() {
        let mut result = PeerResult::of(Peer::Relay, Ok("1".to_owned()));
        result.outcomes = [12_000.0, 9_000.0, 10_500.0].map(outcome).to_vec();
        let row = row(&result, 1);
        assert!(row.contains("| 10,500 (9,000 – 12,000) |"), "{row}");
        assert!(row.contains("| - | 1.0 | 2.0 |"), "{row}");
    }

    #[test]
    fn what_was_not_run_or_broken_is_said() {
        let refused = PeerResult::of(Peer::Nats, Err(anyhow::anyhow!("not there")));
        assert!(row(&refused, 1).contains("| not run |"));
        assert_eq!(notes(&refused), ["NATS JetStream: not run: not there"]);

        let mut result = PeerResult::of(Peer::Relay, Ok("1".to_owned()));
        let mut broken = outcome(1.0);
        broken.violations.insert("missing".to_owned(), 3);
        result.outcomes.push(broken);
        assert!(result.is_broken());
        assert_eq!(
            notes(&result),
            ["bare relay, 1 in flight: **broken: 3 missing**"]
        );
    }
}
