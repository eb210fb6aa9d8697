//! The page of a ranking: what it says, that it is self-contained, that nothing in it is executed.

use transferscore::{
    report::{
        RankingReport, RecommendedPlace, ReportedModel, ReportedPoint, ReportedRecommendation, ReportedRequest,
        ReportedScore, ReportedSource, ReportedTransfer, ranking_page,
    },
    stats::{Agreement, Coefficient, Estimate, ShuffledNull},
};

fn estimate(value: f64, half_width: f64) -> Estimate {
    Estimate {
        null_floor: Some(0.05),
        shuffled: Some(ShuffledNull { mean: 0.05, upper: 0.07 }),
        ..Estimate::of(value, value - half_width, value + half_width)
    }
}

fn source(rank: usize, name: &str, combined: f64, accuracy: f64) -> ReportedSource {
    ReportedSource {
        rank,
        model: ReportedModel { name: name.to_owned(), digest: format!("{rank:064x}") },
        value: estimate(combined, 0.03),
        probability_best: None,
        probability_above_next: None,
        linear_probe_accuracy: Some(estimate(accuracy, 0.02)),
        function_matching_r2: Some(estimate(accuracy - 0.3, 0.04)),
        n_parameters: 30_464,
        clean_accuracy: Some(0.98),
    }
}

fn agreement(spearman: f64, p_value: f64) -> Agreement {
    let coefficient = |value: f64| Coefficient { value, interval: Some((value - 0.5, 1.0)), p_value };
    Agreement {
        pearson: coefficient(spearman - 0.02),
        spearman: coefficient(spearman),
        kendall: coefficient(spearman - 0.1),
        weighted_kendall: coefficient(spearman - 0.05),
        n_degenerate: 12,
    }
}

fn score(name: &str, is_baseline: bool, values: &[f64], transfers: &[f64], spearman: f64) -> ReportedScore {
    let points = values.iter().zip(transfers).enumerate().map(|(index, (value, transfer))| ReportedPoint {
        rank: index + 1,
        name: format!("source-{index}"),
        score: estimate(*value, 0.03),
        transfer: estimate(*transfer, 0.02),
    });
    ReportedScore {
        name: name.to_owned(),
        is_baseline,
        n_sources: values.len(),
        coefficients: Some(agreement(spearman, 0.017)),
        regret_at_1: Some(0.0123),
        regret_at_3: Some(0.0),
        regret_at_random: Some(0.106),
        probability_top_is_best: Some(0.81),
        points: points.collect(),
    }
}

fn recommendation() -> ReportedRecommendation {
    let place = |(name, value): (&str, f64)| RecommendedPlace {
        name: name.to_owned(),
        value: Estimate::of(value, value - 0.1, 1.0),
        probability_best: Some(value - 0.05),
    };
    ReportedRecommendation {
        places: [("digits-overlap-100", 1.0), ("digits-overlap-75", 0.75), ("digits-overlap-50", 0.5)]
            .map(place)
            .into(),
        scores: vec![("combined (reference → source)".to_owned(), 2.0 / 3.0), ("explained".to_owned(), 1.0 / 3.0)],
        contenders: vec!["digits-overlap-100".to_owned()],
        probability: 0.95,
    }
}

const COMBINED: [f64; 5] = [0.54, 0.46, 0.44, 0.34, 0.23];
const ACCURACIES: [f64; 5] = [0.99, 0.94, 0.89, 0.85, 0.75];

/// The digits pilot's figures, from all to no shared classes.
pub fn report() -> RankingReport {
    RankingReport {
        reference_model: ReportedModel { name: "digits-target".to_owned(), digest: "ab".repeat(32) },
        dataset: "digits-probe".to_owned(),
        n_samples: 360,
        probe_digest: "cd".repeat(32),
        metric: "combined (reference → source)".to_owned(),
        confidence_level: 0.95,
        sources: vec![
            source(1, "digits-overlap-100", 0.54, 0.99),
            source(2, "digits-overlap-75", 0.46, 0.94),
            source(3, "digits-overlap-50", 0.44, 0.89),
            source(4, "digits-overlap-25", 0.34, 0.85),
            source(5, "digits-overlap-0", 0.23, 0.75),
        ],
        skipped: vec![("synthetic".to_owned(), "takes vectors of 50 features".to_owned())],
        recommendation: recommendation(),
        transfers: vec![
            ReportedTransfer {
                name: "linear probe accuracy".to_owned(),
                scores: vec![
                    score("combined (reference → source)", false, &COMBINED, &ACCURACIES, 1.0),
                    score("explained", false, &[0.58, 0.43, 0.37, 0.29, 0.16], &ACCURACIES, 1.0),
                    score("number of parameters", true, &[30_464.0; 5], &ACCURACIES, 0.4),
                ],
            },
            ReportedTransfer {
                name: "affine transfer held-out R²".to_owned(),
                scores: vec![score("explained", false, &[0.58, 0.43, 0.37, 0.29, 0.16], &ACCURACIES, 0.9)],
            },
        ],
        settings: vec![("Seed".to_owned(), "0".to_owned()), ("Attack".to_owned(), "virtual, L2".to_owned())],
        examples: None,
        request: Some(ReportedRequest {
            method: "transferscore.v1.TransferScoreService/RankSources".to_owned(),
            json: r#"{"reference_model":"digits-target"}"#.to_owned(),
        }),
    }
}

fn html_of(report: &RankingReport) -> String {
    ranking_page(report).unwrap().html().unwrap()
}

fn finding(report: &RankingReport) -> String {
    let html = html_of(report);
    let (_, rest) = html.split_once("aria-label=\"Finding\">").unwrap();
    rest.split_once("</section>").unwrap().0.to_owned()
}

#[test]
fn the_page_shows_finding_table_charts_and_what_repeats_it() {
    let report = report();
    let html = html_of(&report);
    // For a person to look at: TRANSFERSCORE_REPORT=FILE keeps the page.
    if let Some(path) = std::env::var_os("TRANSFERSCORE_REPORT") {
        std::fs::write(path, &html).unwrap();
    }
    for part in [
        "digits-overlap-100 leads 5 sources by combined (reference → source): 0.540 (95 % interval 0.510 to 0.570).",
        "Every source is clearly above chance: models that share nothing reach 0.0700 here.",
        "Recommended: digits-overlap-100. By 2 scores together it is the best in 95 % of resamples.",
        "combined (reference → source) (66.7 %), explained (33.3 %)",
        "goes well together with linear probe accuracy (Spearman 1.00 over 5 sources)",
        "What predicts linear probe accuracy?",
        "0.50 to 1.00",
        "any source loses 0.106 on average",
        "<td data-name=\"Regret at 1\">0.0123</td>",
        "<span class=\"muted\">baseline</span>",
        "takes vectors of 50 features",
        "30.5 k",
        &"ab".repeat(32),
        &"cd".repeat(32),
        "<dt>Seed</dt><dd>0</dd>",
        "TransferScoreService/RankSources<pre>{&#34;reference_model&#34;",
        "Spearman 1.00 (0.50 to 1.00)</text>",
        "name=\"viewport\"",
        "prefers-color-scheme: dark",
    ] {
        assert!(html.contains(part), "lacks {part:?}");
    }
    assert_eq!(html.matches("<svg class=\"bar\"").count(), 5 + 3 + 3 + 1, "sources, places, scores of two transfers");
    assert_eq!(html.matches("may be best").count(), 1 + 1, "the contender and the legend");
    assert_eq!(html.matches("<figure>").count(), (1 + 3) + 1, "a small plot for each score where there are several");
    assert_eq!(html, html_of(&report));
}

#[test]
fn the_page_needs_no_network_and_no_script() {
    let html = html_of(&report());
    super::is_self_contained(&html);
}

#[test]
fn every_text_is_escaped() {
    let evil = "<script>alert(1)</script>\"'&";
    let mut report = report();
    report.reference_model.name = evil.to_owned();
    report.dataset = evil.to_owned();
    report.metric = evil.to_owned();
    report.probe_digest = evil.to_owned();
    report.skipped = vec![(evil.to_owned(), evil.to_owned())];
    report.settings = vec![(evil.to_owned(), evil.to_owned())];
    for source in &mut report.sources {
        source.model = ReportedModel { name: "<script>".to_owned(), digest: evil.to_owned() };
    }
    report.recommendation.places.iter_mut().for_each(|place| place.name = evil.to_owned());
    report.recommendation.contenders = vec![evil.to_owned(); 2];
    report.recommendation.scores[0].0 = evil.to_owned();
    for transfer in &mut report.transfers {
        transfer.name = evil.to_owned();
        for score in &mut transfer.scores {
            score.name = evil.to_owned();
            score.points.iter_mut().for_each(|point| point.name = "<script>".to_owned());
        }
    }
    let html = html_of(&report);
    assert!(!html.contains("<script"), "a name became markup");
    // In the chart's labels too.
    assert!(html.contains("1 &lt;script&gt;"), "the chart lacks the label");
    // A digest is cut by characters that it may not have.
    report.probe_digest = "é".repeat(30);
    report.sources.iter_mut().for_each(|source| source.model.digest = "é".repeat(30));
    html_of(&report);
}

#[test]
fn overlapping_intervals_are_said_to_overlap() {
    let mut report = report();
    assert!(!finding(&report).contains("overlap with"));
    report.sources[1].value = estimate(0.52, 0.03);
    assert!(finding(&report).contains("The interval of digits-overlap-75 overlaps with that of digits-overlap-100"));
    for source in &mut report.sources {
        source.value = estimate(0.5, 0.03);
    }
    assert!(finding(&report).contains("The intervals of digits-overlap-75, digits-overlap-50 and 2 more overlap with"));
}

#[test]
fn a_lead_is_judged_by_resamples_where_there_are_any() {
    let mut report = report();
    report.sources[1].value = estimate(0.52, 0.03);
    report.sources[0].probability_best = Some(0.8);
    report.sources[0].probability_above_next = Some(0.998);
    let text = finding(&report);
    assert!(!text.contains("overlaps with"), "{text}");
    let expected = "Resampled, these 360 samples do not tell the sources apart for certain: digits-overlap-100 is above \
                    digits-overlap-75 in more than 99 % of resamples and best of all in 80 %.";
    assert!(text.contains(expected), "{text}");
    assert!(html_of(&report).contains("<td data-name=\"Best\">80 %</td>"));
    report.sources[0].probability_best = Some(0.95);
    assert!(finding(&report).contains("these 360 samples tell the sources apart: "));
}

#[test]
fn what_chance_explains_is_not_praised() {
    let mut report = report();
    report.sources[4].value = estimate(0.08, 0.02);
    assert!(
        finding(&report)
            .contains("4 of 5 sources are clearly above chance: models that share nothing reach 0.0700 here.")
    );
    report.sources.iter_mut().for_each(|source| source.value = estimate(0.06, 0.02));
    assert!(finding(&report).contains("No source is clearly above chance"));
    report.sources.iter_mut().for_each(|source| {
        source.value.null_floor = None;
        source.value.shuffled = None;
    });
    assert!(!finding(&report).contains("chance"));
}

#[test]
fn prediction_is_worded_by_its_size_and_withheld_for_few_sources_and_chance() {
    let mut report = report();
    let found = |report: &mut RankingReport, spearman: f64, p_value: f64| {
        report.transfers[0].scores[0].coefficients = Some(agreement(spearman, p_value));
        finding(report)
    };
    for (rho, words) in [
        (0.7, "goes well together with"),
        (0.5, "partly goes together with"),
        (0.0, "says little about"),
        (-0.3, "runs against"),
    ] {
        assert!(found(&mut report, rho, 0.05).contains(words), "{rho}");
    }
    let text = found(&mut report, 0.7, 0.051);
    let expected =
        "cannot be told from these sources: Spearman 0.70 over 5 sources, and chance alone is as far from 0 in 5 %";
    assert!(text.contains(expected), "{text}");

    let text = found(&mut report, 0.3, 0.01);
    assert!(text.contains("So does what knows nothing of the task: number of parameters (Spearman 0.40)."), "{text}");
    assert!(!found(&mut report, 0.5, 0.01).contains("knows nothing of the task"));

    report.transfers[0].scores[0].n_sources = 4;
    assert!(
        found(&mut report, 1.0, 0.01).contains("cannot be told from so few sources (Spearman 1.00 over 4 sources)")
    );
    assert!(html_of(&report).contains("mean next to nothing"));
    report.transfers[0].scores[0].coefficients = None;
    assert!(!finding(&report).contains("Spearman"));
}

#[test]
fn a_recommendation_says_when_the_scores_do_not_tell() {
    let mut report = report();
    report.recommendation.contenders.push("digits-overlap-75".to_owned());
    let text = finding(&report);
    let expected = "Recommended: digits-overlap-100 first, but 2 scores together do not tell digits-overlap-100 and \
                    digits-overlap-75 apart: the best by them is one of these 2 with 95 % probability.";
    assert!(text.contains(expected), "{text}");
    report.recommendation.contenders.push("digits-overlap-50".to_owned());
    let text = finding(&report);
    assert!(text.contains("Recommended: none alone. digits-overlap-100 comes first"), "{text}");
    report.recommendation = ReportedRecommendation::default();
    let html = html_of(&report);
    assert!(!html.contains("Recommended"), "nothing was");
}

#[test]
fn odd_rankings_still_make_a_page() {
    let mut none = report();
    none.sources.clear();
    none.recommendation = ReportedRecommendation::default();
    none.transfers.clear();
    let html = html_of(&none);
    assert!(html.contains("No source could be ranked") && !html.contains("<table"));

    let mut one = report();
    one.sources.truncate(1);
    one.recommendation.places.truncate(1);
    one.transfers.clear();
    let html = html_of(&one);
    assert!(html.contains("is the only source ranked") && !html.contains("<figure>"));

    let mut strange = report();
    strange.sources.iter_mut().for_each(|source| {
        source.value =
            Estimate { value: f64::NAN, lower: f64::NEG_INFINITY, upper: f64::INFINITY, ..estimate(0.0, 0.0) };
    });
    let nothing = strange.sources[0].value.clone();
    strange.recommendation.places.iter_mut().for_each(|place| place.value = nothing.clone());
    strange.transfers[0].scores[0].points.iter_mut().for_each(|point| point.score = nothing.clone());
    let html = html_of(&strange);
    assert!(!html.contains("NaN") && !html.contains("inf%"), "a number that is none is shown");

    let mut equal = report();
    equal.sources.iter_mut().for_each(|source| source.value = estimate(0.0, 0.0));
    equal.transfers.truncate(1);
    equal.transfers[0].scores = vec![score("explained", false, &[0.5; 5], &[1.0; 5], 0.0)];
    equal.transfers[0].scores[0].coefficients = None;
    assert_eq!(html_of(&equal).matches("<figure>").count(), 1);
    equal.transfers[0].scores.clear();
    assert!(!html_of(&equal).contains("What predicts"));

    let mut many = report();
    many.sources = (1..=300).map(|i| source(i, &format!("m{i}"), 1.0 / i as f64, 0.5 + 0.001 * i as f64)).collect();
    let values: Vec<f64> = (1..=3000).map(|i| 1.0 / f64::from(i)).collect();
    many.transfers[0].scores = vec![score("explained", false, &values, &values, 1.0); 9];
    let html = html_of(&many);
    assert_eq!(
        html.matches("<figure>").count(),
        1 + 2 + 1,
        "of very many points no more than two small plots are drawn"
    );
    assert!(html.contains("7 more plots are left out"));
}
