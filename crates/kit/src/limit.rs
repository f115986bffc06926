//! Two ways to say "not now": [`Budgets`] bound how much each key may do in a time, [`Gate`] bounds how much
//! is done at once.

mod budgets;
mod gate;

pub use budgets::{Budgets, Rate};
pub use gate::{Full, Gate, Pass};
