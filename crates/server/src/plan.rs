//! `tertulia plan`: what a deployment takes, computed from what its users do and from what was measured
//! (`figures`). The formulas are explained in `docs/operate/capacity.md`.

pub mod figures;

use std::fmt::Write as _;
use std::io::Write as _;
use std::process::ExitCode;

use clap::Args;
use serde::Serialize;

use figures::{FIGURES, Known};

const SECONDS_A_DAY: f64 = 86_400.0;
const DAYS_A_YEAR: f64 = 365.0;
/// How often a session has a heartbeat (`live.heartbeat_ms`).
const HEARTBEAT_S: f64 = 25.0;
/// How long it is known which sendings were made, at most.
const SEND_KEY_DAYS: f64 = 14.0;
/// How soon everybody has come back after a node is gone.
const RETURN_S: f64 = 60.0;
/// Connections of a node to the database, with the settings that are the default.
const CONNECTIONS_OF_NODE: f64 = 18.0;
/// A GiB in bytes.
const GIB: f64 = (1_u64 << 30) as f64;

/// What the users do, and what machines there are.
#[derive(Debug, Clone, Args, Serialize)]
pub struct Plan {
    /// How many people use it.
    #[arg(long, value_name = "N", default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..=100_000_000_000))]
    users: u64,
    /// How many of 100 are online at the peak.
    #[arg(long, value_name = "PERCENT", default_value_t = 20.0, value_parser = percent)]
    online: f64,
    /// How many sessions somebody has who is online.
    #[arg(long, value_name = "N", default_value_t = 1.2, value_parser = at_least_one)]
    devices: f64,
    /// How many messages a user writes a day.
    #[arg(long, value_name = "N", default_value_t = 40.0, value_parser = positive)]
    messages: f64,
    /// How many sessions hear a message at once, on average, with the other ones of who wrote it.
    #[arg(long, value_name = "N", default_value_t = 5.0, value_parser = positive)]
    deliveries: f64,
    /// How many of 100 messages are in groups of more than 16, which all nodes hear of.
    #[arg(long, value_name = "PERCENT", default_value_t = 10.0, value_parser = percent)]
    large: f64,
    /// How long a text is, in bytes.
    #[arg(long, value_name = "BYTES", default_value_t = 128.0, value_parser = positive)]
    bytes: f64,
    /// How many years messages are kept.
    #[arg(long, value_name = "YEARS", default_value_t = 5.0, value_parser = positive)]
    years: f64,
    /// How many copies of the database there are.
    #[arg(long, value_name = "N", default_value_t = 3.0, value_parser = at_least_one)]
    replicas: f64,
    /// How much more happens at the peak than on average.
    #[arg(long, value_name = "N", default_value_t = 3.0, value_parser = at_least_one)]
    peak: f64,
    /// How many of 100 a processor may be busy at the peak, and memory full.
    #[arg(long, value_name = "PERCENT", default_value_t = 50.0, value_parser = share)]
    busy: f64,
    /// Cores of a node.
    #[arg(long, value_name = "N", default_value_t = 8.0, value_parser = at_least_one)]
    node_cores: f64,
    /// Memory of a node.
    #[arg(long, value_name = "GIB", default_value_t = 16.0, value_parser = at_least_one)]
    node_memory: f64,
    /// How many sessions a node takes at most (`live.sessions_max`).
    #[arg(long, value_name = "N", default_value_t = 200_000, value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    node_sessions: u64,
    /// Prints everything as JSON, with the figures.
    #[arg(long)]
    #[serde(skip)]
    json: bool,
}

fn number(text: &str, most: f64) -> Result<f64, String> {
    let number: f64 = text.parse().map_err(|_| "wants a number".to_owned())?;
    match (0.0..=most).contains(&number) {
        true => Ok(number),
        false => Err(format!("wants a number from 0 to {most}")),
    }
}

fn positive(text: &str) -> Result<f64, String> {
    number(text, 1e9)
}

fn at_least_one(text: &str) -> Result<f64, String> {
    match positive(text)? {
        number if number >= 1.0 => Ok(number),
        _ => Err("wants 1 or more".into()),
    }
}

fn percent(text: &str) -> Result<f64, String> {
    number(text, 100.0)
}

/// A share that something is divided by.
fn share(text: &str) -> Result<f64, String> {
    match percent(text)? {
        number if number >= 1.0 => Ok(number),
        _ => Err("wants a number from 1 to 100".into()),
    }
}

/// What it comes to. Rates are a second at the peak.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Needs {
    pub sessions: f64,
    pub messages_per_s: f64,
    pub deliveries_per_s: f64,

    /// Of all nodes together, as busy as they may be.
    pub cores: f64,
    /// Of them for sessions that rest.
    pub cores_for_sessions: f64,
    /// Of them for messages and who hears them.
    pub cores_for_messages: f64,
    /// How many it would be if messages came as thick as they can.
    pub cores_at_best: f64,
    /// Of all nodes together.
    pub memory_gib: f64,
    /// With one that may be gone.
    pub nodes: f64,
    /// What the number of nodes follows from.
    pub nodes_because_of: &'static str,
    /// What comes out of all nodes to clients, in MB.
    pub to_clients_mb_per_s: f64,
    /// How busy the cores that are there get while the sessions of a node that is gone come back, of 100.
    pub busy_when_a_node_is_gone: f64,

    /// Of the server that writes, as busy as it may be.
    pub database_cores: f64,
    /// How much of what one database server takes is used.
    pub database_share: f64,
    pub database_connections: f64,
    /// One copy.
    pub storage_tb_per_year: f64,
    /// All copies, after the years that are kept.
    pub storage_tb: f64,

    /// What NATS takes from nodes.
    pub bus_published_per_s: f64,
    /// What each node takes from NATS.
    pub bus_taken_per_s_of_node: f64,
    /// How much of what one node takes is used.
    pub bus_share: f64,

    /// What is first at its end when more users come.
    pub bottleneck: &'static str,
    /// How many users it is at its end with, of 100 of these.
    pub bottleneck_at: f64,
}

impl Plan {
    /// What it comes to.
    pub fn needs(&self) -> Needs {
        use figures::*;

        let micro = |figure: Figure| figure.value / 1e6;
        let busy = self.busy / 100.0;
        let online = self.users as f64 * self.online / 100.0;
        let sessions = online * self.devices;
        let mean = self.users as f64 * self.messages / SECONDS_A_DAY;
        let messages = mean * self.peak;
        let deliveries = messages * self.deliveries;

        let further = (self.deliveries - 2.0).max(0.0) * micro(DELIVERY_CPU);
        let for_sessions = sessions * micro(SESSION_CPU) / busy;
        let for_messages = messages * (micro(MESSAGE_CPU) + further) / busy;
        let at_best = messages * (micro(BUSY_MESSAGE_CPU) + further) / busy;
        let cores = for_sessions + for_messages;

        let of_session = (SESSION_MEMORY.value + SOCKET_MEMORY.value) * 1e3;
        let of_user = SUBSCRIPTION_MEMORY.value * 1e3;
        let for_all = (sessions * of_session + online * of_user) / GIB / busy;
        let beside = NODE_MEMORY.value / 1024.0 / busy;

        let ways = [
            (
                "the sessions that a node takes",
                sessions / self.node_sessions as f64,
            ),
            ("cores", cores / self.node_cores),
            ("memory", for_all / (self.node_memory - beside).max(0.1)),
        ];
        let most = ways.iter().copied();
        let (nodes_because_of, least) =
            most.fold(("nothing", 0.0), |a, b| if b.1 > a.1 { b } else { a });
        // With a single one there is nobody to go to when it is gone.
        let working = f64::ceil(least).max(1.0);
        let nodes = working + 1.0;

        let returning = sessions / nodes * micro(RETURN_CPU) / RETURN_S;
        let when_gone = 100.0 * (cores * busy + returning) / (working * self.node_cores);

        let event = EVENT_BYTES.value + self.bytes + PACKET_BYTES.value;
        let heartbeats = sessions / HEARTBEAT_S * (HEARTBEAT_BYTES.value + PACKET_BYTES.value);
        let to_clients = (deliveries * event + heartbeats) / 1e6;

        let a_day = mean * SECONDS_A_DAY;
        let stored = a_day * (STORED_BYTES.value + self.bytes);
        let known = a_day * SEND_KEY_DAYS * SEND_KEY_BYTES.value;
        let a_year = stored * DAYS_A_YEAR / 1e12;

        // Small chats: once for each who hears, where they are. Large ones: once, and everybody hears.
        let large = messages * self.large / 100.0;
        let small = messages - large;
        let of_small = small * self.deliveries;
        let taken = of_small / nodes + large;

        let shares = [
            (
                "one database server's writes",
                messages / DATABASE_RATE.value,
            ),
            ("what a node takes from NATS", taken / BUS_RATE.value),
            (
                "connections of one database server",
                nodes * CONNECTIONS_OF_NODE / CONNECTIONS_MAX.value,
            ),
            (
                "what one database server stores",
                (a_year * self.years + known / 1e12) / DATABASE_TB.value,
            ),
        ];
        let (bottleneck, share) = shares
            .into_iter()
            .fold(("nothing", 0.0), |a, b| if b.1 > a.1 { b } else { a });

        Needs {
            sessions,
            messages_per_s: messages,
            deliveries_per_s: deliveries,
            cores,
            cores_for_sessions: for_sessions,
            cores_for_messages: for_messages,
            cores_at_best: for_sessions + at_best,
            memory_gib: for_all + nodes * beside,
            nodes,
            nodes_because_of,
            to_clients_mb_per_s: to_clients,
            busy_when_a_node_is_gone: when_gone,
            database_cores: messages * micro(DATABASE_CPU) / busy,
            database_share: 100.0 * messages / DATABASE_RATE.value,
            database_connections: nodes * CONNECTIONS_OF_NODE,
            storage_tb_per_year: a_year,
            storage_tb: (a_year * self.years + known / 1e12) * self.replicas,
            bus_published_per_s: of_small + large,
            bus_taken_per_s_of_node: taken,
            bus_share: 100.0 * taken / BUS_RATE.value,
            bottleneck,
            bottleneck_at: 100.0 / share.max(f64::MIN_POSITIVE),
        }
    }
}

/// Prints it.
///
/// # Errors
/// When nobody takes the output.
pub fn run(plan: Plan) -> anyhow::Result<ExitCode> {
    let needs = plan.needs();
    let text = match plan.json {
        true => {
            let all = serde_json::json!({ "plan": plan, "needs": needs, "figures": FIGURES });
            serde_json::to_string_pretty(&all)? + "\n"
        }
        false => words(&plan, &needs),
    };
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        // `| head` has seen enough.
        Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => {}
        written => written?,
    }
    Ok(ExitCode::SUCCESS)
}

fn words(plan: &Plan, needs: &Needs) -> String {
    let mut out = String::new();
    let mut line = |name: &str, value: String, about: &str| {
        let line = format!("  {name:<26}{value:>16}  {about}");
        _ = writeln!(out, "{}", line.trim_end());
    };
    line("sessions", round(needs.sessions), "at the peak");
    line("messages", round(needs.messages_per_s) + "/s", "");
    line("deliveries", round(needs.deliveries_per_s) + "/s", "");
    line(
        "nodes",
        round(needs.nodes),
        &format!(
            "one of them may be gone; because of {}",
            needs.nodes_because_of
        ),
    );
    let best = format!(
        "of all nodes; {} when messages come thick",
        round(needs.cores_at_best)
    );
    line("  cores", round(needs.cores), &best);
    line(
        "    for sessions at rest",
        round(needs.cores_for_sessions),
        "",
    );
    line("    for messages", round(needs.cores_for_messages), "");
    line("  memory", round(needs.memory_gib) + " GiB", "of all nodes");
    line(
        "  to clients",
        round(needs.to_clients_mb_per_s) + " MB/s",
        "",
    );
    let gone = "while the sessions of a node that is gone come back";
    line("  busy", round(needs.busy_when_a_node_is_gone) + " %", gone);
    let share = format!(
        "{} % of what one server takes, as assumed",
        round(needs.database_share)
    );
    line(
        "database writes",
        round(needs.messages_per_s) + "/s",
        &share,
    );
    line("  cores", round(needs.database_cores), "");
    line("  connections", round(needs.database_connections), "");
    line(
        "  storage a year",
        round(needs.storage_tb_per_year) + " TB",
        "one copy",
    );
    let copies = format!("{} copies, {} years", plan.replicas, plan.years);
    line("  storage", round(needs.storage_tb) + " TB", &copies);
    line("NATS takes", round(needs.bus_published_per_s) + "/s", "");
    let share = format!("{} % of what was measured", round(needs.bus_share));
    line(
        "  gives each node",
        round(needs.bus_taken_per_s_of_node) + "/s",
        &share,
    );
    let at = format!(
        "at its end with {} % of these users",
        round(needs.bottleneck_at)
    );
    _ = writeln!(out, "\nFirst bottleneck: {}, {at}.\n", needs.bottleneck);
    _ = writeln!(out, "Computed from:");
    for figure in FIGURES {
        let from = match figure.known {
            Known::Measured(command) => format!("measured: {command}"),
            Known::Assumed(why) => format!("ASSUMED: {why}"),
        };
        let value = format!("{} {}", round(figure.value), figure.unit);
        _ = writeln!(
            out,
            "  {:<20}{value:>18}  {}\n  {:<40}{from}",
            figure.name, figure.about, ""
        );
    }
    out
}

/// Three digits that mean something, in groups of three.
fn round(value: f64) -> String {
    if value == 0.0 || !value.is_finite() {
        return "0".into();
    }
    let decimals = 2 - value.abs().log10().floor() as i32;
    if decimals > 0 {
        let text = format!("{value:.*}", decimals.min(6) as usize);
        let text = text.trim_end_matches('0').trim_end_matches('.');
        return if text.is_empty() {
            "0".into()
        } else {
            text.to_owned()
        };
    }
    let scale = 10_f64.powi(-decimals);
    let digits = format!("{:.0}", (value / scale).round() * scale);
    let mut grouped = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at) % 3 == 0 {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        plan: Plan,
    }

    fn plan(args: &[&str]) -> Plan {
        let args = ["plan"].iter().chain(args);
        Command::try_parse_from(args).unwrap().plan
    }

    fn near(is: f64, shall: f64) -> bool {
        (is - shall).abs() <= shall.abs() * 1e-9
    }

    #[test]
    fn the_formulas_are_those_of_the_page() {
        let args = [
            "--users",
            "8640000",
            "--online",
            "50",
            "--devices",
            "2",
            "--messages",
            "100",
            "--peak",
            "2",
            "--deliveries",
            "4",
            "--large",
            "25",
            "--busy",
            "50",
            "--years",
            "2",
            "--replicas",
            "3",
        ];
        let needs = plan(&args).needs();
        assert!(near(needs.sessions, 8_640_000.0));
        assert!(near(needs.messages_per_s, 20_000.0));
        assert!(near(needs.deliveries_per_s, 80_000.0));
        // 8.64 million × 3.53 µs, and 20,000 × (192 + 2 × 15.2) µs; twice, as half of it may be used.
        assert!(near(needs.cores_for_sessions, 60.9984));
        assert!(near(needs.cores_for_messages, 8.896));
        assert!(near(needs.nodes, 45.0), "{}", needs.nodes);
        assert_eq!(needs.nodes_because_of, "the sessions that a node takes");
        // 5,000 to all, 15,000 to four each.
        assert!(near(needs.bus_published_per_s, 65_000.0));
        assert!(near(
            needs.bus_taken_per_s_of_node,
            60_000.0 / 45.0 + 5_000.0
        ));
        assert!(near(needs.database_cores, 14.88));
        let a_day = 864e6 * (figures::STORED_BYTES.value + 128.0);
        assert!(near(needs.storage_tb_per_year, a_day * 365.0 / 1e12));
    }

    #[test]
    fn more_of_anything_never_takes_less() {
        let few = plan(&[]).needs();
        for more in [
            ["--users", "2000000"],
            ["--online", "40"],
            ["--devices", "2.4"],
            ["--messages", "80"],
            ["--deliveries", "10"],
            ["--bytes", "256"],
            ["--years", "10"],
            ["--peak", "6"],
        ] {
            let much = plan(&more).needs();
            for (few, much) in [
                (few.cores, much.cores),
                (few.memory_gib, much.memory_gib),
                (few.nodes, much.nodes),
                (few.to_clients_mb_per_s, much.to_clients_mb_per_s),
                (few.storage_tb, much.storage_tb),
                (few.database_cores, much.database_cores),
            ] {
                assert!(much >= few, "{more:?}: {much} < {few}");
            }
        }
    }

    #[test]
    fn nonsense_is_refused_and_the_smallest_deployment_has_two_nodes() {
        for bad in [
            ["--online", "101"],
            ["--busy", "0"],
            ["--users", "0"],
            ["--peak", "0.5"],
            ["--messages", "many"],
            ["--messages", "NaN"],
        ] {
            let args = ["plan"].iter().chain(&bad);
            assert!(Command::try_parse_from(args).is_err(), "{bad:?}");
        }
        let alone = plan(&["--users", "1", "--messages", "0", "--online", "0"]).needs();
        assert!(near(alone.nodes, 2.0));
        assert!(near(alone.cores, 0.0));
    }

    #[test]
    fn what_is_assumed_is_said_to_be() {
        let plan = plan(&[]);
        let text = words(&plan, &plan.needs());
        let assumed = FIGURES
            .iter()
            .filter(|f| matches!(f.known, Known::Assumed(_)));
        assert_eq!(text.matches("ASSUMED: ").count(), assumed.count());
        let json = serde_json::to_value(FIGURES).unwrap();
        assert!(
            json[0]["measured"]
                .as_str()
                .unwrap()
                .starts_with("make bench")
        );
    }

    #[test]
    fn numbers_have_three_digits_that_mean_something() {
        for (value, text) in [
            (0.0, "0"),
            (0.012_34, "0.0123"),
            (3.5, "3.5"),
            (12.34, "12.3"),
            (123.4, "123"),
            (1_234.0, "1,230"),
            (12_345_678.0, "12,300,000"),
        ] {
            assert_eq!(round(value), text);
        }
    }
}
