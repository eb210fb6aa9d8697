//! An attack from the server as an [`AttackReport`].

use super::{
    example_report::{Shown, words},
    reported::{Settings, model, request},
};
use crate::{
    report::{AttackReport, Ingredient, Repeat, ReportedRate},
    transport::proto::{AttackRequest, AttackSummary, RadiusSummary, SuccessRate},
};

/// What the page tells of an attack.
pub fn of(summary: &AttackSummary, shown: Shown, asked: &AttackRequest) -> AttackReport {
    let models = asked.models.join(" + ");
    let dataset = if summary.dataset.is_empty() { "the samples sent with the request" } else { &summary.dataset };
    let samples = format!("{} samples of {dataset}", summary.n_samples);
    let settings = Settings {
        attack: summary.attack.as_ref(),
        seed: summary.seed,
        confidence: None,
        dropped: &summary.dropped,
        provider: &summary.provider,
        version: &summary.version,
    };
    let attacked = summary.models.iter().map(|found| Ingredient::model("Attacked model", &model(Some(found))));
    let others = summary.evaluated_models.iter().map(|found| Ingredient::model("Tried on", &model(Some(found))));
    let mut ingredients: Vec<Ingredient> = attacked.chain(others).collect();
    let digest = summary.probe_digest.clone();
    ingredients.push(Ingredient { kind: "Samples".to_owned(), name: samples.clone(), digest });
    ingredients.extend(settings.list().iter().map(|(name, value)| Ingredient::setting(name, value)));
    AttackReport {
        rates: summary.radii.iter().map(|radius| rate(radius, &models)).collect(),
        examples: shown.report(&models, summary),
        attack: words(summary),
        samples,
        repeat: Repeat { ingredients, requests: request("Attack", "AttackRequest", asked).into_iter().collect() },
        models,
    }
}

fn rate(radius: &RadiusSummary, attacked: &str) -> ReportedRate {
    let named = |name: &str, found: &SuccessRate| (name.to_owned(), found.rate, found.clean_rate);
    let own = radius.attacked.iter().map(|found| named(attacked, found));
    let others = radius.evaluated.iter().map(|found| named(&found.model, found));
    ReportedRate { radius: radius.epsilon, models: own.chain(others).collect() }
}
