//! Pages of several parts, and figures as files.

use transferscore::report::{
    Page, Part, caveats_section, examples_section, finding_section, lines_section, matrix_sections, ranking_sections,
};

use super::{examples, lines, matrix, ranking};

/// Everything that a page may have.
pub fn everything() -> Page {
    let part = |title: &str, sections| Part { title: title.to_owned(), sections };
    Page {
        title: "All of it".to_owned(),
        summary: "Several results on one page.".to_owned(),
        parts: vec![
            part("In short", vec![finding_section(&["It works.".to_owned()]).unwrap()]),
            part("Seed 0", ranking_sections(&ranking::report()).unwrap()),
            part("Seed 1", ranking_sections(&ranking::report()).unwrap()),
            part("Tasks", matrix_sections(&matrix::report()).unwrap()),
            part("Theory", vec![lines_section(&lines::report()).unwrap()]),
            part("Samples", vec![examples_section(&examples::report()).unwrap()]),
            part("Caveats", vec![caveats_section(&["Mind the gap."]).unwrap()]),
        ],
    }
}

#[test]
fn a_page_of_several_parts_has_a_heading_for_each_and_a_list_of_them() {
    let html = everything().html().unwrap();
    super::is_self_contained(&html);
    assert_eq!(html.matches("<h1>").count(), 1);
    assert_eq!(html.matches("<h2 class=\"part\"").count(), 7);
    assert_eq!(html.matches("<h2").count(), 7, "sections are a level below");
    assert!(html.contains("<a href=\"#part-3\">Seed 1</a>") && html.contains("id=\"part-3\">Seed 1</h2>"));
}

#[test]
fn figures_stand_alone() {
    let page = everything();
    let html = page.html().unwrap();
    let figures = page.figures();
    assert_eq!(figures.len(), html.matches("<figure>").count());
    let mut names: Vec<&str> = figures.iter().map(|(name, _)| name.as_str()).collect();
    for expected in
        ["seed-1-explained-and-linear-probe-accuracy-small.svg", "tasks-matrix-alpha1.svg", "theory-bounds.svg"]
    {
        assert!(names.contains(&expected), "lacks {expected}: {names:?}");
    }
    assert!(
        names.iter().all(|name| name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'.')),
        "{names:?}"
    );
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), figures.len(), "no two share a name");
    for (name, svg) in &figures {
        assert!(svg.starts_with("<?xml") && svg.contains("xmlns=\"http://www.w3.org/2000/svg\""), "{name}");
        assert!(!svg.contains("var(--"), "{name} has a colour of the page");
        super::is_self_contained(svg);
        super::is_well_formed(svg);
    }
}

#[test]
fn a_name_that_looks_like_a_colour_stays_a_name() {
    let mut report = matrix::report();
    report.models[0].name = "\"var(--ink)\"".to_owned();
    let page = Page {
        title: String::new(),
        summary: String::new(),
        parts: vec![Part { title: String::new(), sections: matrix_sections(&report).unwrap() }],
    };
    assert!(page.figures()[0].1.contains("&quot;var(--ink)&quot;</text>"));
}
