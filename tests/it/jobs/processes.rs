//! Real servers: one that is killed in the middle of a job or has no more room for it, and the next one.

use std::{path::Path, process::Command};

use prost::Message;
use sha2::{Digest, Sha256};
use transferscore::transport::{
    client::{Client, JobEvents},
    proto::{
        AttackMethod, AttackOptions, CompareTasksRequest, Confidence, CreateJobRequest, JobState, RankSourcesRequest,
        RankingResult, WatchJobRequest, compare_tasks_request, compare_tasks_response, create_job_request::Work,
        get_job_response, rank_sources_request, rank_sources_response, watch_job_response::Event,
    },
};

use super::file;
use crate::server_process::{ServerProcess, repository};

/// What a file may take where the disk is to be full, in blocks of 512 bytes: room for one unit of [`ranking`], which takes 1 MiB.
const BLOCKS: u32 = 4_096;

/// A ranking whose every source takes a while.
fn ranking() -> RankSourcesRequest {
    RankSourcesRequest {
        source_models: ["digits-0", "digits-25", "digits-50", "digits-75", "digits-100"].map(str::to_owned).into(),
        reference_model: "digits-reference".to_owned(),
        probe: Some(rank_sources_request::Probe::Dataset("digits".to_owned())),
        attack: Some(AttackOptions {
            method: AttackMethod::Pgd.into(),
            epsilon: Some(0.1),
            steps: 40,
            ..AttackOptions::default()
        }),
        confidence: Some(Confidence { level: None, resamples: 2_000 }),
        ..RankSourcesRequest::default()
    }
}

fn server(jobs: &Path) -> ServerProcess {
    let jobs = jobs.to_str().expect("a path in UTF-8");
    ServerProcess::start_with(&repository("models"), &repository("models/datasets"), &["--jobs", jobs])
}

async fn connect(server: &ServerProcess) -> Client {
    Client::connect(&server.address).await.expect("the server listens")
}

async fn create(client: &Client, work: Work) -> String {
    let request = CreateJobRequest { request_id: String::new(), work: Some(work) };
    client.create_job(request).await.expect("a job").job.expect("a job").name
}

async fn watch(client: &Client, name: &str, after_sequence: u64) -> JobEvents {
    client.watch_job(WatchJobRequest { name: name.to_owned(), after_sequence }).await.expect("a stream")
}

/// What happened, from one number to the next without gaps; the units with the attempt that computed them.
#[derive(Debug, Default)]
struct Seen {
    last: u64,
    states: Vec<JobState>,
    units: Vec<(String, u32)>,
    rows: Vec<String>,
}

impl Seen {
    fn add(&mut self, sequence: u64, event: Event) {
        if let Event::Progress(_) = event {
            return assert_eq!(sequence, self.last, "progress has no place of its own");
        }
        assert_eq!(sequence, self.last + 1);
        self.last = sequence;
        match event {
            Event::State(state) => self.states.push(JobState::try_from(state).expect("a state")),
            Event::Unit(unit) => self.units.push((unit.name, unit.attempt)),
            Event::Row(row) => self.rows.push(row.source_model),
            Event::Progress(_) => {}
        }
    }
}

async fn direct_ranking(client: &Client) -> RankingResult {
    let mut events = client.rank_sources(ranking()).await.expect("a stream");
    let mut result = RankingResult::default();
    while let Some(event) = events.next().await.expect("an event") {
        match event.event {
            Some(rank_sources_response::Event::Row(row)) => result.rows.push(row),
            Some(rank_sources_response::Event::Ranking(ranking)) => result.ranking = Some(ranking),
            _ => {}
        }
    }
    result
}

/// Has a server work on a job until some of its units are finished, and kills it. Gives the job's name.
async fn killed_after(units: usize, folder: &Path, seen: &mut Seen) -> String {
    let server = server(folder);
    let client = connect(&server).await;
    let name = create(&client, Work::Rank(ranking())).await;
    let mut events = watch(&client, &name, 0).await;
    while seen.units.len() < units {
        let event = events.next().await.expect("an event").expect("the job goes on");
        seen.add(event.sequence, event.event.expect("an event"));
    }
    server.kill();
    name
}

/// Follows a job from where it was last seen to its end.
async fn follow(client: &Client, name: &str, seen: &mut Seen) {
    let mut events = watch(client, name, seen.last).await;
    while let Some(event) = events.next().await.expect("an event") {
        seen.add(event.sequence, event.event.expect("an event"));
    }
}

/// Holds a job's result against that of a server that knows nothing of the job.
async fn assert_undisturbed(client: &Client, name: &str) {
    let found = client.job(name).await.expect("the job");
    let Some(get_job_response::Result::Ranking(result)) = found.result else { panic!("{:?}", found.job) };
    let undisturbed = direct_ranking(&connect(&ServerProcess::start_bundled()).await).await;
    assert_eq!(result.encode_to_vec(), undisturbed.encode_to_vec());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_server_loses_no_finished_unit_and_the_result_is_the_same_to_the_byte() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut seen = Seen::default();
    let name = killed_after(2, folder.path(), &mut seen).await;

    let second = server(folder.path());
    let client = connect(&second).await;
    follow(&client, &name, &mut seen).await;
    let expected = [JobState::Queued, JobState::Running, JobState::Queued, JobState::Running, JobState::Succeeded];
    assert_eq!(seen.states, expected, "the first server was killed in the middle");
    let names: Vec<&str> = seen.units.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ranking().source_models, "every source once");
    assert_eq!(seen.rows, ranking().source_models);
    let attempts: Vec<u32> = seen.units.iter().map(|&(_, attempt)| attempt).collect();
    assert!(attempts[..2] == [1, 1] && attempts.is_sorted() && attempts[4] == 2, "{attempts:?}");
    assert_eq!(client.job(&name).await.expect("the job").job.expect("the job").attempts, 2);
    assert_undisturbed(&client, &name).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_units_are_computed_again_and_the_result_is_the_same_to_the_byte() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut seen = Seen::default();
    let name = killed_after(3, folder.path(), &mut seen).await;
    // One is torn, one has other bytes in it, one is whole and says nothing that this program knows.
    let store = file(folder.path());
    let of = |unit: usize| format!("(SELECT key FROM units ORDER BY rowid LIMIT 1 OFFSET {unit})");
    for (unit, damage) in [(0, "substr(unit, 1, length(unit) / 2)"), (1, "zeroblob(length(unit))")] {
        let sql = format!("UPDATE units SET unit = {damage} WHERE key = {}", of(unit));
        assert_eq!(store.execute(&sql, []).expect("a change"), 1);
    }
    let unknown = b"{}";
    let sql = format!("UPDATE units SET unit = ?1, digest = ?2 WHERE key = {}", of(2));
    assert_eq!(store.execute(&sql, (unknown, Sha256::digest(unknown).to_vec())).expect("a change"), 1);
    drop(store);

    let second = server(folder.path());
    let client = connect(&second).await;
    follow(&client, &name, &mut seen).await;
    let again: Vec<&str> =
        seen.units.iter().filter(|(_, attempt)| *attempt == 2).map(|(name, _)| name.as_str()).collect();
    assert_eq!(again, ranking().source_models, "none of the damaged ones is taken for what it was");
    assert_undisturbed(&client, &name).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_on_a_disk_that_takes_no_more_fails_and_the_server_lives() {
    let folder = tempfile::tempdir().expect("a folder");
    let (models, datasets, jobs) = (repository("models"), repository("models/datasets"), folder.path().join("jobs"));
    let flags = ["--jobs", jobs.to_str().expect("a path in UTF-8")];
    {
        // No file may grow beyond so many blocks: the kernel refuses to write as it does where a quota is used up.
        let mut command = Command::new("sh");
        let limited = format!("trap '' XFSZ; ulimit -f {BLOCKS}; exec \"$0\" \"$@\"");
        command.args(["-c", &limited, env!("CARGO_BIN_EXE_transferscore")]);
        let server = ServerProcess::start_by(command, &models, &datasets, &flags);
        let client = connect(&server).await;
        let name = create(&client, Work::Rank(ranking())).await;
        let mut seen = Seen::default();
        follow(&client, &name, &mut seen).await;
        assert!(!seen.units.is_empty(), "there is room for a unit");
        let job = client.job(&name).await.expect("the job").job.expect("the job");
        let error = job.error.clone().expect("an error");
        assert_eq!((job.state(), error.reason.as_str()), (JobState::Failed, "JOB_STORE_FULL"), "{error:?}");
        assert!(error.message.contains("--jobs"), "{error:?}");
        assert_eq!(direct_ranking(&client).await.rows.len(), ranking().source_models.len());
    }
    let server = ServerProcess::start_with(&models, &datasets, &flags);
    let client = connect(&server).await;
    let name = create(&client, Work::Rank(ranking())).await;
    follow(&client, &name, &mut Seen::default()).await;
    assert_undisturbed(&client, &name).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_comparison_is_what_the_direct_call_gives() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = server(folder.path());
    let client = connect(&server).await;
    let request = CompareTasksRequest {
        models: ["digits-0", "digits-100", "digits-reference"].map(str::to_owned).into(),
        probe: Some(compare_tasks_request::Probe::Dataset("digits".to_owned())),
        ..CompareTasksRequest::default()
    };
    let name = create(&client, Work::Compare(request.clone())).await;
    let mut events = watch(&client, &name, 0).await;
    let mut seen = Seen::default();
    while let Some(event) = events.next().await.expect("an event") {
        seen.add(event.sequence, event.event.expect("an event"));
    }
    assert_eq!(seen.units, [("samples, part 1 of 1".to_owned(), 1)]);
    let found = client.job(&name).await.expect("the job");
    let Some(get_job_response::Result::Comparison(result)) = found.result else { panic!("{:?}", found.job) };
    let mut events = client.compare_tasks(request).await.expect("a stream");
    let mut expected = None;
    while let Some(event) = events.next().await.expect("an event") {
        if let Some(compare_tasks_response::Event::Comparison(comparison)) = event.event {
            expected = Some(comparison);
        }
    }
    assert_eq!(result.encode_to_vec(), expected.expect("a comparison").encode_to_vec());
}

#[test]
fn a_server_does_not_start_on_a_damaged_store() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("jobs.sqlite"), "not a store, and never was one").expect("room");
    let folder = folder.path().to_str().expect("a path in UTF-8");
    let (models, datasets) = (repository("models"), repository("models/datasets"));
    let output = Command::new(env!("CARGO_BIN_EXE_transferscore"))
        .args(["serve", "--log", "error", "--listen", "127.0.0.1:0", "--jobs", folder, "--models"])
        .args([models.as_path(), Path::new("--datasets"), datasets.as_path()])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("the binary runs");
    let stderr = String::from_utf8(output.stderr).expect("text");
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert!(stderr.contains("the job store is damaged") && stderr.lines().count() == 1, "{stderr}");
}
