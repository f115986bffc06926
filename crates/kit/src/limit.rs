//! Two ways to say "not now": [`Budgets`] bound how much each key may do in a time, [`Gate`] bounds how much
//! is done at once.
//!
//! A budget is counted on each node by itself. With a [`Ledger`] the nodes tell it what was spent, and learn from it
//! what was spent elsewhere.

mod budgets;
mod gate;
mod ledger;

pub use budgets::{Budgets, Rate};
pub use gate::{Full, Gate, Pass};
pub use ledger::{Away, Charge, Ledger, Level, Memory};

#[cfg(any(test, feature = "suites"))]
pub mod suite;
