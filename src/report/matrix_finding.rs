//! What a comparison of tasks says, in plain words.

use super::{
    MatrixReport, ReportedAgreement, finding,
    words::{list, number, percent, probability, signed, span},
};

/// What every reader of a comparison should know, whatever it says.
pub const CAVEATS: &[&str] = &[
    "Rows are attacked models, columns models read. The two directions between a pair differ, and both are right.",
    "A tournament tells which attacks fare better than others, not that any of them fares well.",
    "Ward's criterion always finds clusters, whether there are any or not. What tells of groups is the agreement with those \
     known beforehand, against chance.",
    "A model's smoothness makes a whole row or column paler: it is alike to others that are as smooth.",
    "Intervals tell how much the numbers depend on which samples were drawn. They do not cover how the models happened \
     to be trained.",
];

/// The largest share of permutations that counts as more than chance.
const BY_CHANCE: f64 = 0.05;
/// From here on a tree keeps the distances well.
const FAITHFUL: f64 = 0.75;
/// What sums miss by rounding.
const ROUNDING: f64 = 1e-9;

/// The finding, most important sentence first.
pub fn sentences(report: &MatrixReport) -> Vec<String> {
    let mut sentences: Vec<String> = Vec::new();
    sentences.extend(report.agreement.as_ref().map(|agreement| groups(report, agreement)));
    sentences.extend(report.agreement.as_ref().and_then(separation));
    sentences.extend(strongest(report));
    sentences.extend(above_chance(report));
    sentences.extend(winner(report));
    sentences.extend(report.cophenetic_correlation.map(faithfulness));
    if sentences.is_empty() {
        sentences.push("There is nothing to tell of these models.".to_owned());
    }
    sentences
}

/// Whether the clusters are the known groups.
fn groups(report: &MatrixReport, agreement: &ReportedAgreement) -> String {
    let found = agreement.adjusted_rand_index;
    let n_clusters = agreement.groups.len();
    let numbers = format!(
        "adjusted Rand index {}; shuffled groups give {} on average, and up to {} in {} % of shuffles",
        signed(found.value),
        signed(found.chance.mean),
        signed(found.chance.upper),
        percent(report.confidence_level)
    );
    let share = probability(found.p_value);
    match (found.value >= 1.0 - ROUNDING, found.p_value <= BY_CHANCE) {
        (true, true) => format!("Cut into {n_clusters} clusters, the tree has exactly the known groups ({numbers})."),
        (true, false) => format!(
            "Cut into {n_clusters} clusters, the tree has exactly the known groups ({numbers}). But these are few models: \
             by chance it is so in {share} of shuffles."
        ),
        (false, true) => format!(
            "Cut into {n_clusters} clusters, the tree finds part of the known groups ({numbers}; chance does as well in \
             {share} of shuffles)."
        ),
        (false, false) => format!(
            "Cut into {n_clusters} clusters, the tree does not find the known groups better than chance ({numbers}; chance \
             does as well in {share} of shuffles)."
        ),
    }
}

/// Whether models of one group come together earlier, wherever the tree is cut.
fn separation(agreement: &ReportedAgreement) -> Option<String> {
    let found = agreement.cophenetic_correlation?;
    let numbers =
        format!("cophenetic correlation {}, by chance in {}", signed(found.value), probability(found.p_value));
    Some(match found.p_value <= BY_CHANCE {
        true => format!("Wherever it is cut, models of one group come together earlier than others ({numbers})."),
        false => {
            format!(
                "Whether models of one group come together earlier than others cannot be told from chance ({numbers})."
            )
        }
    })
}

/// The attack that carries over best.
fn strongest(report: &MatrixReport) -> Option<String> {
    let matrix = report.matrices.first()?;
    let rows = matrix.rows.iter().enumerate();
    let cells = rows.flat_map(|(row, cells)| cells.iter().enumerate().map(move |(column, cell)| (row, column, cell)));
    let others = cells.filter(|(row, column, cell)| row != column && cell.value.is_finite());
    let (row, column, best) = others.max_by(|a, b| a.2.value.total_cmp(&b.2.value))?;
    Some(format!(
        "Attacks carry over best from {} to {}: {} {} ({} % interval {}).",
        report.name(row),
        report.name(column),
        matrix.name,
        number(best.value),
        percent(report.confidence_level),
        span(best.lower, best.upper)
    ))
}

/// How many pairs chance explains, where the level of chance is known.
fn above_chance(report: &MatrixReport) -> Option<String> {
    let matrix = report.matrices.first()?;
    let rows = matrix.rows.iter().enumerate();
    let others = rows.flat_map(|(row, cells)| cells.iter().enumerate().filter(move |(column, _)| *column != row));
    let judged: Vec<bool> = others.filter_map(|(_, e)| Some(e.lower > finding::chance(e)?)).collect();
    let n_judged = judged.len();
    match judged.iter().filter(|above| **above).count() {
        _ if n_judged == 0 => None,
        above if above == n_judged => Some(format!("All {n_judged} pairs are clearly above chance.")),
        above => Some(format!("{above} of {n_judged} pairs are clearly above chance.")),
    }
}

/// The attacks that win the tournament on most models.
fn winner(report: &MatrixReport) -> Option<String> {
    let k = report.models.len();
    if k < 3 {
        return None;
    }
    let at = |row: usize, column: usize| report.affinity.get(row).and_then(|row| row.get(column)).copied();
    let mut wins = vec![0; k];
    for column in 0..k {
        let attacks = (0..k).filter(|row| *row != column).filter_map(|row| Some((row, at(row, column)?)));
        if let Some(count) = attacks.max_by(|a, b| a.1.total_cmp(&b.1)).and_then(|(row, _)| wins.get_mut(row)) {
            *count += 1;
        }
    }
    let most = wins.iter().copied().max().filter(|most| *most > 0)?;
    let first: Vec<&str> = (0..k).filter(|row| wins.get(*row) == Some(&most)).map(|row| report.name(row)).collect();
    let each = if first.len() > 1 { "each move" } else { "move" };
    Some(format!("Attacks on {} {each} most of all on {most} of {} other models.", list(&first), k - 1))
}

fn faithfulness(correlation: f64) -> String {
    let number = signed(correlation);
    if correlation >= FAITHFUL {
        format!("The tree keeps the distances between the rows well (cophenetic correlation {number}).")
    } else {
        format!(
            "The tree keeps the distances between the rows only roughly (cophenetic correlation {number}): trust the matrix \
             beside it more."
        )
    }
}
