//! How the configuration says what is done elsewhere, and where: a service, and behind it the places.
//!
//! | Written | Reached |
//! |---|---|
//! | `tertulia.users.v1.UsersService` | over NATS, which finds the nodes |
//! | `tertulia.users.v1.UsersService http://a:8080 http://b:8080` | over HTTP/2, at these |
//! | `tertulia.users.v1.UsersService dns+http://users.internal:8080` | over HTTP/2, at every address of the name |

use std::str::FromStr;

use serde::Deserialize;
use tertulia_kit::discovery::Host;

use super::{NotElsewhere, may_be_elsewhere};

/// A service that other nodes do.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct HandedOn {
    /// Its name.
    pub service: String,
    /// Where they are.
    pub at: At,
}

/// Where nodes are.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum At {
    /// NATS knows.
    Nats,
    /// Here.
    These(Vec<Host>),
    /// At every address that the name of this host has now.
    Name(Host),
}

impl At {
    /// Whether calls go there under TLS.
    pub fn is_under_tls(&self) -> bool {
        match self {
            At::Nats => false,
            At::These(hosts) => hosts.iter().any(|host| host.tls),
            At::Name(host) => host.tls,
        }
    }
}

impl FromStr for HandedOn {
    type Err = NotElsewhere;

    fn from_str(text: &str) -> Result<HandedOn, NotElsewhere> {
        let mut words = text.split_whitespace();
        let service = words.next().unwrap_or_default();
        may_be_elsewhere(service)?;
        let places: Vec<&str> = words.collect();
        Ok(HandedOn {
            service: service.to_owned(),
            at: at(&places)?,
        })
    }
}

fn at(places: &[&str]) -> Result<At, NotElsewhere> {
    let host = |text: &str| {
        let parsed: Result<Host, _> = text.parse();
        parsed.map_err(|_| NotElsewhere::NoPlace(text.into()))
    };
    match places {
        [] | ["nats"] => Ok(At::Nats),
        [only] if only.starts_with("dns+") => Ok(At::Name(host(only.trim_start_matches("dns+"))?)),
        all => Ok(At::These(
            all.iter()
                .map(|text| host(text))
                .collect::<Result<_, _>>()?,
        )),
    }
}

impl TryFrom<String> for HandedOn {
    type Error = NotElsewhere;

    fn try_from(text: String) -> Result<HandedOn, NotElsewhere> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const USERS: &str = "tertulia.users.v1.UsersService";

    fn read(places: &str) -> Result<At, NotElsewhere> {
        let handed_on: HandedOn = format!("{USERS} {places}").parse()?;
        assert_eq!(handed_on.service, USERS);
        Ok(handed_on.at)
    }

    #[test]
    fn places_stand_behind_the_service() {
        let host = |text: &str| text.parse::<Host>().unwrap();
        assert_eq!(read(""), Ok(At::Nats));
        assert_eq!(read("nats"), Ok(At::Nats));
        let two = vec![host("http://a:1"), host("https://b:2")];
        assert_eq!(read("http://a:1  https://b:2"), Ok(At::These(two)));
        let name = At::Name(host("https://users.internal:443"));
        assert_eq!(read("dns+https://users.internal:443"), Ok(name));
    }

    #[test]
    fn what_is_no_place_is_told() {
        for places in [
            "a:8080",
            "nats http://a:1",
            "http://a:1 dns+http://b:1",
            "dns+nats",
            "registry",
        ] {
            let refused = read(places);
            assert!(matches!(refused, Err(NotElsewhere::NoPlace(_))), "{places}");
        }
    }
}
