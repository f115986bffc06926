//! What consumers are remembered as.

use crate::chats::Epoch;
use crate::feed::model::*;
use crate::feed::ports::Consumers;

fn consumer(name: &str, id: i64) -> Consumer {
    Consumer {
        name: name.into(),
        id: ConsumerId(id),
        // As large as numbers get.
        epoch: Epoch(u64::MAX - 7),
        place: Place(1 << 61),
        made_at_ms: 5,
        moved_at_ms: 6,
    }
}

pub async fn a_consumer_is_made_once_and_stays_where_it_is(consumers: &dyn Consumers) {
    assert_eq!(consumers.named("export").await.unwrap(), None);
    let first = consumer("export", 7);
    assert_eq!(consumers.make(first.clone()).await.unwrap(), first);
    let again = Consumer {
        place: Place(0),
        ..consumer("export", 8)
    };
    assert_eq!(consumers.make(again).await.unwrap(), first);
    assert_eq!(consumers.named("export").await.unwrap(), Some(first));
    assert_eq!(consumers.named("Export").await.unwrap(), None);
}

pub async fn the_furthest_acknowledgement_counts(consumers: &dyn Consumers) {
    let made = consumers.make(consumer("export", 7)).await.unwrap();
    let other = consumers.make(consumer("search", 8)).await.unwrap();
    let far = Place(made.place.0 + 10);
    assert!(consumers.acknowledge(made.id, far, 50).await.unwrap());
    let nearer = Place(made.place.0 + 3);
    assert!(consumers.acknowledge(made.id, nearer, 60).await.unwrap());
    let moved = Consumer {
        place: far,
        moved_at_ms: 50,
        ..made
    };
    assert_eq!(consumers.named("export").await.unwrap(), Some(moved));
    assert_eq!(consumers.named("search").await.unwrap(), Some(other));
}

pub async fn who_was_removed_is_moved_by_nobody(consumers: &dyn Consumers) {
    let made = consumers.make(consumer("export", 7)).await.unwrap();
    assert!(consumers.remove("export").await.unwrap());
    assert!(!consumers.remove("export").await.unwrap());
    let far = Place(made.place.0 + 10);
    assert!(!consumers.acknowledge(made.id, far, 50).await.unwrap());
    let anew = consumers.make(consumer("export", 8)).await.unwrap();
    assert!(!consumers.acknowledge(made.id, far, 50).await.unwrap());
    assert_eq!(consumers.named("export").await.unwrap(), Some(anew));
}

pub async fn consumers_are_listed_by_name(consumers: &dyn Consumers) {
    for (name, id) in [("webhooks", 1), ("export", 2), ("push-2", 3), ("push", 4)] {
        consumers.make(consumer(name, id)).await.unwrap();
    }
    let all = consumers.all().await.unwrap();
    let names: Vec<&str> = all.iter().map(|one| one.name.as_str()).collect();
    assert_eq!(names, ["export", "push", "push-2", "webhooks"]);
}
