//! Adversarial examples from the server as an [`ExamplesReport`].

use super::Failure;
use crate::{
    report::{Example, ExamplesReport, Picture},
    transport::{
        client::Client,
        proto::{
            self, AdversarialExamples, AttackOptions, AttackRequest, AttackSummary, attack_request::Probe,
            attack_response::Event,
        },
    },
};

/// Attacks `n` samples of a dataset. The virtual attack gives no examples, so that PGD takes its place; of several radii the
/// first counts. `None` where the samples are no pictures.
///
/// # Errors
/// When the server refuses or fails.
pub async fn ask(
    client: &Client,
    model: &str,
    dataset: &str,
    attack: AttackOptions,
    seed: u64,
    n: u32,
) -> Result<Option<ExamplesReport>, Failure> {
    let gives_none = [proto::AttackMethod::Unspecified, proto::AttackMethod::Virtual].contains(&attack.method());
    let request = AttackRequest {
        models: vec![model.to_owned()],
        probe: Some(Probe::Dataset(dataset.to_owned())),
        max_samples: n,
        attack: Some(if gives_none { AttackOptions::default() } else { attack }),
        seed,
        with_clean_samples: true,
        ..AttackRequest::default()
    };
    let mut shown = Shown::new(n, classes(client, model).await?);
    let mut events = client.attack(request).await?;
    let mut summary = None;
    while let Some(response) = events.next().await? {
        match response.event {
            Some(Event::Examples(examples)) => shown.add(&examples),
            Some(Event::Summary(last)) => summary = Some(last),
            _ => {}
        }
    }
    Ok(summary.and_then(|summary| shown.report(model, &summary)))
}

/// The names of a model's classes; empty where it has none.
///
/// # Errors
/// When the server refuses or fails.
pub async fn classes(client: &Client, model: &str) -> Result<Vec<String>, Failure> {
    let models = client.models().await?;
    Ok(models.into_iter().find(|other| other.name == model).map(|model| model.classes).unwrap_or_default())
}

/// The first examples of the first radius, as they come.
pub struct Shown {
    most: usize,
    classes: Vec<String>,
    radius: Option<Option<f64>>,
    examples: Vec<Example>,
}

impl Shown {
    pub fn new(most: u32, classes: Vec<String>) -> Shown {
        Shown { most: most as usize, classes, radius: None, examples: Vec::new() }
    }

    pub fn add(&mut self, found: &AdversarialExamples) {
        if *self.radius.get_or_insert(found.epsilon) == found.epsilon {
            let left = self.most - self.examples.len();
            self.examples.extend(pictures(found, &self.classes).take(left));
        }
    }

    /// `None` where the samples are no pictures.
    pub fn report(self, model: &str, summary: &AttackSummary) -> Option<ExamplesReport> {
        let report = ExamplesReport { model: model.to_owned(), attack: words(summary), examples: self.examples };
        (!report.examples.is_empty()).then_some(report)
    }
}

/// The samples that are pictures.
fn pictures(found: &AdversarialExamples, classes: &[String]) -> impl Iterator<Item = Example> {
    let shape: Vec<usize> = found.shape.iter().map(|&length| length as usize).collect();
    let n_pixels = shape.iter().product::<usize>().max(1);
    let name = move |class: u32| classes.get(class as usize).cloned().unwrap_or_else(|| format!("class {class}"));
    let pictures = found.clean_samples.chunks(n_pixels).zip(found.samples.chunks(n_pixels)).enumerate();
    let example = move |(index, (clean, adversarial)): (usize, (&[f32], &[f32]))| {
        let reading = found.attacked.as_ref();
        let before = reading.and_then(|reading| reading.clean_classes.get(index).copied());
        let after = reading.and_then(|reading| reading.adversarial_classes.get(index).copied());
        Some(Example {
            index: found.sample_indices.get(index).copied()? as usize,
            clean: Picture::new(&shape, clean.to_vec())?,
            adversarial: Picture::new(&shape, adversarial.to_vec())?,
            classes: before.zip(after).map(|(before, after)| (name(before), name(after))),
            label: found.labels.get(index).map(|label| name(*label)),
            l2_norm: found.l2_norms.get(index).copied()?,
            linf_norm: found.linf_norms.get(index).copied()?,
        })
    };
    pictures.filter_map(example)
}

/// "PGD, L∞, radius 0.031, 10 steps"; of several radii the first.
pub fn words(summary: &AttackSummary) -> String {
    let attack = summary.attack.clone().unwrap_or_default();
    let method = attack.method().as_str_name().trim_start_matches("ATTACK_METHOD_").replace('_', "-");
    let norm = if attack.norm() == proto::Norm::Linf { "L∞" } else { "L2" };
    let radius = summary.radii.first().and_then(|radius| radius.epsilon);
    let radius = radius.map_or_else(|| "the smallest found".to_owned(), |radius| format!("radius {radius:.3}"));
    let steps = if attack.steps > 0 { format!(", {} steps", attack.steps) } else { String::new() };
    format!("{method}, {norm}, {radius}{steps}")
}
