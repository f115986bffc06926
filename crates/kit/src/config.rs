//! One typed tree from four places: defaults, then a TOML file, then the environment, then flags; a later
//! place wins.
//!
//! A [`Schema`] is a table with one [`Field`] per key. From it values are checked, all problems at once,
//! and from it the template, the list of environment variables and the reference are printed; so no key
//! can be read that is not documented. The typed tree itself is filled by serde.
//!
//! In the environment the key `live.heartbeat_ms` is `TERTULIA_LIVE__HEARTBEAT_MS`. A secret may also be
//! given as a file that holds it: `TERTULIA_IDENTITY__PEPPER_FILE`. Secrets are shown nowhere.

mod load;
mod render;
mod schema;

pub use load::{Loaded, Origin, Problem, Problems, Sources, load};
pub use render::{env, reference_markdown, show, template};
pub use schema::{Check, Field, Preset, Schema, Shape, Value};

#[cfg(test)]
mod tests;
