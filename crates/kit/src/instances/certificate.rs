//! A certificate of one test, by openssl: for the name `localhost`, and its own authority.

#![allow(
    clippy::unwrap_used,
    reason = "a test that has no certificate can not go on"
)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What openssl makes a certificate of.
const CERTIFICATE: &str = "\
[req]
distinguished_name = name
x509_extensions = own
prompt = no
[name]
CN = localhost
[own]
subjectAltName = DNS:localhost
basicConstraints = critical,CA:FALSE
";

/// Where they are.
pub struct Made {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

/// Makes a certificate and its key in a folder, with an `openssl` that is run as whoever needs them.
pub fn make(mut openssl: Command, folder: &Path) -> Made {
    let config = folder.join("certificate.cnf");
    fs::write(&config, CERTIFICATE).unwrap();
    let made = Made {
        certificate: folder.join("certificate.pem"),
        key: folder.join("key.pem"),
    };
    openssl.args(["req", "-x509", "-newkey", "ec", "-nodes", "-days", "2"]);
    openssl.args(["-pkeyopt", "ec_paramgen_curve:prime256v1"]);
    openssl.arg("-config").arg(&config);
    openssl.arg("-keyout").arg(&made.key);
    openssl.arg("-out").arg(&made.certificate);
    let done = openssl.output().unwrap();
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "openssl failed:\n{said}");
    made
}
