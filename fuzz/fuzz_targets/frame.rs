//! Any bytes as a frame of a client, in both forms, and as a message of the bus.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tertulia_api::live::feed::Told;
use tertulia_api::live::frames::{Format, decode};
use tertulia_kit::bus::Payload as _;

fuzz_target!(|bytes: &[u8]| {
    _ = decode(Format::Proto, bytes);
    _ = decode(Format::Json, bytes);
    _ = Told::decode(bytes);
});
