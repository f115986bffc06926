//! Figures for people and for programs.

use std::fmt;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

use super::{direct, group};

/// One measured figure.
#[derive(Debug, Clone, Serialize)]
pub struct Figure {
    /// What was measured.
    pub name: String,
    /// The median of the runs.
    pub value: f64,
    /// Of the value.
    pub unit: &'static str,
    /// The server's processor time for one unit, in microseconds.
    pub cpu_us_per_unit: Option<f64>,
    /// The median of the runs' median times, in milliseconds: to the acknowledgement, of a group to the coming.
    pub p50_ms: Option<f64>,
    /// The median of the runs' 99th percentiles, in milliseconds.
    pub p99_ms: Option<f64>,
    /// The value of each run, in the order in which they ran.
    pub runs: Vec<f64>,
    /// Where it lies on a curve of several figures.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub along: Option<Along>,
    /// Which share of all runs' times was how long at most, in milliseconds, shortest first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub times_ms: Vec<(f64, f64)>,
}

/// A place on a curve.
#[derive(Debug, Clone, Serialize)]
pub struct Along {
    /// Names the curve.
    pub curve: String,
    /// What grows from one place to the next.
    pub of: &'static str,
    /// How far it has grown.
    pub at: f64,
}

impl Figure {
    /// A figure of several runs; none when there are no runs.
    pub fn of(name: impl Into<String>, unit: &'static str, runs: Vec<f64>) -> Option<Self> {
        let value = median(&runs)?;
        let (cpu_us_per_unit, p50_ms, p99_ms) = (None, None, None);
        Some(Figure {
            name: name.into(),
            value,
            unit,
            cpu_us_per_unit,
            p50_ms,
            p99_ms,
            runs,
            along: None,
            times_ms: Vec::new(),
        })
    }

    /// Messages delivered in a second, over several runs.
    pub fn of_direct(name: &str, runs: &[direct::Outcome]) -> Option<Self> {
        let median_of = |f: &dyn Fn(&direct::Outcome) -> Option<f64>| {
            median(&runs.iter().filter_map(f).collect::<Vec<_>>())
        };
        let rates = runs
            .iter()
            .map(direct::Outcome::delivered_per_second)
            .collect();
        Some(Figure {
            cpu_us_per_unit: median_of(&|o| o.cpu_us_per_message()),
            p50_ms: median_of(&|o| Some(milliseconds(&o.ack_ns, 0.5))),
            p99_ms: median_of(&|o| Some(milliseconds(&o.ack_ns, 0.99))),
            times_ms: times_of(runs.iter().map(|o| &o.ack_ns)),
            ..Figure::of(name, "messages/s", rates)?
        })
    }

    /// Deliveries in a group in a second, over several runs. The times are those from when a message was due
    /// to its coming at each other member.
    pub fn of_group(name: &str, runs: &[group::Outcome]) -> Option<Self> {
        let median_of = |f: &dyn Fn(&group::Outcome) -> Option<f64>| {
            median(&runs.iter().filter_map(f).collect::<Vec<_>>())
        };
        let rates = runs
            .iter()
            .map(group::Outcome::delivered_per_second)
            .collect();
        Some(Figure {
            cpu_us_per_unit: median_of(&|o| o.cpu_us_per_delivery()),
            p50_ms: median_of(&|o| Some(milliseconds(&o.delivery_ns, 0.5))),
            p99_ms: median_of(&|o| Some(milliseconds(&o.delivery_ns, 0.99))),
            times_ms: times_of(runs.iter().map(|o| &o.delivery_ns)),
            ..Figure::of(name, "deliveries/s", rates)?
        })
    }
}

impl group::Outcome {
    /// Messages that came to another member in a second.
    pub fn delivered_per_second(&self) -> f64 {
        self.delivered as f64 / self.reading.measured.as_secs_f64()
    }

    /// The server's processor time for a delivery. It is the same number as seconds for a million.
    pub fn cpu_us_per_delivery(&self) -> Option<f64> {
        per_message(self.reading.server_cpu?.as_secs_f64() * 1e6, self.delivered)
    }
}

impl direct::Outcome {
    /// Messages that came to the other end in a second.
    pub fn delivered_per_second(&self) -> f64 {
        self.delivered as f64 / self.measured.as_secs_f64()
    }

    /// The server's processor time for a delivered message. It is the same number as milliseconds for 1,000.
    pub fn cpu_us_per_message(&self) -> Option<f64> {
        per_message(self.server_cpu?.as_secs_f64() * 1e6, self.delivered)
    }

    /// The database's processor time for a delivered message.
    pub fn database_cpu_us_per_message(&self) -> Option<f64> {
        per_message(self.database_cpu?.as_secs_f64() * 1e6, self.delivered)
    }

    /// What the server gave to the disk for a message.
    pub fn written_bytes_per_message(&self) -> Option<f64> {
        per_message(self.server_written_bytes? as f64, self.delivered)
    }
}

fn per_message(what: f64, messages: u64) -> Option<f64> {
    (messages > 0).then(|| what / messages as f64)
}

/// The middle one; of an even number the mean of the two in the middle.
pub fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        n if n % 2 == 1 => Some(sorted[middle]),
        _ => Some((sorted[middle - 1] + sorted[middle]) / 2.0),
    }
}

/// A quantile in milliseconds.
pub fn milliseconds(histogram: &Histogram<u64>, quantile: f64) -> f64 {
    histogram.value_at_quantile(quantile) as f64 / 1e6
}

/// The shares whose times are kept.
const SHARES: [f64; 11] = [
    0.5, 0.75, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999, 0.9995, 0.9999,
];

/// Which share of the times was how long at most, in milliseconds: as far as there are so many.
pub fn times(histogram: &Histogram<u64>) -> Vec<(f64, f64)> {
    let shares = SHARES.into_iter();
    let shares = shares.filter(|share| histogram.len() as f64 * (1.0 - share) >= 1.0);
    shares
        .map(|share| (share, milliseconds(histogram, share)))
        .collect()
}

/// The same of all of them together.
fn times_of<'a>(histograms: impl Iterator<Item = &'a Histogram<u64>>) -> Vec<(f64, f64)> {
    // It was made to grow, so that it takes any time.
    let mut all = Histogram::new(3).expect("three digits are allowed");
    for histogram in histograms {
        all.add(histogram).expect("it grows");
    }
    times(&all)
}

/// The quantiles that are shown.
pub fn quantiles(histogram: &Histogram<u64>) -> String {
    let at = |quantile| milliseconds(histogram, quantile);
    let longest = histogram.max() as f64 / 1e6;
    format!(
        "p50 {:.2}  p90 {:.2}  p99 {:.2}  p99.9 {:.2}  longest {longest:.2} ms",
        at(0.5),
        at(0.9),
        at(0.99),
        at(0.999)
    )
}

/// The share of one processor that was used.
pub fn percent_of_a_core(cpu: Duration, of: Duration) -> f64 {
    100.0 * cpu.as_secs_f64() / of.as_secs_f64()
}

/// A number as people read it: 1,234,567 or 20 or 0.53.
pub struct Readable(pub f64);

impl fmt::Display for Readable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.abs() < 100.0 && self.0.fract() != 0.0 {
            return f.pad(&format!("{:.2}", self.0));
        }
        let digits = format!("{:.0}", self.0.abs());
        let mut text = String::from(if self.0 < 0.0 { "-" } else { "" });
        for (at, digit) in digits.chars().enumerate() {
            if at > 0 && (digits.len() - at).is_multiple_of(3) {
                text.push(',');
            }
            text.push(digit);
        }
        f.pad(&text)
    }
}

/// The figures as one table.
pub fn table(figures: &[Figure]) -> String {
    let or_dash = |value: Option<f64>| value.map_or("-".to_owned(), |v| format!("{v:.2}"));
    let names = figures.iter().map(|figure| figure.name.chars().count());
    let width = names.max().unwrap_or(0).max(4);
    let mut lines = vec![format!(
        "{:<width$} {:>12} {:<12} {:>27} {:>9} {:>9} {:>9}",
        "what", "median", "unit", "lowest - highest", "CPU us", "p50 ms", "p99 ms"
    )];
    for figure in figures {
        let lowest = figure.runs.iter().copied().fold(f64::INFINITY, f64::min);
        let highest = figure
            .runs
            .iter()
            .copied()
            .fold(f64::NEG_INFINITY, f64::max);
        let spread = match figure.runs.len() {
            0 | 1 => "one run".to_owned(),
            n => format!("{} - {} ({n})", Readable(lowest), Readable(highest)),
        };
        lines.push(format!(
            "{:<width$} {:>12} {:<12} {:>27} {:>9} {:>9} {:>9}",
            figure.name,
            Readable(figure.value),
            figure.unit,
            spread,
            or_dash(figure.cpu_us_per_unit),
            or_dash(figure.p50_ms),
            or_dash(figure.p99_ms),
        ));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_one() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
    }

    #[test]
    fn a_share_is_shown_only_when_there_are_so_many_times() {
        let mut histogram = Histogram::new(3).unwrap();
        for ms in 1..=100 {
            histogram.record(ms * 1_000_000).unwrap();
        }
        let times = times(&histogram);
        let shares: Vec<f64> = times.iter().map(|(share, _)| *share).collect();
        assert_eq!(shares, [0.5, 0.75, 0.9, 0.95, 0.98, 0.99]);
        assert!((times[0].1 - 50.0).abs() < 0.1, "{times:?}");
    }

    #[test]
    fn numbers_are_grouped_by_thousands() {
        let numbers = [0.534, 20.0, 99.999, 100.4, 1_234.0, 1_234_567.0, -12_345.0];
        assert_eq!(
            numbers.map(|n| Readable(n).to_string()),
            [
                "0.53",
                "20",
                "100.00",
                "100",
                "1,234",
                "1,234,567",
                "-12,345"
            ]
        );
    }

    #[test]
    fn a_figure_shows_its_spread() {
        let figure = Figure::of("cold start", "ms", vec![30.0, 10.0, 20.0]).unwrap();
        assert_eq!(figure.value, 20.0);
        let table = table(&[figure]);
        assert!(table.contains("10 - 30 (3)"), "{table}");
    }
}
