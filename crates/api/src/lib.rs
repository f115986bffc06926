//! How Tertulia is reached. A transport is an adapter that feeds the [`gate`]; no handler knows which one
//! called.
//!
//! ```text
//!   HTTP: Connect, gRPC, gRPC-Web ──┐
//!   live: WebSocket, gRPC stream ───┼─> gate ─> rpc handlers ─> services
//!   NATS, HTTP/2: other nodes ──────┤
//!   in process ─────────────────────┘
//! ```

pub mod error;

pub mod call;
pub mod control;
pub mod convert;
pub mod elsewhere;
pub mod feed;
pub mod gate;
pub mod http;
pub mod live;
pub mod nats;
pub mod rpc;
