//! Calls that are handed on under TLS: certificates are checked, and when one is not good there is no call, a line in the
//! log, and a remark in readiness. Nothing goes over the wire that could be read on it.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test that can not go on says so at once"
)]

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use tempfile::TempDir;
use tertulia_kit::instances::postgres;
use tertulia_tests::many::{NODE_KEY, PEPPER};
use tertulia_tests::node::{Process, Start};
use tertulia_tests::wire::{Person, path, request};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(60);
const USERS: &str = "tertulia.users.v1.UsersService";

/// An authority that makes certificates, by openssl.
struct Authority {
    folder: TempDir,
}

/// Certificates are good for all of this time when they are not of the past.
const GOOD: [&str; 2] = ["20200101000000Z", "20490101000000Z"];
const PAST: [&str; 2] = ["20200101000000Z", "20210101000000Z"];

impl Authority {
    fn new(name: &str) -> Authority {
        let folder = tempfile::tempdir().unwrap();
        let own = "[ca]\ndefault_ca = own\n[own]\ndatabase = index\nserial = serial\nnew_certs_dir = .\n\
                   default_md = sha256\npolicy = any\ncopy_extensions = copy\n[any]\ncommonName = supplied\n\
                   [req]\ndistinguished_name = name\nprompt = no\n[name]\nCN = nobody\n";
        fs::write(folder.path().join("own.cnf"), own).unwrap();
        fs::write(folder.path().join("index"), "").unwrap();
        fs::write(folder.path().join("serial"), "01").unwrap();
        let authority = Authority { folder };
        authority.openssl(&format!(
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -config own.cnf \
             -addext basicConstraints=critical,CA:TRUE -keyout own.key -out own.pem -subj /CN={name}"
        ));
        authority
    }

    fn openssl(&self, words: &str) {
        let mut openssl = Command::new("openssl");
        openssl
            .args(words.split_whitespace())
            .current_dir(self.folder.path());
        let done = openssl.output().unwrap();
        let said = String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success(), "openssl {words}:\n{said}");
    }

    /// What those are told who shall trust it.
    fn certificate(&self) -> PathBuf {
        self.folder.path().join("own.pem")
    }

    /// Speaks TLS as a host of this name, with a certificate for this time.
    fn host(&self, name: &str, [from, to]: [&str; 2]) -> TlsAcceptor {
        self.openssl(&format!(
            "req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -config own.cnf -subj /CN={name} \
             -addext subjectAltName=DNS:{name} -keyout host.key -out host.csr"
        ));
        self.openssl(&format!(
            "ca -batch -notext -config own.cnf -cert own.pem -keyfile own.key -in host.csr -out host.pem \
             -startdate {from} -enddate {to}"
        ));
        let of = |file: &str| self.folder.path().join(file);
        let certificate = CertificateDer::from_pem_file(of("host.pem")).unwrap();
        let key = PrivateKeyDer::from_pem_file(of("host.key")).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .unwrap();
        config.alpn_protocols = vec![b"h2".to_vec()];
        Arc::new(config).into()
    }
}

/// In front of a node: what comes under TLS is passed on without. Keeps what came over the wire.
struct Front {
    address: SocketAddr,
    came: Arc<Mutex<Vec<u8>>>,
}

impl Front {
    /// With nothing to speak TLS by it passes on what comes, as it is.
    async fn open(node: &Process, tls: Option<TlsAcceptor>) -> Front {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let came: Arc<Mutex<Vec<u8>>> = Arc::default();
        let (seen, node) = (Arc::clone(&came), node.address().to_owned());
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(pass(client, node.clone(), tls.clone(), Arc::clone(&seen)));
            }
        });
        Front { address, came }
    }

    /// The same port by the name that certificates are for.
    fn place(&self) -> String {
        format!("https://localhost:{}", self.address.port())
    }
}

/// Over a pair of streams in memory, of which one end sees what is on the wire.
async fn pass(
    client: TcpStream,
    node: String,
    tls: Option<TlsAcceptor>,
    seen: Arc<Mutex<Vec<u8>>>,
) {
    let Ok(mut node) = TcpStream::connect(node).await else {
        return;
    };
    let (near, far) = tokio::io::duplex(64 * 1024);
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_near, mut to_near) = tokio::io::split(near);
    tokio::spawn(async move {
        let mut bytes = vec![0; 16 * 1024];
        while let Ok(read @ 1..) = from_client.read(&mut bytes).await {
            seen.lock().extend_from_slice(&bytes[..read]);
            if to_near.write_all(&bytes[..read]).await.is_err() {
                return;
            }
        }
        _ = to_near.shutdown().await;
    });
    tokio::spawn(async move { tokio::io::copy(&mut from_near, &mut to_client).await });
    let mut far = far;
    match tls {
        None => _ = copy_bidirectional(&mut far, &mut node).await,
        Some(tls) => {
            if let Ok(mut under_tls) = tls.accept(far).await {
                _ = copy_bidirectional(&mut under_tls, &mut node).await;
            }
        }
    }
}

/// A node that does what is about users, and what all nodes have.
struct Ground {
    folder: TempDir,
    env: Vec<(String, String)>,
    service: Process,
    _database: postgres::Instance,
}

impl Ground {
    async fn new() -> Ground {
        let database = postgres::Instance::start();
        let folder = tempfile::tempdir().unwrap();
        let secrets = [
            ("STORE__URL", database.url()),
            ("BUS__NODE_KEY", NODE_KEY.to_owned()),
            ("IDENTITY__PEPPER", PEPPER.to_owned()),
        ];
        let env = secrets
            .map(|(name, value)| (format!("TERTULIA_{name}"), value))
            .to_vec();
        let start = Start {
            settings: &[("roles", "api")],
            env: &env,
            ..Start::default()
        };
        let service = Process::start(&folder.path().join("service"), start)
            .await
            .unwrap();
        Ground {
            folder,
            env,
            service,
            _database: database,
        }
    }

    /// A node that hands on what is about users to a place, trusts these authorities, and logs into a file.
    async fn edge(&self, name: &str, place: &str, trusted: &Path) -> (Process, PathBuf) {
        let mut env = self.env.clone();
        env.push(("SSL_CERT_FILE".into(), trusted.display().to_string()));
        let log = self.folder.path().join(format!("{name}.log"));
        let elsewhere = format!("{USERS} {place}");
        let start = Start {
            settings: &[("roles", "edge"), ("elsewhere", &elsewhere)],
            env: &env,
            log: Some(&log),
            ..Start::default()
        };
        let edge = Process::start(&self.folder.path().join(name), start)
            .await
            .unwrap();
        (edge, log)
    }
}

/// What readiness says of those to whom calls are handed on; nothing is no problem.
async fn problem(url: &str) -> Value {
    let answer = request("GET", &format!("{url}/readyz?verbose"), &[], "").await;
    assert_eq!(answer.status, 200, "it is ready for what it does itself");
    let report = answer.json();
    let checks = report["checks"].as_array().unwrap();
    let check = checks.iter().find(|check| check["name"] == "elsewhere");
    check.expect("it is remarked")["problem"].clone()
}

/// Waits until a log has these words.
async fn logged(log: &Path, words: &str) {
    let logged = async {
        while !fs::read_to_string(log).unwrap().contains(words) {
            tokio::task::yield_now().await;
        }
    };
    let logged = tokio::time::timeout(PATIENCE, logged).await;
    logged.unwrap_or_else(|_| panic!("no {words:?} in {}", fs::read_to_string(log).unwrap()));
}

/// Whether these bytes are somewhere in those.
fn has(bytes: &[u8], words: &str) -> bool {
    bytes
        .windows(words.len())
        .any(|window| window == words.as_bytes())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_tls_calls_go_to_who_can_show_a_good_certificate_and_nobody_reads_along() {
    let (ground, authority) = (Ground::new().await, Authority::new("ours"));
    let host = authority.host("localhost", GOOD);
    let front = Front::open(&ground.service, Some(host)).await;
    let (edge, _) = ground
        .edge("edge", &front.place(), &authority.certificate())
        .await;
    let ann = Person::sign_up(&edge.url, "ann").await;
    let me = ann.ok(&edge.url, "GetMe", json!({})).await;
    assert_eq!(me["user"]["name"], "ann");
    assert_eq!(problem(&edge.url).await, Value::Null);
    let came = front.came.lock().clone();
    assert_eq!(came[0], 0x16, "a handshake of TLS comes first");
    for words in ["PRI * HTTP/2.0", path("GetMe"), &ann.user_id, "/calls"] {
        assert!(!has(&came, words), "{words} can be read on the wire");
    }
}

/// Hands calls on to a host that shows this, and finds that none gets there, for that reason.
async fn is_refused(
    ground: &Ground,
    name: &str,
    tls: Option<TlsAcceptor>,
    trusted: &Path,
    why: &str,
) {
    let front = Front::open(&ground.service, tls).await;
    let (edge, log) = ground.edge(name, &front.place(), trusted).await;
    let ann = Person::sign_up(&edge.url, &format!("ann-{name}")).await;
    for _ in 0..3 {
        let reason = ann.refused(&edge.url, "GetMe", json!({})).await;
        assert_eq!(reason, "OVERLOADED", "{name}");
    }
    let problem = problem(&edge.url).await;
    let problem = problem.as_str().unwrap_or_default();
    assert!(
        problem.starts_with("1 of 1 nodes") && problem.ends_with(why),
        "{name}: {problem}"
    );
    logged(&log, why).await;
    assert!(
        fs::read_to_string(&log).unwrap().contains("localhost"),
        "{name}: whom"
    );
    let came = front.came.lock().clone();
    for words in ["PRI * HTTP/2.0", path("GetMe"), &ann.user_id, "/calls"] {
        assert!(!has(&came, words), "{name}: {words} was sent all the same");
    }
    assert!(edge.terminate().await.unwrap().success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_shows_no_good_certificate_gets_no_calls_and_the_operator_is_told_why() {
    let ground = Ground::new().await;
    let (authority, other) = (Authority::new("ours"), Authority::new("theirs"));
    let trusted = authority.certificate();
    let elsewhere = authority.host("elsewhere.example", GOOD);
    let why = "its certificate is for another name";
    is_refused(&ground, "name", Some(elsewhere), &trusted, why).await;
    let foreign = other.host("localhost", GOOD);
    let why = "its certificate is of an authority that this system does not trust";
    is_refused(&ground, "authority", Some(foreign), &trusted, why).await;
    let old = authority.host("localhost", PAST);
    is_refused(
        &ground,
        "time",
        Some(old),
        &trusted,
        "its certificate has expired",
    )
    .await;
    // A node itself speaks without TLS: the port of one is not taken for a place under it.
    let why = "it does not speak TLS as it should";
    is_refused(&ground, "plain", None, &trusted, why).await;
}
