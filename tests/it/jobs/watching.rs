//! Who watches a job, and what becomes of jobs when the server ends in order.

use tonic::Code;
use transferscore::{
    jobs::Jobs,
    transport::proto::{JobState, WatchJobRequest, create_job_request::Work, watch_job_response::Event},
};

use super::{
    file,
    service::{client, create, directly, events, get, over, ranking, refused, running, told},
};
use crate::transport::fake::Fake;

#[tokio::test]
async fn a_watcher_is_told_what_happens_while_it_watches() {
    let folder = tempfile::tempdir().expect("a folder");
    let running = running(Fake::default(), folder.path()).await;
    let mut client = client(&running);
    let name = create(&mut client, Work::Rank(ranking("ok", &["first", "wait", "third"]))).await;
    running.fake.started().await;
    let request = WatchJobRequest { name: name.clone(), after_sequence: 4 };
    let mut stream = client.watch_job(request).await.expect("a stream").into_inner();
    let mut next = async || stream.message().await.expect("an event");
    let seen = [next().await.expect("a unit"), next().await.expect("a row")];
    assert_eq!(told(&seen), ["5 wait in attempt 1", "6 row wait"]);

    running.fake.release();
    let mut rest = Vec::new();
    while let Some(event) = next().await {
        if let Some(Event::Progress(progress)) = &event.event {
            assert_eq!(progress.stage, "third", "what was before is no news");
            assert!(rest.len() < 3, "nothing comes after the end");
        } else {
            rest.push(event);
        }
    }
    assert_eq!(told(&rest), ["7 third in attempt 1", "8 row third", "9 SUCCEEDED"]);
}

#[tokio::test]
async fn watching_begins_nowhere_after_the_last_event() {
    let folder = tempfile::tempdir().expect("a folder");
    let running = running(Fake::default(), folder.path()).await;
    let mut client = client(&running);
    let name = create(&mut client, Work::Rank(ranking("ok", &["first"]))).await;
    let last = over(&mut client, &name).await.last_sequence;
    for after_sequence in [last + 1, u64::MAX] {
        let status = client.watch_job(WatchJobRequest { name: name.clone(), after_sequence }).await.expect_err("none");
        let expected = (Code::InvalidArgument, "OPTION_OUT_OF_RANGE".to_owned(), "after_sequence".to_owned());
        assert_eq!(refused(&status), expected);
    }
}

#[tokio::test]
async fn a_job_goes_on_with_the_next_server() {
    let folder = tempfile::tempdir().expect("a folder");
    let first = running(Fake::default(), folder.path()).await;
    let mut before = client(&first);
    let sources = ["first", "wait", "third"];
    let name = create(&mut before, Work::Rank(ranking("ok", &sources))).await;
    first.fake.started().await;
    let request = WatchJobRequest { name: name.clone(), after_sequence: 0 };
    let mut stream = before.watch_job(request).await.expect("a stream").into_inner();
    let seen: Vec<_> = {
        let mut seen = Vec::new();
        while seen.len() < 6 {
            seen.push(stream.message().await.expect("an event").expect("an event"));
        }
        seen
    };
    let fake = first.fake.clone();
    let served = first.stop();
    // The drain lasts an hour, but neither a job nor its watchers use it.
    let status = loop {
        match stream.message().await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("the job is not over"),
            Err(status) => break status,
        }
    };
    assert_eq!(refused(&status), (Code::Unavailable, "SHUTTING_DOWN".to_owned(), String::new()));
    fake.cancelled().await;
    drop((stream, before));
    served.await.expect("no panic").expect("an end in order");
    assert_eq!(*fake.computed.lock().expect("no panic"), ["first", "wait"]);

    let fake = Fake::default();
    fake.release();
    let second = running(fake, folder.path()).await;
    let mut after = client(&second);
    let rest = events(&mut after, &name, seen[5].sequence).await;
    let expected = ["7 QUEUED", "8 RUNNING", "9 third in attempt 2", "10 row third", "11 SUCCEEDED"];
    assert_eq!(told(&rest), expected);
    assert_eq!(*second.fake.computed.lock().expect("no panic"), ["third"]);
    let found = get(&mut after, &name).await;
    assert_eq!(found.job.expect("the job").attempts, 2);
    let result = directly(&second, ranking("ok", &sources)).await;
    let expected = transferscore::transport::proto::get_job_response::Result::Ranking(result);
    assert_eq!(found.result, Some(expected));
}

#[tokio::test]
async fn a_damaged_unit_is_computed_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let first = running(Fake::default(), folder.path()).await;
    let mut before = client(&first);
    let name = create(&mut before, Work::Rank(ranking("ok", &["first", "wait"]))).await;
    first.fake.started().await;
    drop(before);
    first.stop().await.expect("no panic").expect("an end in order");
    file(folder.path()).execute("UPDATE units SET unit = X'00' WHERE key = 'first'", []).expect("a change");

    let fake = Fake::default();
    fake.release();
    let second = running(fake, folder.path()).await;
    let mut after = client(&second);
    assert_eq!(over(&mut after, &name).await.state(), JobState::Succeeded);
    assert_eq!(*second.fake.computed.lock().expect("no panic"), ["first"]);
    let units = told(&events(&mut after, &name, 0).await);
    assert!(
        units.contains(&"8 first in attempt 2".to_owned()) || units.contains(&"9 first in attempt 2".to_owned()),
        "{units:?}"
    );
}

#[tokio::test]
async fn the_folder_is_free_once_the_server_has_ended() {
    let folder = tempfile::tempdir().expect("a folder");
    let first = running(Fake::default(), folder.path()).await;
    assert!(Jobs::open(folder.path()).is_err(), "it is in use");
    first.stop().await.expect("no panic").expect("an end in order");
    Jobs::open(folder.path()).expect("it is free");
}
