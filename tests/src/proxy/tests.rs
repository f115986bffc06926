use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::{Instant, timeout};

use super::*;

const PATIENCE: Duration = Duration::from_secs(10);

/// A client and a server with a proxy between them.
async fn line(seed: u64) -> (Proxy, TcpListener) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = Proxy::start(listener.local_addr().unwrap(), seed)
        .await
        .unwrap();
    (proxy, listener)
}

async fn join(proxy: &Proxy, listener: &TcpListener) -> (TcpStream, TcpStream) {
    let client = TcpStream::connect(proxy.address).await.unwrap();
    let (server, _) = timeout(PATIENCE, listener.accept()).await.unwrap().unwrap();
    (client, server)
}

fn content(len: usize) -> Vec<u8> {
    (0..len).map(|n| (n % 251) as u8).collect()
}

/// Sends from the client and gives what arrives, and how long that took.
async fn sent(client: &mut TcpStream, server: &mut TcpStream, bytes: &[u8]) -> (Vec<u8>, Duration) {
    let began = Instant::now();
    let mut heard = vec![0; bytes.len()];
    let both = async { tokio::try_join!(client.write_all(bytes), server.read_exact(&mut heard)) };
    timeout(PATIENCE, both).await.unwrap().unwrap();
    (heard, began.elapsed())
}

#[tokio::test]
async fn a_good_network_passes_everything_both_ways_and_the_end() {
    let (proxy, listener) = line(1).await;
    let (mut client, mut server) = join(&proxy, &listener).await;
    let bytes = content(1 << 20);
    assert_eq!(sent(&mut client, &mut server, &bytes).await.0, bytes);
    assert_eq!(sent(&mut server, &mut client, &bytes).await.0, bytes);
    client.shutdown().await.unwrap();
    assert_eq!(
        server.read(&mut [0; 8]).await.unwrap(),
        0,
        "the end is told"
    );
    server.write_all(b"still heard").await.unwrap();
    let mut heard = [0; 11];
    client.read_exact(&mut heard).await.unwrap();
    assert_eq!(&heard, b"still heard");
}

#[tokio::test]
async fn latency_and_jitter_make_bytes_late_and_keep_their_order() {
    let (proxy, listener) = line(2).await;
    let (mut client, mut server) = join(&proxy, &listener).await;
    proxy.set(Direction::Up, Toxics::slow(Duration::from_millis(100)));
    let bytes = content(100_000);
    let (heard, took) = sent(&mut client, &mut server, &bytes).await;
    assert_eq!(heard, bytes);
    assert!(took >= Duration::from_millis(100), "{took:?}");
}

#[tokio::test]
async fn slices_and_bandwidth_hold_bytes_up_without_losing_any() {
    let (proxy, listener) = line(3).await;
    let (mut client, mut server) = join(&proxy, &listener).await;
    let pieces = Slice {
        bytes: 1..=64,
        pause: Duration::from_millis(1),
    };
    proxy.set(
        Direction::Up,
        Toxics {
            slice: Some(pieces),
            ..Toxics::default()
        },
    );
    let bytes = content(10_000);
    assert_eq!(sent(&mut client, &mut server, &bytes).await.0, bytes);
    proxy.set(
        Direction::Up,
        Toxics {
            bytes_per_second: Some(20_000),
            ..Toxics::default()
        },
    );
    let (heard, took) = sent(&mut client, &mut server, &bytes).await;
    assert_eq!(heard, bytes);
    assert!(
        took >= Duration::from_millis(400),
        "10,000 bytes at 20,000 a second took {took:?}"
    );
}

#[tokio::test]
async fn a_half_open_connection_says_nothing_and_goes_on_when_it_is_healed() {
    let (proxy, listener) = line(4).await;
    let (mut client, mut server) = join(&proxy, &listener).await;
    sent(&mut client, &mut server, b"before").await;
    proxy.set_both(Toxics::silent());
    client.write_all(b"lost?").await.unwrap();
    let mut heard = [0; 5];
    let silence = timeout(Duration::from_millis(200), server.read_exact(&mut heard)).await;
    assert!(silence.is_err(), "something passed");
    proxy.heal();
    timeout(PATIENCE, server.read_exact(&mut heard))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(&heard, b"lost?");
}

#[tokio::test]
async fn a_reset_is_a_reset_on_both_sides_and_of_all_connections() {
    let (proxy, listener) = line(5).await;
    let mut all = Vec::new();
    for _ in 0..3 {
        let (mut client, mut server) = join(&proxy, &listener).await;
        sent(&mut client, &mut server, b"up").await;
        all.extend([client, server]);
    }
    proxy.reset();
    for mut side in all {
        let end = timeout(PATIENCE, side.read(&mut [0; 8])).await.unwrap();
        assert_eq!(end.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    }
    let (mut client, mut server) = join(&proxy, &listener).await;
    assert_eq!(sent(&mut client, &mut server, b"again").await.0, b"again");
}

#[tokio::test]
async fn a_refusing_proxy_resets_who_comes_and_later_lets_them_in() {
    let (proxy, listener) = line(6).await;
    proxy.refuse(true);
    let mut client = TcpStream::connect(proxy.address).await.unwrap();
    let end = timeout(PATIENCE, client.read(&mut [0; 8])).await.unwrap();
    assert_eq!(end.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    proxy.heal();
    join(&proxy, &listener).await;
    assert_eq!(proxy.accepted(), 2);
}

#[tokio::test]
async fn a_direction_stops_after_exactly_so_many_bytes() {
    let (proxy, listener) = line(7).await;
    let stop = StopAfter {
        bytes: 1_000..=1_000,
        then: Stop::HalfOpen,
    };
    proxy.set(
        Direction::Up,
        Toxics {
            stop: Some(stop),
            ..Toxics::default()
        },
    );
    let (mut client, mut server) = join(&proxy, &listener).await;
    client.write_all(&content(5_000)).await.unwrap();
    let mut heard = vec![0; 1_000];
    timeout(PATIENCE, server.read_exact(&mut heard))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(heard, content(1_000));
    let silence = timeout(Duration::from_millis(200), server.read(&mut [0; 8])).await;
    assert!(silence.is_err(), "it stays open and says nothing");
    proxy.set(Direction::Down, Toxics::breaks_after(10..=10));
    let (mut other_client, mut other_server) = join(&proxy, &listener).await;
    other_server.write_all(&content(50)).await.unwrap();
    let mut heard = Vec::new();
    let end = timeout(PATIENCE, other_client.read_to_end(&mut heard))
        .await
        .unwrap();
    assert_eq!(end.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    assert!(heard.len() <= 10, "{}", heard.len());
}

#[tokio::test]
async fn who_sends_more_than_the_line_holds_has_to_wait() {
    let (proxy, listener) = line(8).await;
    let (mut client, _server) = join(&proxy, &listener).await;
    // The server reads nothing: besides the line only the buffers of the kernel fill.
    let far_more = 64 << 20;
    let writing = timeout(
        Duration::from_millis(500),
        client.write_all(&vec![0; far_more]),
    )
    .await;
    assert!(writing.is_err(), "the proxy swallowed {far_more} bytes");
}

#[tokio::test]
async fn the_same_seed_draws_the_same() {
    async fn drawn(seed: u64) -> Vec<usize> {
        let (proxy, listener) = line(seed).await;
        proxy.set(
            Direction::Up,
            Toxics {
                stop: Some(StopAfter {
                    bytes: 1..=100_000,
                    then: Stop::HalfOpen,
                }),
                ..Toxics::default()
            },
        );
        let mut counts = Vec::new();
        for _ in 0..3 {
            let (mut client, mut server) = join(&proxy, &listener).await;
            client.write_all(&content(100_000)).await.unwrap();
            let mut heard = Vec::new();
            _ = timeout(Duration::from_millis(300), server.read_to_end(&mut heard)).await;
            counts.push(heard.len());
        }
        counts
    }
    assert_eq!(drawn(9).await, drawn(9).await);
    assert_ne!(drawn(9).await, drawn(10).await);
}
