//! Linear maps between values: what differentiation is made of.
//!
//! A rule gives one map for each pair of input and output of an operator: the map from the input's tangent to the
//! output's. Applied it makes forward mode, transposed it makes reverse mode, so an operator has one derivative, not
//! two that could disagree: `⟨u, J t⟩ = ⟨Jᵀ u, t⟩` holds for each map and is tested for each rule.

use super::{
    builder::Builder,
    error::{GradientError, Result},
    graph::{Attribute, Node},
};

/// A linear map that can be written into a graph in both directions.
pub(crate) trait Linear {
    /// Emits `J t` for the tangent `t` of the input.
    fn apply(&self, builder: &mut Builder, tangent: &str) -> Result<String>;
    /// Emits `Jᵀ c` for the cotangent `c` of the output.
    fn transpose(&self, builder: &mut Builder, cotangent: &str) -> Result<String>;
}

/// A linear map of any kind.
pub(crate) type Map = Box<dyn Linear>;

/// One block of an operator's Jacobian: a node, one of its inputs and one of its outputs.
#[derive(Clone, Copy)]
pub(crate) struct Site<'a> {
    pub(crate) node: &'a Node,
    pub(crate) input: usize,
    pub(crate) output: usize,
}

impl<'a> Site<'a> {
    /// The name of the block's input value.
    pub(crate) fn x(&self) -> &'a str {
        self.node.input(self.input).unwrap_or("")
    }

    /// The name of the block's output value.
    pub(crate) fn y(&self) -> &'a str {
        self.node.output(self.output).unwrap_or("")
    }

    /// The name of another input of the node.
    pub(crate) fn operand(&self, index: usize) -> Result<&'a str> {
        self.node.input(index).ok_or_else(|| self.refuse(&format!("input {index} is missing")))
    }

    /// The error that this block has no derivative.
    pub(crate) fn refuse(&self, reason: &str) -> GradientError {
        GradientError::NotDifferentiable {
            node: self.node.label().to_owned(),
            operator: self.node.op.clone(),
            reason: reason.to_owned(),
        }
    }
}

/// `J t = factor ⊙ broadcast(t)`: every elementwise operator, with numpy's broadcasting.
pub(crate) struct Elementwise {
    /// Broadcasts to the output's shape; `None` stands for 1.
    pub(crate) factor: Option<String>,
    pub(crate) input: String,
    pub(crate) output: String,
}

impl Elementwise {
    pub(crate) fn at(site: &Site, factor: Option<String>) -> Map {
        Box::new(Elementwise { factor, input: site.x().to_owned(), output: site.y().to_owned() })
    }

    fn scaled(&self, builder: &mut Builder, value: &str) -> Result<String> {
        match &self.factor {
            Some(factor) => builder.mul(value, factor),
            None => Ok(value.to_owned()),
        }
    }
}

impl Linear for Elementwise {
    fn apply(&self, builder: &mut Builder, tangent: &str) -> Result<String> {
        let scaled = self.scaled(builder, tangent)?;
        builder.expanded_like(&scaled, &self.output)
    }

    fn transpose(&self, builder: &mut Builder, cotangent: &str) -> Result<String> {
        let scaled = self.scaled(builder, cotangent)?;
        builder.summed_to(&scaled, &self.input)
    }
}

/// The composition of maps, the first one applied first.
pub(crate) struct Chain(pub(crate) Vec<Map>);

impl Linear for Chain {
    fn apply(&self, builder: &mut Builder, tangent: &str) -> Result<String> {
        self.0.iter().try_fold(tangent.to_owned(), |value, map| map.apply(builder, &value))
    }

    fn transpose(&self, builder: &mut Builder, cotangent: &str) -> Result<String> {
        self.0.iter().rev().try_fold(cotangent.to_owned(), |value, map| map.transpose(builder, &value))
    }
}

/// The elements in another shape.
pub(crate) struct Reshaped {
    pub(crate) input: String,
    pub(crate) output: String,
}

impl Linear for Reshaped {
    fn apply(&self, builder: &mut Builder, tangent: &str) -> Result<String> {
        builder.reshaped_like(tangent, &self.output)
    }

    fn transpose(&self, builder: &mut Builder, cotangent: &str) -> Result<String> {
        builder.reshaped_like(cotangent, &self.input)
    }
}

/// The axes in another order.
pub(crate) struct Permuted(pub(crate) Vec<usize>);

impl Linear for Permuted {
    fn apply(&self, builder: &mut Builder, tangent: &str) -> Result<String> {
        builder.permuted(tangent, &self.0)
    }

    fn transpose(&self, builder: &mut Builder, cotangent: &str) -> Result<String> {
        let mut inverse: Vec<(usize, usize)> = self.0.iter().copied().zip(0..).collect();
        inverse.sort_unstable();
        let inverse: Vec<usize> = inverse.into_iter().map(|(_, position)| position).collect();
        builder.permuted(cotangent, &inverse)
    }
}

/// The sum over axes, all of them for `None`.
pub(crate) struct Summed {
    pub(crate) input: String,
    pub(crate) axes: Vec<i64>,
    pub(crate) keep_dims: bool,
}

impl Linear for Summed {
    fn apply(&self, builder: &mut Builder, tangent: &str) -> Result<String> {
        builder.reduce_sum(tangent, &self.axes, self.keep_dims)
    }

    fn transpose(&self, builder: &mut Builder, cotangent: &str) -> Result<String> {
        if self.axes.is_empty() {
            return Ok(cotangent.to_owned());
        }
        let kept = if self.keep_dims { cotangent.to_owned() } else { builder.unsqueezed(cotangent, &self.axes)? };
        builder.expanded_like(&kept, &self.input)
    }
}

/// Output elements that are each one input element, named by its flat index; an input element may be taken by any
/// number of outputs.
pub(crate) struct Selected {
    pub(crate) input: String,
    /// An int64 value of the output's shape: flat, row-major indices into the whole input.
    pub(crate) indices: String,
}

impl Linear for Selected {
    fn apply(&self, builder: &mut Builder, tangent: &str) -> Result<String> {
        let flat = builder.reshaped(tangent, &[-1])?;
        builder.emit("Gather", &[&flat, &self.indices], &[("axis", Attribute::Int(0))])
    }

    fn transpose(&self, builder: &mut Builder, cotangent: &str) -> Result<String> {
        let zeros = self.nothing(builder)?;
        let sums = Selected::added(builder, &zeros, &self.indices, cotangent)?;
        builder.reshaped_like(&sums, &self.input)
    }
}

impl Selected {
    /// Zeros for all elements of the input, in one row.
    pub(crate) fn nothing(&self, builder: &mut Builder) -> Result<String> {
        let zeros = builder.zeros_like(&self.input)?;
        builder.reshaped(&zeros, &[-1])
    }

    /// Sums in one row, with updates of any shape added at their places.
    pub(crate) fn added(builder: &mut Builder, sums: &str, places: &str, updates: &str) -> Result<String> {
        let places = builder.reshaped(places, &[-1])?;
        let updates = builder.reshaped(updates, &[-1])?;
        let options = [("axis", Attribute::Int(0)), ("reduction", Attribute::Text("add".to_owned()))];
        builder.emit("ScatterElements", &[sums, &places, &updates], &options)
    }
}

type Emit = Box<dyn Fn(&mut Builder, &str) -> Result<String>>;

/// A map given by its two directions. For what no composition of the others expresses.
pub(crate) struct Pair {
    apply: Emit,
    transpose: Emit,
}

impl Pair {
    pub(crate) fn of(
        apply: impl Fn(&mut Builder, &str) -> Result<String> + 'static,
        transpose: impl Fn(&mut Builder, &str) -> Result<String> + 'static,
    ) -> Map {
        Box::new(Pair { apply: Box::new(apply), transpose: Box::new(transpose) })
    }
}

impl Linear for Pair {
    fn apply(&self, builder: &mut Builder, tangent: &str) -> Result<String> {
        (self.apply)(builder, tangent)
    }

    fn transpose(&self, builder: &mut Builder, cotangent: &str) -> Result<String> {
        (self.transpose)(builder, cotangent)
    }
}
