//! A table that is filled a few rows at a time, in any order.

use ndarray::{Array2, ArrayView2};

/// Rows of one width; the width is that of the first that come.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rows<T> {
    table: Array2<T>,
}

impl<T: Clone + Default> Rows<T> {
    /// Puts `rows` at `places` of a table of `n` rows. Places without a row stay as they are.
    pub fn put(&mut self, n: usize, places: impl IntoIterator<Item = usize>, rows: ArrayView2<'_, T>) {
        if self.table.nrows() != n {
            self.table = Array2::from_elem((n, rows.ncols()), T::default());
        }
        for (place, row) in places.into_iter().zip(rows.rows()) {
            if place < n {
                self.table.row_mut(place).assign(&row);
            }
        }
    }

    /// The whole table, 0 x 0 before the first row.
    pub fn view(&self) -> ArrayView2<'_, T> {
        self.table.view()
    }
}
