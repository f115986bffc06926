//! Who writes into a store that grows, and how far each of their chats has come. It is kept beside the data, so that a
//! later run goes on with the same store.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use serde::{Deserialize, Serialize};

use crate::load::people::{Account, Pair, Server};

/// So many sign in at once.
const SIGNING_IN: usize = 8;
/// Where they are kept in a folder, beside the server's data.
const FILE: &str = "people.json";
const DATA: &str = "data";

/// Everybody.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct People {
    /// They fill the store.
    pub writers: Vec<Account>,
    /// Each of two writers.
    pub chats: Vec<Chat>,
    /// Others, whose messages are measured.
    pub pairs: Vec<Pair>,
    /// How many messages there are.
    pub stored: u64,
}

/// A chat that is filled.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Chat {
    /// Its writers, by their places.
    pub ends: [usize; 2],
    /// The chat.
    pub chat_id: i64,
    /// The seq of its newest event.
    pub head: i64,
}

impl People {
    /// Makes as few writers as have so many chats of two, and the pairs.
    ///
    /// # Errors
    /// When one can not be made.
    pub async fn make(server: Server, chats: usize, pairs: usize) -> Result<Self> {
        let pairs = server.pairs(pairs).await?;
        let writers = server.accounts(writers_of(chats)).await?;
        let ends: Vec<[usize; 2]> = all_pairs().take(chats).collect();
        let opened = server.direct_chats(&writers, &ends).await?;
        let chats = ends.into_iter().zip(opened);
        Ok(People {
            chats: chats
                .map(|(ends, (chat_id, head))| Chat {
                    ends,
                    chat_id,
                    head,
                })
                .collect(),
            writers,
            pairs,
            stored: 0,
        })
    }

    /// Those of an earlier run, if there was one.
    ///
    /// # Errors
    /// When they can not be read.
    pub fn load(folder: &Path) -> Result<Option<Self>> {
        let file = folder.join(FILE);
        if !file.exists() {
            return Ok(None);
        }
        let text = fs::read(&file).with_context(|| file.display().to_string())?;
        let people: People = serde_json::from_slice(&text)?;
        ensure!(
            people
                .chats
                .iter()
                .flat_map(|chat| chat.ends)
                .all(|end| end < people.writers.len()),
            "{} names writers that it does not hold",
            file.display()
        );
        Ok(Some(people))
    }

    /// Keeps them for a later run.
    ///
    /// # Errors
    /// When they can not be written.
    pub fn save(&self, folder: &Path) -> Result<()> {
        let file = folder.join(FILE);
        fs::write(&file, serde_json::to_vec(self)?).with_context(|| file.display().to_string())
    }

    /// Signs everybody in: a token lasts for minutes only.
    ///
    /// # Errors
    /// When somebody is not taken.
    pub async fn sign_in(&mut self, server: Server) -> Result<()> {
        let pairs = self.pairs.iter_mut().flat_map(|pair| &mut pair.ends);
        let everybody = stream::iter(self.writers.iter_mut().chain(pairs));
        let signing_in = everybody.map(|account| server.login(account));
        signing_in
            .buffer_unordered(SIGNING_IN)
            .try_collect::<()>()
            .await
    }
}

/// Where the server of a folder keeps its data.
pub fn data(folder: &Path) -> PathBuf {
    folder.join(DATA)
}

/// How many people have so many chats of two at least.
fn writers_of(chats: usize) -> usize {
    (2..)
        .find(|n| n * (n - 1) / 2 >= chats)
        .expect("there are enough numbers")
}

/// Every two of the first two, three, four and so on.
fn all_pairs() -> impl Iterator<Item = [usize; 2]> {
    (1..).flat_map(|second| (0..second).map(move |first| [first, second]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_people_have_many_chats() {
        assert_eq!(writers_of(1), 2);
        assert_eq!(writers_of(3), 3);
        assert_eq!(writers_of(4), 4);
        assert_eq!(writers_of(100_000), 448);
        for chats in [1, 3, 4, 100] {
            let pairs: Vec<_> = all_pairs().take(chats).collect();
            let last = pairs.iter().flatten().max().unwrap();
            assert_eq!(last + 1, writers_of(chats));
            let distinct: std::collections::HashSet<_> = pairs.iter().collect();
            assert_eq!(distinct.len(), chats);
        }
    }

    #[test]
    fn people_of_an_earlier_run_are_found_again() {
        let folder = tempfile::tempdir().unwrap();
        assert!(People::load(folder.path()).unwrap().is_none());
        let people = People {
            stored: 7,
            ..People::default()
        };
        people.save(folder.path()).unwrap();
        assert_eq!(People::load(folder.path()).unwrap().unwrap().stored, 7);
    }
}
