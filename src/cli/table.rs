//! Tables for people.

use std::io::{self, Write};

use comfy_table::{ContentArrangement, Row, Table, presets};

use super::Failure;
use crate::transport::proto::{Coefficient, Estimate};

/// An empty table with these column names.
pub fn with_columns<'a>(columns: impl IntoIterator<Item = &'a str>) -> Table {
    let mut table = Table::new();
    table
        .load_style(presets::UTF8_BORDERS_ONLY)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_header(Row::from(columns));
    table
}

/// Prints a table and a newline.
///
/// # Errors
/// When standard output is closed.
pub fn print(table: &Table) -> Result<(), Failure> {
    writeln!(io::stdout().lock(), "{table}")?;
    Ok(())
}

/// "0.512 [0.480, 0.544]"; a dash where there is none.
pub fn interval(estimate: Option<&Estimate>) -> String {
    match estimate {
        Some(Estimate { value, lower, upper, .. }) => {
            format!("{} [{}, {}]", number(*value), number(*lower), number(*upper))
        }
        None => "-".to_owned(),
    }
}

/// "0.90 [0.42, 1.00]", without the interval where there is none; a dash where there is no coefficient.
pub fn coefficient(coefficient: Option<&Coefficient>) -> String {
    match coefficient {
        Some(Coefficient { value, lower: Some(lower), upper: Some(upper), .. }) => {
            format!("{value:.2} [{lower:.2}, {upper:.2}]")
        }
        Some(Coefficient { value, .. }) => format!("{value:.2}"),
        None => "-".to_owned(),
    }
}

/// The value alone; a dash where there is none.
pub fn value(estimate: Option<&Estimate>) -> String {
    estimate.map_or_else(|| "-".to_owned(), |estimate| number(estimate.value))
}

/// What chance gives: the upper end of the shuffled null, else the closed form; a dash where there is neither.
pub fn chance(estimate: Option<&Estimate>) -> String {
    estimate
        .and_then(|estimate| estimate.shuffled_null_upper.or(estimate.null_floor))
        .map_or_else(|| "-".to_owned(), number)
}

/// A probability in percent, never rounded to certainty; a dash where there is none.
pub fn probability(value: Option<f64>) -> String {
    match value {
        Some(value) if value > 0.0 && value < 0.005 => "<1 %".to_owned(),
        Some(value) if value < 1.0 && value > 0.995 => ">99 %".to_owned(),
        Some(value) => format!("{:.0} %", 100.0 * value),
        None => "-".to_owned(),
    }
}

/// Three decimals, or three digits where those would hide the number.
pub fn number(value: f64) -> String {
    let size = value.abs();
    if value == 0.0 || (0.001..100_000.0).contains(&size) { format!("{value:.3}") } else { format!("{value:.2e}") }
}

/// "3x32x32".
pub fn shape(lengths: &[u32]) -> String {
    lengths.iter().map(u32::to_string).collect::<Vec<_>>().join("x")
}

/// A count of bytes or parameters with a unit.
pub fn magnitude(count: u64) -> String {
    match count {
        0..10_000 => count.to_string(),
        10_000..10_000_000 => format!("{:.1} k", count as f64 / 1e3),
        10_000_000..10_000_000_000 => format!("{:.1} M", count as f64 / 1e6),
        _ => format!("{:.1} G", count as f64 / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_three_digits() {
        for (value, expected) in
            [(0.0, "0.000"), (0.5124, "0.512"), (-1.5, "-1.500"), (0.000_123_4, "1.23e-4"), (1_234_567.0, "1.23e6")]
        {
            assert_eq!(number(value), expected);
        }
    }

    #[test]
    fn probabilities_are_never_rounded_to_certainty() {
        for (value, expected) in [
            (Some(0.0), "0 %"),
            (Some(0.001), "<1 %"),
            (Some(0.5), "50 %"),
            (Some(0.999), ">99 %"),
            (Some(1.0), "100 %"),
            (None, "-"),
        ] {
            assert_eq!(probability(value), expected);
        }
    }

    #[test]
    fn chance_prefers_the_shuffled_null() {
        let mut estimate = Estimate { null_floor: Some(0.1), shuffled_null_upper: Some(0.2), ..Estimate::default() };
        assert_eq!(chance(Some(&estimate)), "0.200");
        estimate.shuffled_null_upper = None;
        assert_eq!(chance(Some(&estimate)), "0.100");
        estimate.null_floor = None;
        assert_eq!(chance(Some(&estimate)), "-");
    }
}
