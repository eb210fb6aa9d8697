//! Comparisons of tasks on the wire: refusals, numbers, every field.

use tonic::Code;
use tonic_types::StatusExt;
use transferscore::{
    limits,
    scoring::types::TaskComparison,
    stats::GroupAgreement,
    transport::proto::{
        self, AttackOptions, CompareTasksRequest, Confidence, TaskGroup, compare_tasks_request::Probe,
        compare_tasks_response::Event, transfer_score_service_client::TransferScoreServiceClient,
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

fn group(name: &str, models: &[&str]) -> TaskGroup {
    TaskGroup { name: name.to_owned(), models: models.iter().map(|&model| model.to_owned()).collect() }
}

fn grouped(groups: &[(&str, &[&str])]) -> CompareTasksRequest {
    CompareTasksRequest { known_groups: groups.iter().map(|(name, models)| group(name, models)).collect(), ..valid() }
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
        (grouped(&[("a", &["ok", "other", "third"])]), "OPTION_OUT_OF_RANGE", "known_groups"),
        (grouped(&[("", &["ok", "other"]), ("b", &["third"])]), "OPTION_OUT_OF_RANGE", "known_groups[0].name"),
        (grouped(&[("a", &["ok", "other"]), ("b\n", &["third"])]), "OPTION_OUT_OF_RANGE", "known_groups[1].name"),
        (
            grouped(&[(&"a".repeat(129), &["ok", "other", "third"]), ("b", &[])]),
            "OPTION_OUT_OF_RANGE",
            "known_groups[0].name",
        ),
        (grouped(&[("a", &["ok", "other"]), ("a", &["third"])]), "OPTION_UNSUPPORTED", "known_groups[1].name"),
        (grouped(&[("a", &["ok", "other", "third"]), ("b", &[])]), "FIELD_MISSING", "known_groups[1].models"),
        (grouped(&[("a", &["ok", "nowhere"]), ("b", &["third"])]), "OPTION_UNSUPPORTED", "known_groups[0].models[1]"),
        (
            grouped(&[("a", &["ok", "other"]), ("b", &["third", "ok"])]),
            "OPTION_UNSUPPORTED",
            "known_groups[1].models[1]",
        ),
        (grouped(&[("a", &["ok"]), ("b", &["third"])]), "OPTION_UNSUPPORTED", "known_groups"),
    ] {
        let status = service(&running).compare_tasks(request).await.expect_err(field);
        let details = status.get_error_details();
        assert_eq!(details.error_info().map(|info| info.reason.as_str()), Some(reason), "{field}");
        let violation = details.bad_request().and_then(|bad| bad.field_violations.first()).expect(field);
        assert_eq!(violation.field, field, "{}", status.message());
    }
}

fn agreement(comparison: &mut TaskComparison) -> &mut GroupAgreement {
    comparison.group_agreement.as_mut().expect("of known groups")
}

#[tokio::test]
async fn no_bad_number_leaves_in_a_comparison() {
    let spoils: [fn(&mut TaskComparison); 9] = [
        |comparison| comparison.alpha1[0][1].value = f64::NAN,
        |comparison| comparison.alpha2[1][0].upper = f64::INFINITY,
        |comparison| comparison.combined[2][2].lower = f64::NAN,
        |comparison| comparison.affinity[[1, 2]] = f64::NAN,
        |comparison| comparison.merges[0].height = f64::INFINITY,
        |comparison| comparison.confidence.level = f64::NAN,
        |comparison| comparison.cophenetic_correlation = Some(f64::NAN),
        |comparison| agreement(comparison).adjusted_rand_index.chance.mean = f64::NAN,
        |comparison| agreement(comparison).cophenetic_correlation.as_mut().unwrap().p_value = f64::NAN,
    ];
    for (index, spoil) in spoils.into_iter().enumerate() {
        let running = Running::start(Fake { spoil_comparison: Some(spoil), ..Fake::default() }).await;
        let asked = grouped(&[("a", &["ok", "other"]), ("b", &["third"])]);
        let mut events = service(&running).compare_tasks(asked).await.expect("a stream").into_inner();
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

async fn compared(running: &Running, request: CompareTasksRequest) -> proto::TaskComparison {
    let mut events = service(running).compare_tasks(request).await.expect("a stream").into_inner();
    let mut last = None;
    while let Some(event) = events.message().await.expect("no failure") {
        last = event.event;
    }
    let Some(Event::Comparison(found)) = last else { panic!("the comparison is the last event") };
    found
}

#[tokio::test]
async fn a_comparison_has_every_field_of_the_domain() {
    let running = Running::start(Fake::default()).await;
    let found = compared(&running, grouped(&[("a", &["third", "ok"]), ("b", &["other"])])).await;
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
    assert_eq!(found.cophenetic_correlation, Some(0.75));
    let agreement = found.group_agreement.expect("the known groups'");
    assert_eq!(agreement.known_groups, [group("a", &["third", "ok"]), group("b", &["other"])]);
    assert_eq!((agreement.clusters.as_slice(), agreement.n_permutations), (&[0, 1, 0][..], 6));
    let chance = |value: f64| proto::AgainstChance { value, chance_mean: 0.0, chance_upper: 0.5, p_value: 0.25 };
    assert_eq!(agreement.adjusted_rand_index, Some(chance(0.625)));
    assert_eq!(agreement.cophenetic_correlation, Some(chance(0.875)));
}

#[tokio::test]
async fn without_known_groups_there_is_no_agreement_with_them() {
    let running = Running::start(Fake::default()).await;
    assert_eq!(compared(&running, valid()).await.group_agreement, None);
}
