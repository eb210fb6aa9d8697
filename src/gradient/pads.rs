//! `Pad` of every axis. ONNX Runtime's optimizer moves transposes through a `Pad` as if it had no list of axes, and then
//! pads other axes or fails; so none is emitted that has one.

use super::{builder::Builder, error::Result, graph::Attribute, tensor::Tensor};

/// For each of the pads of all axes, which of those of `axes` it is; `None` where the axes do not fit the rank.
pub(super) fn places(axes: &[i64], rank: usize) -> Option<Vec<Option<usize>>> {
    let mut places = vec![None; 2 * rank];
    for (position, &axis) in axes.iter().enumerate() {
        let axis = usize::try_from(if axis < 0 { axis.checked_add(rank as i64)? } else { axis }).ok()?;
        if axis >= rank {
            return None;
        }
        *places.get_mut(axis)? = Some(position);
        *places.get_mut(axis + rank)? = Some(position + axes.len());
    }
    Some(places)
}

/// The pads at their places, 0 elsewhere.
pub(super) fn in_full(places: &[Option<usize>], pads: &[i64]) -> Option<Vec<i64>> {
    places.iter().map(|place| place.map_or(Some(0), |place| pads.get(place).copied())).collect()
}

impl Builder {
    /// Lets the inputs of a `Pad` say the pads of all axes, where the axes are known.
    pub(super) fn complete_pads(&mut self, inputs: &mut Vec<String>) -> Result<()> {
        let [value, pads, _, axes] = inputs.as_slice() else { return Ok(()) };
        let integers =
            |builder: &Builder, name: &str| builder.graph().initializers.get(name).and_then(Tensor::integers);
        let rank = self.graph().shape(value).map(<[_]>::len);
        let axes = rank.zip(integers(self, axes));
        let Some((n_axes, places)) = axes.and_then(|(rank, axes)| Some((axes.len(), places(&axes, rank)?))) else {
            return Ok(());
        };
        let full = match integers(self, pads).and_then(|pads| in_full(&places, &pads)) {
            Some(full) => self.integers(&full)?,
            None => {
                let (pads, zero) = (pads.clone(), self.integers(&[0])?);
                let with_zero = self.joined(&[pads, zero])?;
                let places: Vec<i64> = places.iter().map(|place| place.unwrap_or(2 * n_axes) as i64).collect();
                let places = self.integers(&places)?;
                self.emit("Gather", &[&with_zero, &places], &[("axis", Attribute::Int(0))])?
            }
        };
        inputs.truncate(3);
        if let Some(pads) = inputs.get_mut(1) {
            *pads = full;
        }
        while inputs.last().is_some_and(String::is_empty) {
            inputs.pop();
        }
        Ok(())
    }
}
