//! Profiles, and the words that people are found by.

use async_trait::async_trait;
use tertulia_kit::error::Result;
use tertulia_services::ids::UserId;
use tertulia_services::users::{ProfileStore, Update, User, WORDS_MAX};

use super::{Engine, Line, People, again, failure, query};

/// How many ids one query is given; fewer are filled up with the last one.
const IDS_AT_ONCE: usize = 50;

#[async_trait]
impl<DB: Engine> ProfileStore for People<DB> {
    async fn by_ids(&self, ids: &[UserId]) -> Result<Vec<User>> {
        let mut users = Vec::with_capacity(ids.len());
        for some in ids.chunks(IDS_AT_ONCE) {
            let mut found = query(
                "SELECT user_id, name, display_name, about, shares_seen, shares_presence FROM users WHERE user_id IN (
                 $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17,
                 $18, $19, $20, $21, $22, $23, $24, $25, $26, $27, $28, $29, $30, $31, $32,
                 $33, $34, $35, $36, $37, $38, $39, $40, $41, $42, $43, $44, $45, $46, $47,
                 $48, $49, $50)",
            );
            let filled = some.iter().chain(some.last().into_iter().cycle());
            for id in filled.take(IDS_AT_ONCE) {
                found = found.with(id.0);
            }
            let rows = self.read(found).await.map_err(failure)?;
            for row in &rows {
                users.push(user(row).map_err(failure)?);
            }
        }
        Ok(users)
    }

    async fn update(&self, update: Update) -> Result<Option<User>> {
        again(|| self.update_once(&update)).await
    }

    async fn search(&self, prefix: &str, except: UserId, limit: usize) -> Result<Vec<User>> {
        let found = self.search_once(prefix, except, limit).await;
        found.map_err(failure)
    }
}

impl<DB: Engine> People<DB> {
    async fn update_once(&self, update: &Update) -> Result<Option<User>, sqlx::Error> {
        let mut tx = self.begin().await?;
        let change = query(
            "UPDATE users
             SET display_name = COALESCE($1, display_name), about = COALESCE($2, about),
                 shares_seen = COALESCE($5, shares_seen),
                 shares_presence = COALESCE($6, shares_presence), changed_at_ms = $3
             WHERE user_id = $4
             RETURNING user_id, name, display_name, about, shares_seen, shares_presence",
        );
        let shown = update.shown.as_ref();
        let change = change.with(shown.map(|shown| &*shown.display_name));
        let change = change.with(update.about.as_deref());
        let change = change.with(update.at_ms).with(update.user.0);
        let change = change.with(update.shares_seen).with(update.shares_presence);
        let rows = DB::run(&mut tx, change).await?;
        let Some(row) = rows.first() else {
            return Ok(None);
        };
        if let Some(shown) = shown {
            let forget = query("DELETE FROM search_words WHERE user_id = $1");
            DB::run(&mut tx, forget.with(update.user.0)).await?;
            add_words::<DB>(&mut tx, update.user, &shown.search_words).await?;
        }
        let user = user(row)?;
        tx.commit().await?;
        Ok(Some(user))
    }

    async fn search_once(
        &self,
        prefix: &str,
        except: UserId,
        limit: usize,
    ) -> Result<Vec<User>, sqlx::Error> {
        // Both queries are walks through an index between two bounds: every text that begins with the prefix
        // stands between it and it followed by the last character of all.
        let end = format!("{prefix}{}", char::MAX);
        let by_name = query(
            "SELECT user_id, name, display_name, about, shares_seen, shares_presence FROM users
             WHERE name >= $1 AND name < $2 AND user_id <> $3
             ORDER BY name LIMIT $4",
        );
        let by_name = by_name
            .with(prefix)
            .with(&*end)
            .with(except.0)
            .with(rows(limit));
        let by_name = self.read(by_name).await?;
        let mut found: Vec<User> = by_name.iter().map(user).collect::<Result<_, _>>()?;
        if found.len() >= limit {
            return Ok(found);
        }
        let by_word = query(
            "SELECT users.user_id, users.name, users.display_name, users.about,
                    users.shares_seen, users.shares_presence
             FROM (SELECT DISTINCT user_id FROM search_words
                   WHERE word >= $1 AND word < $2 LIMIT $5) AS met
             JOIN users ON users.user_id = met.user_id
             WHERE NOT (users.name >= $1 AND users.name < $2) AND users.user_id <> $3
             ORDER BY users.name LIMIT $4",
        );
        let by_word = by_word.with(prefix).with(&*end).with(except.0);
        let by_word = by_word
            .with(rows(limit - found.len()))
            .with(rows(WORDS_MAX));
        for row in &self.read(by_word).await? {
            found.push(user(row)?);
        }
        Ok(found)
    }
}

pub(super) async fn add_words<DB: Engine>(
    connection: &mut DB::Connection,
    user: UserId,
    words: &[String],
) -> Result<(), sqlx::Error> {
    for word in words {
        let add = query(
            "INSERT INTO search_words (word, user_id) VALUES ($1, $2) ON CONFLICT DO NOTHING",
        );
        DB::run(connection, add.with(&**word).with(user.0)).await?;
    }
    Ok(())
}

fn user(row: &impl Line) -> Result<User, sqlx::Error> {
    Ok(User {
        id: UserId(row.int(0)?),
        name: row.text(1)?,
        display_name: row.text(2)?,
        about: row.text(3)?,
        shares_seen: row.flag(4)?,
        shares_presence: row.flag(5)?,
    })
}

fn rows(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
