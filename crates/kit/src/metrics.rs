//! Numbers that a node shows of itself, in the text form that Prometheus reads.
//!
//! Whoever counts keeps the number and gives a way to read it; nothing is counted here. What a number is called
//! is said where the node is wired.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

/// The media type of [`Metrics::text`].
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A number that only grows while the process lives.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// So many more.
    pub fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    /// How many there were.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// All numbers of a node; clones are the same ones.
#[derive(Clone, Default)]
pub struct Metrics(Arc<Mutex<Vec<Metric>>>);

struct Metric {
    name: &'static str,
    help: &'static str,
    kind: &'static str,
    read: Box<dyn Fn() -> u64 + Send + Sync>,
}

impl Metrics {
    /// Shows a number that only grows. Its name ends in `_total`; a name is used once.
    pub fn counter(
        &self,
        name: &'static str,
        help: &'static str,
        read: impl Fn() -> u64 + Send + Sync + 'static,
    ) {
        self.show("counter", name, help, Box::new(read));
    }

    /// Shows a number that goes up and down. A name is used once.
    pub fn gauge(
        &self,
        name: &'static str,
        help: &'static str,
        read: impl Fn() -> u64 + Send + Sync + 'static,
    ) {
        self.show("gauge", name, help, Box::new(read));
    }

    /// Shows numbers of one thing. Each keeps a clone of it.
    pub fn of<'a, T>(&'a self, thing: &'a T) -> Of<'a, T> {
        Of {
            metrics: self,
            thing,
        }
    }

    /// All numbers as they are now, in the order in which they were named.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for Metric {
            name,
            help,
            kind,
            read,
        } in &*self.0.lock()
        {
            let value = read();
            // Writing into a string never fails.
            _ = writeln!(
                text,
                "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}"
            );
        }
        text
    }

    fn show(
        &self,
        kind: &'static str,
        name: &'static str,
        help: &'static str,
        read: Box<dyn Fn() -> u64 + Send + Sync>,
    ) {
        let mut all = self.0.lock();
        debug_assert!(all.iter().all(|m| m.name != name), "{name} is named twice");
        all.push(Metric {
            name,
            help,
            kind,
            read,
        });
    }
}

/// What shows numbers of one thing.
pub struct Of<'a, T> {
    metrics: &'a Metrics,
    thing: &'a T,
}

impl<T: Clone + Send + Sync + 'static> Of<'_, T> {
    /// As [`Metrics::counter`].
    pub fn counter(&self, name: &'static str, help: &'static str, read: fn(&T) -> u64) -> &Self {
        let thing = self.thing.clone();
        self.metrics.counter(name, help, move || read(&thing));
        self
    }

    /// As [`Metrics::gauge`].
    pub fn gauge(&self, name: &'static str, help: &'static str, read: fn(&T) -> u64) -> &Self {
        let thing = self.thing.clone();
        self.metrics.gauge(name, help, move || read(&thing));
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_is_the_number_of_that_moment() {
        let (metrics, counter) = (Metrics::default(), Arc::new(Counter::default()));
        let counted = Arc::clone(&counter);
        metrics.counter("reads_total", "Reads.", move || counted.get());
        metrics.gauge("open", "Open now.", || 3);
        counter.add(2);
        counter.add(5);
        assert_eq!(
            metrics.text(),
            "# HELP reads_total Reads.\n# TYPE reads_total counter\nreads_total 7\n\
             # HELP open Open now.\n# TYPE open gauge\nopen 3\n"
        );
    }
}
