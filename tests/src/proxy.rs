//! A network that misbehaves on request. A proxy listens on a free port of this machine, passes everything on
//! to an address, and does to it what its [`Toxics`] say, for each direction apart. They may change while
//! connections live, and what chance decides comes from one seed.
//!
//! ```text
//! client ──── up ────►  proxy  ──── up ────► server
//! client ◄─── down ───  proxy  ◄─── down ─── server
//! ```
//! What is on its way is bounded by [`LINE_BYTES_MAX`] for each direction of a connection; who sends more waits
//! as if the network were full. See `proxy/toxics.rs` for what can go wrong, `proxy/pipe.rs` for how.

mod pipe;
mod toxics;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use rand::rngs::StdRng;
use rand::{RngCore as _, SeedableRng as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

pub use pipe::LINE_BYTES_MAX;
pub use toxics::{Direction, Slice, Stop, StopAfter, Toxics};

/// A proxy; its connections are reset when it is dropped.
pub struct Proxy {
    /// Where it listens.
    pub address: SocketAddr,
    orders: watch::Sender<Orders>,
    open: Arc<AtomicUsize>,
    accepted: Arc<AtomicUsize>,
    accepting: JoinHandle<()>,
}

/// What all connections obey.
#[derive(Debug, Clone)]
struct Orders {
    target: SocketAddr,
    up: Toxics,
    down: Toxics,
    /// New connections are reset at once.
    refuse: bool,
    /// Counts the resets of everything that is open.
    resets: u64,
    /// Since when nothing is done to it; none while something is.
    well_since: Option<Instant>,
}

impl Orders {
    fn told(&mut self) {
        let is_well =
            !self.refuse && self.up == Toxics::default() && self.down == Toxics::default();
        self.well_since = is_well.then(Instant::now);
    }
}

/// Knows how a [`Proxy`] is, wherever that one is kept.
#[derive(Debug, Clone)]
pub struct Wellness(watch::Receiver<Orders>);

impl Wellness {
    /// Since when what goes through it is neither slowed nor lost; none while it may be.
    pub fn since(&self) -> Option<Instant> {
        self.0.borrow().well_since
    }
}

impl Proxy {
    /// Listens on a free port and passes everything on to `target`.
    ///
    /// # Errors
    /// When no port is free.
    pub async fn start(target: SocketAddr, seed: u64) -> io::Result<Proxy> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let orders = watch::Sender::new(Orders {
            target,
            up: Toxics::default(),
            down: Toxics::default(),
            refuse: false,
            resets: 0,
            well_since: Some(Instant::now()),
        });
        let (open, accepted) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let counts = (Arc::clone(&open), Arc::clone(&accepted));
        let accepting = tokio::spawn(accept(listener, orders.subscribe(), counts, seed));
        Ok(Proxy {
            address,
            orders,
            open,
            accepted,
            accepting,
        })
    }

    /// Where clients go instead of the server.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// New connections go there; open ones stay where they are.
    pub fn lead_to(&self, target: SocketAddr) {
        self.orders.send_modify(|orders| orders.target = target);
    }

    /// How it is, for whoever does not hold it.
    pub fn wellness(&self) -> Wellness {
        Wellness(self.orders.subscribe())
    }

    /// Does this to a direction of all connections, open and new, from now on.
    pub fn set(&self, direction: Direction, toxics: Toxics) {
        self.orders.send_modify(|orders| {
            match direction {
                Direction::Up => orders.up = toxics,
                Direction::Down => orders.down = toxics,
            }
            orders.told();
        });
    }

    /// Does this to both directions.
    pub fn set_both(&self, toxics: Toxics) {
        self.set(Direction::Up, toxics.clone());
        self.set(Direction::Down, toxics);
    }

    /// A good network again. A connection that was stopped for good stays so.
    pub fn heal(&self) {
        self.orders.send_modify(|orders| {
            (orders.up, orders.down) = Default::default();
            orders.refuse = false;
            orders.told();
        });
    }

    /// Resets every open connection on both sides (RST, not FIN).
    pub fn reset(&self) {
        self.orders.send_modify(|orders| {
            orders.resets += 1;
            orders.told();
        });
    }

    /// Whether new connections are reset at once, as if nobody listened.
    pub fn refuse(&self, refuse: bool) {
        self.orders.send_modify(|orders| {
            orders.refuse = refuse;
            orders.told();
        });
    }

    /// How many connections are open.
    pub fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// How many connections there were, refused ones among them.
    pub fn accepted(&self) -> usize {
        self.accepted.load(Ordering::Relaxed)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

type Counts = (Arc<AtomicUsize>, Arc<AtomicUsize>);

async fn accept(
    listener: TcpListener,
    orders: watch::Receiver<Orders>,
    (open, accepted): Counts,
    seed: u64,
) {
    let mut random = StdRng::seed_from_u64(seed);
    // Such as too many open files: those that are open go on, and the next may find room.
    while let Ok((client, _)) = listener.accept().await {
        accepted.fetch_add(1, Ordering::Relaxed);
        let counted = Counted::new(&open);
        let (orders, seed) = (orders.clone(), random.next_u64());
        tokio::spawn(async move {
            let _counted = counted;
            connection(client, orders, seed).await;
        });
    }
}

/// One of the open connections.
struct Counted(Arc<AtomicUsize>);

impl Counted {
    fn new(open: &Arc<AtomicUsize>) -> Counted {
        open.fetch_add(1, Ordering::Relaxed);
        Counted(Arc::clone(open))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn connection(client: TcpStream, mut orders: watch::Receiver<Orders>, seed: u64) {
    let first = orders.borrow_and_update().clone();
    let connecting = async {
        match first.refuse {
            true => Err(io::ErrorKind::ConnectionRefused.into()),
            false => TcpStream::connect(first.target).await,
        }
    };
    let Ok(server) = connecting.await else {
        reset(client);
        return;
    };
    // What is small and late is late because of a toxic, not of the proxy.
    _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let mut random = StdRng::seed_from_u64(seed);
    let dice = [(); 2].map(|()| StdRng::seed_from_u64(random.next_u64()));
    let [up_dice, down_dice] = dice;
    let broken = {
        let both = async {
            let up = pipe::Pipe::new(Direction::Up, orders.clone(), up_dice);
            let down = pipe::Pipe::new(Direction::Down, orders.clone(), down_dice);
            tokio::try_join!(
                up.run(&mut from_client, &mut to_server),
                down.run(&mut from_server, &mut to_client)
            )
        };
        tokio::select! {
            ended = both => ended.is_err(),
            () = reset_asked(orders.clone(), first.resets) => true,
        }
    };
    if broken {
        for half in [to_client, to_server] {
            _ = half.as_ref().set_zero_linger();
            // Dropped plainly it would say goodbye first.
            half.forget();
        }
    }
}

/// Returns when all connections shall be reset, and when the proxy has gone.
async fn reset_asked(mut orders: watch::Receiver<Orders>, before: u64) {
    _ = orders.wait_for(|orders| orders.resets != before).await;
}

fn reset(stream: TcpStream) {
    _ = stream.set_zero_linger();
}

#[cfg(test)]
mod tests;
