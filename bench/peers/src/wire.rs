//! What a protocol must do to carry the load: say a text, and hear acknowledgements and deliveries.

pub mod tcp;
pub mod ws;

use anyhow::Result;

use crate::load::text::Stamp;

/// Who sits at a connection: pairs are 0 and 1, 2 and 3, and so on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seat(pub usize);

impl Seat {
    /// Who sits opposite.
    pub fn other(self) -> Seat {
        Seat(self.0 ^ 1)
    }

    /// Which pair it is.
    pub fn pair(self) -> usize {
        self.0 / 2
    }
}

/// Something that the server said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// The server has taken over this message of ours.
    Ack(u64),
    /// A message of the other end came.
    Delivery(Stamp),
}

/// One end of a pair, connected.
pub trait Wire: 'static {
    /// Puts our message of this number behind those that wait to be written. Numbers begin at 0 and go up by one.
    fn send(&mut self, number: u64, text: &str);

    /// Writes what waits.
    ///
    /// # Errors
    /// When the connection is gone.
    async fn flush(&mut self) -> Result<()>;

    /// Waits until something has come and adds all that came with it to `heard`, which may be nothing that counts.
    /// Nothing is lost when it is cancelled.
    ///
    /// # Errors
    /// When the connection is gone, or the server refuses something.
    async fn next(&mut self, heard: &mut Vec<Event>) -> Result<()>;

    /// Takes leave.
    ///
    /// # Errors
    /// When the server could not be told.
    async fn close(self) -> Result<()>;
}
