//! Accounts and logins.

use async_trait::async_trait;
use sqlx::sqlite::SqliteRow;
use sqlx::{Row as _, Sqlite as Engine, Transaction};
use tertulia_kit::error::Result;
use tertulia_services::errors;
use tertulia_services::identity::{
    Account, AccountStore, CreateAccount, Created, Family, Keep, LoginRecord, NewLogin,
    PasswordHash, Rotation,
};
use tertulia_services::ids::{LoginId, UserId};

use super::profiles::add_words;
use super::{Sqlite, failure};

#[async_trait]
impl AccountStore for Sqlite {
    async fn create(&self, new: CreateAccount) -> Result<Created> {
        let mut tx = self.write().await?;
        let added = sqlx::query(
            "INSERT INTO users (user_id, name, display_name, about, created_at_ms, changed_at_ms)
             VALUES ($1, $2, $3, '', $4, $4)
             ON CONFLICT (name) DO NOTHING",
        )
        .bind(new.user.0)
        .bind(&new.name)
        .bind(&new.shown.display_name)
        .bind(new.login.created_at_ms)
        .execute(&mut *tx)
        .await
        .map_err(failure)?;
        if added.rows_affected() == 0 {
            return Ok(Created::NameTaken);
        }
        sqlx::query("INSERT INTO passwords (user_id, phc, pepper_id) VALUES ($1, $2, $3)")
            .bind(new.user.0)
            .bind(&new.password.phc)
            .bind(&new.password.pepper_id)
            .execute(&mut *tx)
            .await
            .map_err(failure)?;
        add_words(&mut tx, new.user, &new.shown.search_words).await?;
        insert_login(&mut tx, &new.login).await?;
        tx.commit().await.map_err(failure)?;
        Ok(Created::Done)
    }

    async fn by_name(&self, name: &str) -> Result<Option<Account>> {
        let row = sqlx::query(
            "SELECT users.user_id, passwords.phc, passwords.pepper_id
             FROM users JOIN passwords ON passwords.user_id = users.user_id
             WHERE users.name = $1",
        )
        .bind(name)
        .fetch_optional(&self.readers)
        .await
        .map_err(failure)?;
        row.map(|row| {
            let password = PasswordHash {
                phc: row.try_get(1)?,
                pepper_id: row.try_get(2)?,
            };
            Ok(Account {
                user: UserId(row.try_get(0)?),
                password,
            })
        })
        .transpose()
        .map_err(failure)
    }

    async fn rehash(&self, user: UserId, from: &PasswordHash, to: &PasswordHash) -> Result<()> {
        sqlx::query(
            "UPDATE passwords SET phc = $1, pepper_id = $2
             WHERE user_id = $3 AND phc = $4 AND pepper_id = $5",
        )
        .bind(&to.phc)
        .bind(&to.pepper_id)
        .bind(user.0)
        .bind(&from.phc)
        .bind(&from.pepper_id)
        .execute(&self.writer)
        .await
        .map_err(failure)?;
        Ok(())
    }

    async fn add_login(&self, new: NewLogin, keep: Keep) -> Result<Vec<LoginId>> {
        let mut tx = self.write().await?;
        sqlx::query(
            "DELETE FROM logins WHERE user_id = $1 AND (ended_at_ms < $2 OR expires_at_ms < $2)",
        )
        .bind(new.user.0)
        .bind(keep.since_ms)
        .execute(&mut *tx)
        .await
        .map_err(failure)?;
        insert_login(&mut tx, &new).await?;
        let ended: Vec<i64> = sqlx::query_scalar(
            "UPDATE logins SET ended_at_ms = $1
             WHERE user_id = $2 AND ended_at_ms IS NULL AND login_id NOT IN (
                 SELECT login_id FROM logins
                 WHERE user_id = $2 AND ended_at_ms IS NULL
                 ORDER BY created_at_ms DESC, login_id DESC LIMIT $3)
             RETURNING login_id",
        )
        .bind(new.created_at_ms)
        .bind(new.user.0)
        .bind(i64::try_from(keep.open_max).unwrap_or(i64::MAX))
        .fetch_all(&mut *tx)
        .await
        .map_err(failure)?;
        tx.commit().await.map_err(failure)?;
        Ok(ended.into_iter().map(LoginId).collect())
    }

    async fn login(&self, login: LoginId) -> Result<Option<LoginRecord>> {
        let row = sqlx::query(
            "SELECT login_id, user_id, device_id, device_name, created_at_ms, refreshed_at_ms,
                    expires_at_ms, ended_at_ms, family_seed, pepper_id, refresh_hash, spent_hash
             FROM logins WHERE login_id = $1",
        )
        .bind(login.0)
        .fetch_optional(&self.readers)
        .await
        .map_err(failure)?;
        row.as_ref().map(record).transpose()
    }

    async fn rotate(&self, rotation: Rotation) -> Result<bool> {
        let changed = sqlx::query(
            "UPDATE logins
             SET spent_hash = refresh_hash, refresh_hash = $1, refreshed_at_ms = $2, expires_at_ms = $3
             WHERE login_id = $4 AND refresh_hash = $5 AND ended_at_ms IS NULL",
        )
        .bind(rotation.to.as_slice())
        .bind(rotation.at_ms)
        .bind(rotation.expires_at_ms)
        .bind(rotation.login.0)
        .bind(rotation.from.as_slice())
        .execute(&self.writer)
        .await
        .map_err(failure)?;
        Ok(changed.rows_affected() == 1)
    }

    async fn logins(&self, user: UserId, now_ms: i64) -> Result<Vec<LoginRecord>> {
        let rows = sqlx::query(
            "SELECT login_id, user_id, device_id, device_name, created_at_ms, refreshed_at_ms,
                    expires_at_ms, ended_at_ms, family_seed, pepper_id, refresh_hash, spent_hash
             FROM logins
             WHERE user_id = $1 AND ended_at_ms IS NULL AND expires_at_ms > $2
             ORDER BY created_at_ms DESC, login_id DESC",
        )
        .bind(user.0)
        .bind(now_ms)
        .fetch_all(&self.readers)
        .await
        .map_err(failure)?;
        rows.iter().map(record).collect()
    }

    async fn end_login(&self, user: UserId, login: LoginId, at_ms: i64) -> Result<bool> {
        let changed = sqlx::query(
            "UPDATE logins SET ended_at_ms = $1
             WHERE login_id = $2 AND user_id = $3 AND ended_at_ms IS NULL",
        )
        .bind(at_ms)
        .bind(login.0)
        .bind(user.0)
        .execute(&self.writer)
        .await
        .map_err(failure)?;
        Ok(changed.rows_affected() == 1)
    }

    async fn ended_since(&self, since_ms: i64) -> Result<Vec<(LoginId, i64)>> {
        let rows: Vec<(i64, i64)> =
            sqlx::query_as("SELECT login_id, ended_at_ms FROM logins WHERE ended_at_ms >= $1")
                .bind(since_ms)
                .fetch_all(&self.readers)
                .await
                .map_err(failure)?;
        Ok(rows
            .into_iter()
            .map(|(login, at_ms)| (LoginId(login), at_ms))
            .collect())
    }
}

async fn insert_login(tx: &mut Transaction<'static, Engine>, new: &NewLogin) -> Result<()> {
    sqlx::query(
        "INSERT INTO logins (login_id, user_id, device_id, device_name, created_at_ms,
                             refreshed_at_ms, expires_at_ms, family_seed, pepper_id, refresh_hash)
         VALUES ($1, $2, $3, $4, $5, $5, $6, $7, $8, $9)",
    )
    .bind(new.id.0)
    .bind(new.user.0)
    .bind(&new.device_id)
    .bind(&new.device_name)
    .bind(new.created_at_ms)
    .bind(new.expires_at_ms)
    .bind(new.family.seed.as_slice())
    .bind(&new.family.pepper_id)
    .bind(new.refresh.as_slice())
    .execute(&mut **tx)
    .await
    .map_err(failure)?;
    Ok(())
}

fn record(row: &SqliteRow) -> Result<LoginRecord> {
    let spent: Option<&[u8]> = row.try_get(11).map_err(failure)?;
    let record = || -> Result<LoginRecord, sqlx::Error> {
        Ok(LoginRecord {
            id: LoginId(row.try_get(0)?),
            user: UserId(row.try_get(1)?),
            device_id: row.try_get(2)?,
            device_name: row.try_get(3)?,
            created_at_ms: row.try_get(4)?,
            refreshed_at_ms: row.try_get(5)?,
            expires_at_ms: row.try_get(6)?,
            ended_at_ms: row.try_get(7)?,
            family: Family {
                seed: [0; 32],
                pepper_id: row.try_get(9)?,
            },
            refresh: [0; 32],
            spent: None,
        })
    };
    let mut record = record().map_err(failure)?;
    record.family.seed = bytes(row.try_get(8).map_err(failure)?)?;
    record.refresh = bytes(row.try_get(10).map_err(failure)?)?;
    record.spent = spent.map(bytes).transpose()?;
    Ok(record)
}

fn bytes(blob: &[u8]) -> Result<[u8; 32]> {
    blob.try_into()
        .map_err(|_| errors::internal("a stored login has a value of a wrong length"))
}
