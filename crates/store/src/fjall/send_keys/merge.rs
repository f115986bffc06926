//! Sorted keys from several places as one.

use std::iter::Peekable;

use tertulia_kit::error::Result;

use super::file::Row;

/// Rows in the order of their keys.
pub type Sorted<'a> = Box<dyn Iterator<Item = Result<Row>> + 'a>;

/// The rows of all places in the order of their keys. Of one key it gives what the last of the places says.
pub struct Merged<'a> {
    places: Vec<Peekable<Sorted<'a>>>,
}

impl<'a> Merged<'a> {
    /// Of places from the oldest to the newest.
    pub fn of(places: impl IntoIterator<Item = Sorted<'a>>) -> Merged<'a> {
        let places = places.into_iter().map(Iterator::peekable).collect();
        Merged { places }
    }
}

impl Iterator for Merged<'_> {
    type Item = Result<Row>;

    fn next(&mut self) -> Option<Result<Row>> {
        let mut least = None;
        for (n, place) in self.places.iter_mut().enumerate() {
            match place.peek() {
                None => {}
                Some(Err(_)) => return place.next(),
                Some(Ok((hash, _))) => {
                    if least.is_none_or(|(least, _)| *hash <= least) {
                        least = Some((*hash, n));
                    }
                }
            }
        }
        let (hash, newest) = least?;
        let row = self.places[newest].next();
        for place in &mut self.places {
            place.next_if(|row| matches!(row, Ok((same, _)) if *same == hash));
        }
        row
    }
}

#[cfg(test)]
mod tests {
    use super::super::file::Content;
    use super::*;

    fn place(keys: &[u8], says: u8) -> Sorted<'static> {
        let row = move |key: u8| Ok(([key; 24], Content::of(&[says])));
        Box::new(keys.to_vec().into_iter().map(row))
    }

    fn said(merged: Merged<'_>) -> Vec<(u8, u8)> {
        let say = |row: Result<Row>| row.map(|(hash, content)| (hash[0], content[0])).unwrap();
        merged.map(say).collect()
    }

    #[test]
    fn all_come_in_order_and_of_one_key_what_is_newest() {
        let merged = Merged::of([place(&[1, 3, 5], 1), place(&[], 2), place(&[2, 3, 6], 3)]);
        assert_eq!(said(merged), [(1, 1), (2, 3), (3, 3), (5, 1), (6, 3)]);
    }
}
