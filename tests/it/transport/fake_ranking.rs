//! The end of the fake's ranking.

use transferscore::scoring::types::*;

use super::fake_answers::estimate;

pub fn ranking(request: &RankingRequest) -> Ranking {
    let sources = &request.source_models;
    let k = sources.len();
    let places = |value: f64| {
        let place = |(index, source_model): (usize, &String)| RankedSource {
            source_model: source_model.clone(),
            rank: index + 1,
            value: estimate(value),
            probability_best: Some(0.75),
            probability_above_next: (index + 1 < k).then_some(0.75),
        };
        sources.iter().enumerate().map(place).collect()
    };
    Ranking {
        rank_by: request.rank_by,
        sources: places(0.25),
        probability_above: vec![vec![0.5; k]; k],
        correlations: vec![correlation()],
        recommendation: Recommendation {
            sources: places(0.625),
            from: vec![WeightedScore { score: "reference_to_source.combined".to_owned(), weight: 1.0 }],
            contenders: sources.iter().take(1).cloned().collect(),
            probability: 0.95,
        },
        skipped: Vec::new(),
    }
}

fn correlation() -> MeasureCorrelation {
    let coefficient = Coefficient { value: 0.9, interval: Some((0.4, 1.0)), p_value: 0.04 };
    let regret = |absolute| Some(Regret { absolute, relative: Some(absolute / 0.9) });
    MeasureCorrelation {
        score: "reference_to_source.combined".to_owned(),
        kind: MeasureKind::Adversarial,
        measured_transfer: "knowledge.linear_probe.accuracy".to_owned(),
        n_sources: 5,
        agreement: Some(Agreement {
            pearson: coefficient,
            spearman: coefficient,
            kendall: coefficient,
            weighted_kendall: coefficient,
            n_degenerate: 3,
        }),
        regret_at_1: regret(0.02),
        regret_at_3: regret(0.01),
        regret_at_random: regret(0.1),
        probability_top_is_best: Some(0.7),
    }
}
