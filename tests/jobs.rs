//! Jobs of the real binary: who does them, and what an operator sees of them.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test that can not go on says so at once"
)]

use std::path::Path;
use std::process::Output;
use std::time::Duration;

use tempfile::TempDir;
use tertulia_kit::instances::postgres::Instance;
use tertulia_tests::node::{Process, Start, tertulia};
use tertulia_tests::wire::request;

const PATIENCE: Duration = Duration::from_secs(60);

async fn jobs(data: &Path, env: &[(String, String)], args: &[&str]) -> Output {
    let mut command = tertulia();
    command.arg("jobs").args(args).arg("--data").arg(data);
    command.envs(env.iter().map(|(name, value)| (name, value)));
    command.output().await.unwrap()
}

/// A number of a server.
async fn number(server: &Process, name: &str) -> Option<u64> {
    let answer = request("GET", &server.metrics, &[], "").await;
    let text = String::from_utf8(answer.body.to_vec()).unwrap();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.map(|number| number.parse().unwrap())
}

/// How many jobs these servers have done together, once that is so many.
async fn done(servers: &[&Process], wanted: u64) {
    let doing = async {
        loop {
            let mut done = 0;
            for server in servers {
                done += number(server, "tertulia_jobs_done_total")
                    .await
                    .unwrap_or(0);
            }
            if done >= wanted {
                assert_eq!(done, wanted);
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, doing).await.unwrap();
}

#[tokio::test]
async fn a_new_server_does_what_is_scheduled_and_an_operator_looks_beside_it() {
    let folder = TempDir::new().unwrap();
    let data = folder.path().join("data");
    let missing = jobs(&data, &[], &["dead"]).await;
    let why = String::from_utf8_lossy(&missing.stderr).into_owned();
    assert!(why.contains("is no data folder of a server"), "{why}");

    let server = Process::start(&data, Start::default()).await.unwrap();
    done(&[&server], 1).await;
    let listed = jobs(&data, &[], &["dead"]).await;
    let text = String::from_utf8_lossy(&listed.stdout).into_owned();
    assert_eq!(text, "0 failed for good, 0 open\n", "{listed:?}");
    for what in ["replay", "forget"] {
        let refused = jobs(&data, &[], &[what, "7"]).await;
        assert_eq!(refused.status.code(), Some(2), "{refused:?}");
        let why = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert_eq!(why, "tertulia: no job 7 failed for good\n");
    }
    assert_eq!(number(&server, "tertulia_jobs_dead_total").await, Some(0));
    assert!(server.terminate().await.unwrap().success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_the_nodes_on_a_database_the_workers_do_jobs_and_each_is_done_once() {
    let database = Instance::start();
    let folders = [(); 3].map(|()| TempDir::new().unwrap());
    let env = [
        ("TERTULIA_STORE__URL".to_owned(), database.url()),
        ("TERTULIA_IDENTITY__PEPPER".to_owned(), "x".repeat(32)),
    ];
    let mut servers = Vec::new();
    for (folder, roles) in folders
        .iter()
        .zip(["edge,api", "worker", "edge,api,worker"])
    {
        let settings = [("roles", roles)];
        let start = Start {
            settings: &settings,
            env: &env,
            ..Start::default()
        };
        servers.push(Process::start(folder.path(), start).await.unwrap());
    }
    let all: Vec<&Process> = servers.iter().collect();
    done(&all, 1).await;
    assert_eq!(number(all[0], "tertulia_jobs_done_total").await, None);
    let listed = jobs(folders[0].path(), &env, &["dead"]).await;
    let text = String::from_utf8_lossy(&listed.stdout).into_owned();
    assert_eq!(text, "0 failed for good, 0 open\n", "{listed:?}");
    for server in servers {
        assert!(server.terminate().await.unwrap().success());
    }
}
