//! Real servers: one that is killed in the middle of a job, and the next one.

use prost::Message;
use transferscore::transport::{
    client::{Client, JobEvents},
    proto::{
        AttackMethod, AttackOptions, CompareTasksRequest, Confidence, CreateJobRequest, JobState, RankSourcesRequest,
        RankingResult, WatchJobRequest, compare_tasks_request, compare_tasks_response, create_job_request::Work,
        get_job_response, rank_sources_request, rank_sources_response, watch_job_response::Event,
    },
};

use crate::server_process::{ServerProcess, repository};

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

fn server(jobs: &std::path::Path) -> ServerProcess {
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

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_server_loses_no_finished_unit_and_the_result_is_the_same_to_the_byte() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut seen = Seen::default();
    let name = {
        let first = server(folder.path());
        let client = connect(&first).await;
        let name = create(&client, Work::Rank(ranking())).await;
        let mut events = watch(&client, &name, 0).await;
        while seen.units.len() < 2 {
            let event = events.next().await.expect("an event").expect("the job goes on");
            seen.add(event.sequence, event.event.expect("an event"));
        }
        // Dropped here: SIGKILL.
        name
    };

    let second = server(folder.path());
    let client = connect(&second).await;
    let mut events = watch(&client, &name, seen.last).await;
    while let Some(event) = events.next().await.expect("an event") {
        seen.add(event.sequence, event.event.expect("an event"));
    }
    let expected = [JobState::Queued, JobState::Running, JobState::Queued, JobState::Running, JobState::Succeeded];
    assert_eq!(seen.states, expected, "the first server was killed in the middle");
    let names: Vec<&str> = seen.units.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ranking().source_models, "every source once");
    assert_eq!(seen.rows, ranking().source_models);
    let attempts: Vec<u32> = seen.units.iter().map(|&(_, attempt)| attempt).collect();
    assert!(attempts[..2] == [1, 1] && attempts.is_sorted() && attempts[4] == 2, "{attempts:?}");

    let found = client.job(&name).await.expect("the job");
    assert_eq!(found.job.expect("the job").attempts, 2);
    let Some(get_job_response::Result::Ranking(result)) = found.result else { panic!("no result") };
    // A server that knows nothing of the job.
    let undisturbed = direct_ranking(&connect(&ServerProcess::start_bundled()).await).await;
    assert_eq!(result.encode_to_vec(), undisturbed.encode_to_vec());
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
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_transferscore"))
        .args(["serve", "--log", "error", "--listen", "127.0.0.1:0", "--jobs", folder, "--models"])
        .args([models.as_path(), std::path::Path::new("--datasets"), datasets.as_path()])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("the binary runs");
    let stderr = String::from_utf8(output.stderr).expect("text");
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert!(stderr.contains("the job store is damaged") && stderr.lines().count() == 1, "{stderr}");
}
