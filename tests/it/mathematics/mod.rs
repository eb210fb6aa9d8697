//! The mathematics against independent implementations, closed forms and invariances.

mod attack;
mod classification;
mod knowledge;
mod lanczos;
mod metric;
mod moments;
mod stats;
mod support;
