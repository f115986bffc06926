//! Any bytes as a frame of a client, in both forms, and as a message of the bus. What the bus brought is written
//! for a client, too, as a session would.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tertulia_api::live::frames::{Format, decode};
use tertulia_api::live::told::Told;
use tertulia_kit::bus::Payload as _;

fuzz_target!(|bytes: &[u8]| {
    _ = decode(Format::Proto, bytes);
    _ = decode(Format::Json, bytes);
    if let Ok(Told::Frame(frame) | Told::Many(frame, _)) = Told::decode(bytes) {
        _ = frame.json();
    }
});
