//! Accounts and logins.

use async_trait::async_trait;
use tertulia_kit::error::Result;
use tertulia_services::identity::{
    Account, AccountStore, CreateAccount, Created, Family, Keep, LoginRecord, NewLogin,
    PasswordHash, Rotation, TokenHash,
};
use tertulia_services::ids::{LoginId, UserId};

use super::profiles::add_words;
use super::{Engine, Line, People, again, failure, query};

#[async_trait]
impl<DB: Engine> AccountStore for People<DB> {
    async fn create(&self, new: CreateAccount) -> Result<Created> {
        again(|| self.create_once(&new)).await
    }

    async fn by_name(&self, name: &str) -> Result<Option<Account>> {
        let found = query(
            "SELECT users.user_id, passwords.phc, passwords.pepper_id
             FROM users JOIN passwords ON passwords.user_id = users.user_id
             WHERE users.name = $1",
        );
        let rows = self.read(found.with(name)).await.map_err(failure)?;
        rows.first().map(account).transpose().map_err(failure)
    }

    async fn rehash(&self, user: UserId, from: &PasswordHash, to: &PasswordHash) -> Result<()> {
        again(|| async {
            let rehash = query(
                "UPDATE passwords SET phc = $1, pepper_id = $2
                 WHERE user_id = $3 AND phc = $4 AND pepper_id = $5",
            );
            let rehash = rehash.with(&*to.phc).with(&*to.pepper_id).with(user.0);
            let rehash = rehash.with(&*from.phc).with(&*from.pepper_id);
            self.write(rehash).await.map(drop)
        })
        .await
    }

    async fn add_login(&self, new: NewLogin, keep: Keep) -> Result<Vec<LoginId>> {
        again(|| self.add_login_once(&new, keep)).await
    }

    async fn login(&self, login: LoginId) -> Result<Option<LoginRecord>> {
        let found = query(
            "SELECT login_id, user_id, device_id, device_name, created_at_ms, refreshed_at_ms,
                    expires_at_ms, ended_at_ms, family_seed, pepper_id, refresh_hash, spent_hash
             FROM logins WHERE login_id = $1",
        );
        let rows = self.read(found.with(login.0)).await.map_err(failure)?;
        rows.first().map(record).transpose().map_err(failure)
    }

    async fn rotate(&self, rotation: Rotation) -> Result<bool> {
        again(|| async {
            let rotate = query(
                "UPDATE logins
                 SET spent_hash = refresh_hash, refresh_hash = $1, refreshed_at_ms = $2,
                     expires_at_ms = $3
                 WHERE login_id = $4 AND refresh_hash = $5 AND ended_at_ms IS NULL
                 RETURNING login_id",
            );
            let rotate = rotate.with(&rotation.to[..]).with(rotation.at_ms);
            let rotate = rotate.with(rotation.expires_at_ms).with(rotation.login.0);
            let changed = self.write(rotate.with(&rotation.from[..])).await?;
            Ok(changed.len() == 1)
        })
        .await
    }

    async fn logins(&self, user: UserId, now_ms: i64) -> Result<Vec<LoginRecord>> {
        let found = query(
            "SELECT login_id, user_id, device_id, device_name, created_at_ms, refreshed_at_ms,
                    expires_at_ms, ended_at_ms, family_seed, pepper_id, refresh_hash, spent_hash
             FROM logins
             WHERE user_id = $1 AND ended_at_ms IS NULL AND expires_at_ms > $2
             ORDER BY created_at_ms DESC, login_id DESC",
        );
        let found = found.with(user.0).with(now_ms);
        let rows = self.read(found).await.map_err(failure)?;
        let records = rows.iter().map(record).collect::<Result<_, _>>();
        records.map_err(failure)
    }

    async fn end_login(&self, user: UserId, login: LoginId, at_ms: i64) -> Result<bool> {
        again(|| async {
            let end = query(
                "UPDATE logins SET ended_at_ms = $1
                 WHERE login_id = $2 AND user_id = $3 AND ended_at_ms IS NULL
                 RETURNING login_id",
            );
            let changed = self
                .write(end.with(at_ms).with(login.0).with(user.0))
                .await?;
            Ok(changed.len() == 1)
        })
        .await
    }

    async fn ended_since(&self, since_ms: i64) -> Result<Vec<(LoginId, i64)>> {
        let found = query("SELECT login_id, ended_at_ms FROM logins WHERE ended_at_ms >= $1");
        let rows = self.read(found.with(since_ms)).await.map_err(failure)?;
        let ended = rows
            .iter()
            .map(|row| Ok((LoginId(row.int(0)?), row.int(1)?)));
        ended.collect::<Result<_, _>>().map_err(failure)
    }

    async fn forget_logins(&self, before_ms: i64, limit: usize) -> Result<usize> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let forgotten = again(|| async {
            let forget = query(
                "DELETE FROM logins WHERE login_id IN (
                     SELECT login_id FROM logins WHERE ended_at_ms < $1 OR expires_at_ms < $1 LIMIT $2)
                 RETURNING login_id",
            );
            self.write(forget.with(before_ms).with(limit)).await
        });
        Ok(forgotten.await?.len())
    }
}

impl<DB: Engine> People<DB> {
    async fn create_once(&self, new: &CreateAccount) -> Result<Created, sqlx::Error> {
        let mut tx = self.begin().await?;
        let add = query(
            "INSERT INTO users (user_id, name, display_name, about, created_at_ms, changed_at_ms)
             VALUES ($1, $2, $3, '', $4, $4)
             ON CONFLICT (name) DO NOTHING
             RETURNING user_id",
        );
        let add = add.with(new.user.0).with(&*new.name);
        let add = add
            .with(&*new.shown.display_name)
            .with(new.login.created_at_ms);
        if DB::run(&mut tx, add).await?.is_empty() {
            return Ok(Created::NameTaken);
        }
        let add = query("INSERT INTO passwords (user_id, phc, pepper_id) VALUES ($1, $2, $3)");
        let add = add.with(new.user.0).with(&*new.password.phc);
        DB::run(&mut tx, add.with(&*new.password.pepper_id)).await?;
        add_words::<DB>(&mut tx, new.user, &new.shown.search_words).await?;
        insert_login::<DB>(&mut tx, &new.login).await?;
        tx.commit().await?;
        Ok(Created::Done)
    }

    async fn add_login_once(
        &self,
        new: &NewLogin,
        keep: Keep,
    ) -> Result<Vec<LoginId>, sqlx::Error> {
        let mut tx = self.begin().await?;
        // Of two at once, one waits here: how many are open is counted below.
        let hold = query("UPDATE users SET changed_at_ms = changed_at_ms WHERE user_id = $1");
        DB::run(&mut tx, hold.with(new.user.0)).await?;
        let forget = query(
            "DELETE FROM logins WHERE user_id = $1 AND (ended_at_ms < $2 OR expires_at_ms < $2)",
        );
        DB::run(&mut tx, forget.with(new.user.0).with(keep.since_ms)).await?;
        insert_login::<DB>(&mut tx, new).await?;
        let end = query(
            "UPDATE logins SET ended_at_ms = $1
             WHERE user_id = $2 AND ended_at_ms IS NULL AND login_id NOT IN (
                 SELECT login_id FROM logins
                 WHERE user_id = $2 AND ended_at_ms IS NULL
                 ORDER BY created_at_ms DESC, login_id DESC LIMIT $3)
             RETURNING login_id",
        );
        let open_max = i64::try_from(keep.open_max).unwrap_or(i64::MAX);
        let end = end.with(new.created_at_ms).with(new.user.0).with(open_max);
        let ended = DB::run(&mut tx, end).await?;
        let ended = ended.iter().map(|row| row.int(0).map(LoginId));
        let ended = ended.collect::<Result<_, _>>()?;
        tx.commit().await?;
        Ok(ended)
    }
}

async fn insert_login<DB: Engine>(
    connection: &mut DB::Connection,
    new: &NewLogin,
) -> Result<(), sqlx::Error> {
    let add = query(
        "INSERT INTO logins (login_id, user_id, device_id, device_name, created_at_ms,
                             refreshed_at_ms, expires_at_ms, family_seed, pepper_id, refresh_hash)
         VALUES ($1, $2, $3, $4, $5, $5, $6, $7, $8, $9)",
    );
    let add = add.with(new.id.0).with(new.user.0);
    let add = add.with(&*new.device_id).with(&*new.device_name);
    let add = add.with(new.created_at_ms).with(new.expires_at_ms);
    let add = add.with(&new.family.seed[..]).with(&*new.family.pepper_id);
    DB::run(connection, add.with(&new.refresh[..]))
        .await
        .map(drop)
}

fn account(row: &impl Line) -> Result<Account, sqlx::Error> {
    let password = PasswordHash {
        phc: row.text(1)?,
        pepper_id: row.text(2)?,
    };
    Ok(Account {
        user: UserId(row.int(0)?),
        password,
    })
}

fn record(row: &impl Line) -> Result<LoginRecord, sqlx::Error> {
    Ok(LoginRecord {
        id: LoginId(row.int(0)?),
        user: UserId(row.int(1)?),
        device_id: row.text(2)?,
        device_name: row.text(3)?,
        created_at_ms: row.int(4)?,
        refreshed_at_ms: row.int(5)?,
        expires_at_ms: row.int(6)?,
        ended_at_ms: row.maybe_int(7)?,
        family: Family {
            seed: hash(&row.bytes(8)?)?,
            pepper_id: row.text(9)?,
        },
        refresh: hash(&row.bytes(10)?)?,
        spent: row.maybe_bytes(11)?.map(|spent| hash(&spent)).transpose()?,
    })
}

fn hash(bytes: &[u8]) -> Result<TokenHash, sqlx::Error> {
    bytes
        .try_into()
        .map_err(|_| sqlx::Error::Decode("a stored login has a value of a wrong length".into()))
}
