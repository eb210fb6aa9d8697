//! Adversarial examples of real networks: equal to other implementations', within their bounds, the same whatever runs
//! beside, refused where they make no sense.

use ndarray::{Array2, Axis, concatenate};
use transferscore::{
    cancel::Cancel,
    dataset::DatasetStore,
    error::{Error, Reason},
    scoring::{Scoring, types::*},
};

use super::{attack, bundled, bundled_with};
use crate::server_process::repository;

/// What an attack gave: for each radius its rows, all chunks together.
struct Made {
    chunks: Vec<AdversarialExamples>,
    summary: AdversarialSummary,
}

impl Made {
    fn samples(&self, radius: Option<f64>) -> Array2<f32> {
        let rows: Vec<_> = self.of(radius).map(|chunk| chunk.samples.view()).collect();
        concatenate(Axis(0), &rows).unwrap()
    }

    fn of(&self, radius: Option<f64>) -> impl Iterator<Item = &AdversarialExamples> {
        self.chunks.iter().filter(move |chunk| chunk.radius == radius)
    }
}

fn request(model: &str, attack: AttackOptions) -> AdversarialRequest {
    AdversarialRequest {
        models: vec![model.to_owned()],
        pooling: Pooling::Losses,
        evaluated_models: Vec::new(),
        probe: Probe::Dataset("digits".to_owned()),
        max_samples: 0,
        attack,
        seed: 3,
        with_clean_samples: false,
    }
}

fn made_by(scorer: &impl Scoring, request: &AdversarialRequest) -> Result<Made, Error> {
    let mut chunks = Vec::new();
    let mut on_event = |event| {
        if let AdversarialEvent::Examples(examples) = event {
            chunks.push(*examples);
        }
    };
    let summary = scorer.attack(request, &mut on_event, &Cancel::default())?;
    Ok(Made { chunks, summary })
}

fn made(request: &AdversarialRequest) -> Made {
    made_by(&bundled(), request).unwrap()
}

fn clean() -> Array2<f32> {
    let digits = DatasetStore::open(&[repository("models/datasets")]).unwrap().get("digits").unwrap();
    digits.tile(0..digits.n_samples())
}

#[test]
fn the_services_attacks_are_foolboxs_and_torchattacks() {
    let golden: serde_json::Value = serde_json::from_str(include_str!("../../golden/attacks.json")).unwrap();
    let labelled = |method| AttackOptions { use_labels: true, ..attack(method) };
    let momentum = |of| MomentumOptions { decay: Some(0.8), of: Some(of) };
    let (linf, l2) = ((Norm::Linf, 0.1), (Norm::L2, 0.8));
    let cases = [
        ("fgsm linf", linf, labelled(AttackMethod::Fgsm)),
        ("fgsm l2", l2, labelled(AttackMethod::Fgsm)),
        ("pgd linf", linf, labelled(AttackMethod::Pgd)),
        ("pgd l2", l2, labelled(AttackMethod::Pgd)),
        (
            "momentum of gradients linf",
            linf,
            AttackOptions { momentum: momentum(Accumulated::Gradients), ..labelled(AttackMethod::MiFgsm) },
        ),
        (
            "momentum of directions linf",
            linf,
            AttackOptions { momentum: momentum(Accumulated::Directions), ..labelled(AttackMethod::MiFgsm) },
        ),
        (
            "momentum of directions l2",
            l2,
            AttackOptions { momentum: momentum(Accumulated::Directions), ..labelled(AttackMethod::MiFgsm) },
        ),
    ];
    let clean = clean();
    for (name, (norm, epsilon), options) in cases {
        let step_size = (options.method != AttackMethod::Fgsm).then_some(0.25 * epsilon);
        let options = AttackOptions { norm: Some(norm), epsilon: Some(epsilon), step_size, ..options };
        let made = made(&request("digits-reference", options));
        let samples = made.samples(Some(epsilon));
        let expected = golden["perturbations"][name].as_array().unwrap();
        for (index, expected) in expected.iter().enumerate() {
            let place = [index / 64, index % 64];
            let found = f64::from(samples[place] - clean[place]);
            assert!((found - expected.as_f64().unwrap()).abs() < 1e-5, "{name} at {place:?}: {found} for {expected}");
        }
    }
}

#[test]
fn several_radii_come_in_one_call_and_stay_within_them() {
    let diverse = Some(InputDiversity { probability: 0.8, least_size: 0.5 });
    for (method, norm, diversity) in [
        (AttackMethod::Fgsm, Norm::Linf, None),
        (AttackMethod::Pgd, Norm::L2, None),
        (AttackMethod::MiFgsm, Norm::Linf, diverse),
        (AttackMethod::Apgd, Norm::Linf, None),
        (AttackMethod::Ddn, Norm::L2, None),
        (AttackMethod::DeepFool, Norm::Linf, None),
    ] {
        let radii = if norm == Norm::L2 { vec![0.2, 0.9, 0.4] } else { vec![0.05, 0.4, 0.1] };
        let steps = if method == AttackMethod::Fgsm { 0 } else { 12 };
        let options = AttackOptions { epsilons: radii.clone(), norm: Some(norm), steps, diversity, ..attack(method) };
        let made = made(&request("digits-reference", options.clone()));
        let rates: Vec<f64> = made.summary.radii.iter().map(|radius| radius.attacked.clone().unwrap().rate).collect();
        assert!(rates[1] >= rates[2] && rates[2] >= rates[0] && rates[1] > 0.3, "{method:?}: {rates:?}");
        for (radius, summary) in radii.iter().zip(&made.summary.radii) {
            assert_eq!(summary.radius, Some(*radius));
            let mut n = 0;
            for chunk in made.of(Some(*radius)) {
                let lengths = if norm == Norm::L2 { &chunk.l2_norms } else { &chunk.linf_norms };
                assert!(lengths.iter().all(|&length| length <= radius * (1.0 + 1e-5) + 1e-6), "{method:?}");
                assert!(chunk.samples.iter().all(|pixel| (0.0..=1.0).contains(pixel)), "{method:?}");
                n += chunk.indices.len();
            }
            assert_eq!(n, 182);
        }
        // Alone, a radius gives the same.
        let alone = AttackOptions { epsilon: Some(radii[1]), epsilons: Vec::new(), ..options };
        assert_eq!(made_alone(alone), made.samples(Some(radii[1])), "{method:?}");
    }
}

fn made_alone(options: AttackOptions) -> Array2<f32> {
    let epsilon = options.epsilon;
    made(&request("digits-reference", options)).samples(epsilon)
}

#[test]
fn examples_do_not_depend_on_threads_and_batches() {
    let diverse = AttackOptions {
        diversity: Some(InputDiversity { probability: 0.5, least_size: 0.5 }),
        translation: Some(TranslationKernel { size: 3, reach: 3.0 }),
        scales: 2,
        ..attack(AttackMethod::MiFgsm)
    };
    let restarted = AttackOptions { random_start: true, restarts: 2, steps: 3, ..attack(AttackMethod::Apgd) };
    let mut ensemble = request("digits-25", AttackOptions { steps: 3, ..diverse });
    ensemble.models.push("digits-75".to_owned());
    for request in [ensemble, request("digits-50", restarted)] {
        let bytes = |threads, batch_size| {
            let made = made_by(&bundled_with(threads, batch_size), &request).unwrap();
            format!("{:?} {:?}", made.chunks, made.summary)
        };
        let expected = bytes(1, 1);
        for (threads, batch_size) in [(2, 64), (2, 1_000)] {
            assert_eq!(bytes(threads, batch_size), expected, "{threads} threads, batch {batch_size}");
        }
    }
}

#[test]
fn a_subset_keeps_the_places_of_its_samples_in_the_dataset() {
    let mut few = request("digits-reference", attack(AttackMethod::Fgsm));
    few.max_samples = 20;
    let made = made(&few);
    assert_eq!((made.summary.n_samples, made.summary.dropped[0].count), (20, 162));
    let (places, clean): (Vec<usize>, _) =
        (made.chunks.iter().flat_map(|chunk| chunk.indices.clone()).collect(), clean());
    assert!(places.windows(2).all(|pair| pair[0] < pair[1]) && places[19] > 20, "{places:?}");
    let change = made.samples(made.summary.attack.epsilon) - clean.select(Axis(0), &places);
    let largest = change.iter().fold(0.0_f32, |largest, x| x.abs().max(largest));
    assert!((largest - 8.0 / 255.0).abs() < 1e-6, "{largest}");
}

#[test]
fn targets_are_reached_and_restarts_do_no_worse() {
    let targeted = |target| {
        let options = AttackOptions { epsilon: Some(0.4), target: Some(target), ..attack(AttackMethod::Pgd) };
        made(&request("digits-reference", options))
    };
    for chunk in &targeted(TargetClass::Given(2)).chunks {
        let reading = chunk.attacked.as_ref().unwrap();
        for (class, success) in reading.adversarial_classes.iter().zip(&reading.successes) {
            assert_eq!(*class == 2, *success);
        }
    }
    let rates = [TargetClass::Given(2), TargetClass::NextMostLikely, TargetClass::LeastLikely]
        .map(|target| targeted(target).summary.radii[0].attacked.clone().unwrap().rate);
    assert!(rates[1] > 0.9 && rates[1] >= rates[2], "{rates:?}");
    let runs = |restarts| {
        let options = AttackOptions { restarts, steps: 4, epsilon: Some(0.12), ..attack(AttackMethod::Pgd) };
        made(&request("digits-reference", options)).summary.radii[0].clone()
    };
    let (one, three) = (runs(1), runs(3));
    assert!(three.attacked.unwrap().rate >= one.attacked.unwrap().rate);
}

#[test]
fn clean_samples_come_along_where_asked_for() {
    let options = AttackOptions { epsilon: Some(0.1), ..attack(AttackMethod::Fgsm) };
    let asked = AdversarialRequest { max_samples: 9, ..request("digits-reference", options) };
    let without = made(&asked);
    assert!(without.chunks.iter().all(|chunk| chunk.clean_samples.is_none()));
    let with = made(&AdversarialRequest { with_clean_samples: true, ..asked });
    for (chunk, other) in with.chunks.iter().zip(&without.chunks) {
        assert_eq!(chunk.samples, other.samples);
        let clean = chunk.clean_samples.as_ref().unwrap();
        assert_eq!(clean.dim(), chunk.samples.dim());
        for ((attacked, clean), length) in chunk.samples.rows().into_iter().zip(clean.rows()).zip(&chunk.linf_norms) {
            let change = attacked.iter().zip(clean).map(|(a, b)| f64::from((a - b).abs())).fold(0.0, f64::max);
            assert!((change - length).abs() < 1e-6 && change > 0.05, "{change} {length}");
        }
    }
}

#[test]
fn an_ensemble_transfers_better_than_one_model() {
    // Of models of other tasks, to the reference.
    let rate = |models: &[&str], pooling| {
        let options = AttackOptions { epsilon: Some(0.25), ..attack(AttackMethod::Pgd) };
        let request = AdversarialRequest {
            models: models.iter().map(|&model| model.to_owned()).collect(),
            pooling,
            evaluated_models: vec!["digits-reference".to_owned()],
            ..request("digits-75", options)
        };
        let summary = made(&request).summary;
        assert_eq!(summary.radii[0].evaluated[0].model, "digits-reference");
        summary.radii[0].evaluated[0].rate
    };
    let alone = rate(&["digits-50"], Pooling::Losses);
    for pooling in [Pooling::Losses, Pooling::Outputs] {
        let together = rate(&["digits-50", "digits-75", "digits-100"], pooling);
        assert!(together > alone, "{pooling:?}: {together} {alone}");
    }
}

#[test]
fn minimum_norm_attacks_without_a_radius_give_what_they_find() {
    for method in [AttackMethod::DeepFool, AttackMethod::Ddn, AttackMethod::Fmn] {
        let made = made(&request("digits-reference", AttackOptions { norm: Some(Norm::L2), ..attack(method) }));
        let summary = &made.summary.radii[0];
        assert_eq!((made.summary.radii.len(), summary.radius), (1, None));
        assert!(summary.attacked.as_ref().unwrap().rate > 0.95, "{method:?}: {summary:?}");
        assert!((0.2..1.0).contains(&summary.mean_l2_norm), "{method:?}: {summary:?}");
    }
}

#[test]
fn what_makes_no_sense_is_refused() {
    let of = |options: AttackOptions| request("digits-reference", options);
    let pgd = || attack(AttackMethod::Pgd);
    let with = |change: fn(&mut AttackOptions)| {
        let mut options = pgd();
        change(&mut options);
        of(options)
    };
    let unsupported = Reason::OptionUnsupported;
    let cases = [
        (of(attack(AttackMethod::Virtual)), unsupported, "attack.method"),
        (with(|a| (a.epsilon, a.epsilons) = (Some(0.1), vec![0.1])), unsupported, "attack.epsilons"),
        (with(|a| a.epsilons = vec![0.1; 33]), Reason::OptionOutOfRange, "attack.epsilons"),
        (with(|a| a.momentum.decay = Some(1.0)), unsupported, "attack.momentum.decay"),
        (with(|a| a.boundary.candidates = 3), unsupported, "attack.candidates"),
        (with(|a| a.restarts = 101), Reason::OptionOutOfRange, "attack.restarts"),
        (with(|a| a.target = Some(TargetClass::Given(4))), unsupported, "attack.target"),
        (
            with(|a| (a.loss, a.target) = (Some(AttackLoss::Kl), Some(TargetClass::LeastLikely))),
            unsupported,
            "attack.target",
        ),
        (
            with(|a| (a.loss, a.target) = (Some(AttackLoss::LogitsRatio), Some(TargetClass::LeastLikely))),
            unsupported,
            "attack.loss",
        ),
        (
            with(|a| a.translation = Some(TranslationKernel { size: 4, reach: 3.0 })),
            Reason::OptionOutOfRange,
            "attack.translation.kernel_size",
        ),
        (
            with(|a| a.diversity = Some(InputDiversity { probability: 1.5, least_size: 0.9 })),
            Reason::OptionOutOfRange,
            "attack.input_diversity.probability",
        ),
        (of(AttackOptions { norm: Some(Norm::Linf), ..attack(AttackMethod::Ddn) }), unsupported, "attack.norm"),
        (of(AttackOptions { loss: Some(AttackLoss::Kl), ..attack(AttackMethod::Fmn) }), unsupported, "attack.loss"),
        (
            with(|a| a.virtual_attack = VirtualAttackOptions { levels: 2, ..Default::default() }),
            unsupported,
            "attack.virtual_attack",
        ),
        (of(AttackOptions { scales: 2, ..attack(AttackMethod::Apgd) }), unsupported, "attack.scales"),
        (of(AttackOptions { random_start: true, ..attack(AttackMethod::Fgsm) }), unsupported, "attack.random_start"),
        (AdversarialRequest { models: vec!["nobody".to_owned()], ..of(pgd()) }, Reason::ModelNotFound, "models[0]"),
        (
            AdversarialRequest { evaluated_models: vec!["nobody".to_owned()], ..of(pgd()) },
            Reason::ModelNotFound,
            "evaluated_models[0]",
        ),
    ];
    let scorer = bundled();
    for (request, reason, field) in cases {
        let error = made_by(&scorer, &request).err().unwrap_or_else(|| panic!("{field} was accepted"));
        assert_eq!((error.reason, error.field.as_deref()), (reason, Some(field)), "{error}");
    }
}
