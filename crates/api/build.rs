//! Says where the built web client is, and builds again when it changes.

fn main() {
    let dist = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../web/dist");
    println!("cargo:rustc-env=TERTULIA_WEB_DIST={}", dist.display());
    println!("cargo:rerun-if-changed={}", dist.display());
}
