//! Page tokens: where a listing goes on, and of which listing.
//!
//! A token is the last job's number and a digest of the filters, so that a token of one listing is refused by another
//! rather than answered with a page of something else.

use sha2::{Digest as _, Sha256};

use crate::{
    error::{Error, Reason, Result},
    jobs::{JobFilter, JobNumber},
};

/// Digits of a token: a number of 64 bits and as many bits of a digest.
const DIGITS: usize = 32;

/// The token of the page after this job.
pub fn page_token_of(last: JobNumber, filter: &JobFilter) -> String {
    format!("{:016x}{:016x}", last.0, mark(filter))
}

/// The job after which a page begins; `None` for the first page.
///
/// # Errors
/// At `page_token`, for what is no token, or one of a listing with other filters.
pub fn page_token(token: &str, filter: &JobFilter) -> Result<Option<JobNumber>> {
    if token.is_empty() {
        return Ok(None);
    }
    let wrong = |what: &str| {
        let message = format!("page_token {what}; give the next_page_token of the page before, with its filters");
        Error::new(Reason::OptionOutOfRange, message).at("page_token")
    };
    let is_token = token.len() == DIGITS && token.bytes().all(|byte| byte.is_ascii_hexdigit());
    let halves = token.split_at_checked(DIGITS / 2).filter(|_| is_token).ok_or_else(|| wrong("is no token"))?;
    let number = i64::from_str_radix(halves.0, 16).map_err(|_| wrong("is no token"))?;
    match u64::from_str_radix(halves.1, 16) {
        Ok(found) if found == mark(filter) => Ok(Some(JobNumber(number))),
        _ => Err(wrong("is of a listing with other filters")),
    }
}

fn mark(filter: &JobFilter) -> u64 {
    let digest = Sha256::digest(format!("{filter:?}"));
    digest.iter().take(8).fold(0, |mark, &byte| mark << 8 | u64::from(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_goes_with_its_listing_only() {
        let filter = JobFilter { dataset: Some("digits".to_owned()), ..JobFilter::default() };
        let token = page_token_of(JobNumber(7), &filter);
        assert_eq!(page_token(&token, &filter), Ok(Some(JobNumber(7))));
        assert_eq!(page_token("", &filter), Ok(None));
        assert!(page_token(&token, &JobFilter::default()).unwrap_err().message.contains("other filters"));
        for malformed in ["x", "é", &token[1..], &format!("{token}0"), &token.replace('7', "g"), &"f".repeat(32)] {
            assert!(page_token(malformed, &filter).is_err(), "{malformed}");
        }
    }
}
