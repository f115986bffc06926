//! Folders of older formats, whose send keys are in tables of the engine: they are brought into files once, and the
//! tables are dropped.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use ::fjall::{Keyspace, Readable as _};
use tertulia_kit::error::Result;
use tertulia_services::errors;

use super::file::{self, Content, File, Span};
use super::{FRESH_BEFORE, Fresh, TABLES_BEFORE, filed, fresh_of};
use crate::fjall::disk::META_POSITION;
use crate::fjall::disk::Table;
use crate::fjall::engine::{Engine, read_number, unavailable};
use crate::rows::codec::{self, Corrupt};
use crate::rows::corrupt;

type Files = BTreeMap<i64, Vec<Arc<File>>>;

/// Brings what there is.
pub fn bring(folder: &Path, engine: &Engine, files: &mut Files) -> Result<()> {
    let names = engine.db.list_keyspace_names();
    let weeks = names.iter().filter_map(|name| {
        let week = name.strip_prefix(TABLES_BEFORE)?.parse::<i64>().ok()?;
        Some((week, name))
    });
    for (week, name) in weeks {
        bring_week(folder, engine, files, week, name)?;
    }
    if names.iter().any(|name| **name == *FRESH_BEFORE) {
        bring_fresh(folder, engine, files)?;
    }
    Ok(())
}

/// The table of a week, of a format up to 3.
fn bring_week(
    folder: &Path,
    engine: &Engine,
    files: &mut Files,
    week: i64,
    name: &str,
) -> Result<()> {
    tracing::info!(
        week,
        "the send keys of a week are brought into a file, once"
    );
    let table = engine.old_table(name)?;
    let keys = engine.snapshot().iter(&table).count() as u64;
    if keys > 0 {
        let position = engine.table(Table::Meta)?.get(META_POSITION);
        let span = Span {
            week,
            first: 0,
            last: read_number(position.map_err(unavailable)?)?,
        };
        let file = write_week(folder, engine, &table, span, keys)?;
        files.entry(week).or_default().insert(0, Arc::new(file));
    }
    engine.db.delete_keyspace(table).map_err(unavailable)?;
    tracing::info!(week, keys, "the send keys of a week are in a file");
    Ok(())
}

fn write_week(
    folder: &Path,
    engine: &Engine,
    table: &Keyspace,
    span: Span,
    keys: u64,
) -> Result<File> {
    let mut file = file::Writer::begin(folder, span, keys).map_err(errors::store_unavailable)?;
    for row in engine.snapshot().iter(table) {
        let (hash, content) = row.into_inner().map_err(unavailable)?;
        let hash = (*hash).try_into();
        let hash = hash.map_err(|_| corrupt(Corrupt("a send key of another length")))?;
        file.add(&hash, &content)
            .map_err(errors::store_unavailable)?;
    }
    File::open(&file.finish().map_err(errors::store_unavailable)?)
}

/// The table of format 4, with the keys of the newest commits.
fn bring_fresh(folder: &Path, engine: &Engine, files: &mut Files) -> Result<()> {
    let table = engine.old_table(FRESH_BEFORE)?;
    let mut rows = Vec::new();
    for row in engine.snapshot().iter(&table) {
        let (key, row) = row.into_inner().map_err(unavailable)?;
        rows.push((read_number(Some(key))?, row));
    }
    for keys in fresh_of(rows, filed(files))? {
        let file = Arc::new(write_fresh(folder, &keys)?);
        files.entry(keys.week).or_default().push(file);
    }
    engine.db.delete_keyspace(table).map_err(unavailable)?;
    tracing::info!("the newest send keys are in files");
    Ok(())
}

fn write_fresh(folder: &Path, keys: &Fresh) -> Result<File> {
    let mut rows: Vec<_> = keys.iter().collect();
    rows.sort_unstable_by_key(|(hash, _)| *hash);
    let failed = errors::store_unavailable;
    let mut file = file::Writer::begin(folder, keys.span(), rows.len() as u64).map_err(failed)?;
    let mut content = Vec::new();
    for (hash, used) in rows {
        codec::write_used(&mut content, used);
        file.add(&hash, &Content::of(&content)).map_err(failed)?;
    }
    File::open(&file.finish().map_err(failed)?)
}
