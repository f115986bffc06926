//! Ties what is handed on to other nodes, and what others hand on to this one.

use std::collections::HashMap;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use axum::Router;
use tertulia_api::elsewhere::{At, Elsewhere, Remote};
use tertulia_api::gate::Gate;
use tertulia_api::nats;
use tertulia_kit::balance;
use tertulia_kit::clock::SharedClock;
use tertulia_kit::discovery::{Discovery, Dns, Host, Memory, System};
use tertulia_kit::health::Health;
use tertulia_kit::lifecycle::Lifecycle;
use tertulia_kit::transport::http2::{self, Door};
use tertulia_kit::transport::nats::{self as calls, NodeKey, Offer};

use crate::config::Config;
use crate::roles::Role;

/// How calls are handed on to other nodes, nothing when all are done here; and who is called over HTTP/2.
///
/// # Errors
/// When nodes can not be told from others, or NATS is not configured and should be.
pub async fn on(
    config: &Config,
    clock: &SharedClock,
    lifecycle: &Lifecycle,
) -> anyhow::Result<(Option<Elsewhere>, Vec<http2::Remote>)> {
    if config.elsewhere.is_empty() {
        return Ok((None, Vec::new()));
    }
    let key = config.bus.node_key()?;
    let key = key.context(
        "calls can be handed on only with bus.node_key, the same on all nodes; set it, or leave elsewhere empty",
    )?;
    let mut known: HashMap<&At, Remote> = HashMap::new();
    let (mut elsewhere, mut remotes) = (Elsewhere::default(), Vec::new());
    for handed_on in &config.elsewhere {
        if elsewhere.does(&format!("{}/", handed_on.service)) {
            bail!(
                "elsewhere names {} twice; write all places of it behind one",
                handed_on.service
            );
        }
        let remote = match known.get(&handed_on.at) {
            Some(remote) => remote.clone(),
            None => match &handed_on.at {
                At::Nats => Remote::Nats(over_nats(config, clock.clone()).await?),
                at => {
                    let remote = over_http2(at, key.clone(), clock, lifecycle)?;
                    remotes.push(remote.clone());
                    Remote::Http2(remote)
                }
            },
        };
        known.insert(&handed_on.at, remote.clone());
        elsewhere.hand_on(handed_on.service.clone(), remote);
    }
    Ok((Some(elsewhere), remotes))
}

async fn over_nats(config: &Config, clock: SharedClock) -> anyhow::Result<calls::Remote> {
    let options = config.bus.calls().context("calls of other nodes")?;
    let options = options.context(
        "calls can be handed on over NATS only with bus.url; set it, or write behind the service where it is done",
    )?;
    Ok(calls::Remote::connect(options, clock).await?)
}

fn over_http2(
    at: &At,
    key: NodeKey,
    clock: &SharedClock,
    lifecycle: &Lifecycle,
) -> anyhow::Result<http2::Remote> {
    let discovery: Arc<dyn Discovery> = match at {
        At::Name(host) => {
            let dns = Arc::new(Dns::new(host.clone(), Arc::new(System)));
            let (asking, told) = (Arc::clone(&dns), lifecycle.told_loops());
            lifecycle.spawn_loop("dns", move || {
                let (asking, told) = (Arc::clone(&asking), told.clone());
                async move { asking.keep_asking(told).await }
            });
            dns
        }
        At::These(hosts) => Arc::new(Memory::new(hosts.iter().map(Host::endpoint).collect())),
        At::Nats => bail!("NATS is no place of HTTP/2"),
    };
    let tls = at.is_under_tls().then(http2::tls_of_system).transpose()?;
    let options = http2::Options {
        key,
        tls,
        clock: clock.clone(),
        lifecycle: lifecycle.clone(),
        balance: balance::Options::default(),
    };
    Ok(http2::Remote::new(&*discovery, options))
}

/// Whether those can be called to whom calls are handed on over HTTP/2; nothing of it hinders this node.
pub fn remark(health: &Health, remotes: &[http2::Remote]) {
    if remotes.is_empty() {
        return;
    }
    let remotes = remotes.to_vec();
    health.remark("elsewhere", move || {
        std::future::ready(remotes.iter().try_for_each(http2::Remote::health))
    });
}

/// What this node does for others.
pub fn offers(config: &Config) -> Vec<Offer> {
    let is_here = |service: &str| {
        config
            .elsewhere
            .iter()
            .all(|other| other.service != service)
    };
    nats::offers(is_here)
}

/// Where calls of other nodes come over HTTP/2; nothing when this node takes none, or nobody could show that it is one.
///
/// # Errors
/// When the node key was not checked as those of the table are.
pub fn door(config: &Config, gate: &Gate, clock: &SharedClock) -> anyhow::Result<Option<Router>> {
    let Some(key) = config
        .bus
        .node_key()?
        .filter(|_| config.roles.has(Role::Api))
    else {
        return Ok(None);
    };
    let door = Door {
        key,
        offers: offers(config),
        handler: nats::handler(gate.clone()),
        calls_max: config.bus.calls_max,
        body_bytes_max: config.http.body_bytes_max,
        clock: clock.clone(),
    };
    Ok(Some(http2::router(door)))
}
