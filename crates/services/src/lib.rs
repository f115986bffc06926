//! What Tertulia does, one room for each service, in reading order.
//!
//! A room always looks the same: the face (what it offers), `model` (its nouns), `ports` (what it needs,
//! each with its specification), the rules, `memory` (the plain adapter) and `suite` (the proof that an
//! adapter keeps its port's word). There is no driver and no wire type here.

pub mod errors;
pub mod ids;

pub mod access;
pub mod chats;
pub mod feed;
pub mod identity;
pub mod presence;
pub mod users;

mod links;
