//! An event of the feed as it leaves the deployment: the same line of JSON for whoever follows and in a stream.

use serde_json::json;
use tertulia_services::feed::Entry;

use crate::convert;

/// Its place and what happened. A message is as it is now.
pub fn line(entry: &Entry) -> Vec<u8> {
    let event = convert::live_event(&entry.event);
    json!({"place": entry.place.0.to_string(), "event": event})
        .to_string()
        .into()
}
