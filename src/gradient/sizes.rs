//! Emitting shapes whose sizes may only be known at run time, giving values the shape of others, and small compositions
//! that rules share.

use super::{
    builder::Builder,
    error::{GradientError, Result},
    graph::{Attribute, Dim, Integer, Node, ValueType},
    tensor::Tensor,
};

/// One size of a shape that is to be made.
#[derive(Clone, Copy)]
pub(crate) enum Size<'a> {
    /// As `Reshape` takes it.
    Known(i64),
    /// That of a value's axis.
    Of(&'a str, usize),
    /// That of a value's axis, times a factor.
    Times(&'a str, usize, i64),
}

impl Builder {
    /// The shape of a value as an int64 tensor: a constant where all sizes are known.
    pub(crate) fn shape_value(&mut self, value: &str) -> Result<String> {
        let known = self.graph().types.get(value).and_then(ValueType::known_shape);
        let known: Option<Vec<i64>> = known.map(|dims| dims.iter().map(|&dim| dim as i64).collect());
        match known {
            Some(dims) => self.integers(&dims),
            None => self.unary("Shape", value),
        }
    }

    /// One size of a value, as an int64 tensor of one element.
    pub(crate) fn size_value(&mut self, value: &str, axis: usize) -> Result<String> {
        if let Some(size) = self.shape(value)?.get(axis).and_then(Dim::known) {
            return self.integers(&[size as i64]);
        }
        let (start, end) = (Attribute::Int(axis as i64), Attribute::Int(axis as i64 + 1));
        self.emit("Shape", &[value], &[("start", start), ("end", end)])
    }

    /// Reshapes a value to the shape of another with as many elements.
    pub(crate) fn reshaped_like(&mut self, value: &str, like: &str) -> Result<String> {
        if self.same_shape(value, like) {
            return Ok(value.to_owned());
        }
        let target = match self.graph().shape(like).map(one_free_dimension) {
            Some(Some(dims)) => self.integers(&dims)?,
            _ => self.unary("Shape", like)?,
        };
        let reshaped = self.emit("Reshape", &[value, &target], &[("allowzero", Attribute::Int(1))])?;
        self.shaped_like(&reshaped, like);
        Ok(reshaped)
    }

    /// Reshapes a value to fixed sizes, one of which may be -1.
    pub(crate) fn reshaped(&mut self, value: &str, dims: &[i64]) -> Result<String> {
        let target = self.integers(dims)?;
        self.emit("Reshape", &[value, &target], &[])
    }

    /// Broadcasts a value to the shape of another.
    pub(crate) fn expanded_like(&mut self, value: &str, like: &str) -> Result<String> {
        if self.same_shape(value, like) {
            return Ok(value.to_owned());
        }
        let target = match self.expansion(value, like) {
            Some(target) => self.integers(&target)?,
            None => self.shape_value(like)?,
        };
        self.emit("Expand", &[value, &target], &[])
    }

    /// An `Expand` target where no size must be asked at run time: 1 leaves an axis that has its size already.
    fn expansion(&self, value: &str, like: &str) -> Option<Vec<i64>> {
        let (from, to) = (self.graph().shape(value)?, self.graph().shape(like)?);
        let added = to.len().checked_sub(from.len())?;
        let from = std::iter::repeat_n(None, added).chain(from.iter().map(Some));
        let sizes = from.zip(to).map(|(from, to)| match to {
            to if from == Some(to) => Some(1),
            Dim::Known(size) => i64::try_from(*size).ok(),
            Dim::Symbol(_) => None,
        });
        sizes.collect()
    }

    /// Zeros of the type and shape of a value.
    pub(crate) fn zeros_like(&mut self, value: &str) -> Result<String> {
        let zero = Tensor::from_floats(self.element(value)?, vec![1], &[0.0])?;
        self.filled_like(value, zero)
    }

    /// The adjoint of broadcasting `like` to the shape of `value`: sums over the axes that were repeated.
    pub(crate) fn summed_to(&mut self, value: &str, like: &str) -> Result<String> {
        if self.same_shape(value, like) {
            return Ok(value.to_owned());
        }
        let (from, to) = (self.shape(value)?, self.shape(like)?);
        let leading = from.len().saturating_sub(to.len());
        let mut axes: Vec<i64> = (0..leading as i64).collect();
        let mut keeps = true;
        for (axis, (from, to)) in from.iter().skip(leading).zip(&to).enumerate() {
            match (from, to) {
                (from, to) if from == to => {}
                (_, Dim::Known(1)) => {
                    axes.push((leading + axis) as i64);
                    keeps = false;
                }
                _ => return self.summed_at_run_time(value, like, leading),
            }
        }
        let summed = self.reduce_sum(value, &axes, !keeps)?;
        self.reshaped_like(&summed, like)
    }

    /// [`Self::summed_to`] where only the run shows which sizes of `like` are 1.
    fn summed_at_run_time(&mut self, value: &str, like: &str, leading: usize) -> Result<String> {
        let shape = self.unary("Shape", like)?;
        let ones = self.integers(&vec![1; leading])?;
        let padded = self.emit("Concat", &[&ones, &shape], &[("axis", Attribute::Int(0))])?;
        let one = self.integers(&[1])?;
        let single = self.emit("Equal", &[&padded, &one], &[])?;
        let axes = self.unary("NonZero", &single)?;
        let axes = self.reshaped(&axes, &[-1])?;
        let options = [("keepdims", Attribute::Int(1)), ("noop_with_empty_axes", Attribute::Int(1))];
        let summed = self.emit("ReduceSum", &[value, &axes], &options)?;
        // The sum has unknown sizes; its reshaped form has those of `like`.
        self.emit("Reshape", &[&summed, &shape], &[("allowzero", Attribute::Int(1))])
    }

    fn known_size(&self, size: Size) -> Option<i64> {
        let of = |value: &str, axis: usize| {
            let size = self.graph().shape(value)?.get(axis).and_then(Dim::known)?;
            i64::try_from(size).ok()
        };
        match size {
            Size::Known(size) => Some(size),
            Size::Of(value, axis) => of(value, axis),
            Size::Times(value, axis, factor) => of(value, axis)?.checked_mul(factor),
        }
    }

    /// A shape as a value: a constant where all sizes are known.
    pub(crate) fn shape_of_sizes(&mut self, sizes: &[Size]) -> Result<String> {
        let known: Option<Vec<i64>> = sizes.iter().map(|&size| self.known_size(size)).collect();
        if let Some(known) = known {
            return self.integers(&known);
        }
        let mut values = Vec::with_capacity(sizes.len());
        for &size in sizes {
            values.push(match (self.known_size(size), size) {
                (Some(known), _) | (None, Size::Known(known)) => self.integers(&[known])?,
                (None, Size::Of(value, axis)) => self.size_value(value, axis)?,
                (None, Size::Times(value, axis, factor)) => {
                    let size = self.size_value(value, axis)?;
                    let factor = self.integers(&[factor])?;
                    self.mul(&size, &factor)?
                }
            });
        }
        self.joined(&values)
    }

    /// Reshapes a value; a single size that only the run shows is left to `Reshape`.
    pub(crate) fn reshaped_to(&mut self, value: &str, sizes: &[Size]) -> Result<String> {
        let known: Vec<Option<i64>> = sizes.iter().map(|&size| self.known_size(size)).collect();
        let n_free = known.iter().filter(|size| size.is_none()).count();
        let target = if n_free == 1 && known.iter().flatten().all(|&size| size > 0) {
            self.integers(&known.iter().map(|size| size.unwrap_or(-1)).collect::<Vec<_>>())?
        } else {
            self.shape_of_sizes(sizes)?
        };
        self.emit("Reshape", &[value, &target], &[])
    }

    /// Ones of the type and shape of a value.
    pub(crate) fn ones_like(&mut self, value: &str) -> Result<String> {
        let one = Tensor::from_floats(self.element(value)?, vec![1], &[1.0])?;
        self.filled_like(value, one)
    }

    /// The one element of `element`, in the shape of a value.
    pub(crate) fn filled_like(&mut self, value: &str, element: Tensor) -> Result<String> {
        let shape = self.shape_value(value)?;
        let filled = self.emit("ConstantOfShape", &[&shape], &[("value", Attribute::Tensor(element))])?;
        self.shaped_like(&filled, value);
        Ok(filled)
    }

    /// Sizes, each a tensor of one or more elements, as one shape.
    pub(crate) fn joined(&mut self, sizes: &[String]) -> Result<String> {
        let sizes: Vec<&str> = sizes.iter().map(String::as_str).collect();
        match sizes.as_slice() {
            [single] => Ok((*single).to_owned()),
            sizes => self.emit("Concat", sizes, &[("axis", Attribute::Int(0))]),
        }
    }

    /// 0, 1, 2, … as int64 in the shape of a value.
    pub(crate) fn flat_indices(&mut self, value: &str) -> Result<String> {
        let size = self.unary("Size", value)?;
        let (zero, one) = (Tensor::from_integers(vec![], &[0])?, Tensor::from_integers(vec![], &[1])?);
        let (zero, one) = (self.constant(zero), self.constant(one));
        let range = self.emit("Range", &[&zero, &size, &one], &[])?;
        self.reshaped_like(&range, value)
    }

    /// The node again, with other inputs in some places.
    pub(crate) fn repeated(&mut self, node: &Node, replaced: &[(usize, &str)]) -> Result<Vec<String>> {
        let mut inputs: Vec<&str> = node.inputs.iter().map(String::as_str).collect();
        for (index, value) in replaced {
            if let Some(input) = inputs.get_mut(*index) {
                *input = value;
            }
        }
        let attributes: Vec<(&str, Attribute)> =
            node.attributes.iter().map(|(name, value)| (name.as_str(), value.clone())).collect();
        self.emit_all(&node.op, &inputs, &attributes, node.outputs.len())
    }

    /// The first output of the node again, with another input in one place.
    pub(crate) fn repeated_with(&mut self, node: &Node, index: usize, value: &str) -> Result<String> {
        let outputs = self.repeated(node, &[(index, value)])?;
        let first = outputs.into_iter().next();
        first.ok_or_else(|| GradientError::Request(format!("{} has no output", node.op)))
    }
}

/// A `Reshape` target for a shape with at most one symbol; `None` where the run must tell.
fn one_free_dimension(shape: &[Dim]) -> Option<Vec<i64>> {
    let free = shape.iter().filter(|dim| dim.known().is_none()).count();
    if free > 1 || (free == 1 && shape.contains(&Dim::Known(0))) {
        return None;
    }
    let sizes = shape.iter().map(|dim| match Integer::from(dim) {
        Integer::Known(size) => Some(size),
        Integer::Symbol(_) => Some(-1),
        Integer::Unknown => None,
    });
    sizes.collect()
}
