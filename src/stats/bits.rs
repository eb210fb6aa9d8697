//! Numbers written down as their bits, so that what is read is what was written, NaN included.

use serde::{Deserialize, Serialize};

/// Digits of a number: sixteen of four bits each.
const DIGITS: usize = 16;

/// Numbers that are written as one text of hexadecimal digits, sixteen for each.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Bits(pub Vec<f64>);

impl From<Bits> for String {
    fn from(Bits(values): Bits) -> Self {
        use std::fmt::Write;
        let mut text = String::with_capacity(DIGITS * values.len());
        for value in values {
            // Writing to a string cannot fail.
            let _written = write!(text, "{:016x}", value.to_bits());
        }
        text
    }
}

impl TryFrom<String> for Bits {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let digits = text.as_bytes();
        if !digits.len().is_multiple_of(DIGITS) || !digits.iter().all(u8::is_ascii_hexdigit) {
            return Err("numbers are sixteen hexadecimal digits each");
        }
        let number = |digits: &[u8]| {
            let text = std::str::from_utf8(digits).ok()?;
            u64::from_str_radix(text, 16).ok().map(f64::from_bits)
        };
        let values = digits.chunks(DIGITS).map(number).collect::<Option<_>>();
        values.map(Bits).ok_or("numbers are sixteen hexadecimal digits each")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_comes_back_to_the_bit() {
        let values = [0.0, -0.0, 0.1, f64::MIN_POSITIVE / 3.0, f64::MAX, f64::INFINITY, f64::NAN, -f64::NAN];
        let text = String::from(Bits(values.to_vec()));
        let Bits(read) = text.try_into().expect("numbers");
        assert_eq!(read.iter().map(|x| x.to_bits()).collect::<Vec<_>>(), values.map(f64::to_bits));
    }

    #[test]
    fn what_is_no_number_is_refused() {
        for text in ["0", "000000000000000g", "+000000000000001", "é00000000000000"] {
            assert!(Bits::try_from(text.to_owned()).is_err(), "{text}");
        }
    }
}
