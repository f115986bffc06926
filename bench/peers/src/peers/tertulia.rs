//! Tertulia itself, under the load that its own binary puts on it: the same job, spoken in its own protocol.

use std::path::Path;
use std::process;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tokio::process::Command;

use crate::load::Plan;
use crate::report::Outcome;
use crate::server::Server;

const READY: &str = "Tertulia is ready at http://";

/// Which one it is.
///
/// # Errors
/// When the binary is not there.
pub fn version(program: &Path) -> Result<String> {
    let output = process::Command::new(program).arg("--version").output();
    let output = output.with_context(|| {
        format!(
            "{} is not there: `cargo build --release` makes it",
            program.display()
        )
    })?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Starts a fresh server and measures every load of the plan, one after the other.
///
/// # Errors
/// When the server does not start, or the load can not be put on it.
pub async fn round(program: &Path, plan: &Plan, folder: &Path) -> Result<Vec<Outcome>> {
    let mut command = Command::new(program);
    command
        .args(["serve", "--listen", "127.0.0.1:0"])
        .arg("--data")
        .arg(folder.join("data"))
        // One address stands for everybody here, so that limits for one would measure only themselves.
        .args(["--set", "limits.enabled=false", "--set", "log.levels=warn"]);
    let server = Server::start(command, folder, READY).await?;
    let mut outcomes = Vec::new();
    for &in_flight in &plan.in_flight {
        let rate = plan
            .rate
            .map(|rate| ["--rate".to_owned(), rate.to_string()]);
        let output = Command::new(program)
            .args(["load", "direct", "--json"])
            .arg("--url")
            .arg(format!("http://{}", server.address))
            .args(["--pairs", &plan.pairs.to_string()])
            .args(["--in-flight", &in_flight.to_string()])
            .args(["--seconds", &plan.measured.as_secs().to_string()])
            .args(["--bytes", &plan.bytes.to_string()])
            .args(rate.iter().flatten())
            .args(["--server-pid", &server.pid().to_string()])
            .kill_on_drop(true)
            .output()
            .await?;
        outcomes.push(outcome(in_flight, &output)?);
    }
    server.stop().await?;
    Ok(outcomes)
}

fn outcome(in_flight: usize, output: &process::Output) -> Result<Outcome> {
    // It fails when a promise was broken, and prints its figures all the same.
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(
        !output.stdout.is_empty(),
        "the load was not put on: {}",
        said.trim()
    );
    read(in_flight, &serde_json::from_slice(&output.stdout)?)
}

fn read(in_flight: usize, figures: &Value) -> Result<Outcome> {
    let number = |path: &str| {
        let value = figures.pointer(path).and_then(Value::as_f64);
        value.with_context(|| format!("{path} is not among the figures"))
    };
    let seconds = number("/seconds")?;
    let violations = figures["violations"].as_object();
    let violations = violations.context("nothing is said of violations")?;
    let violations = violations
        .iter()
        .filter_map(|(what, times)| Some((what.clone(), times.as_u64().filter(|n| *n > 0)?)));
    Ok(Outcome {
        in_flight,
        seconds,
        sent_in_all: number("/sent_in_all")? as u64,
        // Its own load counts what is late among the violations.
        late: 0,
        acked: number("/acked")? as u64,
        delivered: number("/delivered")? as u64,
        delivered_per_second: number("/delivered_per_second")?,
        server_cpu_us: figures["server_cpu_us_per_message"].as_f64(),
        ack_p50_ms: Some(number("/ack_ms/p50")?),
        ack_p99_ms: Some(number("/ack_ms/p99")?),
        delivery_p50_ms: Some(number("/delivery_ms/p50")?),
        delivery_p99_ms: Some(number("/delivery_ms/p99")?),
        load_cpu_percent: figures["load_cpu_seconds"]
            .as_f64()
            .map(|cpu| 100.0 * cpu / seconds),
        violations: violations.collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn figures_are_read_and_only_violations_that_happened_are_kept() {
        let times = json!({ "p50": 1.5, "p99": 9.0 });
        let figures = json!({
            "seconds": 10.0, "sent_in_all": 120, "acked": 100, "delivered": 99,
            "delivered_per_second": 9.9, "server_cpu_us_per_message": 40.0,
            "ack_ms": times, "delivery_ms": times, "load_cpu_seconds": 2.0,
            "violations": { "missing": 1, "repeated": 0 },
        });
        let outcome = read(16, &figures).unwrap();
        assert_eq!(outcome.load_cpu_percent, Some(20.0));
        assert_eq!(
            outcome.violations.into_iter().collect::<Vec<_>>(),
            [("missing".to_owned(), 1)]
        );
        assert!(read(16, &json!({ "seconds": 10.0 })).is_err());
    }
}
