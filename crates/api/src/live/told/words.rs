//! What is said of who is there, as bytes.

use tertulia_services::ids::UserId;
use tertulia_services::presence::{Holding, Run, Word};

const HELD: u8 = 1;
const ENDED: u8 = 2;
const SHARED: u8 = 3;

/// Writes it behind what is there.
pub fn write(word: &Word, bytes: &mut Vec<u8>) {
    match word {
        Word::Held { run, holdings } => {
            bytes.push(HELD);
            bytes.extend_from_slice(&run.0.to_be_bytes());
            for (user, holding) in holdings.iter() {
                bytes.extend_from_slice(&user.0.to_be_bytes());
                bytes.push(match holding {
                    Holding::Gone => 0,
                    Holding::Active => 1,
                    Holding::Idle => 2,
                    Holding::Hidden => 3,
                });
            }
        }
        Word::Ended(run) => {
            bytes.push(ENDED);
            bytes.extend_from_slice(&run.0.to_be_bytes());
        }
        Word::Shared { user, shares } => {
            bytes.push(SHARED);
            bytes.extend_from_slice(&user.0.to_be_bytes());
            bytes.push(u8::from(*shares));
        }
    }
}

/// Reads it; none when it is of no known form.
pub fn read(bytes: &[u8]) -> Option<Word> {
    let (kind, rest) = bytes.split_first()?;
    let (id, rest) = rest.split_first_chunk::<8>()?;
    let id = i64::from_be_bytes(*id);
    match (*kind, rest) {
        (HELD, holdings) => {
            let (holdings, []) = holdings.as_chunks::<9>() else {
                return None;
            };
            let holdings = holdings.iter().map(|[user @ .., holding]| {
                let holding = match holding {
                    0 => Holding::Gone,
                    1 => Holding::Active,
                    2 => Holding::Idle,
                    3 => Holding::Hidden,
                    _ => return None,
                };
                Some((UserId(i64::from_be_bytes(*user)), holding))
            });
            Some(Word::Held {
                run: Run(id),
                holdings: holdings.collect::<Option<_>>()?,
            })
        }
        (ENDED, []) => Some(Word::Ended(Run(id))),
        (SHARED, [shares @ 0..=1]) => Some(Word::Shared {
            user: UserId(id),
            shares: *shares == 1,
        }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_arrives_as_it_was_said() {
        let holdings = [
            (UserId(1), Holding::Gone),
            (UserId(-2), Holding::Active),
            (UserId(i64::MAX), Holding::Idle),
            (UserId(4), Holding::Hidden),
        ];
        for word in [
            Word::Held {
                run: Run(9),
                holdings: holdings.into(),
            },
            Word::Held {
                run: Run(i64::MAX),
                holdings: [].into(),
            },
            Word::Ended(Run(3)),
            Word::Shared {
                user: UserId(5),
                shares: false,
            },
            Word::Shared {
                user: UserId(5),
                shares: true,
            },
        ] {
            let mut bytes = Vec::new();
            write(&word, &mut bytes);
            assert_eq!(read(&bytes), Some(word));
            bytes.push(7);
            assert_eq!(read(&bytes), None, "there is something behind it");
        }
    }

    #[test]
    fn what_is_of_no_known_form_is_not_read() {
        for bytes in [&b""[..], b"\x01", b"\x09\0\0\0\0\0\0\0\x01"] {
            assert_eq!(read(bytes), None);
        }
        let holding = [&[HELD][..], &[0; 16], &[4]].concat();
        assert_eq!(read(&holding), None);
    }
}
