//! Comparisons of tasks on the wire: refusals, numbers, every field.

use tonic::Code;
use tonic_types::StatusExt;
use transferscore::{
    limits,
    scoring::types::TaskComparison,
    transport::proto::{
        AttackOptions, CompareTasksRequest, Confidence, compare_tasks_request::Probe, compare_tasks_response::Event,
        transfer_score_service_client::TransferScoreServiceClient,
    },
};

use super::fake::{Fake, RawClient, Running};

fn valid() -> CompareTasksRequest {
    CompareTasksRequest {
        models: ["ok", "other", "third"].map(str::to_owned).to_vec(),
        probe: Some(Probe::Dataset("digits".to_owned())),
        ..CompareTasksRequest::default()
    }
}

fn service(running: &Running) -> TransferScoreServiceClient<RawClient> {
    TransferScoreServiceClient::with_origin(running.raw_client(), running.origin())
}

#[tokio::test]
async fn bad_comparisons_are_refused_at_their_field() {
    let running = Running::start(Fake::default()).await;
    let named =
        |names: &[&str]| CompareTasksRequest { models: names.iter().map(|&name| name.to_owned()).collect(), ..valid() };
    let many = CompareTasksRequest { models: vec!["ok".to_owned(); limits::COMPARED_TASKS + 1], ..valid() };
    let negative = AttackOptions { epsilon: Some(-1.0), ..AttackOptions::default() };
    for (request, reason, field) in [
        (named(&[]), "FIELD_MISSING", "models"),
        (named(&["ok"]), "FIELD_MISSING", "models"),
        (named(&["ok", ""]), "FIELD_MISSING", "models[1]"),
        (named(&["ok", "a/b"]), "OPTION_OUT_OF_RANGE", "models[1]"),
        (named(&["ok", "other", "ok"]), "OPTION_UNSUPPORTED", "models[2]"),
        (many, "LIMIT_EXCEEDED", "models"),
        (CompareTasksRequest { probe: None, ..valid() }, "FIELD_MISSING", "dataset"),
        (CompareTasksRequest { max_samples: 3, ..valid() }, "OPTION_OUT_OF_RANGE", "max_samples"),
        (CompareTasksRequest { n_groups: 4, ..valid() }, "OPTION_OUT_OF_RANGE", "n_groups"),
        (CompareTasksRequest { cluster_by: 99, ..valid() }, "OPTION_OUT_OF_RANGE", "cluster_by"),
        (CompareTasksRequest { attack: Some(negative), ..valid() }, "OPTION_OUT_OF_RANGE", "attack.epsilon"),
        (
            CompareTasksRequest { confidence: Some(Confidence { level: Some(2.0), resamples: 0 }), ..valid() },
            "OPTION_OUT_OF_RANGE",
            "confidence.level",
        ),
    ] {
        let status = service(&running).compare_tasks(request).await.expect_err(field);
        let details = status.get_error_details();
        assert_eq!(details.error_info().map(|info| info.reason.as_str()), Some(reason), "{field}");
        let violation = details.bad_request().and_then(|bad| bad.field_violations.first()).expect(field);
        assert_eq!(violation.field, field, "{}", status.message());
    }
}

#[tokio::test]
async fn no_bad_number_leaves_in_a_comparison() {
    let spoils: [fn(&mut TaskComparison); 6] = [
        |comparison| comparison.alpha1[0][1].value = f64::NAN,
        |comparison| comparison.alpha2[1][0].upper = f64::INFINITY,
        |comparison| comparison.combined[2][2].lower = f64::NAN,
        |comparison| comparison.affinity[[1, 2]] = f64::NAN,
        |comparison| comparison.merges[0].height = f64::INFINITY,
        |comparison| comparison.confidence.level = f64::NAN,
    ];
    for (index, spoil) in spoils.into_iter().enumerate() {
        let running = Running::start(Fake { spoil_comparison: Some(spoil), ..Fake::default() }).await;
        let mut events = service(&running).compare_tasks(valid()).await.expect("a stream").into_inner();
        let status = loop {
            match events.message().await {
                Ok(Some(event)) => assert!(matches!(event.event, Some(Event::Progress(_))), "spoil {index}"),
                Ok(None) => panic!("spoil {index}: the stream ended well"),
                Err(status) => break status,
            }
        };
        assert_eq!(status.code(), Code::Internal, "spoil {index}");
        running.gauges.idle().await;
    }
}

#[tokio::test]
async fn a_comparison_has_every_field_of_the_domain() {
    let running = Running::start(Fake::default()).await;
    let mut events = service(&running).compare_tasks(valid()).await.expect("a stream").into_inner();
    let mut last = None;
    while let Some(event) = events.message().await.expect("no failure") {
        last = event.event;
    }
    let Some(Event::Comparison(found)) = last else { panic!("the comparison is the last event") };
    let names: Vec<&str> = found.rows.iter().map(|row| row.model.as_ref().unwrap().name.as_str()).collect();
    assert_eq!(names, ["ok", "other", "third"]);
    for row in &found.rows {
        assert_eq!([row.alpha1.len(), row.alpha2.len(), row.combined.len(), row.affinity.len()], [3; 4]);
    }
    assert_eq!((found.merges.len(), found.merges[1].second, found.merges[1].size), (2, 3, 3));
    assert_eq!(found.groups, [0, 0, 0]);
    assert_eq!((found.dataset.as_str(), found.n_samples, found.dropped.len(), found.seed), ("digits", 8, 1, 7));
    assert!(found.attack.is_some() && found.confidence.is_some() && !found.provider.is_empty());
    assert_eq!(found.version, env!("CARGO_PKG_VERSION"));
}
