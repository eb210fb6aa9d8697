//! A page: a header, and parts made of sections. What a section shows is its own business; the page has style and order.

use std::collections::HashSet;

use askama::Template;

use super::{
    ReportError, colour,
    svg::{Figure, slug},
};

/// A page of one part, or of several with a heading each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    pub title: String,
    /// What was done, in a sentence.
    pub summary: String,
    pub parts: Vec<Part>,
}

/// Sections that belong together, such as all of one ranking.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Empty for a page of one part.
    pub title: String,
    pub sections: Vec<Section>,
}

/// A piece of a page that is ready to be shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    title: String,
    frame: Frame,
    /// HTML.
    body: String,
    figures: Vec<Figure>,
}

/// How a section is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Frame {
    Plain,
    /// Under a heading that unfolds it.
    Folding {
        is_open: bool,
    },
    /// Set off, without a heading of its own.
    Finding,
}

impl Section {
    /// A section of HTML that is safe: every text in it escaped.
    pub(super) fn new(title: impl Into<String>, body: String) -> Section {
        Section { title: title.into(), frame: Frame::Plain, body, figures: Vec::new() }
    }

    pub(super) fn finding(body: String) -> Section {
        Section { frame: Frame::Finding, ..Section::new("Finding", body) }
    }

    pub(super) fn folding(self, is_open: bool) -> Section {
        Section { frame: Frame::Folding { is_open }, ..self }
    }

    pub(super) fn with_figures(self, figures: Vec<Figure>) -> Section {
        Section { figures, ..self }
    }
}

#[derive(Template)]
#[template(path = "page.html")]
struct Whole<'a> {
    page: &'a Page,
    colours: String,
    style: &'static str,
    /// Of the sections' headings.
    level: usize,
}

impl Page {
    /// The page as HTML.
    ///
    /// # Errors
    /// Only where the template fails, which no input makes it do.
    pub fn html(&self) -> Result<String, ReportError> {
        let has_parts = self.parts.iter().any(|part| !part.title.is_empty());
        let whole = Whole {
            page: self,
            colours: colour::style_sheet(),
            style: include_str!("style.css"),
            level: if has_parts { 3 } else { 2 },
        };
        Ok(whole.render()?)
    }

    /// Every figure as an SVG file of its own: its name, which no two share, and its content.
    pub fn figures(&self) -> Vec<(String, String)> {
        let mut taken = HashSet::new();
        let mut files = Vec::new();
        for part in &self.parts {
            for figure in part.sections.iter().flat_map(|section| &section.figures) {
                let part = slug(&part.title);
                let name = if part.is_empty() { figure.name.clone() } else { format!("{part}-{}", figure.name) };
                let numbered = (2..).map(|number| format!("{name}-{number}"));
                let free = std::iter::once(name.clone()).chain(numbered).find(|name| !taken.contains(name));
                let name = free.unwrap_or_default();
                files.push((format!("{name}.svg"), figure.standalone()));
                taken.insert(name);
            }
        }
        files
    }
}
