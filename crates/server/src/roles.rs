//! What a node does. One does everything; in a deployment of several some may do less.
//!
//! | Role | What a node with it does |
//! |---|---|
//! | `edge` | serves clients: the web client, calls, live sessions |
//! | `api` | does calls that other nodes hand on, over NATS |
//! | `worker` | does what comes due by itself |

use std::fmt;
use std::str::FromStr;

use serde::Deserialize;

/// A role.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Serves clients.
    Edge,
    /// Does calls of other nodes.
    Api,
    /// Does what comes due.
    Worker,
}

const ALL: [(&str, Role); 3] = [
    ("edge", Role::Edge),
    ("api", Role::Api),
    ("worker", Role::Worker),
];

impl FromStr for Role {
    type Err = String;

    fn from_str(text: &str) -> Result<Role, String> {
        let known = ALL.iter().find(|(name, _)| *name == text);
        let role = known.map(|(_, role)| *role);
        role.ok_or_else(|| format!("must be edge, api or worker, not {text:?}"))
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = ALL.iter().find(|(_, role)| role == self);
        f.write_str(known.map_or("", |(name, _)| name))
    }
}

/// The roles of a node.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Roles(Vec<Role>);

impl Roles {
    /// The names of those that the node has, in the order of the table.
    pub fn names(&self) -> Vec<String> {
        let has = ALL.into_iter().filter(|(_, role)| self.has(*role));
        has.map(|(name, _)| name.to_owned()).collect()
    }

    /// Whether the node has it. One that was given none has all.
    pub fn has(&self, role: Role) -> bool {
        self.0.is_empty() || self.0.contains(&role)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_given_no_role_does_everything() {
        let (all, worker) = (Roles(Vec::new()), Roles(vec![Role::Worker]));
        for (name, role) in ALL {
            assert!(all.has(role));
            assert_eq!(worker.has(role), role == Role::Worker);
            assert_eq!(name.parse::<Role>().unwrap().to_string(), name);
        }
        assert_eq!(all.names(), ["edge", "api", "worker"]);
        assert_eq!(worker.names(), ["worker"]);
        assert!("edges".parse::<Role>().is_err());
    }
}
