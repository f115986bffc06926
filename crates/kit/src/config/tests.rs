use std::ffi::OsString;
use std::path::PathBuf;

use serde::Deserialize;

use super::*;
use crate::secret::Secret;

fn even(text: &str) -> Result<(), String> {
    if text.len().is_multiple_of(2) {
        Ok(())
    } else {
        Err("has an odd length".into())
    }
}

static SCHEMA: Schema = Schema {
    prefix: "APP_",
    about: "The settings of a test.",
    sections: &[("live", "Live connections."), ("keys", "Keys.")],
    fields: &[
        Field::text("data", "data", "The folder that holds everything."),
        Field::list("names", "Who may come.").checked(even),
        Field::number(
            "live.heartbeat_ms",
            25_000,
            100..=300_000,
            "How often to say hello.",
        ),
        Field::choice("live.format", &["pretty", "json"], "How to write."),
        Field::switch("live.on", true, "Whether at all."),
        Field::secret("keys.pepper", "What makes hashes of this place its own."),
    ],
    env_reserved: &["APP_CONFIG"],
};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Tree {
    data: PathBuf,
    names: Vec<String>,
    live: Live,
    #[serde(default)]
    keys: Keys,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Live {
    heartbeat_ms: u64,
    format: String,
    on: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Keys {
    pepper: Option<Secret>,
}

#[derive(Default)]
struct Given {
    folder: Option<tempfile::TempDir>,
    sources: Sources,
}

impl Given {
    fn file(mut self, text: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("app.toml");
        std::fs::write(&path, text).unwrap();
        self.sources.file = Some(path);
        self.folder = Some(folder);
        self
    }

    fn env(mut self, name: &str, value: &str) -> Self {
        self.sources
            .env
            .push((OsString::from(name), OsString::from(value)));
        self
    }

    fn flag(mut self, path: &str, value: &str) -> Self {
        self.sources.flags.push((path.into(), value.into()));
        self
    }

    fn load(self) -> Result<Loaded<Tree>, Problems> {
        load(&SCHEMA, self.sources)
    }

    fn problems(self) -> Vec<Problem> {
        self.load().unwrap_err().0
    }
}

#[test]
fn a_later_place_wins_and_the_origin_tells_which() {
    let file = "data = \"/from/file\"\n[live]\nheartbeat_ms = 1_000\nformat = \"json\"\n";
    let loaded = Given::default()
        .file(file)
        .env("APP_LIVE__HEARTBEAT_MS", "2000")
        .env("APP_DATA", "/from/env")
        .env("HOME", "/root")
        .env("APP_CONFIG", "app.toml")
        .flag("data", "/from/flag")
        .load()
        .unwrap();
    assert_eq!(loaded.value.data, PathBuf::from("/from/flag"));
    assert_eq!(loaded.value.live.heartbeat_ms, 2_000);
    assert_eq!(loaded.value.live.format, "json");
    assert!(loaded.value.live.on);
    assert_eq!(loaded.origins["data"], Origin::Flag);
    assert_eq!(
        loaded.origins["live.heartbeat_ms"].to_string(),
        "APP_LIVE__HEARTBEAT_MS"
    );
    assert!(
        loaded.origins["live.format"]
            .to_string()
            .ends_with("app.toml:4")
    );
    assert_eq!(loaded.origins["live.on"], Origin::Default);
}

#[test]
fn every_problem_is_told_at_once() {
    let problems = Given::default()
        .file("[live]\nheartbeat_ms = \"often\"\nheartbeet_ms = 3\n[lvie]\na = 1\n")
        .env("APP_LIVE__ON", "maybe")
        .env("APP_NAMES", "four,three")
        .env("APP_LIVE_HEARTBEAT_MS", "3")
        .flag("live.format", "xml")
        .flag("heartbeat_ms", "3")
        .problems();
    let told = |path: &str, words: &str| {
        let found = problems
            .iter()
            .any(|p| p.path == path && p.problem.contains(words));
        assert!(found, "{path}: {words}: {problems:#?}");
    };
    told(
        "live.heartbeat_ms",
        "wants a whole number from 100 to 300000",
    );
    told("live.heartbeet_ms", "did you mean live.heartbeat_ms?");
    told("lvie", "is unknown");
    told("live.on", "wants true or false, not \"maybe\"");
    told("names", "has an odd length");
    told(
        "APP_LIVE_HEARTBEAT_MS",
        "did you mean APP_LIVE__HEARTBEAT_MS?",
    );
    told("live.format", "wants pretty or json, not \"xml\"");
    told("heartbeat_ms", "did you mean live.heartbeat_ms?");
    assert_eq!(problems.len(), 8, "{problems:#?}");
}

#[test]
fn the_table_of_problems_names_key_place_and_problem() {
    let given = Given::default().env("APP_LIVE__HEARTBEAT_MS", "5");
    let shown = given.load().unwrap_err().to_string();
    let expected = "KEY                SET IN                  PROBLEM\n\
                    live.heartbeat_ms  APP_LIVE__HEARTBEAT_MS  wants 100 to 300000, not 5";
    assert_eq!(shown, expected);
}

#[test]
fn a_value_that_a_later_place_replaces_is_a_problem_all_the_same() {
    let given = Given::default()
        .file("live = 3\ndata = \"\"")
        .env("APP_DATA", "data");
    assert_eq!(given.problems().len(), 2);
}

#[test]
fn a_secret_may_come_from_a_file_and_is_never_shown() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pepper");
    std::fs::write(&path, "hunter2\n").unwrap();
    let given = Given::default().env("APP_KEYS__PEPPER_FILE", path.to_str().unwrap());
    let loaded = given.load().unwrap();
    assert_eq!(loaded.value.keys.pepper, Some(Secret::new("hunter2")));
    let shown = show(&loaded, true);
    assert!(shown.contains("pepper is set and secret"), "{shown}");
    assert!(shown.contains("APP_KEYS__PEPPER_FILE"), "{shown}");
    assert!(!shown.contains("hunter2"));
    assert!(!format!("{loaded:?}").contains("hunter2"));
}

#[test]
fn a_secret_in_two_places_of_the_environment_is_a_problem() {
    let given = Given::default()
        .env("APP_KEYS__PEPPER_FILE", "/none")
        .env("APP_KEYS__PEPPER", "hunter2");
    let shown = Problems(given.problems()).to_string();
    assert!(shown.contains("is set by APP_KEYS__PEPPER too"), "{shown}");
    assert!(!shown.contains("hunter2"));
}

#[test]
fn a_secret_is_no_flag() {
    let problems = Given::default().flag("keys.pepper", "hunter2").problems();
    assert_eq!(problems.len(), 1);
    assert!(!problems[0].problem.contains("hunter2"));
}

#[test]
fn a_broken_file_is_told_by_its_line_and_not_quoted() {
    let given = Given::default().file("data = \"x\"\n[keys]\npepper = \"hunter2\n");
    let shown = Problems(given.problems()).to_string();
    assert!(shown.contains("app.toml:3"), "{shown}");
    assert!(!shown.contains("hunter2"), "{shown}");
}

#[test]
fn a_secret_of_the_wrong_shape_is_not_shown() {
    let given = Given::default().file("[keys]\npepper = 31337\n");
    let shown = Problems(given.problems()).to_string();
    assert!(shown.contains("wants a secret text"), "{shown}");
    assert!(!shown.contains("31337"));
}

#[test]
fn a_named_file_that_is_not_there_is_a_problem() {
    let sources = Sources {
        file: Some("/does/not/exist.toml".into()),
        ..Sources::default()
    };
    let problems = load::<Tree>(&SCHEMA, sources).unwrap_err();
    assert!(problems.to_string().contains("can not be read"));
}

#[test]
fn a_required_key_that_nobody_sets_is_told() {
    static WANTING: Schema = Schema {
        prefix: "APP_",
        about: "",
        sections: &[],
        fields: &[Field::text("data", "", "Where.").required()],
        env_reserved: &[],
    };
    let problems = load::<toml::Table>(&WANTING, Sources::default()).unwrap_err();
    assert!(
        problems
            .to_string()
            .contains("set it in the file or as APP_DATA"),
        "{problems}"
    );
}

#[test]
fn the_template_says_what_holds_without_it() {
    let text = template(&SCHEMA);
    let plain = Given::default().load().unwrap();
    let commented = Given::default().file(&text).load().unwrap();
    assert_eq!(show(&plain, false), show(&commented, false));
    let uncommented: String = text
        .lines()
        .map(|l| {
            l.strip_prefix("# ")
                .filter(|l| l.contains(" = "))
                .unwrap_or(l)
        })
        .filter(|l| !l.starts_with("pepper"))
        .map(|l| format!("{l}\n"))
        .collect();
    let set = Given::default().file(&uncommented).load().unwrap();
    assert_eq!(show(&plain, false), show(&set, false));
}

#[test]
fn what_is_shown_can_be_read_again() {
    let shown = show(
        &Given::default().flag("names", "anna,bert").load().unwrap(),
        false,
    );
    let again = Given::default().file(&shown).load().unwrap();
    assert_eq!(show(&again, false), shown);
    assert_eq!(again.value.names, ["anna", "bert"]);
}

#[test]
fn every_key_stands_in_the_env_list_and_in_the_reference() {
    let (list, reference) = (env(&SCHEMA), reference_markdown(&SCHEMA));
    for field in SCHEMA.fields {
        assert!(list.contains(&SCHEMA.env_name(field)), "{}", field.path);
        assert!(
            reference.contains(&format!("| `{}` |", field.path)),
            "{}",
            field.path
        );
    }
}
