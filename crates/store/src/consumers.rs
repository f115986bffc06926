//! Consumers of the feed in a table, by one text for each query in every engine of SQL. They are where people are, so
//! that how far each has got is as durable as they are; it need not be committed with anything else.

use async_trait::async_trait;
use sqlx::Database;
use tertulia_kit::error::Result;
use tertulia_services::chats::Epoch;
use tertulia_services::feed::{self, Consumer, ConsumerId, Place};

use crate::people::{Engine, Line, People, again, failure, query};

/// The consumers of a database. Clones share the connections.
#[derive(Debug)]
pub struct Consumers<DB: Database>(People<DB>);

impl<DB: Database> Clone for Consumers<DB> {
    fn clone(&self) -> Self {
        Consumers(self.0.clone())
    }
}

impl<DB: Engine> Consumers<DB> {
    /// Those beside these people.
    pub fn beside(people: &People<DB>) -> Self {
        Consumers(people.clone())
    }
}

#[async_trait]
impl<DB: Engine> feed::Consumers for Consumers<DB> {
    async fn all(&self) -> Result<Vec<Consumer>> {
        let all = query(
            "SELECT name, consumer_id, epoch, place, made_at_ms, moved_at_ms FROM feed_consumers
             ORDER BY name",
        );
        let rows = self.0.read(all).await.map_err(failure)?;
        let all = rows.iter().map(read);
        all.collect::<Result<_, _>>().map_err(failure)
    }

    async fn named(&self, name: &str) -> Result<Option<Consumer>> {
        let named = query(
            "SELECT name, consumer_id, epoch, place, made_at_ms, moved_at_ms FROM feed_consumers
             WHERE name = $1",
        );
        let rows = self.0.read(named.with(name)).await.map_err(failure)?;
        let found = rows.first().map(read);
        found.transpose().map_err(failure)
    }

    async fn make(&self, consumer: Consumer) -> Result<Consumer> {
        let made = again(|| async {
            let make = query(
                "INSERT INTO feed_consumers (name, consumer_id, epoch, place, made_at_ms, moved_at_ms)
                 VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (name) DO NOTHING RETURNING consumer_id",
            );
            let make = make.with(&*consumer.name).with(consumer.id.0);
            let make = make.with(consumer.epoch.0.cast_signed());
            let make = make.with(consumer.place.0.cast_signed());
            let make = make.with(consumer.made_at_ms).with(consumer.moved_at_ms);
            self.0.write(make).await
        });
        if made.await?.len() == 1 {
            return Ok(consumer);
        }
        let there = self.named(&consumer.name).await?;
        // It was there, and somebody removed it just now.
        there.ok_or_else(tertulia_services::errors::consumer_not_found)
    }

    async fn acknowledge(&self, id: ConsumerId, place: Place, at_ms: i64) -> Result<bool> {
        let there = again(|| async {
            let acknowledge = query(
                "UPDATE feed_consumers
                 SET moved_at_ms = CASE WHEN place < $1 THEN $2 ELSE moved_at_ms END,
                     place = CASE WHEN place < $1 THEN $1 ELSE place END
                 WHERE consumer_id = $3 RETURNING consumer_id",
            );
            let acknowledge = acknowledge.with(place.0.cast_signed());
            self.0.write(acknowledge.with(at_ms).with(id.0)).await
        });
        Ok(there.await?.len() == 1)
    }

    async fn remove(&self, name: &str) -> Result<bool> {
        let removed = again(|| async {
            let remove = query("DELETE FROM feed_consumers WHERE name = $1 RETURNING consumer_id");
            self.0.write(remove.with(name)).await
        });
        Ok(removed.await?.len() == 1)
    }
}

fn read(row: &impl Line) -> Result<Consumer, sqlx::Error> {
    Ok(Consumer {
        name: row.text(0)?,
        id: ConsumerId(row.int(1)?),
        epoch: Epoch(row.int(2)?.cast_unsigned()),
        place: Place(row.int(3)?.cast_unsigned()),
        made_at_ms: row.int(4)?,
        moved_at_ms: row.int(5)?,
    })
}
