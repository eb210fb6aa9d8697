//! Resizing against closed forms: means where pictures shrink, lines where they grow.

use proptest::prelude::*;
use transferscore::dataset::resize;

#[test]
fn a_new_pixel_is_the_mean_of_what_it_covers() {
    // 3 → 2: each covers one and a half; the middle one counts half in both.
    assert_eq!(resize(&[0.0, 6.0, 9.0], [1, 3], [1, 2]), [2.0, 8.0]);
    assert_eq!(resize(&[0.0, 6.0, 9.0], [3, 1], [2, 1]), [2.0, 8.0]);
    assert_eq!(resize(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0], [3, 3], [1, 1]), [5.0]);
}

#[test]
fn a_grown_picture_is_interpolated_between_centres_and_continued_at_the_rim() {
    // As PyTorch's interpolate(mode="bilinear", align_corners=False).
    assert_eq!(resize(&[0.0, 8.0], [1, 2], [1, 4]), [0.0, 2.0, 6.0, 8.0]);
    assert_eq!(resize(&[0.0, 6.0, 12.0], [3, 1], [6, 1]), [0.0, 1.5, 4.5, 7.5, 10.5, 12.0]);
    assert_eq!(resize(&[3.0], [1, 1], [2, 3]), [3.0; 6]);
}

#[test]
fn axes_and_channels_are_resized_by_themselves() {
    // Two channels; height shrinks, width grows.
    let pixels = [0.0, 8.0, 4.0, 12.0, 100.0, 100.0, 300.0, 300.0];
    assert_eq!(resize(&pixels, [2, 2], [1, 4]), [2.0, 4.0, 8.0, 10.0, 200.0, 200.0, 200.0, 200.0]);
}

proptest! {
    #[test]
    fn sizes_come_out_values_stay_in_range_and_constants_stay(
        from in [1_usize..12, 1..12], to in [1_usize..12, 1..12], byte in 0_u8..=255, seed in any::<u64>(),
    ) {
        let n = from[0] * from[1];
        prop_assert_eq!(resize(&vec![f64::from(byte); n], from, to), vec![f64::from(byte); to[0] * to[1]]);
        let noise: Vec<f64> = (0..n as u64).map(|i| (seed.wrapping_mul(2 * i + 1) >> 56) as f64).collect();
        let resized = resize(&noise, from, to);
        prop_assert_eq!(resized.len(), to[0] * to[1]);
        prop_assert!(resized.iter().all(|value| (0.0..=255.0).contains(value)));
        if to[0] <= from[0] && to[1] <= from[1] {
            let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
            prop_assert!((mean(&resized) - mean(&noise)).abs() < 1e-9);
        }
    }
}
