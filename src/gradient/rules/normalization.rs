//! Normalisation with statistics that are constants of the model.

use super::{
    super::{
        builder::Builder,
        error::Result,
        linear::{Elementwise, Map, Site},
        shape::{Inference, Inferred},
    },
    Derivative as D, Rule, rule,
};

pub(super) const RULES: &[Rule] = &[rule("BatchNormalization", type_of_x, D::Linear(batch_normalization))];

fn type_of_x(inference: &Inference) -> Inferred {
    Ok(vec![inference.value_type(0)?.clone()])
}

/// y = scale·(x − mean)/√(var + ε) + shift, each constant by channel.
fn batch_normalization(builder: &mut Builder, site: &Site) -> Result<Map> {
    if site.input != 0 {
        return Err(site.refuse("its statistics or parameters depend on the input; only constant ones are supported"));
    }
    let (scale, variance) = (site.operand(1)?, site.operand(4)?);
    let epsilon = f64::from(site.node.float("epsilon").unwrap_or(1e-5));
    let rank = builder.rank(site.x())?;
    let shifted = builder.shifted(variance, epsilon)?;
    let deviation = builder.unary("Sqrt", &shifted)?;
    let factor = builder.div(scale, &deviation)?;
    let element = builder.element(site.x())?;
    let factor = if builder.element(&factor)? == element { factor } else { builder.cast(&factor, element)? };
    let axes: Vec<i64> = (1..rank as i64 - 1).collect();
    let factor = if axes.is_empty() { factor } else { builder.unsqueezed(&factor, &axes)? };
    Ok(Elementwise::at(site, Some(factor)))
}
