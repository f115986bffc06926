//! Any bytes as what a client sends over a WebSocket, cut in two anywhere: it never panics, ends, and the cut changes
//! nothing.

#![no_main]

use std::pin::pin;
use std::task::{Context, Poll, Waker};

use libfuzzer_sys::fuzz_target;
use tertulia_api::live::websocket::{Received, WebSocket};
use tokio::io::{AsyncRead, AsyncReadExt as _, join, sink};

/// How large a message may be.
const MESSAGE_BYTES_MAX: usize = 4_096;

/// Everything that is heard, and how it ends.
fn heard(input: impl AsyncRead + Unpin, came: &[u8]) -> (Vec<Vec<u8>>, String) {
    let mut socket = WebSocket::new(join(input, sink()), came.to_vec(), MESSAGE_BYTES_MAX);
    let mut messages = Vec::new();
    loop {
        let receiving = pin!(socket.receive(|_, bytes| bytes.to_vec()));
        // All of it is there at once.
        match receiving.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Received::Message(message)) => messages.push(message),
            Poll::Ready(Received::Sign) => {}
            Poll::Ready(end) => return (messages, format!("{end:?}")),
            Poll::Pending => panic!("it waits for what will not come"),
        }
    }
}

fuzz_target!(|bytes: &[u8]| {
    let Some((cut, bytes)) = bytes.split_first() else {
        return;
    };
    let (first, rest) = bytes.split_at(bytes.len() * usize::from(*cut) / 256);
    assert_eq!(heard(bytes, &[]), heard(first.chain(rest), &[]));
    assert_eq!(heard(bytes, &[]), heard(rest, first));
});
