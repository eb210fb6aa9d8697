//! Elements in another shape or order, chosen, repeated or filled in.

use super::{
    super::{
        graph::{Attribute, ElementType},
        shape::{resolve_axes, resolve_axis},
        tensor::Tensor,
    },
    Operands, Values, bounded, broadcast_dims, broadcast_strides, from_integers, offsets, picked, product, signed,
};
use crate::limits;

impl Operands<'_> {
    pub(super) fn reshaped_dims(&self, x: &Tensor) -> Option<Vec<u64>> {
        let dims = x.dims();
        match self.node.op.as_str() {
            "Flatten" => {
                let axis = self.node.int("axis").unwrap_or(1);
                let axis = if axis < 0 { axis.checked_add(dims.len() as i64)? } else { axis };
                let (rows, columns) = dims.split_at_checked(usize::try_from(axis).ok()?)?;
                Some(vec![product(rows)?, product(columns)?])
            }
            "Squeeze" => {
                let axes = match self.inputs.get(1) {
                    Some(Some(axes)) => resolve_axes(&axes.integers()?, dims.len()).ok()?,
                    _ => (0..dims.len()).filter(|&axis| dims.get(axis) == Some(&1)).collect(),
                };
                if axes.iter().any(|&axis| dims.get(axis) != Some(&1)) {
                    return None;
                }
                Some(dims.iter().enumerate().filter(|(axis, _)| !axes.contains(axis)).map(|(_, &dim)| dim).collect())
            }
            "Unsqueeze" => {
                let added = self.list(1)?;
                let rank = dims.len().checked_add(added.len()).filter(|&rank| rank <= limits::TENSOR_RANK)?;
                let axes = resolve_axes(&added, rank).ok()?;
                let mut rest = dims.iter().copied();
                (0..rank).map(|axis| if axes.contains(&axis) { Some(1) } else { rest.next() }).collect()
            }
            _ => {
                let copies = self.node.int("allowzero").unwrap_or(0) == 0;
                let target = self.list(1)?;
                let mut sizes = Vec::with_capacity(target.len());
                for (axis, &size) in target.iter().enumerate() {
                    sizes.push(match size {
                        0 if copies => *dims.get(axis)?,
                        -1 => u64::MAX,
                        size => u64::try_from(size).ok()?,
                    });
                }
                let mut known = sizes.iter().filter(|&&size| size != u64::MAX);
                let known = known.try_fold(1u64, |product, &size| product.checked_mul(size))?;
                let free = (x.len() as u64).checked_div(known);
                sizes.into_iter().map(|size| if size == u64::MAX { free } else { Some(size) }).collect()
            }
        }
    }

    pub(super) fn shape(&self, x: &Tensor) -> Option<Tensor> {
        let rank = i64::try_from(x.dims().len()).ok()?;
        let clamp = |at: i64| usize::try_from((if at < 0 { at.saturating_add(rank) } else { at }).clamp(0, rank)).ok();
        let start = clamp(self.node.int("start").unwrap_or(0))?;
        let end = clamp(self.node.int("end").unwrap_or(rank))?;
        let dims = x.dims().get(start..end.max(start))?;
        let dims: Vec<i64> = dims.iter().map(|&dim| dim as i64).collect();
        Tensor::from_integers(vec![dims.len() as u64], &dims).ok()
    }

    pub(super) fn transpose(&self, x: &Tensor) -> Option<Tensor> {
        bounded(x.dims())?;
        let rank = x.dims().len();
        let order: Vec<usize> = match self.node.ints("perm") {
            Some(order) => order.iter().map(|&axis| usize::try_from(axis).ok()).collect::<Option<_>>()?,
            None => (0..rank).rev().collect(),
        };
        let mut sorted = order.clone();
        sorted.sort_unstable();
        if sorted != (0..rank).collect::<Vec<_>>() {
            return None;
        }
        x.permuted(&order)
    }

    /// The product of the sizes before an axis, and of those after it.
    pub(super) fn around(dims: &[u64], axis: usize) -> Option<(usize, usize)> {
        let size = |dims: &[u64]| usize::try_from(product(dims)?).ok();
        Some((size(dims.get(..axis)?)?, size(dims.get(axis + 1..)?)?))
    }

    pub(super) fn concat(&self) -> Option<Tensor> {
        let parts: Vec<&Tensor> = self.inputs.iter().copied().collect::<Option<_>>()?;
        let first = parts.first()?;
        let axis = self.axis(first.dims().len(), 0)?;
        let mut dims = first.dims().to_vec();
        let length = parts.iter().map(|part| part.dims().get(axis)).sum::<Option<u64>>()?;
        *dims.get_mut(axis)? = length;
        bounded(&dims)?;
        let fits = |part: &&Tensor| {
            part.element() == first.element()
                && part.dims().len() == dims.len()
                && part.dims().iter().zip(&dims).enumerate().all(|(at, (a, b))| at == axis || a == b)
        };
        if !parts.iter().all(fits) {
            return None;
        }
        let (outer, inner) = Self::around(&dims, axis)?;
        let mut data = Vec::new();
        for row in 0..outer {
            for part in &parts {
                let width = inner * usize::try_from(*part.dims().get(axis)?).ok()? * part.element().size();
                data.extend_from_slice(part.data().get(row * width..(row + 1) * width)?);
            }
        }
        Tensor::new(first.element(), dims, data.into()).ok()
    }

    pub(super) fn gather(&self, x: &Tensor) -> Option<Tensor> {
        let indices = self.given(1)?;
        let axis = self.axis(x.dims().len(), 0)?;
        let length = usize::try_from(*x.dims().get(axis)?).ok()?;
        let mut dims = x.dims().get(..axis)?.to_vec();
        dims.extend_from_slice(indices.dims());
        dims.extend_from_slice(x.dims().get(axis + 1..)?);
        let count = bounded(&dims)?;
        let places: Vec<usize> =
            indices.integers()?.iter().map(|&at| resolve_axis(at, length).ok()).collect::<Option<_>>()?;
        let (outer, inner) = Self::around(x.dims(), axis)?;
        let mut positions = Vec::with_capacity(count);
        for row in 0..outer {
            for place in &places {
                let start = (row * length + place) * inner;
                positions.extend(start..start + inner);
            }
        }
        picked(x, dims, &positions)
    }

    pub(super) fn gather_elements(&self, x: &Tensor) -> Option<Tensor> {
        let indices = self.given(1)?;
        let axis = self.axis(x.dims().len(), 0)?;
        let dims = indices.dims().to_vec();
        let fits = dims.len() == x.dims().len()
            && dims.iter().zip(x.dims()).enumerate().all(|(at, (index, size))| at == axis || index <= size);
        if !fits {
            return None;
        }
        let length = usize::try_from(*x.dims().get(axis)?).ok()?;
        let mut steps = signed(broadcast_strides(x.dims(), x.dims())?)?;
        let step = Self::around(x.dims(), axis)?.1;
        *steps.get_mut(axis)? = 0;
        let starts = offsets(&dims, &steps, 0)?;
        let places = indices.integers()?;
        let positions: Option<Vec<usize>> = starts
            .iter()
            .zip(&places)
            .map(|(start, &at)| Some(start + resolve_axis(at, length).ok()? * step))
            .collect();
        picked(x, dims, &positions?)
    }

    pub(super) fn slice(&self, x: &Tensor) -> Option<Tensor> {
        let (starts, ends) = (self.list(1)?, self.list(2)?);
        let rank = x.dims().len();
        let axes: Vec<usize> = match self.given(3) {
            Some(axes) => axes.integers()?.iter().map(|&axis| resolve_axis(axis, rank).ok()).collect::<Option<_>>()?,
            None => (0..starts.len()).collect(),
        };
        let steps = match self.given(4) {
            Some(steps) => steps.integers()?,
            None => vec![1; starts.len()],
        };
        let mut dims = x.dims().to_vec();
        let mut strides = signed(broadcast_strides(x.dims(), x.dims())?)?;
        let mut start_offset = 0isize;
        for (((&start, &end), &axis), &step) in starts.iter().zip(&ends).zip(&axes).zip(&steps) {
            let size = i64::try_from(*x.dims().get(axis)?).ok()?;
            let clamp =
                |at: i64, low: i64, high: i64| (if at < 0 { at.saturating_add(size) } else { at }).clamp(low, high);
            let (first, count) = if step > 0 {
                let (first, last) = (clamp(start, 0, size), clamp(end, 0, size));
                (first, (last - first).max(0).checked_add(step - 1)? / step)
            } else if step < 0 && size > 0 {
                let (first, last) = (clamp(start, 0, size - 1), clamp(end, -1, size - 1));
                let back = step.checked_neg()?;
                (first, (first - last).max(0).checked_add(back - 1)? / back)
            } else {
                return None;
            };
            *dims.get_mut(axis)? = u64::try_from(count).ok()?;
            let stride = strides.get_mut(axis)?;
            if count > 0 {
                start_offset = start_offset.checked_add(stride.checked_mul(isize::try_from(first).ok()?)?)?;
            }
            *stride = stride.checked_mul(isize::try_from(step).ok()?)?;
        }
        let positions = offsets(&dims, &strides, start_offset)?;
        picked(x, dims, &positions)
    }

    pub(super) fn split(&self) -> Option<Vec<Tensor>> {
        let x = self.given(0)?;
        let axis = self.axis(x.dims().len(), 0)?;
        let length = *x.dims().get(axis)?;
        let parts = self.node.outputs.len() as u64;
        let sizes = match self.given(1) {
            Some(_) => self.sizes(1)?,
            None => {
                let each = length.div_ceil(parts.max(1));
                (0..parts).map(|part| each.min(length.saturating_sub(part * each))).collect()
            }
        };
        if sizes.len() as u64 != parts || sizes.iter().try_fold(0u64, |sum, &size| sum.checked_add(size))? != length {
            return None;
        }
        let steps = signed(broadcast_strides(x.dims(), x.dims())?)?;
        let step = isize::try_from(Self::around(x.dims(), axis)?.1).ok()?;
        let mut start = 0isize;
        let mut results = Vec::new();
        for size in sizes {
            let mut dims = x.dims().to_vec();
            *dims.get_mut(axis)? = size;
            let positions = offsets(&dims, &steps, start)?;
            results.push(picked(x, dims, &positions)?);
            start += step * isize::try_from(size).ok()?;
        }
        Some(results)
    }

    pub(super) fn tile(&self, x: &Tensor) -> Option<Tensor> {
        let repeats = self.sizes(1)?;
        if repeats.len() != x.dims().len() {
            return None;
        }
        // Every axis becomes two: its repetitions and its own size.
        let strides = signed(broadcast_strides(x.dims(), x.dims())?)?;
        let mut dims = Vec::new();
        let mut steps = Vec::new();
        for ((&repeat, &size), stride) in repeats.iter().zip(x.dims()).zip(strides) {
            dims.extend([repeat, size]);
            steps.extend([0, stride]);
        }
        let result: Option<Vec<u64>> = repeats.iter().zip(x.dims()).map(|(a, b)| a.checked_mul(*b)).collect();
        let result = result?;
        bounded(&result)?;
        let positions = if dims.len() <= limits::TENSOR_RANK { offsets(&dims, &steps, 0)? } else { return None };
        picked(x, result, &positions)
    }

    pub(super) fn filled(&self) -> Option<Tensor> {
        let dims = self.sizes(0)?;
        let count = bounded(&dims)?;
        let (element, bytes) = match self.node.attributes.get("value") {
            Some(Attribute::Tensor(value)) if value.len() == 1 => (value.element(), value.data().to_vec()),
            None => (ElementType::Float32, vec![0; 4]),
            _ => return None,
        };
        Tensor::new(element, dims, bytes.repeat(count).into()).ok()
    }

    pub(super) fn range(&self, start: &Tensor) -> Option<Tensor> {
        let element = start.element();
        match (Values::of(start)?, Values::of(self.given(1)?)?, Values::of(self.given(2)?)?) {
            (Values::Integers(start), Values::Integers(limit), Values::Integers(step)) => {
                let (&[start], &[limit], &[step]) = (start.as_slice(), limit.as_slice(), step.as_slice()) else {
                    return None;
                };
                let count = if step == 0 { return None } else { limit.checked_sub(start)?.checked_div(step)? };
                bounded(&[u64::try_from(count.max(0)).ok()?])?;
                let inside = |value: i64| if step > 0 { value < limit } else { value > limit };
                let values = std::iter::successors(Some(start), |value| value.checked_add(step));
                let values: Vec<i64> = values.take_while(|&value| inside(value)).collect();
                from_integers(element, vec![values.len() as u64], &values)
            }
            (Values::Floats(start), Values::Floats(limit), Values::Floats(step)) => {
                let (&[start], &[limit], &[step]) = (start.as_slice(), limit.as_slice(), step.as_slice()) else {
                    return None;
                };
                let count = ((limit - start) / step).ceil().max(0.0);
                if !count.is_finite() || count > limits::FOLDED_ELEMENTS as f64 {
                    return None;
                }
                let values: Vec<f64> = (0..count as u64).map(|at| start + at as f64 * step).collect();
                Tensor::from_floats(element, vec![values.len() as u64], &values).ok()
            }
            _ => None,
        }
    }

    pub(super) fn choose(&self, condition: &Tensor) -> Option<Tensor> {
        let (yes, no) = (self.given(1)?, self.given(2)?);
        if yes.element() != no.element() {
            return None;
        }
        let dims = broadcast_dims(&broadcast_dims(condition.dims(), yes.dims())?, no.dims())?;
        bounded(&dims)?;
        let at = |tensor: &Tensor| offsets(&dims, &signed(broadcast_strides(tensor.dims(), &dims)?)?, 0);
        let (conditions, from, other) = (at(condition)?, at(yes)?, at(no)?);
        let size = yes.element().size();
        let mut data = Vec::with_capacity(conditions.len() * size);
        for ((at, from), other) in conditions.iter().zip(&from).zip(&other) {
            let (tensor, place) = if *condition.data().get(*at)? != 0 { (yes, from) } else { (no, other) };
            data.extend_from_slice(tensor.data().get(place * size..(place + 1) * size)?);
        }
        Tensor::new(yes.element(), dims, data.into()).ok()
    }

    pub(super) fn triangle(&self, x: &Tensor) -> Option<Tensor> {
        bounded(x.dims())?;
        let shift = match self.given(1) {
            Some(shift) => *shift.integers()?.first()?,
            None => 0,
        };
        let upper = self.node.int("upper").unwrap_or(1) != 0;
        let [.., rows, columns] = x.dims() else { return None };
        let (rows, columns) = (i64::try_from(*rows).ok()?, i64::try_from(*columns).ok()?);
        let size = x.element().size();
        let mut data = x.data().to_vec();
        for (place, element) in data.chunks_exact_mut(size).enumerate() {
            let place = i64::try_from(place).ok()?;
            let (row, column) = (place / columns % rows, place % columns);
            let diagonal = row.saturating_add(shift);
            if (upper && column < diagonal) || (!upper && column > diagonal) {
                element.fill(0);
            }
        }
        Tensor::new(x.element(), x.dims().to_vec(), data.into()).ok()
    }
}

/// The coordinates of what is not zero, an axis a row.
pub(super) fn non_zero(x: &Tensor) -> Option<Tensor> {
    bounded(x.dims())?;
    let places: Vec<usize> = match Values::of(x)? {
        Values::Floats(values) => {
            values.iter().enumerate().filter(|(_, value)| **value != 0.0).map(|(at, _)| at).collect()
        }
        Values::Integers(values) => {
            values.iter().enumerate().filter(|(_, value)| **value != 0).map(|(at, _)| at).collect()
        }
    };
    if x.dims().is_empty() {
        return None;
    }
    let strides = signed(broadcast_strides(x.dims(), x.dims())?)?;
    let mut rows = Vec::with_capacity(places.len() * strides.len());
    for (&stride, &dim) in strides.iter().zip(x.dims()) {
        let stride = usize::try_from(stride).ok()?.max(1);
        rows.extend(places.iter().map(|place| if dim == 1 { 0 } else { (place / stride) as i64 % dim as i64 }));
    }
    Tensor::from_integers(vec![x.dims().len() as u64, places.len() as u64], &rows).ok()
}
