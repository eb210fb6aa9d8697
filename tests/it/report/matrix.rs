//! The page of a comparison of tasks.

use transferscore::{
    report::{MatrixReport, ReportedAgreement, ReportedGroup, ReportedMatrix, ReportedModel, matrix_page},
    stats::{AgainstChance, Estimate, Merge, ShuffledNull},
};

const NAMES: [&str; 4] = ["edges", "depth", "keypoints", "normals"];

/// Edges and keypoints move each other, depth and normals do.
fn values() -> Vec<Vec<f64>> {
    (0..4).map(|row| (0..4).map(|column| cell(row, column)).collect()).collect()
}

fn cell(row: usize, column: usize) -> f64 {
    match (row, column) {
        (row, column) if row == column => 1.0,
        (row, column) if row % 2 == column % 2 => 0.625,
        _ => 0.125,
    }
}

fn estimates(values: &[Vec<f64>]) -> Vec<Vec<Estimate>> {
    let chance = Some(ShuffledNull { mean: 0.1, upper: 0.15 });
    let estimate = |value: &f64| Estimate { shuffled: chance, ..Estimate::of(*value, value - 0.0625, value + 0.0625) };
    values.iter().map(|row| row.iter().map(estimate).collect()).collect()
}

fn against(value: f64, p_value: f64) -> AgainstChance {
    AgainstChance { value, chance: ShuffledNull { mean: -0.004, upper: 0.25 }, p_value }
}

pub fn report() -> MatrixReport {
    let affinity = [[0.0, 0.1, 0.7, 0.1], [0.1, 0.0, 0.1, 0.8], [0.8, 0.2, 0.0, 0.1], [0.1, 0.7, 0.2, 0.0]];
    let affinity: Vec<Vec<f64>> = affinity.map(Vec::from).into();
    let exact =
        |values: &[Vec<f64>]| values.iter().map(|row| row.iter().map(|v| Estimate::exact(*v)).collect()).collect();
    let group = |name: &str, models: [&str; 2]| ReportedGroup {
        name: name.to_owned(),
        models: models.map(str::to_owned).into(),
    };
    MatrixReport {
        models: NAMES.map(|name| ReportedModel { name: name.to_owned(), digest: "ab".repeat(32) }).into(),
        dataset: "rooms".to_owned(),
        n_samples: 400,
        probe_digest: "cd".repeat(32),
        confidence_level: 0.95,
        matrices: vec![
            ReportedMatrix { name: "alpha1".to_owned(), meaning: "How far.".to_owned(), rows: estimates(&values()) },
            ReportedMatrix {
                name: "affinity".to_owned(),
                meaning: "How each fares.".to_owned(),
                rows: exact(&affinity),
            },
        ],
        affinity,
        merges: vec![
            Merge { first: 0, second: 2, height: 0.5, size: 2 },
            Merge { first: 1, second: 3, height: 0.5, size: 2 },
            Merge { first: 4, second: 5, height: 1.5, size: 4 },
        ],
        clusters: vec![0, 1, 0, 1],
        cophenetic_correlation: Some(0.93),
        agreement: Some(ReportedAgreement {
            groups: vec![group("2D", ["edges", "keypoints"]), group("3D", ["depth", "normals"])],
            clusters: vec![0, 1, 0, 1],
            adjusted_rand_index: against(1.0, 0.04),
            cophenetic_correlation: Some(against(0.9, 0.04)),
            n_permutations: 24,
        }),
        settings: vec![("seed".to_owned(), "0".to_owned())],
        request: None,
    }
}

fn html_of(report: &MatrixReport) -> String {
    matrix_page(report).unwrap().html().unwrap()
}

fn finding(report: &MatrixReport) -> String {
    let html = html_of(report);
    let (_, rest) = html.split_once("aria-label=\"Finding\">").unwrap();
    rest.split_once("</section>").unwrap().0.to_owned()
}

#[test]
fn the_page_shows_matrices_tree_tournament_groups_and_what_repeats_it() {
    let html = html_of(&report());
    for part in [
        "the tree has exactly the known groups (adjusted Rand index 1.00; shuffled groups give 0.00 on average, and up to \
         0.25 in 95 % of shuffles).",
        "come together earlier than others (cophenetic correlation 0.90, by chance in 4 %)",
        "Attacks carry over best from",
        "4 of 12 pairs are clearly above chance.",
        "The tree keeps the distances between the rows well (cophenetic correlation 0.93).",
        "<title>attack on edges, read on keypoints: 0.625 (0.562 to 0.688)</title>",
        "Do the clusters find the known groups?",
        "shuffled among the models, 24 times",
        "<dt>Cluster 1</dt><dd>edges (2D), keypoints (2D)</dd>",
        "Tournament of the attacks",
        "an even share is 0.333",
        "rows of alpha1, Ward&#39;s criterion",
        "<dt>seed</dt><dd>0</dd>",
        &"ab".repeat(32),
        &"cd".repeat(32),
    ] {
        assert!(html.contains(part), "lacks {part:?}");
    }
    super::is_self_contained(&html);
    assert_eq!(html.matches("<figure>").count(), 2);
    assert_eq!(html, html_of(&report()));
    // Both halves of the tree are of one group; both stems of both, and both stems of the root have its colour.
    for group in ["var(--g0)", "var(--g1)"] {
        assert_eq!(html.matches(&format!("stroke=\"{group}\"")).count(), 3, "{group}");
    }
}

#[test]
fn rows_and_columns_are_in_the_order_of_the_tree() {
    let figures = matrix_page(&report()).unwrap().figures();
    let (name, svg) = &figures[0];
    assert_eq!(name, "matrix-alpha1.svg");
    let place = |label: &str| svg.find(&format!(">{label}<")).unwrap();
    let mut order = NAMES;
    order.sort_by_key(|name| place(name));
    let sides: Vec<bool> = order.iter().map(|name| ["edges", "keypoints"].contains(name)).collect();
    assert!(sides == [true, true, false, false] || sides == [false, false, true, true], "{order:?}");
}

#[test]
fn groups_that_are_not_found_are_not_praised() {
    let with = |value: f64, p_value: f64| {
        let mut report = report();
        if let Some(agreement) = &mut report.agreement {
            agreement.adjusted_rand_index = against(value, p_value);
            agreement.cophenetic_correlation = Some(against(value, p_value));
        }
        finding(&report)
    };
    assert!(with(0.4, 0.05).contains("finds part of the known groups"));
    let text = with(0.4, 0.051);
    assert!(
        text.contains("does not find the known groups better than chance")
            && text.contains("cannot be told from chance"),
        "{text}"
    );
    assert!(with(1.0, 0.3).contains("by chance it is so in 30 % of shuffles"));
    let report = MatrixReport { agreement: None, cophenetic_correlation: Some(0.5), ..report() };
    let text = finding(&report);
    assert!(!text.contains("known groups") && text.contains("only roughly"), "{text}");
    assert!(!html_of(&report).contains("Do the clusters find"));
}

#[test]
fn every_text_is_escaped() {
    let evil = "<script>alert(1)</script>\"'&\u{1}";
    let mut report = report();
    report
        .models
        .iter_mut()
        .for_each(|model| *model = ReportedModel { name: evil.to_owned(), digest: evil.to_owned() });
    report.dataset = evil.to_owned();
    report.settings = vec![(evil.to_owned(), evil.to_owned())];
    for matrix in &mut report.matrices {
        (matrix.name, matrix.meaning) = (evil.to_owned(), evil.to_owned());
    }
    for group in report.agreement.iter_mut().flat_map(|agreement| &mut agreement.groups) {
        group.name = evil.to_owned();
    }
    let page = matrix_page(&report).unwrap();
    assert!(!page.html().unwrap().contains("<script"), "a name became markup");
    for (_, svg) in page.figures() {
        assert!(!svg.contains("<script") && !svg.contains('\u{1}'), "a name became markup");
        super::is_well_formed(&svg);
    }
}

#[test]
fn odd_comparisons_still_make_a_page() {
    let mut two = report();
    two.models.truncate(2);
    two.matrices.iter_mut().for_each(|matrix| {
        matrix.rows.truncate(2);
        matrix.rows.iter_mut().for_each(|row| row.truncate(2));
    });
    two.merges = vec![Merge { first: 0, second: 1, height: 0.0, size: 2 }];
    two.clusters = vec![0, 1];
    two.agreement = None;
    assert!(!html_of(&two).contains("Tournament"));

    let mut strange = report();
    strange.matrices.iter_mut().flat_map(|matrix| matrix.rows.iter_mut().flatten()).for_each(|e| {
        *e = Estimate::of(f64::NAN, f64::NEG_INFINITY, f64::INFINITY);
    });
    strange.affinity = Vec::new();
    strange.merges = vec![Merge { first: 9, second: 70, height: f64::NAN, size: 0 }];
    let html = html_of(&strange);
    assert!(!html.contains("NaN") && !html.contains("inf"), "a number that is none is shown");

    let none = MatrixReport {
        models: Vec::new(),
        matrices: Vec::new(),
        affinity: Vec::new(),
        merges: Vec::new(),
        clusters: Vec::new(),
        agreement: None,
        cophenetic_correlation: None,
        ..report()
    };
    assert!(html_of(&none).contains("nothing to tell"));

    let mut many = report();
    let k = 64;
    many.models = (0..k)
        .map(|i| ReportedModel { name: format!("a-model-with-a-long-name-{i}"), digest: String::new() })
        .collect();
    many.matrices[0].rows = vec![vec![Estimate::of(0.5, 0.4, 0.6); k]; k];
    many.matrices.truncate(1);
    let html = html_of(&many);
    assert!(html.len() < 1_000_000, "{} bytes", html.len());
    assert!(!html.contains("<title>attack on"), "so many cells have no numbers for a pointer over them");
}
