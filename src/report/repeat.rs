//! What a result was made of: enough to make it again.

use askama::Template;

use super::{ReportError, ReportedModel, Section};

/// Everything that a result depends on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Repeat {
    pub ingredients: Vec<Ingredient>,
    pub requests: Vec<ReportedRequest>,
}

/// A model, a probe set, a setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ingredient {
    pub kind: String,
    pub name: String,
    /// SHA-256 in hexadecimal; empty where there is none.
    pub digest: String,
}

/// What was asked of the service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReportedRequest {
    /// The method's full name.
    pub method: String,
    /// The message, as JSON.
    pub json: String,
}

#[derive(Template)]
#[template(path = "repeat.html")]
struct Body<'a> {
    repeat: &'a Repeat,
}

impl Ingredient {
    pub fn model(kind: &str, model: &ReportedModel) -> Ingredient {
        Ingredient { kind: kind.to_owned(), name: model.name.clone(), digest: model.digest.clone() }
    }

    pub fn setting(name: &str, value: &str) -> Ingredient {
        Ingredient { kind: name.to_owned(), name: value.to_owned(), digest: String::new() }
    }
}

impl Repeat {
    /// # Errors
    /// Only where the template fails, which no input makes it do.
    pub fn section(&self) -> Result<Section, ReportError> {
        Ok(Section::new("To repeat this", Body { repeat: self }.render()?))
    }
}
