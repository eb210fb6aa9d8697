//! Correlations of paired values, such as a metric and a measure over the sources of a ranking.
//!
//! Each is `None` for fewer than two pairs, for unequal lengths, for values that are not finite, and where one side is
//! constant.

/// Pearson's product-moment correlation, -1..1.
pub fn pearson(x: &[f64], y: &[f64]) -> Option<f64> {
    check(x, y)?;
    let n = x.len() as f64;
    let (mean_x, mean_y) = (x.iter().sum::<f64>() / n, y.iter().sum::<f64>() / n);
    let (mut xx, mut yy, mut xy) = (0.0, 0.0, 0.0);
    for (a, b) in x.iter().zip(y) {
        let (a, b) = (a - mean_x, b - mean_y);
        xx += a * a;
        yy += b * b;
        xy += a * b;
    }
    let scale = xx.sqrt() * yy.sqrt();
    (scale > 0.0 && scale.is_finite()).then(|| (xy / scale).clamp(-1.0, 1.0))
}

/// Spearman's rank correlation, -1..1; ties share their average rank.
pub fn spearman(x: &[f64], y: &[f64]) -> Option<f64> {
    check(x, y)?;
    pearson(&average_ranks(x), &average_ranks(y))
}

/// Kendall's tau-b, -1..1 (Kendall 1945), quadratic in the number of pairs.
pub fn kendall(x: &[f64], y: &[f64]) -> Option<f64> {
    check(x, y)?;
    let (mut agreement, mut untied_x, mut untied_y) = (0_i64, 0_i64, 0_i64);
    for (index, (a, b)) in x.iter().zip(y).enumerate() {
        for (c, d) in x.iter().zip(y).skip(index + 1) {
            let (sign_x, sign_y) = (ordering(*a, *c), ordering(*b, *d));
            agreement += sign_x * sign_y;
            untied_x += sign_x.abs();
            untied_y += sign_y.abs();
        }
    }
    let scale = (untied_x as f64).sqrt() * (untied_y as f64).sqrt();
    (scale > 0.0).then(|| (agreement as f64 / scale).clamp(-1.0, 1.0))
}

fn check(x: &[f64], y: &[f64]) -> Option<()> {
    let varies = |values: &[f64]| values.iter().any(|v| values.first().is_some_and(|first| v != first));
    let finite = x.iter().chain(y).all(|v| v.is_finite());
    (x.len() == y.len() && x.len() >= 2 && finite && varies(x) && varies(y)).then_some(())
}

fn ordering(a: f64, b: f64) -> i64 {
    i64::from(a < b) - i64::from(a > b)
}

fn average_ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<(usize, f64)> = values.iter().copied().enumerate().collect();
    order.sort_by(|a, b| a.1.total_cmp(&b.1));
    let mut ranks: Vec<(usize, f64)> = Vec::with_capacity(values.len());
    for ties in order.chunk_by(|a, b| a.1 == b.1) {
        let rank = ranks.len() as f64 + (ties.len() as f64 + 1.0) / 2.0;
        ranks.extend(ties.iter().map(|(index, _)| (*index, rank)));
    }
    ranks.sort_by_key(|(index, _)| *index);
    ranks.into_iter().map(|(_, rank)| rank).collect()
}
