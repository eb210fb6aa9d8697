//! Plans of training: splits, orders, rates, early stops, changes of images, judgements.

use ndarray::{Array1, array};
use transferscore::training::{
    Augmentation, Judgement, Patience, Schedule, ScheduleShape, Split, Truth, Units, Verdict, batches, folds,
    initial_head, share,
};

fn counts(samples: &[usize], classes: &[usize]) -> [usize; 3] {
    let count = |class| samples.iter().filter(|&&sample| classes[sample] == class).count();
    [count(0), count(1), count(2)]
}

#[test]
fn rates_are_those_of_pytorchs_cosine_and_rise_linearly() {
    // torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 5) from 0.1, six steps.
    let expected =
        [0.1, 0.090_450_849_718_747_37, 0.065_450_849_718_747_37, 0.034_549_150_281_252_63, 0.009_549_150_281_252_633];
    let cosine = Schedule { shape: ScheduleShape::Cosine, peak: 0.1, steps: 5, warm_up: 0 };
    for (step, expected) in expected.into_iter().enumerate() {
        assert!((cosine.rate(step) - expected).abs() < 1e-15, "{step}: {}", cosine.rate(step));
    }
    let warm = Schedule { steps: 9, warm_up: 4, ..cosine };
    let risen: Vec<f64> = (0..4).map(|step| warm.rate(step)).collect();
    assert_eq!(risen, [0.025, 0.05, 0.1 * 3.0 / 4.0, 0.1]);
    assert!((warm.rate(6) - expected[2]).abs() < 1e-15 && warm.rate(99) == 0.0);
    let constant = Schedule { shape: ScheduleShape::Constant, ..warm };
    assert_eq!((constant.rate(1), constant.rate(4), constant.rate(8)), (0.05, 0.1, 0.1));
    // A warm-up to the end has nothing to fall.
    let whole = Schedule { warm_up: 9, ..warm };
    assert_eq!(whole.rate(8), 0.1);
}

#[test]
fn splits_are_disjoint_stratified_and_seeded() {
    let classes: Vec<usize> = (0..200).map(|sample| [0, 0, 0, 0, 0, 0, 1, 1, 1, 2][sample % 10]).collect();
    let split = share(&classes, 0.25, 3);
    assert_eq!(split.held_out.len(), 50);
    let [most, middle, least] = counts(&split.held_out, &classes);
    assert!((29..=31).contains(&most) && (14..=16).contains(&middle) && (4..=6).contains(&least));
    let parted = split.clone().with_validation(&classes, 3, 0);
    let mut all = [parted.training.clone(), parted.validation.clone(), parted.held_out.clone()].concat();
    all.sort_unstable();
    assert_eq!(all, (0..200).collect::<Vec<usize>>());
    assert_eq!((parted.validation.len(), &parted.held_out), (15, &split.held_out));
    assert_eq!(share(&classes, 0.25, 3), split);
    assert_ne!(share(&classes, 0.25, 4), split);
    // Both parts have something, however small the share.
    assert_eq!(share(&[0, 0, 0], 1e-9, 0).held_out.len(), 1);
    assert_eq!(share(&[0, 0, 0], 0.999, 0).training.len(), 1);
    let runs = folds(&[0, 1, 0, 2, 1], 3);
    assert_eq!(runs[0], Split { training: vec![1, 3, 4], validation: vec![], held_out: vec![0, 2] });
    assert_eq!((runs.len(), &runs[2].held_out), (3, &vec![3]));
}

#[test]
fn every_epoch_sees_every_sample_once_in_an_order_of_its_own() {
    let samples: Vec<usize> = (0..10).map(|sample| sample * 3).collect();
    let first = batches(&samples, 4, 1, 0, 0);
    assert_eq!(first.iter().map(Vec::len).collect::<Vec<_>>(), [4, 4, 2]);
    let mut seen = first.concat();
    seen.sort_unstable();
    assert_eq!(seen, samples);
    assert_eq!(batches(&samples, 4, 1, 0, 0), first);
    for other in [batches(&samples, 4, 1, 0, 1), batches(&samples, 4, 1, 1, 0), batches(&samples, 4, 2, 0, 0)] {
        assert_ne!(other, first);
    }
}

#[test]
fn patience_ends_after_as_many_epochs_without_a_better_one() {
    let mut patience = Patience::new(2);
    let verdicts = [0.9, 0.8, 0.8, 0.7, 0.75, 0.7].map(|loss| patience.observe(loss));
    use Verdict::{Best, Stop, Worse};
    assert_eq!(verdicts, [Best, Best, Worse, Best, Worse, Stop]);
}

#[test]
fn a_new_head_is_uniform_within_its_bound() {
    let (weight, bias) = initial_head(50, 16, 9);
    assert_eq!((weight.len(), bias.len()), (800, 50));
    let largest = weight.iter().chain(&bias).fold(0.0_f64, |largest, value| largest.max(value.abs()));
    assert!(largest <= 0.25 && largest > 0.249);
    let mean_square = weight.iter().map(|value| value * value).sum::<f64>() / 800.0;
    assert!((mean_square - 0.0625 / 3.0).abs() < 0.002);
    assert_ne!(initial_head(50, 16, 10).0, weight);
}

#[test]
fn images_are_flipped_and_shifted_as_crops_of_the_padded_image() {
    let image: Vec<f32> = (1..=12).map(|value| value as f32).collect();
    // Two channels of 2 x 3.
    let changed = |augmentation: Augmentation, epoch, index| {
        let mut pixels = image.clone();
        augmentation.apply(&mut pixels, &[2, 2, 3], 5, epoch, index);
        pixels
    };
    let flipped = [3.0, 2.0, 1.0, 6.0, 5.0, 4.0, 9.0, 8.0, 7.0, 12.0, 11.0, 10.0];
    let flip = Augmentation { flip: true, shift: 0 };
    let n_flipped = (0..200).filter(|&index| changed(flip, 1, index) == flipped).count();
    let n_kept = (0..200).filter(|&index| changed(flip, 1, index) == image).count();
    assert!(n_flipped + n_kept == 200 && (70..130).contains(&n_flipped), "{n_flipped}");
    let shift = Augmentation { flip: false, shift: 1 };
    let mut found: Vec<Vec<f32>> = (0..300).map(|index| changed(shift, 0, index)).collect();
    found.sort_by(|a, b| a.partial_cmp(b).unwrap());
    found.dedup();
    // Each of the nine places, among them one row down and one column to the right.
    assert_eq!(found.len(), 9);
    assert!(found.contains(&vec![0.0, 0.0, 0.0, 0.0, 1.0, 2.0, 0.0, 0.0, 0.0, 0.0, 7.0, 8.0]));
    assert!(found.contains(&image));
    assert!((0..50).any(|index| changed(shift, 0, index) != changed(shift, 1, index)));
    let mut vector = vec![1.0, 2.0];
    Augmentation { flip: true, shift: 1 }.apply(&mut vector, &[2], 5, 0, 0);
    assert_eq!(vector, [1.0, 2.0]);
}

#[test]
fn judgements_are_cross_entropies_and_squared_errors() {
    let truth = Truth::Classes(&[1, 0]);
    let logits: Array1<f32> = array![1.0, 3.0, 3.0];
    let judged = truth.judge(0, logits.view()).unwrap();
    let expected = (1.0_f64.exp() + 2.0 * 3.0_f64.exp()).ln() - 3.0;
    assert!((judged.loss - expected).abs() < 1e-12);
    // Of equal logits the first counts.
    assert_eq!((judged.hit, truth.judge(1, logits.view()).unwrap().hit), (Some(true), Some(false)));
    let large = truth.judge(0, array![-3e38_f32, 3e38].view()).unwrap();
    assert_eq!(large, Judgement { loss: 0.0, hit: Some(true) });
    assert_eq!(truth.judge(0, array![0.0, f32::NAN].view()), None);
    assert_eq!(truth.judge(0, array![0.0, f32::INFINITY].view()), None);
    assert_eq!(truth.judge(2, logits.view()), None);
    let values = array![[1.0_f32, 2.0], [0.0, 0.0]];
    let judged = Truth::Values(values.view()).judge(0, array![2.0_f32, 4.0].view()).unwrap();
    assert_eq!(judged, Judgement { loss: 2.5, hit: None });
    assert_eq!(Truth::Values(values.view()).judge(1, array![f32::NAN, 0.0].view()), None);
}

#[test]
fn targets_are_counted_in_their_own_spread_and_heads_predict_the_targets() {
    let targets = array![[1.0_f32, 10.0], [3.0, 10.0], [5.0, 14.0], [7.0, 14.0]];
    let units = Units::of(targets.view());
    let counted = units.counted(&targets);
    // One scale for both: deviations -3 -1 1 3 and -2 -2 2 2 have a mean square of 4.5.
    let scale = 4.5_f32.sqrt();
    assert!((counted.row(0).to_owned() * scale - array![-3.0, -2.0]).iter().all(|x| x.abs() < 1e-6));
    assert!((units.squared(1.0) - 4.5).abs() < 1e-6);
    let (mut weight, mut bias) = (array![[2.0_f32], [1.0]].into_dyn(), array![0.5_f32, -1.0].into_dyn());
    units.fold_into(&mut weight, &mut bias);
    let expected = [2.0 * scale, scale, 4.0 + 0.5 * scale, 12.0 - scale];
    assert!(weight.iter().chain(&bias).zip(expected).all(|(found, expected)| (found - expected).abs() < 1e-5));
    // What does not vary keeps its unit.
    assert_eq!(Units::of(array![[3.0_f32], [3.0]].view()).counted(&array![[4.0]]), array![[1.0]]);
}
