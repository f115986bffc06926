//! Profiles, and the words that people are found by.

use async_trait::async_trait;
use sqlx::sqlite::SqliteRow;
use sqlx::{QueryBuilder, Row as _, Sqlite as Engine, Transaction};
use tertulia_kit::error::Result;
use tertulia_services::ids::UserId;
use tertulia_services::users::{ProfileStore, Update, User, WORDS_MAX};

use super::{Sqlite, failure};

/// How many parameters one query is given.
const IDS_AT_ONCE: usize = 100;

#[async_trait]
impl ProfileStore for Sqlite {
    async fn by_ids(&self, ids: &[UserId]) -> Result<Vec<User>> {
        let mut users = Vec::with_capacity(ids.len());
        for some in ids.chunks(IDS_AT_ONCE) {
            let mut query = QueryBuilder::<Engine>::new(
                "SELECT user_id, name, display_name, about, shares_seen FROM users WHERE user_id IN (",
            );
            let mut list = query.separated(", ");
            for id in some {
                list.push_bind(id.0);
            }
            query.push(")");
            let rows = query
                .build()
                .fetch_all(&self.readers)
                .await
                .map_err(failure)?;
            for row in &rows {
                users.push(user(row)?);
            }
        }
        Ok(users)
    }

    async fn update(&self, update: Update) -> Result<Option<User>> {
        let mut tx = self.write().await?;
        let row = sqlx::query(
            "UPDATE users
             SET display_name = COALESCE($1, display_name), about = COALESCE($2, about),
                 shares_seen = COALESCE($5, shares_seen), changed_at_ms = $3
             WHERE user_id = $4
             RETURNING user_id, name, display_name, about, shares_seen",
        )
        .bind(update.shown.as_ref().map(|shown| &shown.display_name))
        .bind(&update.about)
        .bind(update.at_ms)
        .bind(update.user.0)
        .bind(update.shares_seen)
        .fetch_optional(&mut *tx)
        .await
        .map_err(failure)?;
        let Some(row) = row else { return Ok(None) };
        if let Some(shown) = &update.shown {
            sqlx::query("DELETE FROM search_words WHERE user_id = $1")
                .bind(update.user.0)
                .execute(&mut *tx)
                .await
                .map_err(failure)?;
            add_words(&mut tx, update.user, &shown.search_words).await?;
        }
        tx.commit().await.map_err(failure)?;
        user(&row).map(Some)
    }

    async fn search(&self, prefix: &str, except: UserId, limit: usize) -> Result<Vec<User>> {
        // Both queries are walks through an index between two bounds: every text that begins with the prefix
        // stands between it and it followed by the last character of all.
        let end = format!("{prefix}{}", char::MAX);
        let by_name = sqlx::query(
            "SELECT user_id, name, display_name, about, shares_seen FROM users
             WHERE name >= $1 AND name < $2 AND user_id <> $3
             ORDER BY name LIMIT $4",
        )
        .bind(prefix)
        .bind(&end)
        .bind(except.0)
        .bind(rows(limit))
        .fetch_all(&self.readers)
        .await
        .map_err(failure)?;
        let mut found: Vec<User> = by_name.iter().map(user).collect::<Result<_>>()?;
        if found.len() >= limit {
            return Ok(found);
        }
        let by_word = sqlx::query(
            "SELECT users.user_id, users.name, users.display_name, users.about, users.shares_seen
             FROM (SELECT DISTINCT user_id FROM search_words
                   WHERE word >= $1 AND word < $2 LIMIT $5) AS met
             JOIN users ON users.user_id = met.user_id
             WHERE NOT (users.name >= $1 AND users.name < $2) AND users.user_id <> $3
             ORDER BY users.name LIMIT $4",
        )
        .bind(prefix)
        .bind(&end)
        .bind(except.0)
        .bind(rows(limit - found.len()))
        .bind(rows(WORDS_MAX))
        .fetch_all(&self.readers)
        .await
        .map_err(failure)?;
        for row in &by_word {
            found.push(user(row)?);
        }
        Ok(found)
    }
}

pub(super) async fn add_words(
    tx: &mut Transaction<'static, Engine>,
    user: UserId,
    words: &[String],
) -> Result<()> {
    for word in words {
        sqlx::query(
            "INSERT INTO search_words (word, user_id) VALUES ($1, $2) ON CONFLICT DO NOTHING",
        )
        .bind(word)
        .bind(user.0)
        .execute(&mut **tx)
        .await
        .map_err(failure)?;
    }
    Ok(())
}

fn user(row: &SqliteRow) -> Result<User> {
    let user = || -> Result<User, sqlx::Error> {
        Ok(User {
            id: UserId(row.try_get(0)?),
            name: row.try_get(1)?,
            display_name: row.try_get(2)?,
            about: row.try_get(3)?,
            shares_seen: row.try_get(4)?,
        })
    };
    user().map_err(failure)
}

fn rows(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
