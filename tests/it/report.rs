//! The HTML page: what it says, that it is self-contained, that nothing in it is executed.

use transferscore::{
    report::{RankingReport, ReportedModel, ReportedSource, ranking_html},
    stats::{Estimate, ShuffledNull},
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
        combined: estimate(combined, 0.03),
        linear_probe_accuracy: Some(estimate(accuracy, 0.02)),
        function_matching_r2: Some(estimate(accuracy - 0.3, 0.04)),
        n_parameters: 30_464,
    }
}

/// The digits pilot's figures, from all to no shared classes.
fn report() -> RankingReport {
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
        spearman_linear_probe: Some(1.0),
        spearman_function_matching: Some(0.9),
        settings: vec![("Seed".to_owned(), "0".to_owned()), ("Attack".to_owned(), "virtual, L2".to_owned())],
    }
}

fn finding(report: &RankingReport) -> String {
    let html = ranking_html(report).unwrap();
    let (_, rest) = html.split_once("aria-label=\"Finding\">").unwrap();
    rest.split_once("</section>").unwrap().0.to_owned()
}

#[test]
fn the_page_shows_finding_table_charts_and_what_repeats_it() {
    let report = report();
    let html = ranking_html(&report).unwrap();
    // For a person to look at: TRANSFERSCORE_REPORT=FILE keeps the page.
    if let Some(path) = std::env::var_os("TRANSFERSCORE_REPORT") {
        std::fs::write(path, &html).unwrap();
    }
    for part in [
        "digits-overlap-100 leads 5 sources by combined (reference → source): 0.540 (95 % interval 0.510 to 0.570).",
        "Every source is clearly above chance.",
        "goes well together with linear-probe accuracy (Spearman 1.00 over 5 sources)",
        "takes vectors of 50 features",
        "30.5 k",
        &"ab".repeat(32),
        &"cd".repeat(32),
        "<dt>Seed</dt><dd>0</dd>",
        "name=\"viewport\"",
        "prefers-color-scheme: dark",
    ] {
        assert!(html.contains(part), "lacks {part:?}");
    }
    assert_eq!(html.matches("<svg class=\"bar\"").count(), 5);
    assert_eq!(html.matches("<figure>").count(), 2);
    assert_eq!(html, ranking_html(&report).unwrap());
}

#[test]
fn the_page_needs_no_network_and_no_script() {
    let html = ranking_html(&report()).unwrap();
    let links = html.replace("http://www.w3.org/2000/svg", "");
    for foreign in ["http:", "https:", "src=", "href=", "<script", "<link", "@import", "url(", "onload"] {
        assert!(!links.contains(foreign), "contains {foreign}");
    }
    for stand_in in ["#010101", "#020202", "#030303", "#040404"] {
        assert!(!html.contains(stand_in), "a colour was not replaced by the page's own");
    }
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
    let html = ranking_html(&report).unwrap();
    assert!(!html.contains("<script"), "a name became markup");
    // In the chart's labels too.
    assert!(html.contains("1 &lt;script&gt;"), "the chart lacks the label");
    // A digest is cut by characters that it may not have.
    report.probe_digest = "é".repeat(30);
    report.sources.iter_mut().for_each(|source| source.model.digest = "é".repeat(30));
    ranking_html(&report).unwrap();
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
    assert!(ranking_html(&report).unwrap().contains("<td data-name=\"Best\">80 %</td>"));
    report.sources[0].probability_best = Some(0.95);
    assert!(finding(&report).contains("these 360 samples tell the sources apart: "));
}

#[test]
fn what_chance_explains_is_not_praised() {
    let mut report = report();
    report.sources[4].value = estimate(0.08, 0.02);
    assert!(finding(&report).contains("4 of 5 sources are clearly above chance."));
    report.sources.iter_mut().for_each(|source| source.value = estimate(0.06, 0.02));
    assert!(finding(&report).contains("No source is clearly above chance"));
    report.sources.iter_mut().for_each(|source| {
        source.value.null_floor = None;
        source.value.shuffled = None;
    });
    assert!(!finding(&report).contains("chance"));
}

#[test]
fn agreement_is_worded_by_its_size_and_withheld_for_few_sources() {
    let mut report = report();
    for (rho, words) in [
        (0.7, "goes well together with"),
        (0.5, "partly goes together with"),
        (0.0, "says little about"),
        (-0.3, "runs against"),
    ] {
        report.spearman_linear_probe = Some(rho);
        assert!(finding(&report).contains(words), "{rho}");
    }
    report.sources.truncate(4);
    assert!(finding(&report).contains("cannot be told from so few sources"));
    report.spearman_linear_probe = None;
    report.spearman_function_matching = None;
    assert!(!finding(&report).contains("Spearman"));
}

#[test]
fn odd_rankings_still_make_a_page() {
    let mut none = report();
    none.sources.clear();
    let html = ranking_html(&none).unwrap();
    assert!(html.contains("No source could be ranked") && !html.contains("<table"));

    let mut one = report();
    one.sources.truncate(1);
    let html = ranking_html(&one).unwrap();
    assert!(html.contains("is the only source ranked") && !html.contains("<figure>"));

    let mut strange = report();
    strange.sources.iter_mut().for_each(|source| {
        source.value =
            Estimate { value: f64::NAN, lower: f64::NEG_INFINITY, upper: f64::INFINITY, ..estimate(0.0, 0.0) };
        source.combined = source.value.clone();
    });
    let html = ranking_html(&strange).unwrap();
    assert!(!html.contains("NaN") && !html.contains("inf%"), "a number that is none is shown");

    let mut equal = report();
    equal.sources.iter_mut().for_each(|source| {
        source.value = estimate(0.0, 0.0);
        source.combined = source.value.clone();
        source.linear_probe_accuracy = Some(estimate(1.0, 0.0));
        source.function_matching_r2 = None;
    });
    assert_eq!(ranking_html(&equal).unwrap().matches("<figure>").count(), 1);

    let mut many = report();
    many.sources = (1..=300).map(|i| source(i, &format!("m{i}"), 1.0 / i as f64, 0.5 + 0.001 * i as f64)).collect();
    ranking_html(&many).unwrap();
}
