//! The laws of the house, read off manifests, sources and pages. ARCHITECTURE.md says why each is there.
//!
//! Old sins are listed beside their law. A list may only shrink: an entry that is no longer needed fails.

#![allow(clippy::unwrap_used, reason = "all of it is tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use tertulia_proto::{CATALOGUE, METHODS};

/// Which crate may use which of ours. There is no other arrow.
const ARROWS: &[(&str, &[&str])] = &[
    ("proto", &[]),
    ("kit", &[]),
    ("services", &["kit"]),
    ("store", &["services", "kit"]),
    ("api", &["services", "kit", "proto"]),
    ("client", &["proto"]),
    ("cli", &["client", "proto"]),
    ("server", &["api", "store", "services", "kit", "cli"]),
];

/// Words of chat, which the kit does not know.
const CHAT_WORDS: &str = "\
    chat chats conversation conversations friend friends member members mention mentions \
    presence reaction reactions receipt receipts seq typing unread";

/// What looks like a chat word in the kit and is one of somebody else's protocol: (file, word as it stands there).
const FOREIGN_WORDS: &[(&str, &str)] = &[
    ("crates/kit/src/stream/nats.rs", "\"seq\""),
    ("crates/kit/src/stream/nats.rs", "\"last_seq\""),
    ("crates/kit/src/stream/consumer/nats.rs", "\"seq\""),
    (
        "crates/kit/src/stream/consumer/nats.rs",
        "\"opt_start_seq\"",
    ),
    ("crates/kit/src/stream/consumer/nats/wire.rs", "\"seq\""),
    (
        "crates/kit/src/stream/consumer/nats/wire.rs",
        "\"first_seq\"",
    ),
    (
        "crates/kit/src/stream/consumer/nats/wire.rs",
        "\"last_seq\"",
    ),
    (
        "crates/kit/src/stream/consumer/nats/wire.rs",
        "\"opt_start_seq\"",
    ),
    (
        "crates/kit/src/stream/consumer/nats/wire.rs",
        "\"consumer_seq\"",
    ),
    (
        "crates/kit/src/stream/consumer/nats/wire.rs",
        "\"stream_seq\"",
    ),
];

/// What opens a store or a wire; the rules stand without them.
const DRIVERS: &str = "\
    async-nats axum buffa buffa-types connectrpc fjall hyper lsm-tree object_store prost \
    protovalidate-buffa redis reqwest rusqlite scylla sqlx tertulia-proto tokio-postgres \
    tokio-tungstenite tonic tower tower-http";

/// What keeps data. Only the store has them.
const ENGINES: &str = "fjall lsm-tree object_store redis rusqlite scylla sqlx tokio-postgres";

/// Traits of a `ports.rs` that are not kept by an adapter, and who stands behind them instead.
const NOT_STORES: &[(&str, &str)] = &[
    ("Committed", "crates/api/src/live/feed.rs"),
    ("Company", "crates/services/src/links.rs"),
    ("LoginsEnded", "crates/api/src/live/feed.rs"),
    ("People", "crates/services/src/links.rs"),
    ("Sharing", "crates/services/src/links.rs"),
    ("Signals", "crates/api/src/live/feed.rs"),
    ("Watchers", "crates/api/src/live/watches.rs"),
];

/// Ports of the kit, with the files of their memory adapters and suites.
const PORTS_OF_THE_KIT: &[(&str, &str, &str)] = &[
    (
        "Bus",
        "crates/kit/src/bus/memory.rs",
        "crates/kit/src/bus/suite.rs",
    ),
    (
        "Discovery",
        "crates/kit/src/discovery/memory.rs",
        "crates/kit/src/discovery/suite.rs",
    ),
    (
        "Leases",
        "crates/kit/src/lease/memory.rs",
        "crates/kit/src/lease/suite.rs",
    ),
    (
        "Stream",
        "crates/kit/src/stream/memory.rs",
        "crates/kit/src/stream/suite.rs",
    ),
    (
        "Consumer",
        "crates/kit/src/stream/consumer/memory.rs",
        "crates/kit/src/stream/consumer/suite.rs",
    ),
    (
        "Ledger",
        "crates/kit/src/limit/ledger.rs",
        "crates/kit/src/limit/suite.rs",
    ),
];

/// Dependencies whose version does not stand in the workspace: (crate, dependency).
const OWN_VERSIONS: &[(&str, &str)] = &[("proto", "http-body")];

const LINES_MAX: usize = 1_200;
/// Files over `LINES_MAX`, with the length that they may not exceed.
const LONG_FILES: &[(&str, usize)] = &[];

// --- walls -------------------------------------------------------------------------------------------

#[test]
fn crates_use_each_other_only_along_the_arrows() {
    let found: BTreeSet<String> = crates().keys().cloned().collect();
    let named: BTreeSet<String> = ARROWS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(found, named, "every crate has its row in ARROWS");
    let sins: Vec<String> = crates()
        .iter()
        .flat_map(|(name, manifest)| forbidden(name, manifest))
        .collect();
    nothing(sins, "a crate uses another against the arrows");
}

fn forbidden(name: &str, manifest: &toml::Table) -> Vec<String> {
    let allowed = ARROWS
        .iter()
        .find(|(n, _)| *n == name)
        .map_or(&[][..], |(_, allowed)| allowed);
    ours(manifest)
        .into_iter()
        .filter(|used| !allowed.contains(&used.as_str()))
        .map(|used| format!("{name} -> {used}"))
        .collect()
}

#[test]
fn an_arrow_upward_is_seen_even_behind_another_name() {
    for (name, line) in [
        ("kit", "tertulia-services.workspace = true"),
        (
            "services",
            "words = { package = \"tertulia-proto\", path = \"../proto\" }",
        ),
        ("services", "store = { path = \"../store\" }"),
    ] {
        for table in [
            "dependencies",
            "dev-dependencies",
            "target.'cfg(unix)'.dependencies",
        ] {
            let manifest = format!("[{table}]\n{line}\n").parse().unwrap();
            assert_eq!(
                forbidden(name, &manifest).len(),
                1,
                "{name}: {line} in {table}"
            );
        }
    }
}

#[test]
fn the_kit_knows_no_chat_word() {
    let mut sins = Vec::new();
    for file in sources(&["crates/kit"], &["rs", "toml"]) {
        for (at, line) in file.lines() {
            // The kit says of itself that it has none.
            let line = line.replace("no chat word", "");
            let foreign = FOREIGN_WORDS.iter().filter(|(path, _)| *path == file.path);
            let line = foreign.fold(line, |line, (_, word)| line.replace(word, ""));
            let found = words(&line).into_iter().filter(|w| among(CHAT_WORDS, w));
            sins.extend(found.map(|word| format!("{}:{at}: {word}", file.path)));
        }
    }
    nothing(sins, "the kit serves any service");
}

#[test]
fn services_have_no_driver_and_no_wire_type() {
    let sins = dependencies(&crates()["services"]);
    nothing(
        sins.into_iter().filter(|d| among(DRIVERS, d)),
        "rules stand without drivers",
    );
}

#[test]
fn engines_are_only_in_store() {
    let mut sins = Vec::new();
    for (name, manifest) in crates().iter().filter(|(name, _)| *name != "store") {
        let found = dependencies(manifest)
            .into_iter()
            .filter(|d| among(ENGINES, d));
        sins.extend(found.map(|engine| format!("{name}: {engine}")));
    }
    nothing(sins, "only the store keeps data");
}

#[test]
fn sql_is_only_in_store() {
    let mut sins = Vec::new();
    for file in sources(&["crates"], &["rs", "sql"]) {
        if file.path.starts_with("crates/store/") {
            continue;
        }
        let found = file.lines().filter(|(_, line)| is_sql(line));
        sins.extend(found.map(|(at, line)| format!("{}:{at}: {}", file.path, line.trim())));
    }
    nothing(sins, "SQL stands in the store");
}

fn is_sql(line: &str) -> bool {
    let statements = [
        "INSERT INTO ",
        "DELETE FROM ",
        "CREATE TABLE ",
        "CREATE INDEX ",
        "ALTER TABLE ",
        "PRAGMA ",
    ];
    let parts = [("SELECT ", " FROM "), ("UPDATE ", " SET ")];
    statements.iter().any(|s| line.contains(s))
        || parts
            .iter()
            .any(|(a, b)| line.split_once(a).is_some_and(|(_, rest)| rest.contains(b)))
}

#[test]
fn sql_is_told_from_prose() {
    assert!(is_sql(
        "sqlx::query(\"SELECT id FROM users WHERE name = ?\")"
    ));
    assert!(is_sql("\"UPDATE logins SET ended = 1\""));
    assert!(!is_sql("/// Selects the newest from those that are there."));
}

#[test]
fn generated_types_stay_at_the_border() {
    let roots = [
        "crates/kit",
        "crates/services",
        "crates/store",
        "crates/server",
    ];
    let mut sins = Vec::new();
    for file in sources(&roots, &["rs"]) {
        let found = file
            .lines()
            .filter(|(_, line)| line.contains("tertulia_proto"));
        sins.extend(found.map(|(at, _)| format!("{}:{at}", file.path)));
    }
    nothing(sins, "only api, client and cli know the wire");
}

// --- ports -------------------------------------------------------------------------------------------

#[test]
fn every_port_has_a_memory_adapter_and_a_suite() {
    let mut sins = Vec::new();
    let mut listed: BTreeSet<&str> = NOT_STORES.iter().map(|(port, _)| *port).collect();
    for ports in sources(&["crates/services/src"], &["rs"]) {
        let Some(room) = ports.path.strip_suffix("/ports.rs") else {
            continue;
        };
        let memory = read(&format!("{room}/memory.rs"));
        let suite = read(&format!("{room}/suite.rs"));
        for port in public_traits(&ports.text) {
            if let Some((_, file)) = NOT_STORES.iter().find(|(name, _)| *name == port) {
                listed.remove(port.as_str());
                if !implements(&read(file), &port) {
                    sins.push(format!("{port} is not answered in {file}"));
                }
                continue;
            }
            if !implements(&memory, &port) {
                sins.push(format!("{port} has no adapter in {room}/memory.rs"));
            }
            if !suite.contains(port.as_str()) {
                sins.push(format!("{port} has no suite in {room}/suite.rs"));
            }
        }
    }
    for (port, memory, suite) in PORTS_OF_THE_KIT {
        let (memory, suite) = (read(memory), read(suite));
        if !implements(&memory, port) || !suite.contains(port) {
            sins.push(format!(
                "{port} of the kit has no memory adapter or no suite"
            ));
        }
    }
    sins.extend(
        listed
            .into_iter()
            .map(|port| format!("{port} is listed and no port")),
    );
    nothing(sins, "a port is said, done plainly and proved side by side");
}

#[test]
fn every_adapter_of_the_store_runs_its_suite() {
    let tests: String = sources(&["crates/store"], &["rs"])
        .into_iter()
        .map(|file| file.text)
        .collect();
    let mut sins = Vec::new();
    for suite in sources(&["crates/services/src"], &["rs"]) {
        if !suite.path.ends_with("/suite.rs") {
            continue;
        }
        let name = suite.text.split("macro_rules! ").nth(1).unwrap_or_default();
        let name = name
            .split(|c: char| !(c.is_alphanumeric() || c == '_'))
            .next();
        let name = name.unwrap_or_default();
        if name.is_empty() || !tests.contains(&format!("{name}!(")) {
            sins.push(format!(
                "nobody in crates/store runs the suite of {}",
                suite.path
            ));
        }
    }
    nothing(sins, "an adapter is what passes the suite");
}

fn public_traits(text: &str) -> Vec<String> {
    let names = text
        .lines()
        .filter_map(|line| line.strip_prefix("pub trait "));
    names
        .filter_map(|rest| rest.split(|c: char| !c.is_alphanumeric()).next())
        .map(str::to_owned)
        .collect()
}

fn implements(text: &str, port: &str) -> bool {
    let heads = text.lines().filter(|line| line.starts_with("impl"));
    heads.into_iter().any(|line| {
        line.split_once(" for ")
            .is_some_and(|(head, _)| words_as_written(head).any(|word| word == port))
    })
}

// --- contract ----------------------------------------------------------------------------------------

#[test]
fn every_method_is_in_the_table() {
    let mut methods = 0;
    for file in sources(&["proto/tertulia"], &["proto"]) {
        methods += file
            .text
            .lines()
            .filter(|line| line.trim_start().starts_with("rpc "))
            .count();
    }
    assert_eq!(
        methods,
        METHODS.len(),
        "the build makes a row of every method, or fails"
    );
}

#[test]
fn the_page_of_errors_is_that_of_the_contract() {
    generated("docs/errors/README.md", &errors_page());
}

fn errors_page() -> String {
    let mut page = String::from(
        "# Errors\n\n\
         <!-- Generated from proto/tertulia/errors/v1/errors.proto: change it there, then `make docs`. -->\n\n\
         Every failure, on every transport, is one of these. It comes as a Connect or gRPC error with the code\n\
         below and one detail of type `tertulia.errors.v1.Failure`: the reason, what to do, the request id, the\n\
         fields that are wrong, and how long to wait. Over a live session the same detail is in the `Reply`.\n\n\
         Choose by the reason, show your own words to people, and keep the request id: with it the operator\n\
         finds the call in the log. *Again* says whether the same call may succeed later without a change;\n\
         then wait for at least `retryAfterMs`, or with growing pauses when it is 0.\n\n\
         | Reason | Code | What happened | What to do | Again |\n|---|---|---|---|---|\n",
    );
    let happened = reasons();
    for entry in CATALOGUE {
        let name = format!("REASON_{}", entry.reason);
        let again = if entry.retryable { "yes" } else { "no" };
        let words = happened.get(&name).map_or("", String::as_str);
        page += &format!(
            "| `{name}` | `{}` | {words} | {} | {again} |\n",
            entry.code, entry.what_to_do
        );
    }
    page
}

/// What each reason means: the comment above it.
fn reasons() -> BTreeMap<String, String> {
    let (mut found, mut comment) = (BTreeMap::new(), Vec::new());
    for line in read("proto/tertulia/errors/v1/errors.proto")
        .lines()
        .map(str::trim)
    {
        if let Some(words) = line.strip_prefix("// ") {
            comment.push(words.to_owned());
            continue;
        }
        if let Some((name, _)) = line
            .split_once(" = ")
            .filter(|(name, _)| name.starts_with("REASON_"))
        {
            found.insert(name.to_owned(), comment.join(" "));
        }
        comment.clear();
    }
    found
}

#[test]
fn the_page_of_close_codes_is_that_of_the_server() {
    let of_code: BTreeSet<(String, String, bool)> = read("crates/api/src/live/close.rs")
        .lines()
        .filter_map(|line| {
            let (code, rest) = line.trim().split_once(" = ")?.1.split_once(" \"")?;
            let (reason, rest) = rest.split_once("\" ")?;
            Some((
                code.to_owned(),
                reason.to_owned(),
                rest.trim_end_matches(';').parse().ok()?,
            ))
        })
        .collect();
    let of_page: BTreeSet<(String, String, bool)> = read("docs/protocol/live.md")
        .lines()
        .filter_map(|line| {
            let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
            let code = cells
                .first()
                .filter(|code| code.starts_with('4') && code.len() == 4)?;
            let come_back = cells.get(2)?.starts_with("yes");
            Some((
                (*code).to_owned(),
                cells.get(1)?.trim_matches('`').to_owned(),
                come_back,
            ))
        })
        .collect();
    assert!(!of_code.is_empty(), "the table of the server is not found");
    assert_eq!(of_code, of_page);
}

// --- code --------------------------------------------------------------------------------------------

#[test]
fn nothing_is_unsafe() {
    let workspace = manifest("Cargo.toml");
    let level = workspace["workspace"]["lints"]["rust"]["unsafe_code"].as_str();
    assert_eq!(level, Some("forbid"), "the workspace forbids unsafe code");
    let mut manifests: Vec<String> = crates()
        .keys()
        .map(|name| format!("crates/{name}/Cargo.toml"))
        .collect();
    manifests.push("tests/Cargo.toml".into());
    manifests.retain(|path| {
        let lints = manifest(path)
            .get("lints")
            .and_then(|l| l.get("workspace")?.as_bool());
        lints != Some(true)
    });
    nothing(manifests, "every crate takes the lints of the workspace");
}

#[test]
fn versions_stand_in_the_workspace() {
    let mut own = BTreeSet::new();
    for (name, manifest) in crates() {
        for (dependency, value) in tables(&manifest).into_iter().flatten() {
            if value.as_str().is_some() || value.get("version").is_some() {
                own.insert((name.clone(), dependency));
            }
        }
    }
    let listed = OWN_VERSIONS
        .iter()
        .map(|(name, dependency)| ((*name).to_owned(), (*dependency).to_owned()));
    assert_eq!(
        own,
        listed.collect(),
        "left: what has a version of its own; right: what may"
    );
}

#[test]
fn everything_that_waits_has_a_bound() {
    let unbounded = [
        "unbounded_channel",
        "unbounded()",
        "::unbounded",
        "mpsc::channel()",
    ];
    let mut sins = Vec::new();
    for file in sources(&["crates"], &["rs"]) {
        // A test may wait for as much as it asked for.
        if file.path.contains("/tests/") || file.path.ends_with("/tests.rs") {
            continue;
        }
        for (at, line) in file.lines() {
            if unbounded.iter().any(|word| line.contains(word)) {
                sins.push(format!("{}:{at}: {}", file.path, line.trim()));
            }
        }
    }
    nothing(sins, "a queue has a bound, and says what full means");
}

#[test]
fn what_is_left_to_do_has_an_issue() {
    let marks = [
        concat!("TO", "DO"),
        concat!("FIX", "ME"),
        concat!("XX", "X"),
    ];
    let mut sins = Vec::new();
    for file in everything() {
        for (at, line) in file.lines() {
            for mark in marks {
                let numbered = line
                    .split_once(&format!("{mark}(#"))
                    .and_then(|(_, rest)| rest.split_once(')'))
                    .is_some_and(|(n, _)| n.parse::<u32>().is_ok());
                if words_as_written(line).any(|word| word == mark) && !numbered {
                    sins.push(format!("{}:{at}: {}", file.path, line.trim()));
                }
            }
        }
    }
    nothing(sins, &format!("write {}(#issue)", marks[0]));
}

#[test]
fn files_are_short_enough_to_be_one_noun() {
    let mut sins = Vec::new();
    let mut long = BTreeSet::new();
    for file in everything() {
        let lines = file.text.lines().count();
        if lines <= LINES_MAX {
            continue;
        }
        long.insert(file.path.clone());
        match LONG_FILES.iter().find(|(path, _)| *path == file.path) {
            Some((_, most)) if lines <= *most => {}
            _ => sins.push(format!("{} has {lines} lines", file.path)),
        }
    }
    let stale = LONG_FILES.iter().filter(|(path, _)| !long.contains(*path));
    sins.extend(stale.map(|(path, _)| format!("{path} is short now: take it off the list")));
    nothing(sins, "split it where a name would teach");
}

// --- pages -------------------------------------------------------------------------------------------

#[test]
fn decisions_are_numbered_and_have_their_parts() {
    let mut names: Vec<String> = fs::read_dir(root().join("docs/adr"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name != "README.md")
        .collect();
    names.sort();
    let index = read("docs/adr/README.md");
    let mut sins = Vec::new();
    for (at, name) in names.iter().enumerate() {
        let number = format!("{:04}", at + 1);
        let text = read(&format!("docs/adr/{name}"));
        if !name.starts_with(&format!("{number}-")) {
            sins.push(format!("{name} should be number {number}"));
        }
        for part in [
            &format!("# {number}. "),
            "\n## Context\n",
            "\n## Decision\n",
            "\n## Consequences\n",
        ] {
            if !text.contains(part) {
                sins.push(format!("{name} has no part {:?}", part.trim()));
            }
        }
        if !index.contains(&format!("({name})")) {
            sins.push(format!("{name} is not in docs/adr/README.md"));
        }
    }
    nothing(sins, "decisions are found by their number");
}

#[test]
fn what_pages_name_is_there() {
    let mut sins = Vec::new();
    for page in everything()
        .into_iter()
        .filter(|file| file.path.ends_with(".md"))
    {
        let folder = Path::new(&page.path).parent().unwrap_or(Path::new(""));
        for (at, line) in page.lines() {
            for link in links(line) {
                if !root().join(folder).join(&link).exists() {
                    sins.push(format!("{}:{at}: {link}", page.path));
                }
            }
            for path in named_paths(line) {
                if !root().join(&path).exists() {
                    sins.push(format!("{}:{at}: {path}", page.path));
                }
            }
        }
    }
    nothing(sins, "a page names a file that is not there");
}

/// Targets of relative Markdown links, without their anchors.
fn links(line: &str) -> Vec<String> {
    let targets = line
        .split("](")
        .skip(1)
        .filter_map(|rest| rest.split(')').next());
    targets
        .map(|target| target.split('#').next().unwrap_or(target))
        .filter(|target| {
            !target.is_empty() && !target.contains("://") && !target.starts_with("mailto:")
        })
        .map(str::to_owned)
        .collect()
}

/// Paths in backquotes that begin at a folder of ours. Patterns and placeholders are no paths.
fn named_paths(line: &str) -> Vec<String> {
    let quoted = line.split('`').skip(1).step_by(2);
    let folders = [
        "crates/", "proto/", "tests/", "docs/", "scripts/", "web/src/", "web/e2e/",
    ];
    quoted
        .filter(|text| folders.iter().any(|folder| text.starts_with(folder)))
        .filter(|text| !text.contains(|c: char| c.is_whitespace() || "*{}<>…:".contains(c)))
        .map(str::to_owned)
        .collect()
}

#[test]
fn pages_are_searched_for_links_and_paths() {
    let line = "see [the map](ARCHITECTURE.md#map), [x](https://x.example) and `crates/kit` or `crates/*/x`";
    assert_eq!(links(line), ["ARCHITECTURE.md"]);
    assert_eq!(named_paths(line), ["crates/kit"]);
}

#[test]
fn every_verb_of_the_makefile_is_explained() {
    let makefile = read("Makefile");
    let mut sins = Vec::new();
    for line in makefile
        .lines()
        .filter_map(|line| line.strip_prefix(".PHONY:"))
    {
        for verb in line.split_whitespace().filter(|word| *word != "\\") {
            let explained = makefile
                .lines()
                .any(|l| l.starts_with(&format!("{verb}:")) && l.contains(" ## "));
            if !explained {
                sins.push(verb.to_owned());
            }
        }
    }
    nothing(sins, "`make help` lists every verb");
}

// --- reading -----------------------------------------------------------------------------------------

/// A source file.
struct Source {
    path: String,
    text: String,
}

impl Source {
    fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text
            .lines()
            .enumerate()
            .map(|(at, line)| (at + 1, line))
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .to_path_buf()
}

/// A file's text; empty when there is none.
fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_default()
}

fn manifest(path: &str) -> toml::Table {
    read(path).parse().unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// The manifests of our crates, by folder.
fn crates() -> BTreeMap<String, toml::Table> {
    let folders = fs::read_dir(root().join("crates"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name());
    let names = folders.map(|name| name.into_string().unwrap());
    names
        .map(|name| (name.clone(), manifest(&format!("crates/{name}/Cargo.toml"))))
        .collect()
}

/// All tables of dependencies, those of targets among them.
fn tables(manifest: &toml::Table) -> Vec<toml::Table> {
    let kinds = ["dependencies", "dev-dependencies", "build-dependencies"];
    let of = |table: &toml::Table| -> Vec<toml::Table> {
        kinds
            .iter()
            .filter_map(|kind| table.get(*kind)?.as_table().cloned())
            .collect()
    };
    let mut found = of(manifest);
    let targets = manifest.get("target").and_then(toml::Value::as_table);
    found.extend(
        targets
            .into_iter()
            .flat_map(|t| t.values())
            .filter_map(|t| t.as_table())
            .flat_map(of),
    );
    found
}

/// The packages that a manifest names, by their real names.
fn dependencies(manifest: &toml::Table) -> Vec<String> {
    let entries = tables(manifest).into_iter().flatten();
    let real = entries.map(
        |(name, value)| match value.get("package").and_then(|p| p.as_str()) {
            Some(package) => package.to_owned(),
            None => name,
        },
    );
    real.collect()
}

/// Our crates that a manifest names, however it names them.
fn ours(manifest: &toml::Table) -> Vec<String> {
    let mut found = Vec::new();
    for (name, value) in tables(manifest).into_iter().flatten() {
        let package = value
            .get("package")
            .and_then(|p| p.as_str())
            .unwrap_or(&name);
        let folder = value
            .get("path")
            .and_then(|p| p.as_str())
            .and_then(|p| p.rsplit('/').next());
        match (package.strip_prefix("tertulia-"), folder) {
            (Some(ours), _) | (None, Some(ours)) => found.push(ours.to_owned()),
            (None, None) => {}
        }
    }
    found
}

/// All files below some folders with some endings, without what is built or generated.
fn sources(roots: &[&str], endings: &[&str]) -> Vec<Source> {
    let mut open: Vec<PathBuf> = roots.iter().map(|path| root().join(path)).collect();
    let mut found = Vec::new();
    while let Some(path) = open.pop() {
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if path.is_dir() {
            let inside = fs::read_dir(&path)
                .unwrap()
                .map(|entry| entry.unwrap().path());
            open.extend(inside.filter(|path| !skipped(path)));
        } else if endings
            .iter()
            .any(|e| name.ends_with(&format!(".{e}")) || name == *e)
        {
            let shown = path
                .strip_prefix(root())
                .unwrap()
                .to_string_lossy()
                .into_owned();
            let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{shown}: {e}"));
            found.push(Source { path: shown, text });
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

/// What is built, generated, kept by a server, or somebody else's.
fn skipped(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let names = [
        "node_modules",
        "target",
        "dist",
        "gen",
        "buf",
        "artifacts",
        "corpus",
        "data",
    ];
    names.contains(&&*name) || (name.starts_with('.') && name != ".ci")
}

/// Everything that people wrote.
fn everything() -> Vec<Source> {
    let endings = [
        "rs", "toml", "proto", "sql", "ts", "svelte", "css", "mjs", "sh", "md", "Makefile", "run",
    ];
    sources(&[""], &endings)
}

/// The words of a line, with names in camel and snake case taken apart.
fn words(line: &str) -> Vec<String> {
    let mut found = vec![String::new()];
    let mut small_before = false;
    for c in line.chars() {
        if !c.is_alphabetic() || (c.is_uppercase() && small_before) {
            found.push(String::new());
        }
        if c.is_alphabetic() {
            found
                .last_mut()
                .expect("it begins with one")
                .extend(c.to_lowercase());
        }
        small_before = c.is_lowercase();
    }
    found.retain(|word| !word.is_empty());
    found
}

#[test]
fn names_are_taken_apart_into_words() {
    assert_eq!(
        words("let chatId = a_member_of(CHAT, \"x2y\");"),
        ["let", "chat", "id", "a", "member", "of", "chat", "x", "y"]
    );
}

/// The names of a line as they are written.
fn words_as_written(line: &str) -> impl Iterator<Item = &str> {
    line.split(|c: char| !c.is_alphanumeric() && c != '_')
        .filter(|word| !word.is_empty())
}

/// Whether a list of words has one.
fn among(list: &str, word: &str) -> bool {
    list.split_whitespace().any(|listed| listed == word)
}

/// Compares a generated page with the file, or writes it when TERTULIA_REFRESH is set.
fn generated(path: &str, wanted: &str) {
    if std::env::var_os("TERTULIA_REFRESH").is_some() {
        fs::write(root().join(path), wanted).unwrap();
    }
    assert!(
        read(path) == wanted,
        "{path} is stale: `make docs` writes it anew"
    );
}

#[track_caller]
fn nothing(sins: impl IntoIterator<Item = String>, law: &str) {
    let sins: Vec<String> = sins.into_iter().collect();
    assert!(sins.is_empty(), "{law}:\n  {}", sins.join("\n  "));
}
