//! A unit of a comparison: what its matrices need of one group of samples.
//!
//! Groups do not know of each other, while a single row of the matrices would need every other model's Jacobians again.

use std::sync::Arc;

use ndarray::{ArrayView2, Axis};
use serde::{Deserialize, Serialize};

use crate::{
    scoring::{compare::Readings, network::Network, passes::OwnRecord, rows::Rows},
    stats::Bits,
};

/// A table that is filled group by group, and its width.
pub struct Table<'a> {
    rows: &'a mut Rows<f64>,
    width: usize,
}

/// What the matrices are made of, always in this order: each model's deviations under its own attack; then for each attacked
/// model those of every other on the same sample and on another.
pub fn tables<'a>(
    networks: &[Arc<Network>],
    records: &'a mut [OwnRecord],
    readings: &'a mut Readings,
) -> Vec<Table<'a>> {
    let mut tables = Vec::new();
    for (network, record) in networks.iter().zip(records) {
        record.own.resize_with(1, Rows::default);
        tables.extend(record.own.iter_mut().map(|rows| Table { rows, width: network.n_outputs() }));
    }
    for (attacked, exchanges) in readings.iter_mut().enumerate() {
        let read = networks.iter().zip(exchanges).enumerate().filter(|(read, _)| *read != attacked);
        for (_, (network, exchange)) in read {
            let width = network.n_outputs();
            tables.push(Table { rows: &mut exchange.on_reference, width });
            tables.push(Table { rows: &mut exchange.on_reference_shuffled, width });
        }
    }
    tables
}

/// The rows of a group, of one table after another.
#[derive(Serialize, Deserialize)]
pub struct GroupUnit(Vec<Bits>);

impl GroupUnit {
    /// What was just computed of these samples.
    pub fn of(samples: &[usize], tables: &[Table<'_>]) -> Self {
        let rows = |table: &Table<'_>| Bits(table.rows.view().select(Axis(0), samples).iter().copied().collect());
        GroupUnit(tables.iter().map(rows).collect())
    }

    /// Puts the rows of these samples, among `n_samples`, back to their places; `false` where they do not fit.
    pub fn put_back(&self, samples: &[usize], n_samples: usize, tables: &mut [Table<'_>]) -> bool {
        let fits = |(Bits(values), table): (&Bits, &Table<'_>)| values.len() == samples.len() * table.width;
        if self.0.len() != tables.len() || !self.0.iter().zip(tables.iter()).all(fits) {
            return false;
        }
        for (Bits(values), table) in self.0.iter().zip(tables) {
            if let Ok(rows) = ArrayView2::from_shape((samples.len(), table.width), values) {
                table.rows.put(n_samples, samples.iter().copied(), rows);
            }
        }
        true
    }
}
