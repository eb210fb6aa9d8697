//! Long work lets others have their turn, however it is called, and goes on afterwards.

use std::time::Duration;

use transferscore::{
    jobs::Jobs,
    transport::{
        client::Client,
        proto::{JobState, create_job_request::Work},
    },
};

use super::{
    fake::{Fake, Running},
    life_cycle::{Caller, SHAPES, Shape},
};
use crate::jobs::service;

/// One at work, so that nobody else is unless it gives way.
async fn narrow() -> Running {
    Running::with_settings(Fake::default(), 1, 4, Duration::ZERO).await
}

#[tokio::test]
async fn a_short_call_gets_its_turn_while_a_long_one_goes_on() {
    for shape in SHAPES {
        let running = narrow().await;
        let long = tokio::spawn(Caller::of(&running).call(shape, "share"));
        running.fake.started().await;
        for _ in 0..2 {
            Caller::of(&running).call(Shape::Unary, "ok").await.expect("its turn");
        }
        assert!(!long.is_finished(), "{shape:?}");
        assert_eq!(running.gauges.computing(), 1);
        running.fake.release();
        long.await.expect("no panic").expect("goes on to its end");
        running.gauges.idle().await;
    }
}

#[tokio::test]
async fn long_calls_take_turns_and_each_can_be_left() {
    let running = narrow().await;
    let first = tokio::spawn(Caller::of(&running).call(Shape::Unary, "share"));
    running.fake.started().await;
    let second = tokio::spawn(Caller::of(&running).call(Shape::Stream, "share"));
    // It has begun, so it had a turn.
    running.fake.started().await;
    first.abort();
    running.fake.cancelled().await;
    while running.gauges.computing() > 1 {
        tokio::task::yield_now().await;
    }
    second.abort();
    running.fake.cancelled().await;
    running.gauges.idle().await;
}

#[tokio::test]
async fn a_job_lets_calls_have_their_turn() {
    let folder = tempfile::tempdir().expect("a folder");
    let jobs = Jobs::open(folder.path()).expect("a store");
    let running = Running::with_jobs_at(Fake::default(), jobs, 1).await;
    let mut client = service::client(&running);
    let name = service::create(&mut client, Work::Rank(service::ranking("share", &["a"]))).await;
    running.fake.started().await;
    Caller::of(&running).call(Shape::Unary, "ok").await.expect("its turn");
    running.fake.release();
    assert_eq!(service::over(&mut client, &name).await.state(), JobState::Succeeded);
}

#[tokio::test]
async fn work_that_nobody_waits_for_keeps_its_turn() {
    let running = narrow().await;
    let long = tokio::spawn(Caller::of(&running).call(Shape::Unary, "share"));
    running.fake.started().await;
    let client = Client::connect(&running.address.to_string()).await.expect("up");
    client.models().await.expect("look-ups wait at a gate of their own");
    assert_eq!(running.gauges.computing(), 1);
    running.fake.release();
    long.await.expect("no panic").expect("scores");
}
