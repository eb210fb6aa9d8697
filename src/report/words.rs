//! Numbers and names as a person reads them.

/// Most names that a sentence lists.
const LISTED: usize = 3;

/// A value with as many decimals as its size deserves.
pub fn number(value: f64) -> String {
    match value.abs() {
        _ if !value.is_finite() => "–".to_owned(),
        0.0 => "0".to_owned(),
        size if size >= 0.0995 => format!("{value:.3}"),
        size if size >= 0.000_995 => format!("{value:.4}"),
        _ => format!("{value:.1e}"),
    }
}

/// Both ends of an interval.
pub fn span(lower: f64, upper: f64) -> String {
    format!("{} to {}", number(lower), number(upper))
}

/// A share as a percentage without needless decimals.
pub fn percent(share: f64) -> String {
    let text = format!("{:.2}", 100.0 * share);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// A probability in percent, never rounded to certainty.
pub fn probability(value: f64) -> String {
    match 100.0 * value {
        percent if percent > 0.0 && percent < 0.5 => "less than 1 %".to_owned(),
        percent if percent < 100.0 && percent > 99.5 => "more than 99 %".to_owned(),
        percent => format!("{percent:.0} %"),
    }
}

/// A count, in thousands and millions.
pub fn count(n: u64) -> String {
    match n {
        0..1_000 => n.to_string(),
        1_000..1_000_000 => format!("{:.1} k", n as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} M", n as f64 / 1e6),
        _ => format!("{:.1} G", n as f64 / 1e9),
    }
}

/// Names in a sentence, the first few.
pub fn list(names: &[&str]) -> String {
    match names {
        [] => String::new(),
        [only] => (*only).to_owned(),
        [front @ .., last] if names.len() <= LISTED => format!("{} and {last}", front.join(", ")),
        _ => {
            let shown: Vec<&str> = names.iter().take(LISTED - 1).copied().collect();
            format!("{} and {} more", shown.join(", "), names.len() - shown.len())
        }
    }
}

/// A coefficient with its sign and two decimals.
pub fn signed(value: f64) -> String {
    let text = format!("{value:.2}");
    match text.as_str() {
        "-0.00" => "0.00".to_owned(),
        text => text.replace('-', "−"),
    }
}

/// The same with a capital first letter.
pub fn capitalised(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or(String::new(), |first| first.to_uppercase().chain(letters).collect())
}

/// A digest's beginning, enough to tell two apart.
pub fn short_digest(digest: &str) -> &str {
    digest.get(..12).unwrap_or(digest)
}

/// A number of everyday size without needless decimals.
pub fn plain(value: f64) -> String {
    let text = format!("{value:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}
