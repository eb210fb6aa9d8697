//! Results as HTML pages that a browser shows without network and without scripts, and as figures.
//!
//! Not a transport: it knows nothing of messages; who has a result fills in a report of plain values and gets sections, of
//! which a [`Page`] is made. The same reports give the same bytes: nothing here reads a clock. Every text is escaped.

mod agreement;
mod attack;
mod axis;
mod bar;
mod colour;
mod dendrogram;
mod examples;
mod finding;
mod heat_map;
mod image;
mod lines;
mod matrix;
mod matrix_finding;
mod page;
mod published;
mod ranking;
mod recommendation;
mod repeat;
mod scatter;
mod server;
mod svg;
mod text;
mod transfers;
mod words;

pub use agreement::{ReportedPoint, ReportedScore, ReportedTransfer};
pub use attack::{AttackReport, ReportedRate, attack_page};
pub use examples::{Example, ExamplesReport, examples_section};
pub use image::Picture;
pub use lines::{LineChart, LinesReport, Series, SeriesKind, lines_section};
pub use matrix::{MatrixReport, ReportedAgreement, ReportedGroup, ReportedMatrix, matrix_page, matrix_sections};
pub use page::{Page, Part, Section};
pub use published::{PublishedReport, PublishedRow, published_section};
pub use ranking::{RankingReport, ReportedModel, ReportedSource, ranking_page, ranking_sections};
pub use recommendation::{RecommendedPlace, ReportedRecommendation, recommendation_sentence};
pub use repeat::{Ingredient, Repeat, ReportedRequest};
pub use server::{ListedDataset, ListedJob, ListedModel, ServerReport, server_page};
pub use text::{caveats as caveats_section, finding as finding_section};
pub use transfers::{TransfersReport, transfers_section};

/// Why there is no page.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    #[error("cannot write the report: {0}")]
    Template(#[from] askama::Error),
}
