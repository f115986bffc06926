//! What every bus does as long as nothing goes wrong. An adapter passes [`run`] with nothing else on its bus.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::{Bus, Payload, Subscription, Undecodable};

/// A message of the suite.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Note(pub u64);

impl Payload for Note {
    fn encode(&self) -> Bytes {
        Bytes::copy_from_slice(&self.0.to_be_bytes())
    }

    fn decode(bytes: &[u8]) -> Result<Self, Undecodable> {
        let bytes = bytes
            .try_into()
            .map_err(|_| Undecodable("wants 8 bytes".into()))?;
        Ok(Note(u64::from_be_bytes(bytes)))
    }
}

type SharedBus = Arc<dyn Bus<Note>>;

/// Runs all claims, each on a bus of its own.
///
/// # Panics
/// When a claim does not hold.
pub async fn run<B: Bus<Note> + 'static>(make: impl Fn() -> Arc<B>) {
    every_subscriber_of_a_subject_hears(make()).await;
    nobody_hears_another_subject(make()).await;
    who_unsubscribed_hears_no_more(make()).await;
    nobody_hears_what_came_before(make()).await;
    a_sink_may_publish(make()).await;
    many_publishers_do_not_hinder_each_other(make()).await;
    all_is_quiet_about_disruptions(make()).await;
    a_subscription_settles(make()).await;
    what_is_encoded_can_be_decoded();
}

/// Runs the claims about two nodes, each claim on a pair of its own that is connected.
///
/// # Panics
/// When a claim does not hold.
pub async fn run_between<B, F>(make: impl Fn() -> F)
where
    B: Bus<Note> + 'static,
    F: Future<Output = (Arc<B>, Arc<B>)>,
{
    let pair = || async {
        let (one, other) = make().await;
        (one as SharedBus, other as SharedBus)
    };
    both_nodes_hear_once(pair().await).await;
    what_comes_after_settling_is_heard(pair().await).await;
    a_node_that_nobody_listens_on_any_more_hears_nothing(pair().await).await;
}

struct Ear {
    heard: mpsc::Receiver<Note>,
    subscription: Subscription,
}

impl Ear {
    fn on(bus: &SharedBus, subject: &str) -> Self {
        let (tell, heard) = mpsc::channel(10_000);
        let sink = Arc::new(move |note| {
            // Nobody may listen any more.
            let _ = tell.try_send(note);
        });
        Ear {
            heard,
            subscription: bus.subscribe(subject, sink),
        }
    }

    async fn hear(&mut self) -> Note {
        let heard = timeout(Duration::from_secs(5), self.heard.recv()).await;
        heard
            .expect("a message comes within 5 s")
            .expect("the sink lives")
    }

    fn silent(&mut self) -> bool {
        self.heard.try_recv().is_err()
    }
}

async fn every_subscriber_of_a_subject_hears(bus: SharedBus) {
    let mut ears = [Ear::on(&bus, "user.1"), Ear::on(&bus, "user.1")];
    bus.publish("user.1", Note(1));
    for ear in &mut ears {
        assert_eq!(ear.hear().await, Note(1));
    }
}

async fn nobody_hears_another_subject(bus: SharedBus) {
    let (mut one, mut other) = (Ear::on(&bus, "user.1"), Ear::on(&bus, "user.12"));
    bus.publish("user.1", Note(1));
    bus.publish("user.12", Note(12));
    assert_eq!(one.hear().await, Note(1));
    assert_eq!(other.hear().await, Note(12));
    assert!(one.silent() && other.silent());
}

async fn who_unsubscribed_hears_no_more(bus: SharedBus) {
    let (gone, mut stays) = (Ear::on(&bus, "user.1"), Ear::on(&bus, "user.1"));
    let Ear {
        mut heard,
        subscription,
    } = gone;
    drop(subscription);
    bus.publish("user.1", Note(1));
    assert_eq!(stays.hear().await, Note(1));
    assert!(heard.try_recv().is_err());
}

async fn nobody_hears_what_came_before(bus: SharedBus) {
    let mut first = Ear::on(&bus, "user.1");
    bus.publish("user.1", Note(1));
    assert_eq!(first.hear().await, Note(1));
    let mut later = Ear::on(&bus, "user.1");
    bus.publish("user.1", Note(2));
    assert_eq!(later.hear().await, Note(2));
}

async fn a_sink_may_publish(bus: SharedBus) {
    let mut answers = Ear::on(&bus, "answers");
    let back = Arc::downgrade(&bus);
    let answer = Arc::new(move |note: Note| {
        if let Some(bus) = back.upgrade() {
            bus.publish("answers", Note(note.0 + 1));
        }
    });
    let _questions = bus.subscribe("questions", answer);
    bus.publish("questions", Note(1));
    assert_eq!(answers.hear().await, Note(2));
}

async fn many_publishers_do_not_hinder_each_other(bus: SharedBus) {
    let mut ear = Ear::on(&bus, "busy");
    std::thread::scope(|scope| {
        for publisher in 0..4 {
            let bus = &bus;
            scope.spawn(move || {
                for n in 0..500 {
                    // Others come and go meanwhile.
                    let _passing = Ear::on(bus, "busy");
                    bus.publish("busy", Note(publisher * 500 + n));
                }
            });
        }
    });
    let mut heard = Vec::new();
    while heard.len() < 2_000 {
        heard.push(ear.hear().await.0);
    }
    heard.sort_unstable();
    assert!(heard.into_iter().eq(0..2_000), "each message came once");
}

async fn all_is_quiet_about_disruptions(bus: SharedBus) {
    let mut ear = Ear::on(&bus, "user.1");
    let disruptions = bus.disruptions();
    bus.publish("user.1", Note(1));
    ear.hear().await;
    assert!(!disruptions.has_changed().expect("the bus lives"));
}

async fn both_nodes_hear_once((one, other): (SharedBus, SharedBus)) {
    let mut ears = [Ear::on(&one, "user.1"), Ear::on(&other, "user.1")];
    let mut another = Ear::on(&other, "user.12");
    other.settled().await;
    for n in 0..100 {
        one.publish("user.1", Note(n));
    }
    one.publish("user.12", Note(100));
    for ear in &mut ears {
        for n in 0..100 {
            assert_eq!(ear.hear().await, Note(n));
        }
    }
    assert_eq!(another.hear().await, Note(100));
    assert!(ears.iter_mut().all(Ear::silent) && another.silent());
}

async fn what_comes_after_settling_is_heard((one, other): (SharedBus, SharedBus)) {
    for n in 0..500 {
        let subject = format!("user.{n}");
        let mut ear = Ear::on(&other, &subject);
        other.settled().await;
        one.publish(&subject, Note(n));
        assert_eq!(ear.hear().await, Note(n));
    }
}

async fn a_node_that_nobody_listens_on_any_more_hears_nothing(
    (one, other): (SharedBus, SharedBus),
) {
    let (gone, mut stays) = (Ear::on(&other, "user.1"), Ear::on(&other, "user.2"));
    other.settled().await;
    let Ear {
        mut heard,
        subscription,
    } = gone;
    drop(subscription);
    one.publish("user.1", Note(1));
    one.publish("user.2", Note(2));
    assert_eq!(stays.hear().await, Note(2));
    assert!(heard.try_recv().is_err());
}

async fn a_subscription_settles(bus: SharedBus) {
    let mut ear = Ear::on(&bus, "user.1");
    let settled = timeout(Duration::from_secs(5), bus.settled()).await;
    assert!(settled.is_ok(), "it ends soon");
    bus.publish("user.1", Note(1));
    assert_eq!(ear.hear().await, Note(1));
}

fn what_is_encoded_can_be_decoded() {
    assert_eq!(Note::decode(&Note(7).encode()), Ok(Note(7)));
    assert!(Note::decode(b"short").is_err());
}
