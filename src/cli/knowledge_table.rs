//! The knowledge measures of sources, as lines of a table.

use super::table;
use crate::transport::proto::{Estimate, EstimatorScore, KnowledgeScores};

/// A measure: its name, its value with the interval where it has one, and what chance gives.
pub struct Line {
    pub name: String,
    pub value: String,
    pub chance: String,
}

/// A line for each number that was measured.
pub fn lines(knowledge: &KnowledgeScores) -> Vec<Line> {
    let mut lines = Vec::new();
    let mut add = |name: String, estimate: Option<&Estimate>| {
        if estimate.is_some() {
            lines.push(Line { name, value: table::interval(estimate), chance: table::chance(estimate) });
        }
    };
    for (measure, fit) in
        [("function matching", &knowledge.function_matching), ("affine transfer", &knowledge.affine_transfer)]
    {
        let fit = fit.as_ref();
        add(format!("{measure}, R2"), fit.and_then(|fit| fit.r2.as_ref()));
        add(format!("{measure}, held-out R2"), fit.and_then(|fit| fit.held_out_r2.as_ref()));
        add(format!("{measure}, distance"), fit.and_then(|fit| fit.distance.as_ref()));
    }
    let probe = knowledge.linear_probe.as_ref();
    add("linear probe, accuracy".to_owned(), probe.and_then(|probe| probe.accuracy.as_ref()));
    add("linear probe, cross-entropy".to_owned(), probe.and_then(|probe| probe.cross_entropy.as_ref()));
    let tuned = knowledge.fine_tune.as_ref();
    add("fine-tuning, accuracy".to_owned(), tuned.and_then(|tuned| tuned.accuracy.as_ref()));
    add("fine-tuning, cross-entropy".to_owned(), tuned.and_then(|tuned| tuned.cross_entropy.as_ref()));
    add("fine-tuning, R2".to_owned(), tuned.and_then(|tuned| tuned.r2.as_ref()));
    if let Some(found) = &knowledge.verification {
        add("verification, accuracy".to_owned(), found.accuracy.as_ref());
        add("verification, ROC AUC".to_owned(), found.roc_auc.as_ref());
        add("verification, true accepts at 1 % false".to_owned(), found.true_accept_rate_at_1e2.as_ref());
        add("verification, true accepts at 0.1 % false".to_owned(), found.true_accept_rate_at_1e3.as_ref());
    }
    let scores = estimators(knowledge).into_iter().filter_map(|(name, score)| Some((name, score.as_ref()?)));
    lines.extend(scores.map(|(name, score)| Line {
        name: name.to_owned(),
        value: value(score),
        chance: chance(score),
    }));
    lines
}

/// Every estimator's name and score.
pub fn estimators(knowledge: &KnowledgeScores) -> [(&'static str, &Option<EstimatorScore>); 11] {
    [
        ("k-NN", &knowledge.knn),
        ("LEEP", &knowledge.leep),
        ("N-LEEP", &knowledge.n_leep),
        ("NCE", &knowledge.nce),
        ("LogME", &knowledge.log_me),
        ("H-score", &knowledge.h_score),
        ("reg. H-score", &knowledge.regularized_h_score),
        ("TransRate", &knowledge.trans_rate),
        ("GBC", &knowledge.gbc),
        ("SFDA", &knowledge.sfda),
        ("PARC", &knowledge.parc),
    ]
}

/// The value, with its interval where it has one.
fn value(score: &EstimatorScore) -> String {
    match (score.lower, score.upper) {
        (Some(lower), Some(upper)) => {
            table::interval(Some(&Estimate { value: score.value, lower, upper, ..Estimate::default() }))
        }
        _ => table::number(score.value),
    }
}

fn chance(score: &EstimatorScore) -> String {
    score.shuffled_null_upper.or(score.null_floor).map_or_else(|| "-".to_owned(), table::number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_without_an_interval_is_shown_without_one() {
        let mut knowledge = KnowledgeScores {
            gbc: Some(EstimatorScore { value: -0.5, ..EstimatorScore::default() }),
            ..KnowledgeScores::default()
        };
        let shown = |knowledge: &KnowledgeScores| -> Vec<[String; 3]> {
            lines(knowledge).into_iter().map(|line| [line.name, line.value, line.chance]).collect()
        };
        assert_eq!(shown(&knowledge), [["GBC", "-0.500", "-"]]);
        knowledge.gbc = None;
        knowledge.leep = Some(EstimatorScore {
            value: -1.0,
            lower: Some(-1.25),
            upper: Some(-0.75),
            shuffled_null_upper: Some(-2.0),
            ..EstimatorScore::default()
        });
        assert_eq!(shown(&knowledge), [["LEEP", "-1.000 [-1.250, -0.750]", "-2.000"]]);
    }
}
