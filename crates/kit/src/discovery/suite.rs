//! What every discovery does. An adapter passes [`run`] with one that has learned nothing yet.

use std::sync::Arc;

use tokio::sync::watch;

use super::{Discovery, Endpoint, Endpoints};

/// Runs all claims. `say` makes it so that these are the endpoints, which all have the host `shop.example.org`, no TLS, and
/// an address of numbers.
///
/// # Panics
/// When a claim does not hold.
pub async fn run(discovery: Arc<dyn Discovery>, say: impl Fn(Vec<Endpoint>)) {
    let mut known = discovery.endpoints();
    assert_eq!(addresses(&known), Vec::<String>::new(), "nobody said any");

    // What there is is learned, in order and each once.
    say(vec![at(2), at(1), at(2)]);
    learned(&mut known, &[1, 2]).await;

    // Who comes later knows what is known.
    assert_eq!(addresses(&discovery.endpoints()), addresses(&known));

    // What changes is told; what is the same and what is nothing is no change before it.
    say(vec![at(1), at(2)]);
    say(Vec::new());
    say(vec![at(3), at(1)]);
    learned(&mut known, &[1, 3]).await;
    assert!(!known.has_changed().expect("it is there"), "told twice");
}

async fn learned(known: &mut watch::Receiver<Endpoints>, numbers: &[u8]) {
    known.changed().await.expect("it is there");
    let wanted: Vec<String> = numbers.iter().map(|number| at(*number).address).collect();
    assert_eq!(addresses(known), wanted);
    known.mark_unchanged();
}

fn addresses(known: &watch::Receiver<Endpoints>) -> Vec<String> {
    let known = known.borrow();
    known.iter().map(|one| one.address.clone()).collect()
}

fn at(number: u8) -> Endpoint {
    Endpoint {
        tls: false,
        host: "shop.example.org".into(),
        address: format!("10.0.0.{number}:80"),
    }
}
