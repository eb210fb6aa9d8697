//! `JobService` in front of a fake domain: creation, results, listings, cancellation, refusals.

use std::path::Path;

use prost::Message;
use prost_types::Timestamp;
use tonic::{Code, Status};
use tonic_types::StatusExt;
use transferscore::{
    jobs::{Jobs, Store},
    limits,
    transport::proto::{
        self, CancelJobRequest, CompareTasksRequest, CreateJobRequest, GetJobRequest, GetJobResponse, Job, JobState,
        ListJobsRequest, RankSourcesRequest, WatchJobRequest, WatchJobResponse, compare_tasks_request,
        create_job_request::Work, get_job_response, job_service_client::JobServiceClient, rank_sources_request,
        rank_sources_response, transfer_score_service_client::TransferScoreServiceClient, watch_job_response::Event,
    },
};

use crate::transport::fake::{Fake, RawClient, Running};

pub type Client = JobServiceClient<RawClient>;

pub fn client(running: &Running) -> Client {
    JobServiceClient::with_origin(running.raw_client(), running.origin())
}

pub async fn running(fake: Fake, folder: &Path) -> Running {
    Running::with_jobs(fake, Jobs::open(folder).expect("a store")).await
}

pub fn ranking(reference: &str, sources: &[&str]) -> RankSourcesRequest {
    RankSourcesRequest {
        source_models: sources.iter().map(|&source| source.to_owned()).collect(),
        reference_model: reference.to_owned(),
        probe: Some(rank_sources_request::Probe::Dataset("digits".to_owned())),
        ..RankSourcesRequest::default()
    }
}

pub fn job_of(work: Work) -> CreateJobRequest {
    CreateJobRequest { request_id: String::new(), work: Some(work) }
}

/// Creates a job and gives its name.
pub async fn create(client: &mut Client, work: Work) -> String {
    client.create_job(job_of(work)).await.expect("a job").into_inner().job.expect("a job").name
}

pub async fn get(client: &mut Client, name: &str) -> GetJobResponse {
    client.get_job(GetJobRequest { name: name.to_owned() }).await.expect("the job").into_inner()
}

/// A job's events after the one of this number, but for progress, until it is over.
pub async fn events(client: &mut Client, name: &str, after: u64) -> Vec<WatchJobResponse> {
    let request = WatchJobRequest { name: name.to_owned(), after_sequence: after };
    let mut stream = client.watch_job(request).await.expect("a stream").into_inner();
    let mut events = Vec::new();
    while let Some(event) = stream.message().await.expect("an event") {
        if !matches!(event.event, Some(Event::Progress(_))) {
            events.push(event);
        }
    }
    events
}

/// Waits until a job is over.
pub async fn over(client: &mut Client, name: &str) -> Job {
    events(client, name, 0).await;
    get(client, name).await.job.expect("the job")
}

pub fn told(events: &[WatchJobResponse]) -> Vec<String> {
    let words = |event: &WatchJobResponse| match event.event.clone().expect("an event") {
        Event::State(state) => JobState::try_from(state).expect("a state").as_str_name().replace("JOB_STATE_", ""),
        Event::Unit(unit) => format!("{} in attempt {}", unit.name, unit.attempt),
        Event::Row(row) => format!("row {}", row.source_model),
        Event::Progress(progress) => progress.stage,
    };
    events.iter().map(|event| format!("{} {}", event.sequence, words(event))).collect()
}

pub fn refused(status: &Status) -> (Code, String, String) {
    let details = status.get_error_details();
    let reason = details.error_info().map(|info| info.reason.clone()).unwrap_or_default();
    let field = details.bad_request().and_then(|bad| bad.field_violations.first()).map(|first| first.field.clone());
    (status.code(), reason, field.unwrap_or_default())
}

/// What the direct call streams.
pub async fn directly(running: &Running, request: RankSourcesRequest) -> proto::RankingResult {
    let mut service = TransferScoreServiceClient::with_origin(running.raw_client(), running.origin());
    let mut events = service.rank_sources(request).await.expect("a stream").into_inner();
    let mut result = proto::RankingResult::default();
    while let Some(event) = events.message().await.expect("an event") {
        match event.event {
            Some(rank_sources_response::Event::Row(row)) => result.rows.push(row),
            Some(rank_sources_response::Event::Ranking(ranking)) => result.ranking = Some(ranking),
            _ => {}
        }
    }
    result
}

#[tokio::test]
async fn a_ranking_runs_to_its_end_and_is_what_the_direct_call_gives() {
    let folder = tempfile::tempdir().expect("a folder");
    let running = running(Fake::default(), folder.path()).await;
    let mut client = client(&running);
    let request = ranking("ok", &["first", "second"]);
    let created = client.create_job(job_of(Work::Rank(request.clone()))).await.expect("a job").into_inner();
    let created = created.job.expect("a job");
    assert_eq!((created.name.as_str(), created.kind()), ("job-1", proto::JobKind::Ranking));
    assert_eq!(
        (created.models, created.dataset.as_str()),
        (["first", "ok", "second"].map(str::to_owned).to_vec(), "digits")
    );

    let expected = [
        "1 QUEUED",
        "2 RUNNING",
        "3 first in attempt 1",
        "4 row first",
        "5 second in attempt 1",
        "6 row second",
        "7 SUCCEEDED",
    ];
    assert_eq!(told(&events(&mut client, "job-1", 0).await), expected);
    // Whoever lost the stream goes on anywhere.
    for after in 0..=7 {
        assert_eq!(told(&events(&mut client, "job-1", after).await), expected[after as usize..]);
    }

    let found = get(&mut client, "job-1").await;
    let job = found.job.expect("the job");
    assert_eq!((job.state(), job.attempts, job.last_sequence), (JobState::Succeeded, 1, 7));
    assert!(job.create_time.is_some() && job.start_time.is_some() && job.end_time.is_some(), "{job:?}");
    assert_eq!(found.work, Some(get_job_response::Work::Rank(request.clone())));
    let Some(get_job_response::Result::Ranking(result)) = found.result else { panic!("{:?}", found.result) };
    assert_eq!(result.encode_to_vec(), directly(&running, request).await.encode_to_vec());
    running.gauges.idle().await;
}

#[tokio::test]
async fn a_comparison_runs_to_its_end() {
    let folder = tempfile::tempdir().expect("a folder");
    let running = running(Fake::default(), folder.path()).await;
    let mut client = client(&running);
    let request = CompareTasksRequest {
        models: vec!["ok".to_owned(), "other".to_owned()],
        probe: Some(compare_tasks_request::Probe::Dataset("digits".to_owned())),
        ..CompareTasksRequest::default()
    };
    let name = create(&mut client, Work::Compare(request.clone())).await;
    assert_eq!(over(&mut client, &name).await.state(), JobState::Succeeded);
    let found = get(&mut client, &name).await;
    let Some(get_job_response::Result::Comparison(result)) = found.result else { panic!("{:?}", found.result) };

    let mut service = TransferScoreServiceClient::with_origin(running.raw_client(), running.origin());
    let mut events = service.compare_tasks(request).await.expect("a stream").into_inner();
    let mut last = None;
    while let Some(event) = events.message().await.expect("an event") {
        last = event.event;
    }
    let Some(proto::compare_tasks_response::Event::Comparison(expected)) = last else { panic!("{last:?}") };
    assert_eq!(result.encode_to_vec(), expected.encode_to_vec());
}

#[tokio::test]
async fn a_repeated_creation_makes_no_second_job() {
    let folder = tempfile::tempdir().expect("a folder");
    let running = running(Fake::default(), folder.path()).await;
    let mut client = client(&running);
    let request = |sources: &[&str]| CreateJobRequest {
        request_id: "weekly-7.b_2".to_owned(),
        work: Some(Work::Rank(ranking("ok", sources))),
    };
    let name = client.create_job(request(&["first"])).await.expect("a job").into_inner().job.expect("a job").name;
    over(&mut client, &name).await;
    let again = client.create_job(request(&["first"])).await.expect("a job").into_inner().job.expect("a job");
    assert_eq!((again.name.as_str(), again.state()), (name.as_str(), JobState::Succeeded));
    assert_eq!(again.request_id, "weekly-7.b_2");
    let status = client.create_job(request(&["second"])).await.expect_err("another request");
    assert_eq!(refused(&status), (Code::AlreadyExists, "REQUEST_ID_TAKEN".to_owned(), "request_id".to_owned()));
    assert!(status.message().contains(&name), "{}", status.message());
    assert_eq!(client.list_jobs(ListJobsRequest::default()).await.expect("a list").into_inner().jobs.len(), 1);
}

#[tokio::test]
async fn jobs_that_cannot_run_are_refused_at_their_field() {
    let folder = tempfile::tempdir().expect("a folder");
    let running = running(Fake::default(), folder.path()).await;
    let mut client = client(&running);
    let rank = |request: RankSourcesRequest| job_of(Work::Rank(request));
    let named = |id: &str| CreateJobRequest { request_id: id.to_owned(), ..rank(ranking("ok", &[])) };
    let inline = proto::InlineDataset {
        shape: vec![1_000],
        samples: vec![0.5; limits::JOB_REQUEST_BYTES / 4 + 1_000 - (limits::JOB_REQUEST_BYTES / 4) % 1_000],
        labels: Vec::new(),
    };
    let large = RankSourcesRequest {
        probe: Some(rank_sources_request::Probe::InlineDataset(inline)),
        ..ranking("ok", &["first"])
    };
    for (request, code, reason, field) in [
        (CreateJobRequest::default(), Code::InvalidArgument, "FIELD_MISSING", "work"),
        (named("two words"), Code::InvalidArgument, "OPTION_OUT_OF_RANGE", "request_id"),
        (named(&"x".repeat(65)), Code::InvalidArgument, "OPTION_OUT_OF_RANGE", "request_id"),
        (rank(ranking("", &[])), Code::InvalidArgument, "FIELD_MISSING", "rank.reference_model"),
        (rank(ranking("ok", &["a", "a"])), Code::InvalidArgument, "OPTION_UNSUPPORTED", "rank.source_models[1]"),
        (
            job_of(Work::Compare(CompareTasksRequest::default())),
            Code::InvalidArgument,
            "FIELD_MISSING",
            "compare.models",
        ),
        (rank(large), Code::ResourceExhausted, "LIMIT_EXCEEDED", ""),
    ] {
        let status = client.create_job(request).await.expect_err(reason);
        assert_eq!(refused(&status), (code, reason.to_owned(), field.to_owned()));
    }
    assert!(client.list_jobs(ListJobsRequest::default()).await.expect("a list").into_inner().jobs.is_empty());
}

#[tokio::test]
async fn jobs_that_fail_say_why_and_the_next_one_runs() {
    let folder = tempfile::tempdir().expect("a folder");
    let running = running(Fake::default(), folder.path()).await;
    let mut client = client(&running);
    for (reference, reason, message) in
        [("nowhere", "MODEL_NOT_FOUND", "there is no model nowhere"), ("panic", "INTERNAL", "internal error")]
    {
        let name = create(&mut client, Work::Rank(ranking(reference, &["first"]))).await;
        let job = over(&mut client, &name).await;
        let error = job.error.clone().expect("an error");
        assert_eq!((job.state(), error.reason.as_str()), (JobState::Failed, reason));
        assert!(error.message.starts_with(message) && !error.message.contains("secret"), "{error:?}");
        assert_eq!(get(&mut client, &name).await.result, None);
    }
    let name = create(&mut client, Work::Rank(ranking("ok", &["first"]))).await;
    assert_eq!(over(&mut client, &name).await.state(), JobState::Succeeded);
    running.gauges.idle().await;
}

#[tokio::test]
async fn listings_come_by_the_page_and_tokens_are_their_own() {
    let folder = tempfile::tempdir().expect("a folder");
    let running = running(Fake::default(), folder.path()).await;
    let mut client = client(&running);
    // The first holds up the others.
    create(&mut client, Work::Rank(ranking("wait", &["first"]))).await;
    running.fake.started().await;
    for index in 1..7 {
        create(&mut client, Work::Rank(ranking("ok", &[if index % 2 == 0 { "even" } else { "odd" }]))).await;
    }
    let list = async |client: &mut Client, request: ListJobsRequest| {
        client.list_jobs(request).await.map(|page| page.into_inner())
    };
    let names = |page: &proto::ListJobsResponse| page.jobs.iter().map(|job| job.name.clone()).collect::<Vec<_>>();
    let mut pages = Vec::new();
    let mut request = ListJobsRequest { page_size: 3, ..ListJobsRequest::default() };
    loop {
        let page = list(&mut client, request.clone()).await.expect("a page");
        pages.push(names(&page));
        if page.next_page_token.is_empty() {
            break;
        }
        // What comes in between moves nothing.
        create(&mut client, Work::Rank(ranking("ok", &["late"]))).await;
        request.page_token = page.next_page_token;
    }
    assert_eq!(pages, [vec!["job-7", "job-6", "job-5"], vec!["job-4", "job-3", "job-2"], vec!["job-1"]]);

    let only = |model: &str, dataset: &str, states: &[JobState]| ListJobsRequest {
        model: model.to_owned(),
        dataset: dataset.to_owned(),
        states: states.iter().map(|&state| state.into()).collect(),
        ..ListJobsRequest::default()
    };
    for (request, expected) in [
        (only("even", "", &[]), &["job-7", "job-5", "job-3"][..]),
        (only("", "faces", &[]), &[]),
        (only("", "digits", &[JobState::Running]), &["job-1"]),
        (only("even", "digits", &[JobState::Running, JobState::Failed]), &[]),
        (ListJobsRequest { page_size: u32::MAX, ..only("odd", "", &[JobState::Queued]) }, &["job-6", "job-4", "job-2"]),
    ] {
        assert_eq!(names(&list(&mut client, request.clone()).await.expect("a page")), expected, "{request:?}");
    }
    let first = list(&mut client, only("wait", "", &[])).await.expect("a page").jobs.remove(0).create_time;
    let after = ListJobsRequest { created_after: first, ..only("", "", &[]) };
    assert!(!names(&list(&mut client, after).await.expect("a page")).contains(&"job-1".to_owned()));
    let before = ListJobsRequest { created_before: first, ..only("", "", &[]) };
    assert!(list(&mut client, before).await.expect("a page").jobs.is_empty());

    let token = request.page_token;
    let with =
        |page_token: &str, model: &str| ListJobsRequest { page_token: page_token.to_owned(), ..only(model, "", &[]) };
    let no_time = Some(Timestamp { seconds: 1, nanos: -1 });
    for (request, field) in [
        (with("nonsense", ""), "page_token"),
        (with(&token[1..], ""), "page_token"),
        (with(&token, "even"), "page_token"),
        (ListJobsRequest { states: vec![1, 99], ..only("", "", &[]) }, "states[1]"),
        (ListJobsRequest { states: vec![0], ..only("", "", &[]) }, "states[0]"),
        (ListJobsRequest { created_after: no_time, ..only("", "", &[]) }, "created_after"),
        (
            ListJobsRequest { created_before: Some(Timestamp { seconds: i64::MAX, nanos: 0 }), ..only("", "", &[]) },
            "created_before",
        ),
    ] {
        let status = list(&mut client, request).await.expect_err(field);
        let expected = (Code::InvalidArgument, "OPTION_OUT_OF_RANGE".to_owned(), field.to_owned());
        assert_eq!(refused(&status), expected);
    }
    running.fake.release();
}

#[tokio::test]
async fn jobs_are_cancelled_while_they_wait_and_while_they_run() {
    let folder = tempfile::tempdir().expect("a folder");
    let running = running(Fake::default(), folder.path()).await;
    let mut client = client(&running);
    let running_job = create(&mut client, Work::Rank(ranking("wait", &["first"]))).await;
    running.fake.started().await;
    assert_eq!(running.gauges.computing(), 1, "a job computes under the same limits as calls");
    let waiting_job = create(&mut client, Work::Rank(ranking("ok", &["first"]))).await;
    for (name, state) in [(&waiting_job, JobState::Cancelled), (&running_job, JobState::Running)] {
        let request = CancelJobRequest { name: name.clone() };
        let job = client.cancel_job(request).await.expect("the job").into_inner().job.expect("the job");
        // One that runs may have stopped by now.
        assert!(job.state() == state || job.state() == JobState::Cancelled, "{job:?}");
        assert!(job.cancel_requested);
    }
    running.fake.cancelled().await;
    assert_eq!(told(&events(&mut client, &waiting_job, 0).await), ["1 QUEUED", "2 CANCELLED"]);
    assert_eq!(told(&events(&mut client, &running_job, 0).await), ["1 QUEUED", "2 RUNNING", "3 CANCELLED"]);

    // What is over stays as it is.
    let done = create(&mut client, Work::Rank(ranking("ok", &["first"]))).await;
    over(&mut client, &done).await;
    let job = client.cancel_job(CancelJobRequest { name: done }).await.expect("the job").into_inner().job;
    assert_eq!(job.map(|job| (job.state(), job.cancel_requested)), Some((JobState::Succeeded, false)));
    running.gauges.idle().await;
}

#[tokio::test]
async fn a_job_on_a_full_disk_fails_and_the_server_lives() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Store::open(folder.path(), 300 << 10).expect("a store");
    let running = Running::with_jobs(Fake::default(), Jobs::with_store(store).expect("a store")).await;
    let mut client = client(&running);
    let many: Vec<String> = (0..200).map(|index| format!("source-{index}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let name = create(&mut client, Work::Rank(ranking("ok", &many))).await;
    let job = over(&mut client, &name).await;
    let error = job.error.clone().expect("an error");
    assert_eq!((job.state(), error.reason.as_str()), (JobState::Failed, "JOB_STORE_FULL"), "{error:?}");
    assert!(error.message.contains("--jobs"), "{error:?}");
    // The next creation makes room of what is over.
    let name = create(&mut client, Work::Rank(ranking("ok", &["first"]))).await;
    assert_eq!(over(&mut client, &name).await.state(), JobState::Succeeded);
}

#[tokio::test]
async fn a_server_without_a_folder_keeps_no_jobs() {
    let running = Running::start(Fake::default()).await;
    let mut client = client(&running);
    let name = || "job-1".to_owned();
    let statuses = [
        client.create_job(job_of(Work::Rank(ranking("ok", &[])))).await.expect_err("no jobs"),
        client.get_job(GetJobRequest { name: name() }).await.expect_err("no jobs"),
        client.list_jobs(ListJobsRequest::default()).await.expect_err("no jobs"),
        client.watch_job(WatchJobRequest { name: name(), after_sequence: 0 }).await.expect_err("no jobs"),
        client.cancel_job(CancelJobRequest { name: name() }).await.expect_err("no jobs"),
    ];
    for status in statuses {
        assert_eq!(refused(&status), (Code::FailedPrecondition, "JOBS_NOT_KEPT".to_owned(), String::new()));
        assert!(status.message().contains("--jobs"), "{}", status.message());
    }
}

#[tokio::test]
async fn a_job_that_is_not_there_is_not_found() {
    let folder = tempfile::tempdir().expect("a folder");
    let running = running(Fake::default(), folder.path()).await;
    let mut client = client(&running);
    for (name, code, reason) in [
        ("", Code::InvalidArgument, "FIELD_MISSING"),
        ("job-1", Code::NotFound, "JOB_NOT_FOUND"),
        ("job-01", Code::NotFound, "JOB_NOT_FOUND"),
        ("../jobs", Code::NotFound, "JOB_NOT_FOUND"),
        (&"x".repeat(1 << 20), Code::NotFound, "JOB_NOT_FOUND"),
    ] {
        let named = || name.to_owned();
        let statuses = [
            client.get_job(GetJobRequest { name: named() }).await.expect_err("no job"),
            client.watch_job(WatchJobRequest { name: named(), after_sequence: 0 }).await.expect_err("no job"),
            client.cancel_job(CancelJobRequest { name: named() }).await.expect_err("no job"),
        ];
        for status in statuses {
            assert_eq!(refused(&status), (code, reason.to_owned(), "name".to_owned()));
        }
    }
}
