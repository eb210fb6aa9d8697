//! A clock that jumps: jobs keep their order, their numbers and their watchers.

use prost_types::Timestamp;
use transferscore::transport::proto::{JobState, ListJobsRequest, create_job_request::Work};

use super::{
    file,
    service::{client, create, events, get, over, ranking, running, told},
};
use crate::transport::fake::Fake;

const YEAR_2100: i64 = 4_102_444_800;
const YEAR_1960: i64 = -315_619_200;

fn at(seconds: i64) -> Option<Timestamp> {
    Some(Timestamp { seconds, nanos: 0 })
}

#[tokio::test]
async fn a_clock_that_jumped_between_two_servers_changes_no_order_and_no_watching() {
    let folder = tempfile::tempdir().expect("a folder");
    let first = running(Fake::default(), folder.path()).await;
    let mut before = client(&first);
    for sources in [&["first", "wait"], &["second", "also"], &["third", "also"]] {
        create(&mut before, Work::Rank(ranking("ok", sources))).await;
    }
    first.fake.started().await;
    drop(before);
    first.stop().await.expect("no panic").expect("an end in order");
    // The job that ran was created long after now, those behind it long before, the last one first.
    let store = file(folder.path());
    for (job, seconds) in [(1, YEAR_2100), (2, YEAR_1960), (3, YEAR_1960 - 1)] {
        let sql = "UPDATE jobs SET created = ?2, started = ?2 WHERE number = ?1";
        assert_eq!(store.execute(sql, (job, seconds * 1_000_000_000)).expect("a change"), 1);
    }
    drop(store);

    let fake = Fake::default();
    fake.release();
    let second = running(fake, folder.path()).await;
    let mut after = client(&second);
    let late = create(&mut after, Work::Rank(ranking("ok", &["fourth"]))).await;
    for (after_sequence, rest) in [
        (0, &["1 QUEUED", "2 RUNNING", "3 first in attempt 1", "4 row first", "5 wait in attempt 1", "6 row wait"][..]),
        (4, &["5 wait in attempt 1", "6 row wait"]),
    ] {
        let seen = told(&events(&mut after, "job-1", after_sequence).await);
        assert_eq!(seen[..rest.len()], *rest);
        assert_eq!(seen[rest.len()..], ["7 QUEUED", "8 RUNNING", "9 SUCCEEDED"]);
    }
    assert_eq!(over(&mut after, &late).await.state(), JobState::Succeeded);
    // First come, first served, whatever the times say.
    assert_eq!(*second.fake.computed.lock().expect("no panic"), ["second", "also", "third", "also", "fourth"]);

    let job = get(&mut after, "job-1").await.job.expect("the job");
    assert_eq!((job.state(), job.create_time, job.start_time), (JobState::Succeeded, at(YEAR_2100), at(YEAR_2100)));
    assert!(job.end_time.is_some_and(|end| end.seconds < YEAR_2100), "it ended before it began: {job:?}");
    let mut names = async |request: ListJobsRequest| {
        let page = after.list_jobs(request).await.expect("a page").into_inner();
        page.jobs.into_iter().map(|job| job.name).collect::<Vec<_>>()
    };
    assert_eq!(names(ListJobsRequest::default()).await, ["job-4", "job-3", "job-2", "job-1"]);
    let request = ListJobsRequest { created_after: at(YEAR_2100 - 1), ..ListJobsRequest::default() };
    assert_eq!(names(request).await, ["job-1"]);
    let request = ListJobsRequest { created_before: at(0), ..ListJobsRequest::default() };
    assert_eq!(names(request).await, ["job-3", "job-2"]);
}
