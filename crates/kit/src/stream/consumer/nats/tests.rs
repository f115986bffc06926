//! Consumers on a server of their own that is killed, emptied and paused, over a network that loses what it is told to.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test that can not go on says so at once, and what it starts ends with it"
)]

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::super::suite;
use super::*;
use crate::instances::nats::Instance;
use crate::stream::Stream as _;
use crate::stream::nats as appending;
use crate::stream::reader::{Begin, Break, Healed, Reader, Taken};
use crate::stream::suite::record;

const HEARTBEAT: Duration = Duration::from_millis(300);
const WAIT: Duration = Duration::from_millis(100);
const PATIENCE: Duration = Duration::from_secs(60);

fn server(folder: &tempfile::TempDir) -> Instance {
    let folder = folder.path().display().to_string();
    Instance::with(&["--jetstream", "--store_dir", &folder])
}

async fn stream(server: &Instance) -> appending::JetStream {
    let options = appending::Options {
        address: server.url().parse().unwrap(),
        prefix: "a.test".parse().unwrap(),
        replicas: 1,
        keep: Duration::from_secs(3_600),
    };
    appending::JetStream::connect(options).await.unwrap()
}

/// A server on a folder of its own, and the stream there.
async fn begun() -> (tempfile::TempDir, Instance, appending::JetStream) {
    let folder = tempfile::tempdir().unwrap();
    let server = server(&folder);
    let stream = stream(&server).await;
    (folder, server, stream)
}

async fn consumer(url: &str) -> JetStream {
    let mut options = Options::new(url.parse().unwrap(), "a.test".parse().unwrap());
    options.heartbeat = HEARTBEAT;
    let servers = Servers::connect(options).await.unwrap();
    servers.consumer("one").unwrap()
}

/// Brings the places up to one that the stream lacks, as soon as it is there.
async fn bring(stream: &appending::JetStream, up_to: u64) {
    loop {
        let Ok(end) = stream.end().await else {
            continue;
        };
        let last = end.last.map_or(0, |mark| mark.place);
        let records = (last + 1..=up_to).map(|place| Record {
            prev: place - 1,
            ..record(place)
        });
        if stream.append(end, records.collect()).await.is_ok() {
            return;
        }
    }
}

/// Takes until that place has come; gives what came besides.
async fn take(reader: &mut Reader<JetStream>, from: u64, up_to: u64) -> Vec<Healed> {
    let (mut next, mut healed) = (from, Vec::new());
    let taking = async {
        while next <= up_to {
            match reader.take(WAIT).await {
                Ok(Taken::Records(records)) => {
                    for record in records {
                        assert_eq!(record.mark.place, next);
                        next += 1;
                    }
                    _ = reader.acknowledge().await;
                }
                Ok(Taken::Healed(what)) => healed.push(what),
                Ok(Taken::Broken(broken)) => panic!("{broken:?}"),
                Err(crate::stream::reader::Trouble::Away(_)) => {}
                Err(trouble) => panic!("{trouble:?}"),
            }
        }
    };
    timeout(PATIENCE, taking).await.expect("everything comes");
    healed
}

#[tokio::test]
async fn jetstream_keeps_the_promises_of_a_consumer() {
    let folder = tempfile::tempdir().unwrap();
    let server = server(&folder);
    let (mut one, mut again) = (consumer(&server.url()).await, consumer(&server.url()).await);
    assert_eq!(one.span().await.unwrap(), None, "there is no stream");
    suite::run(&stream(&server).await, &mut one, &mut again).await;
    let servers = &one.servers;
    let listed = servers.consumers().await.unwrap();
    let is = Listed {
        name: "one".into(),
        floor: 20,
        waiting: 0,
    };
    assert_eq!(listed, [is]);
    assert_eq!(servers.consumer("A.b").unwrap_err(), BadName);
}

#[tokio::test]
async fn many_records_come_in_their_order_and_once() {
    let (_folder, server, stream) = begun().await;
    bring(&stream, 5_000).await;
    let mut reader = Reader::new(consumer(&server.url()).await, Begin::Beginning);
    assert_eq!(take(&mut reader, 1, 5_000).await, []);
    assert!(reader.has_all().await.unwrap());
}

/// F13: what was not acknowledged is sent again, and not given again.
#[tokio::test]
async fn what_is_sent_again_for_want_of_an_acknowledgement_is_not_given_again() {
    let (_folder, server, stream) = begun().await;
    bring(&stream, 10).await;
    let mut reader = Reader::new(consumer(&server.url()).await, Begin::Beginning);
    let mut given = Vec::new();
    let begun = Instant::now();
    // It is sent several times in that time.
    while begun.elapsed() < 6 * HEARTBEAT {
        if let Taken::Records(records) = reader.take(WAIT).await.unwrap() {
            given.extend(records.iter().map(|record| record.mark.place));
        }
    }
    assert_eq!(given, (1..=10).collect::<Vec<_>>());
    reader.acknowledge().await.unwrap();
    bring(&stream, 12).await;
    assert_eq!(take(&mut reader, 11, 12).await, []);
}

#[tokio::test]
async fn a_server_that_is_killed_is_gone_on_with_and_one_that_was_emptied_as_well() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = server(&folder);
    let stream = stream(&server).await;
    bring(&stream, 10).await;
    let mut reader = Reader::new(consumer(&server.url()).await, Begin::Beginning);
    take(&mut reader, 1, 10).await;
    server.kill();
    server.restart();
    bring(&stream, 20).await;
    assert_eq!(take(&mut reader, 11, 20).await, []);
    server.kill();
    std::fs::remove_dir_all(folder.path().join("jetstream")).unwrap();
    server.restart();
    bring(&stream, 30).await;
    assert_eq!(take(&mut reader, 21, 30).await, [Healed::Stream]);
    // Of its own accord an operator has emptied it.
    let purge = format!("STREAM.PURGE.{}", stream.name());
    let other = consumer(&server.url()).await;
    other.servers.ask(&purge, &Value::Null).await.unwrap();
    bring(&stream, 40).await;
    assert_eq!(take(&mut reader, 31, 40).await, [Healed::Emptied]);
}

#[tokio::test]
async fn a_consumer_that_an_operator_removed_is_made_again_where_it_was() {
    let (_folder, server, stream) = begun().await;
    bring(&stream, 10).await;
    let mut reader = Reader::new(consumer(&server.url()).await, Begin::Beginning);
    take(&mut reader, 1, 10).await;
    assert!(consumer(&server.url()).await.remove().await.unwrap());
    bring(&stream, 20).await;
    assert_eq!(take(&mut reader, 11, 20).await, [Healed::Consumer]);
    let standing = consumer(&server.url()).await.standing().await.unwrap();
    assert_eq!(standing.unwrap().behind, 10);
}

/// The server itself moves consumers over what it drops, so that by its numbers nothing is missing.
#[tokio::test]
async fn what_a_server_dropped_before_it_was_taken_is_said_by_every_reader() {
    let (_folder, server, stream) = begun().await;
    bring(&stream, 10).await;
    let mut reader = Reader::new(consumer(&server.url()).await, Begin::Beginning);
    take(&mut reader, 1, 10).await;
    drop(reader);
    bring(&stream, 20).await;
    let other = consumer(&server.url()).await;
    let purge = format!("STREAM.PURGE.{}", stream.name());
    let kept = json!({"keep": 3});
    other.servers.ask(&purge, &kept).await.unwrap();
    let floor = async || other.standing().await.unwrap().unwrap().floor;
    assert_eq!(floor().await, 17, "though 10 were acknowledged");
    let next = record(18).mark;
    let behind = Begin::Behind(record(10).mark);
    for (begin, broken) in [
        (behind, Break::Dropped(next)),
        (Begin::Now, Break::Unknown(next)),
    ] {
        let mut reader = Reader::new(consumer(&server.url()).await, begin);
        let said = loop {
            match reader.take(WAIT).await.unwrap() {
                Taken::Records(records) => assert_eq!(records, []),
                said => break said,
            }
        };
        assert_eq!(said, Taken::Broken(broken));
        assert_eq!(floor().await, 17);
    }
}

/// They are what docs/operate/feed.md says.
#[tokio::test]
async fn a_reader_needs_no_other_rights_than_those_that_are_written_down() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("nats.conf");
    let rights = r#"
        authorization { users: [
            { user: node, password: n }
            { user: reader, password: r, permissions: {
                publish: [
                    "$JS.API.STREAM.INFO.a-test-feed"
                    "$JS.API.STREAM.MSG.GET.a-test-feed"
                    "$JS.API.CONSUMER.INFO.a-test-feed.*"
                    "$JS.API.CONSUMER.CREATE.a-test-feed.*"
                    "$JS.API.CONSUMER.MSG.NEXT.a-test-feed.*"
                    "$JS.API.CONSUMER.LIST.a-test-feed"
                    "$JS.API.CONSUMER.DELETE.a-test-feed.*"
                    "$JS.ACK.a-test-feed.>"
                ]
                subscribe: "a.test.inbox.>"
            } }
        ] }"#;
    std::fs::write(&config, rights).unwrap();
    let (config, disk) = (config.display().to_string(), folder.path().display());
    let server = Instance::with(&[
        "-c",
        &config,
        "--jetstream",
        "--store_dir",
        &disk.to_string(),
    ]);
    let signed_in = |who: &str| server.url().replace("//", &format!("//{who}@"));
    let options = appending::Options {
        address: signed_in("node:n").parse().unwrap(),
        prefix: "a.test".parse().unwrap(),
        replicas: 1,
        keep: Duration::from_secs(3_600),
    };
    let stream = appending::JetStream::connect(options).await.unwrap();
    bring(&stream, 10).await;
    let mut reader = Reader::new(consumer(&signed_in("reader:r")).await, Begin::Beginning);
    take(&mut reader, 1, 10).await;
    let mut operator = consumer(&signed_in("reader:r")).await;
    assert_eq!(operator.servers.consumers().await.unwrap().len(), 1);
    assert!(operator.remove().await.unwrap());
}

/// A network between a reader and the server, on which everything that the server says to the connections of before may
/// be lost from now on, whole.
struct Network {
    address: std::net::SocketAddr,
    /// Up to which connection nothing comes any more.
    deaf: watch::Sender<usize>,
}

impl Network {
    async fn to(server: &Instance) -> Network {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (deaf, target) = (watch::Sender::new(0), server.address());
        let told = deaf.subscribe();
        tokio::spawn(async move {
            for nth in 1.. {
                let (client, _) = listener.accept().await.unwrap();
                let server = TcpStream::connect(&target).await.unwrap();
                let (mut from_client, to_client) = client.into_split();
                let (from_server, mut to_server) = server.into_split();
                tokio::spawn(
                    async move { tokio::io::copy(&mut from_client, &mut to_server).await },
                );
                tokio::spawn(pass(from_server, to_client, nth, told.clone()));
            }
        });
        Network { address, deaf }
    }

    /// Loses from now on what is said to all connections that there are.
    fn deafen(&self) {
        self.deaf.send_replace(usize::MAX);
    }

    /// Those that are made from now on hear again.
    fn heal(&self, made: usize) {
        self.deaf.send_replace(made);
    }
}

async fn pass(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    nth: usize,
    deaf: watch::Receiver<usize>,
) {
    let mut bytes = vec![0; 65_536];
    while let Ok(read) = from.read(&mut bytes).await {
        let is_deaf = nth <= *deaf.borrow();
        if read == 0 || (!is_deaf && to.write_all(&bytes[..read]).await.is_err()) {
            return;
        }
    }
}

/// F14: the server believes that a request is open and that what it sends arrives. Nothing does, and nobody is told.
#[tokio::test]
async fn a_request_that_stalls_silently_is_made_again_after_two_heartbeats() {
    let (_folder, server, stream) = begun().await;
    bring(&stream, 10).await;
    let network = Network::to(&server).await;
    let mut reader = Reader::new(
        consumer(&format!("nats://{}", network.address)).await,
        Begin::Beginning,
    );
    take(&mut reader, 1, 10).await;
    // The request is open. From here on this connection hears nothing, also not what it asks.
    assert_eq!(reader.take(WAIT).await.unwrap(), Taken::Records(Vec::new()));
    network.deafen();
    bring(&stream, 20).await;
    network.heal(1);
    let begun = Instant::now();
    assert_eq!(take(&mut reader, 11, 20).await, []);
    println!("healed after {:?}", begun.elapsed());
}

#[tokio::test]
async fn a_server_that_stood_still_is_gone_on_with() {
    let (_folder, server, stream) = begun().await;
    bring(&stream, 10).await;
    let mut reader = Reader::new(consumer(&server.url()).await, Begin::Beginning);
    take(&mut reader, 1, 10).await;
    server.pause();
    while reader.take(WAIT).await.is_ok() {}
    server.go_on();
    bring(&stream, 20).await;
    assert_eq!(take(&mut reader, 11, 20).await, []);
}

#[tokio::test]
async fn of_two_followers_of_one_name_none_skips_anything() {
    let (_folder, server, stream) = begun().await;
    let mut one = Reader::new(consumer(&server.url()).await, Begin::Beginning);
    let mut two = Reader::new(consumer(&server.url()).await, Begin::Beginning);
    let mut next = [1, 1];
    let mut is_shared = false;
    let taking = async {
        let mut brought = 0;
        while !is_shared {
            brought += 1;
            bring(&stream, brought).await;
            for (nth, reader) in [&mut one, &mut two].into_iter().enumerate() {
                match reader.take(WAIT).await {
                    Ok(Taken::Records(records)) => {
                        for record in records {
                            assert_eq!(record.mark.place, next[nth]);
                            next[nth] += 1;
                        }
                        _ = reader.acknowledge().await;
                    }
                    Err(crate::stream::reader::Trouble::Shared) => is_shared = true,
                    other => panic!("{other:?}"),
                }
            }
        }
    };
    timeout(PATIENCE, taking)
        .await
        .expect("one of them is told");
}
