//! `make cluster`: a deployment of three nodes with a PostgreSQL, a NATS and a Redis of its own, on this machine, to be tried
//! and looked at. It lasts until Ctrl+C, and nothing of it stays.

#![allow(
    clippy::disallowed_methods,
    reason = "a program for tests, without the kit"
)]

use anyhow::Result;
use clap::Parser;
use tertulia_tests::cluster::{Cluster, Part};
use tertulia_tests::many::NODE_KEY;
use tertulia_tests::node;

#[derive(Parser)]
#[command(
    about = "Starts two edges and a worker on one PostgreSQL, one NATS and one Redis, until Ctrl+C. Passwords are hashed with \
             less work than in earnest, and nothing is kept."
)]
struct Options {
    /// How many nodes serve clients.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=16))]
    edges: u8,
    /// The edges hand the calls about users and members on: over NATS to the worker, or over HTTP/2 to two nodes that do
    /// nothing else.
    #[arg(long)]
    split: Option<Split>,
}

/// How what is split off is reached.
#[derive(Clone, Copy, clap::ValueEnum)]
enum Split {
    Nats,
    Http2,
}

/// What a node does, in a word.
fn name(part: Part) -> &'static str {
    match part {
        Part::Edge | Part::Gateway | Part::Straight => "edge",
        Part::Service => "service",
        Part::Worker => "worker",
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let options = Options::parse();
    node::binary();
    let (edge, behind) = match options.split {
        None => (Part::Edge, &[Part::Worker][..]),
        Some(Split::Nats) => (Part::Gateway, &[Part::Worker][..]),
        Some(Split::Http2) => (
            Part::Straight,
            &[Part::Service, Part::Service, Part::Worker][..],
        ),
    };
    let mut parts = vec![edge; options.edges.into()];
    parts.extend(behind);
    println!(
        "starting PostgreSQL, NATS, Redis and {} nodes …",
        parts.len()
    );
    let cluster = Cluster::start(&parts, &[], rand::random()).await?;
    let urls = cluster.urls();
    println!();
    for node in &cluster.nodes {
        let server = node.server()?;
        // Who does not serve clients has nothing for them to open.
        let url = match node.part.serves_clients() {
            true => node.door.url(),
            false => String::new(),
        };
        println!(
            "{:<8} {url:<24} process {:<8} {}/metrics",
            name(node.part),
            server.pid(),
            server.metrics.trim_end_matches("/metrics")
        );
    }
    println!("PostgreSQL  {}", cluster.database.url());
    println!("NATS        {}", cluster.bus.url());
    println!("Redis       {}", cluster.ledger.url());
    let tertulia = node::binary().display();
    println!();
    println!("Open two of the edges in two browsers, or talk in two terminals:");
    let all = urls.join(",");
    println!("  {tertulia} chat --sign-up --name ann --url {all}");
    println!("See the nodes, and control their sessions:");
    println!(
        "  TERTULIA_BUS__NODE_KEY='{NODE_KEY}' {tertulia} sessions nodes --url {}",
        urls[0]
    );
    println!("Ctrl+C stops everything, and nothing stays.");
    tokio::signal::ctrl_c().await?;
    println!("stopping");
    for mut node in cluster.nodes {
        node.stop().await?;
    }
    Ok(())
}
