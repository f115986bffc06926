//! Sorted keys from several places as one.

use tertulia_kit::error::Result;

use super::file::Row;
use crate::rows::codec::SendHash;

/// Rows in the order of their keys.
pub type Sorted<'a> = Box<dyn Iterator<Item = Result<Row>> + 'a>;

/// The rows of all places in the order of their keys. Of one key it gives what the last of the places says.
pub struct Merged<'a> {
    places: Vec<Place<'a>>,
}

/// A place that has more, with what comes first.
struct Place<'a> {
    first: Row,
    /// The key of the first, as numbers, which are compared sooner than bytes.
    key: [u64; 3],
    rest: Sorted<'a>,
}

impl<'a> Merged<'a> {
    /// Of places from the oldest to the newest.
    ///
    /// # Errors
    /// When the first row of one can not be read.
    pub fn of(places: impl IntoIterator<Item = Sorted<'a>>) -> Result<Merged<'a>> {
        let places = places
            .into_iter()
            .map(Place::of)
            .filter_map(Result::transpose);
        Ok(Merged {
            places: places.collect::<Result<_>>()?,
        })
    }

    /// Takes the first row of a place.
    fn take(&mut self, n: usize) -> Result<Row> {
        let place = &mut self.places[n];
        match place.rest.next() {
            Some(next) => {
                let next = next?;
                place.key = numbers(&next.0);
                Ok(std::mem::replace(&mut place.first, next))
            }
            None => Ok(self.places.remove(n).first),
        }
    }
}

impl<'a> Place<'a> {
    /// None when there is nothing in it.
    fn of(mut rows: Sorted<'a>) -> Result<Option<Place<'a>>> {
        let first = rows.next().transpose()?;
        Ok(first.map(|first| Place {
            key: numbers(&first.0),
            first,
            rest: rows,
        }))
    }
}

impl Iterator for Merged<'_> {
    type Item = Result<Row>;

    fn next(&mut self) -> Option<Result<Row>> {
        let (newest, key) = self
            .places
            .iter()
            .enumerate()
            .fold(None, |least, (n, place)| match least {
                Some((_, key)) if key < place.key => least,
                _ => Some((n, place.key)),
            })?;
        let row = self.take(newest);
        // From behind, because a place with nothing left goes.
        for n in (0..newest).rev() {
            if self.places[n].key == key
                && let Err(why) = self.take(n)
            {
                return Some(Err(why));
            }
        }
        Some(row)
    }
}

/// In the order of the bytes.
fn numbers(hash: &SendHash) -> [u64; 3] {
    let mut numbers = [0; 3];
    for (number, bytes) in numbers.iter_mut().zip(hash.as_chunks().0) {
        *number = u64::from_be_bytes(*bytes);
    }
    numbers
}

#[cfg(test)]
mod tests {
    use super::super::file::Content;
    use super::*;

    fn place(keys: &'static [u8], says: u8) -> Sorted<'static> {
        let row = move |key: &u8| Ok(([*key; 24], Content::of(&[says])));
        Box::new(keys.iter().map(row))
    }

    fn said(merged: Result<Merged<'_>>) -> Vec<(u8, u8)> {
        let say = |row: Result<Row>| row.map(|(hash, content)| (hash[0], content[0])).unwrap();
        merged.unwrap().map(say).collect()
    }

    #[test]
    fn all_come_in_order_and_of_one_key_what_is_newest() {
        let merged = Merged::of([place(&[1, 3, 5], 1), place(&[], 2), place(&[2, 3, 6], 3)]);
        assert_eq!(said(merged), [(1, 1), (2, 3), (3, 3), (5, 1), (6, 3)]);
    }
}
