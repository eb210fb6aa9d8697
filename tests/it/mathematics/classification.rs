use ndarray::Array2;
use serde_json::Value;
use transferscore::metric::{Answers, Error, Truth, losses, similarity};

use super::support::{close, contains_its_value, matrix, metrics, number, numbers, resamples};

struct Model {
    clean: Array2<f32>,
    own: Array2<f64>,
    black: Array2<f64>,
}

impl Model {
    fn of(case: &Value, index: usize) -> Self {
        let rows = |name: &str| matrix(&case[name][index]);
        Model { clean: rows("clean").mapv(|x| x as f32), own: rows("own"), black: rows("black") }
    }

    fn answers(&self) -> Answers<'_> {
        Answers { clean: self.clean.view(), own: self.own.view(), black: self.black.view() }
    }
}

fn labels(case: &Value) -> Vec<u32> {
    numbers(&case["labels"]).into_iter().map(|label| label as u32).collect()
}

#[test]
fn losses_and_rates_agree_with_numpy() {
    let case = &metrics()["judged"];
    let (first, second, labels) = (Model::of(case, 0), Model::of(case, 1), labels(case));
    let resamples = resamples(labels.len());
    let (attacked, answers) = (first.answers(), second.answers());
    let found = losses(Truth::Labels(&labels), &answers, Some(&attacked), &resamples).unwrap();
    let ratio = found.loss_ratio.unwrap();
    for (estimate, name) in [
        (&found.attack_loss, "attack_loss"),
        (&found.clean_loss, "clean_loss"),
        (&found.white_box_loss, "white_box_loss"),
        (&ratio, "loss_ratio"),
        (&found.fooling_rate.unwrap(), "fooling_rate"),
        (&found.conditional_fooling_rate.unwrap(), "conditional_fooling_rate"),
    ] {
        close(estimate.value, number(&case[name]), 1e-12);
        contains_its_value(estimate);
    }
    let alone = losses(Truth::Labels(&labels), &answers, None, &resamples).unwrap();
    assert_eq!(alone.conditional_fooling_rate, None, "model 1 gives no classes");

    let targets = matrix(&case["targets"]).mapv(|x| x as f32);
    let found = losses(Truth::Targets(targets.view()), &answers, Some(&attacked), &resamples).unwrap();
    close(found.attack_loss.value, number(&case["squared_error"]), 1e-12);
    assert_eq!((found.fooling_rate, found.conditional_fooling_rate), (None, None));
}

#[test]
fn similarity_agrees_with_numpy_and_has_no_direction() {
    let case = &metrics()["judged"];
    let (first, second, labels) = (Model::of(case, 0), Model::of(case, 1), labels(case));
    let resamples = resamples(labels.len());
    let found = similarity(&labels, &first.answers(), &second.answers(), &resamples).unwrap().unwrap();
    close(found.value, number(&case["similarity"]), 1e-12);
    contains_its_value(&found);
    let replicates = found.replicates.values();
    assert!(replicates.iter().any(|&x| x != found.value) && replicates.iter().all(|&x| x <= 100_f64.ln()));
    assert_eq!(similarity(&labels, &second.answers(), &first.answers(), &resamples).unwrap().unwrap(), found);
}

#[test]
fn attacks_that_do_nothing_have_the_least_similarity_and_no_fooling() {
    let case = &metrics()["judged"];
    let (mut model, labels) = (Model::of(case, 0), labels(case));
    model.own.fill(0.0);
    model.black.fill(0.0);
    let resamples = resamples(labels.len());
    let answers = model.answers();
    let found = similarity(&labels, &answers, &answers, &resamples).unwrap().unwrap();
    assert_eq!((found.value, found.lower, found.upper), (0.01_f64.ln(), 0.01_f64.ln(), 0.01_f64.ln()));
    let found = losses(Truth::Labels(&labels), &answers, Some(&answers), &resamples).unwrap();
    assert_eq!(found.fooling_rate.unwrap().value, 0.0);
    assert_eq!(found.conditional_fooling_rate, None, "the attack succeeds nowhere");
    assert_eq!(found.attack_loss, found.clean_loss);
    close(found.loss_ratio.unwrap().value, 1.0, 1e-12);
}

#[test]
fn rates_over_no_sample_are_absent() {
    // Both models are wrong everywhere when clean.
    let (clean, deviations) = (Array2::from_shape_fn((9, 2), |(_, class)| class as f32), Array2::zeros((9, 2)));
    let answers = Answers { clean: clean.view(), own: deviations.view(), black: deviations.view() };
    assert_eq!(similarity(&[0; 9], &answers, &answers, &resamples(9)), Ok(None));
    let found = losses(Truth::Labels(&[0; 9]), &answers, None, &resamples(9)).unwrap();
    assert_eq!(found.fooling_rate, None);
    // Targets that are met exactly leave nothing to divide by.
    let found = losses(Truth::Targets(clean.view()), &answers, None, &resamples(9)).unwrap();
    assert_eq!((found.white_box_loss.value, found.loss_ratio), (0.0, None));
}

#[test]
fn large_logits_do_not_overflow() {
    let clean = Array2::from_shape_fn((8, 3), |(_, class)| 1e4 + class as f32);
    let deviations = Array2::zeros((8, 3));
    let answers = Answers { clean: clean.view(), own: deviations.view(), black: deviations.view() };
    // −log softmax of (1, 2, 3) at its first entry, by NumPy in float64.
    let found = losses(Truth::Labels(&[0; 8]), &answers, None, &resamples(8)).unwrap();
    close(found.clean_loss.value, 2.407_605_964_444_38, 1e-9);
}

#[test]
fn answers_that_do_not_belong_together_are_refused() {
    let (clean, deviations) = (Array2::<f32>::zeros((8, 3)), Array2::<f64>::zeros((8, 3)));
    let answers = Answers { clean: clean.view(), own: deviations.view(), black: deviations.view() };
    let of = |truth, answers: &Answers<'_>| losses(truth, answers, None, &resamples(8)).unwrap_err();
    assert_eq!(of(Truth::Labels(&[0, 1, 2, 0, 1, 3, 0, 0]), &answers), Error::Label { sample: 5, n_outputs: 3 });
    assert!(matches!(of(Truth::Labels(&[0; 7]), &answers), Error::SampleCount { expected: 8, found: 7, .. }));
    let narrow = Array2::<f32>::zeros((8, 2));
    assert!(matches!(of(Truth::Targets(narrow.view()), &answers), Error::RowLength { expected: 3, found: 2, .. }));
    let mut broken = deviations.clone();
    broken[[2, 0]] = f64::NAN;
    let answers = Answers { own: broken.view(), ..answers };
    assert!(matches!(of(Truth::Labels(&[0; 8]), &answers), Error::NotFinite { sample: 2, .. }));
}
