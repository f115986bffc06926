//! The web client, served out of the binary.

use axum::body::Body;
use axum::response::{IntoResponse as _, Response};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use rust_embed::RustEmbed;
use tertulia_services::errors;

use crate::error;
use crate::gate::context_from;

#[derive(RustEmbed)]
#[folder = "$TERTULIA_WEB_DIST"]
#[allow_missing = true]
struct Files;

/// Only our own scripts, styles and connections.
const POLICY: &str = "default-src 'self'; img-src 'self' data: blob:; \
                      connect-src 'self' ws: wss:; object-src 'none'; base-uri 'none'; form-action 'self'; \
                      frame-ancestors 'none'";

/// A file of the client; its first page for the addresses that the client itself understands.
pub async fn serve(method: Method, uri: Uri, headers: HeaderMap) -> Response {
    let path = uri.path().trim_start_matches('/');
    if method != Method::GET && method != Method::HEAD {
        return unknown(&headers);
    }
    let wants_page = headers
        .get(header::ACCEPT)
        .and_then(|v| v.to_str().ok())
        .is_some_and(|accept| accept.contains("text/html"));
    if let Some(file) = Files::get(path) {
        return respond(path, file, &headers);
    }
    match Files::get("index.html") {
        Some(page) if path.is_empty() || (wants_page && !path.contains('.')) => {
            respond("index.html", page, &headers)
        }
        None if path.is_empty() => NOT_BUILT.into_response(),
        _ => unknown(&headers),
    }
}

const NOT_BUILT: &str =
    "This binary was built without the web client. `make web` builds it, then build again.\n";

fn respond(path: &str, file: rust_embed::EmbeddedFile, asked: &HeaderMap) -> Response {
    let hash = file.metadata.sha256_hash();
    let tag: String = hash.iter().take(16).map(|b| format!("{b:02x}")).collect();
    let tag = format!("\"{tag}\"");
    let known = asked
        .get(header::IF_NONE_MATCH)
        .is_some_and(|t| t.as_bytes() == tag.as_bytes());
    let mut response = match known {
        true => StatusCode::NOT_MODIFIED.into_response(),
        false => Body::from(file.data.into_owned()).into_response(),
    };
    // Names of built files carry a hash of their content; the page that names them does not.
    let keep = match path.starts_with("assets/") {
        true => "public, max-age=31536000, immutable",
        false => "no-cache",
    };
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(keep));
    headers.insert(
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static(POLICY),
    );
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static(content_type(path)),
    );
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        headers.insert(header::ETAG, tag);
    }
    response
}

fn content_type(path: &str) -> &'static str {
    match path.rsplit_once('.').map(|(_, ending)| ending) {
        Some("html") => "text/html; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("svg") => "image/svg+xml",
        Some("png") => "image/png",
        Some("ico") => "image/x-icon",
        Some("json" | "map") => "application/json",
        Some("webmanifest") => "application/manifest+json",
        Some("woff2") => "font/woff2",
        Some("txt") => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}

fn unknown(headers: &HeaderMap) -> Response {
    let context = context_from(headers);
    error::respond(&errors::no_such_route(), context.request_id.as_str())
}
