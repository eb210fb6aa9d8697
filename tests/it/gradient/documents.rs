//! The table of operators in the documentation is the compiler's own.

use std::{fmt::Write as _, path::Path};

use transferscore::gradient::{Support, operators};

fn table() -> String {
    let mut text = String::from(
        "# Operators\n\n\
         What the gradient compiler does with each operator of the standard domain. Opsets are those of the file; older \
         forms are brought to one on reading.\nAn operator that is not listed runs where no gradient passes, and is an \
         obstacle elsewhere, which `transferscore check` names.\nWritten by a test: `UPDATE_DOCS=1 cargo test --test it \
         operators_document`.\n\n\
         | operator | vjp | jvp | opsets | |\n|---|---|---|---|---|\n",
    );
    for operator in operators() {
        let (supported, remark) = match operator.support {
            Support::Derivative => ("yes", String::new()),
            Support::Zero => ("zero", "changes by steps or not at all with its inputs".to_owned()),
            Support::Refused(reason) => ("no", reason.to_owned()),
            Support::Converted => ("yes", "becomes other operators on reading".to_owned()),
        };
        let opsets = operator.opsets.map_or_else(String::new, |(first, last)| format!("{first} to {last}"));
        writeln!(text, "| {} | {supported} | {supported} | {opsets} | {remark} |", operator.name).unwrap();
    }
    text
}

#[test]
fn operators_document_is_what_the_rules_say() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/operators.md");
    let expected = table();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, &expected).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == expected,
        "docs/operators.md is not what the rules say; run UPDATE_DOCS=1 cargo test --test it operators_document"
    );
}

#[test]
fn every_operator_is_listed_once_and_in_order() {
    let names: Vec<&str> = operators().into_iter().map(|operator| operator.name).collect();
    let mut sorted = names.clone();
    sorted.sort();
    sorted.dedup();
    assert_eq!(names, sorted);
    for operator in transferscore::gradient::differentiable_operators() {
        assert!(names.contains(&operator), "{operator}");
    }
}
