use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::mpsc;

use super::*;

fn grace() -> Grace {
    Grace::of_connections(Duration::from_secs(10))
}

fn panic_on_purpose() {
    panic!("on purpose");
}

type Told = mpsc::Receiver<&'static str>;

fn everything(now: &mut Told) -> Vec<&'static str> {
    std::iter::from_fn(|| now.try_recv().ok()).collect()
}

#[tokio::test(start_paused = true)]
async fn a_stop_goes_from_the_doors_over_the_connections_and_the_work_to_the_stores() {
    let node = Lifecycle::new();
    let (tell, mut told) = mpsc::channel(10);
    for (kind, name) in [
        (Kind::Work, "job"),
        (Kind::Connection, "connection"),
        (Kind::Door, "door"),
    ] {
        let (stop, tell) = (node.told(kind), tell.clone());
        node.spawn(kind, name, async move {
            stop.cancelled().await;
            sleep(Duration::from_millis(500)).await;
            tell.send(name).await.unwrap();
        });
    }
    let (stop, tell_loop) = (node.told_loops(), tell.clone());
    node.spawn_loop("loop", move || {
        let (stop, tell) = (stop.clone(), tell_loop.clone());
        async move {
            stop.cancelled().await;
            sleep(Duration::from_millis(600)).await;
            tell.send("loop").await.unwrap();
        }
    });
    for name in ["opened first", "opened last"] {
        let tell = tell.clone();
        node.close_at_end(name, move || async move { tell.send(name).await });
    }
    let stopped = node.stop(grace()).await;
    assert_eq!(stopped, Stopped::default());
    let order = [
        "door",
        "connection",
        "job",
        "loop",
        "opened last",
        "opened first",
    ];
    assert_eq!(everything(&mut told), order);
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_outlasts_the_grace_is_dropped() {
    let node = Lifecycle::new();
    let held = Arc::new(());
    let inside = held.clone();
    node.spawn(Kind::Connection, "connection", async move {
        let _inside = inside;
        std::future::pending::<()>().await;
    });
    let before = Instant::now();
    assert_eq!(node.stop(grace()).await.connections_dropped, 1);
    assert_eq!(Arc::strong_count(&held), 1);
    assert!(before.elapsed() >= Duration::from_secs(10));
    assert!(before.elapsed() < Duration::from_secs(11));
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_panics_ends_alone() {
    let node = Lifecycle::new();
    node.spawn(Kind::Connection, "connection", async { panic_on_purpose() });
    node.spawn(Kind::Work, "job", async { Err::<(), _>("on purpose") });
    let told = node.told(Kind::Connection);
    node.spawn(Kind::Connection, "connection", async move {
        told.cancelled().await
    });
    while node.connections() > 1 {
        tokio::task::yield_now().await;
    }
    assert_eq!(node.stopped_by(), None);
    assert_eq!(node.stop(grace()).await.connections_dropped, 0);
}

#[tokio::test(start_paused = true)]
async fn a_door_that_fails_stops_the_node() {
    let node = Lifecycle::new();
    node.spawn(Kind::Door, "http", async {
        Err::<(), _>("the port is taken")
    });
    node.asked_to_stop().await;
    assert_eq!(
        node.stopped_by().unwrap().to_string(),
        "http failed: the port is taken"
    );
    // A later reason does not hide the first.
    node.ask_to_stop(StoppedBy::Signal("SIGTERM"));
    assert_eq!(
        node.stopped_by().unwrap().to_string(),
        "http failed: the port is taken"
    );
}

#[tokio::test(start_paused = true)]
async fn a_loop_starts_again_and_its_third_failure_in_a_minute_stops_the_node() {
    let node = Lifecycle::new();
    let starts = Arc::new(AtomicUsize::new(0));
    let counted = starts.clone();
    node.spawn_loop("sweeper", move || {
        let start = counted.fetch_add(1, Ordering::Relaxed);
        async move {
            match start {
                0 => panic!("on purpose"),
                1 => Err("on purpose"),
                _ => Ok(()),
            }
        }
    });
    node.asked_to_stop().await;
    assert_eq!(starts.load(Ordering::Relaxed), 3);
    let words = node.stopped_by().unwrap().to_string();
    assert_eq!(words, "sweeper failed: it ended by itself");
}

#[tokio::test(start_paused = true)]
async fn a_loop_that_fails_seldom_goes_on() {
    let node = Lifecycle::new();
    let (tell, mut told) = mpsc::channel(1);
    node.spawn_loop("sweeper", move || {
        let tell = tell.clone();
        async move {
            sleep(Duration::from_secs(31)).await;
            tell.send(()).await.unwrap();
            Err::<(), _>("on purpose")
        }
    });
    for _ in 0..10 {
        told.recv().await.unwrap();
    }
    assert_eq!(node.stopped_by(), None);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_does_not_close_is_told_and_the_next_one_closes() {
    let node = Lifecycle::new();
    let (tell, mut told) = mpsc::channel(1);
    node.close_at_end("good", move || async move { tell.send("closed").await });
    node.close_at_end("hangs", std::future::pending::<()>);
    node.close_at_end("fails", || async { Err::<(), _>("the disk is full") });
    let stopped = node.stop(grace()).await;
    let names: Vec<_> = stopped.not_closed.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, ["fails", "hangs"]);
    assert_eq!(everything(&mut told), ["closed"]);
}

#[tokio::test]
async fn a_hundred_thousand_connections_are_told_and_end() {
    let node = Lifecycle::new();
    for _ in 0..100_000 {
        let told = node.told(Kind::Connection);
        node.spawn(Kind::Connection, "connection", async move {
            told.cancelled().await
        });
    }
    assert_eq!(node.connections(), 100_000);
    assert_eq!(node.stop(grace()).await, Stopped::default());
    assert_eq!(node.connections(), 0);
}

#[test]
fn what_the_kit_adds_to_a_connection_is_small() {
    let bare = size_of_val(&std::future::ready([0u8; 512]));
    let node = Lifecycle::new();
    let cut = &node.0.connections.cut;
    let wrapped = cut.cuts(catch(std::future::ready([0u8; 512])));
    assert!(
        size_of_val(&wrapped) - bare <= 128,
        "{}",
        size_of_val(&wrapped) - bare
    );
}
