//! Charts of values over a level.

use transferscore::{
    report::{LineChart, LinesReport, Page, Part, Series, SeriesKind, lines_section},
    stats::Estimate,
};

pub fn report() -> LinesReport {
    let measured = |name: &str, values: [f64; 3]| Series {
        name: name.to_owned(),
        kind: SeriesKind::Measured,
        points: [0.0, 0.5, 1.0].into_iter().zip(values.map(|v| Estimate::of(v, 0.9 * v, 1.1 * v))).collect(),
    };
    let bound = Series {
        name: "theorem 2".to_owned(),
        kind: SeriesKind::Bound { of: 0 },
        points: [0.0, 0.5, 1.0].into_iter().zip([5.0, 7.0, 9.0].map(Estimate::exact)).collect(),
    };
    let chart = |title: &str, is_logarithmic: bool| LineChart {
        title: title.to_owned(),
        caption: "Bands are 95 % intervals.".to_owned(),
        x_label: "noise".to_owned(),
        y_label: "distance".to_owned(),
        is_logarithmic,
        series: vec![measured("gradient matching", [0.1, 0.2, 0.4]), measured("loss", [1.0, 1.1, 1.2]), bound.clone()],
    };
    LinesReport {
        title: "Theory against measurement".to_owned(),
        summary: "Noise moves the source away.".to_owned(),
        charts: vec![chart("Bounds", false), chart("Bounds, logarithmic", true)],
    }
}

fn page(report: &LinesReport) -> Page {
    let sections = vec![lines_section(report).unwrap()];
    let parts = vec![Part { title: String::new(), sections }];
    Page { title: "Lines".to_owned(), summary: String::new(), parts }
}

fn figures(report: &LinesReport) -> Vec<String> {
    page(report).figures().into_iter().map(|(_, svg)| svg).collect()
}

#[test]
fn charts_have_lines_bands_dots_and_dashed_bounds() {
    let html = page(&report()).html().unwrap();
    super::is_self_contained(&html);
    for part in ["<h2>Theory against measurement</h2>", "Noise moves", "<strong>Bounds.</strong> Bands are"] {
        assert!(html.contains(part), "lacks {part:?}");
    }
    for svg in figures(&report()) {
        assert_eq!(svg.matches("<circle").count(), 2 * 3, "of measured values");
        assert_eq!(svg.matches("fill-opacity").count(), 2, "a band for each measured series");
        assert_eq!(svg.matches("stroke-dasharray").count(), 1);
        assert!(
            svg.contains(">theorem 2</text>") && svg.contains(">noise →</text>") && svg.contains(">distance</text>")
        );
    }
}

#[test]
fn a_bound_above_a_value_is_drawn_above_it() {
    // The bound and what it bounds, at the first level: y grows downwards.
    for svg in figures(&report()) {
        let first_y = |path: &str| -> f64 {
            let (_, rest) = path.split_once(' ').unwrap();
            rest.split(['L', ' ']).next().unwrap().parse().unwrap()
        };
        let paths: Vec<&str> = svg.split("<path d=\"").skip(1).map(|path| path.split('"').next().unwrap()).collect();
        let dashed = svg.split("<path d=\"").skip(1).position(|path| path.split("/>").next().unwrap().contains("dash"));
        let bound = first_y(paths[dashed.unwrap()]);
        let dots: Vec<f64> =
            svg.split("cy=\"").skip(1).map(|dot| dot.split('"').next().unwrap().parse().unwrap()).collect();
        assert!(dots.iter().all(|y| *y > bound), "{bound} {dots:?}");
    }
}

#[test]
fn several_values_of_a_level_are_dots_with_a_line_through_their_mean() {
    let mut report = report();
    report.charts.truncate(1);
    let points = [0.0, 0.0, 1.0, 1.0].into_iter().zip([1.0, 3.0, 2.0, 4.0].map(Estimate::exact)).collect();
    report.charts[0].series = vec![Series { name: "seeds".to_owned(), kind: SeriesKind::Measured, points }];
    let svg = &figures(&report)[0];
    assert_eq!(svg.matches("<circle").count(), 4);
    assert!(!svg.contains("fill-opacity"), "no band of several values");
    let line =
        svg.split("<path d=\"").find(|path| path.contains("stroke-width=\"2\"")).unwrap().split('"').next().unwrap();
    assert_eq!(line.matches('L').count(), 1, "one step, between two means: {line}");
}

#[test]
fn odd_charts_are_drawn() {
    let strange = [f64::NAN, f64::INFINITY, -1.0, 0.0, 1e300];
    let points: Vec<(f64, Estimate)> =
        strange.into_iter().flat_map(|x| strange.map(|y| (x, Estimate::of(y, f64::NEG_INFINITY, f64::NAN)))).collect();
    let series = |points: &[(f64, Estimate)], kind| Series { name: "odd".to_owned(), kind, points: points.to_vec() };
    for is_logarithmic in [false, true] {
        for points in [&points[..], &[], &points[..1], &[(1.0, Estimate::exact(2.0))]] {
            let kinds = [SeriesKind::Measured, SeriesKind::Bound { of: 77 }];
            let mut report = report();
            report.charts.truncate(1);
            report.charts[0].is_logarithmic = is_logarithmic;
            report.charts[0].series = kinds.map(|kind| series(points, kind)).into();
            for svg in figures(&report) {
                assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
                super::is_well_formed(&svg);
            }
        }
    }
}
