//! Einstein summation: any equation, with ellipses, diagonals, and letters of one operand only.
//!
//! A sum is linear in each operand, and its adjoint in one operand is a sum over the others and the cotangent.

use std::{collections::BTreeSet, fmt};

use super::{
    super::{
        builder::Builder,
        error::Result,
        graph::{Attribute, Dim, Node, ValueType},
        linear::{Map, Pair, Site},
        shape::{Cause, Inference, Inferred, broadcast_dim, wrong},
        tensor::Tensor,
    },
    Derivative as D, Rule, rule,
};

pub(super) const RULES: &[Rule] = &[rule("Einsum", einsum_type, D::Linear(einsum))];

/// The letters of one operand's axes, or of the output's.
type Term = Vec<char>;

/// An equation with a letter for every axis; those of ellipses have letters of their own.
#[derive(Clone, Debug)]
struct Equation {
    terms: Vec<Term>,
    output: Term,
}

impl Equation {
    /// Reads an equation for operands of these ranks.
    fn parse(text: &str, ranks: &[usize]) -> Result<Equation, String> {
        let text: String = text.chars().filter(|letter| !letter.is_whitespace()).collect();
        let (left, right) = text.split_once("->").map_or((text.as_str(), None), |(left, right)| (left, Some(right)));
        let terms: Vec<&str> = left.split(',').collect();
        if terms.len() != ranks.len() {
            return Err(format!("the equation `{text}` is not one of {} operands", ranks.len()));
        }
        let parts = terms.iter().map(|term| Part::of(term)).collect::<Result<Vec<Part>, String>>()?;
        let mut hidden = Vec::with_capacity(parts.len());
        for (part, &rank) in parts.iter().zip(ranks) {
            let named = part.before.len() + part.behind.len();
            match rank.checked_sub(named) {
                Some(rest) if rest == 0 || part.ellipsis => hidden.push(rest),
                _ => return Err(format!("an operand of rank {rank} does not fit the equation `{text}`")),
            }
        }
        let letters = letters_for(&text, hidden.iter().copied().max().unwrap_or(0))?;
        let letters_of = |part: &Part, count: usize| -> Term {
            let skipped = letters.len().saturating_sub(count);
            part.before.iter().chain(letters.iter().skip(skipped)).chain(&part.behind).copied().collect()
        };
        let terms: Vec<Term> = parts.iter().zip(&hidden).map(|(part, &count)| letters_of(part, count)).collect();
        let output = match right.map(Part::of).transpose()? {
            Some(part) if part.ellipsis => letters_of(&part, letters.len()),
            Some(part) if letters.is_empty() => letters_of(&part, 0),
            Some(_) => return Err(format!("the output of `{text}` leaves out the ellipsis")),
            None => implicit_output(&parts, &letters)?,
        };
        let distinct: BTreeSet<char> = output.iter().copied().collect();
        if distinct.len() != output.len() || !output.iter().all(|letter| terms.iter().any(|t| t.contains(letter))) {
            return Err(format!("the output of `{text}` is not one of its operands' axes"));
        }
        Ok(Equation { terms, output })
    }
}

impl fmt::Display for Equation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let terms: Vec<String> = self.terms.iter().map(spelled).collect();
        write!(f, "{}->{}", terms.join(","), spelled(&self.output))
    }
}

fn spelled(term: &Term) -> String {
    term.iter().collect()
}

/// An equation without ellipses, for operands of these ranks; `None` where it does not fit them.
pub(crate) fn without_ellipses(text: &str, ranks: &[usize]) -> Option<String> {
    Equation::parse(text, ranks).ok().map(|equation| equation.to_string())
}

/// A term as it is written: letters around an ellipsis.
struct Part {
    before: Vec<char>,
    behind: Vec<char>,
    ellipsis: bool,
}

impl Part {
    fn of(term: &str) -> Result<Part, String> {
        let (before, behind) = term.split_once("...").map_or((term, None), |(before, behind)| (before, Some(behind)));
        let part = Part {
            before: before.chars().collect(),
            behind: behind.unwrap_or_default().chars().collect(),
            ellipsis: behind.is_some(),
        };
        let fits = part.before.iter().chain(&part.behind).all(char::is_ascii_alphabetic);
        if fits { Ok(part) } else { Err(format!("`{term}` is no term of an equation")) }
    }
}

/// As many letters that an equation does not use.
fn letters_for(text: &str, count: usize) -> Result<Vec<char>, String> {
    let letters: Vec<char> =
        ('a'..='z').chain('A'..='Z').filter(|&letter| !text.contains(letter)).take(count).collect();
    if letters.len() == count { Ok(letters) } else { Err(format!("the equation `{text}` has too many axes")) }
}

/// Without an arrow: the ellipsis, then the letters that occur once, in alphabetical order.
fn implicit_output(parts: &[Part], hidden: &[char]) -> Result<Term, String> {
    let all: Vec<char> = parts.iter().flat_map(|part| part.before.iter().chain(&part.behind)).copied().collect();
    if all.iter().any(char::is_ascii_uppercase) && all.iter().any(char::is_ascii_lowercase) {
        return Err("its output is not given, and large and small letters have no agreed order".to_owned());
    }
    let once: BTreeSet<char> =
        all.iter().copied().filter(|letter| all.iter().filter(|other| *other == letter).count() == 1).collect();
    Ok(hidden.iter().copied().chain(once).collect())
}

fn equation_text(node: &Node) -> &str {
    node.text("equation").unwrap_or("")
}

fn einsum_type(inference: &Inference) -> Inferred {
    let count = inference.node.inputs.len();
    let shapes = (0..count).map(|index| inference.shape(index)).collect::<Inferred<Vec<&[Dim]>>>()?;
    let ranks: Vec<usize> = shapes.iter().map(|shape| shape.len()).collect();
    let equation = Equation::parse(equation_text(inference.node), &ranks).map_err(Cause::Wrong)?;
    let mut dims = Vec::with_capacity(equation.output.len());
    for letter in &equation.output {
        let mut size = Dim::Known(1);
        for (term, shape) in equation.terms.iter().zip(&shapes) {
            for (_, dim) in term.iter().zip(*shape).filter(|(other, _)| *other == letter) {
                match broadcast_dim(&size, dim) {
                    Some(both) => size = both,
                    None => return wrong(format!("the axes `{letter}` have sizes {size} and {dim}")),
                }
            }
        }
        dims.push(size);
    }
    Ok(vec![ValueType::new(inference.element(0)?, dims)])
}

fn einsum(builder: &mut Builder, site: &Site) -> Result<Map> {
    let operands: Vec<String> = site.node.inputs.clone();
    let ranks = operands.iter().map(|name| builder.rank(name)).collect::<Result<Vec<usize>>>()?;
    let equation = Equation::parse(equation_text(site.node), &ranks).map_err(|reason| site.refuse(&reason))?;
    let text = equation.to_string();
    let (index, x) = (site.input, site.x().to_owned());
    let own = equation.terms.get(index).cloned().unwrap_or_default();
    let others: Vec<(Term, String)> = equation.terms.into_iter().zip(operands.iter().cloned()).collect();
    let output = equation.output;
    let apply = move |builder: &mut Builder, tangent: &str| {
        let replaced = operands.iter().enumerate().map(|(i, name)| if i == index { tangent } else { name.as_str() });
        let replaced: Vec<&str> = replaced.collect();
        builder.emit("Einsum", &replaced, &[("equation", Attribute::Text(text.clone()))])
    };
    let transpose = move |builder: &mut Builder, cotangent: &str| {
        let factors = others.iter().enumerate().filter(|(i, _)| *i != index).map(|(_, factor)| factor.clone());
        let factors: Vec<(Term, String)> = factors.chain([(output.clone(), cotangent.to_owned())]).collect();
        pulled(builder, &own, &factors, &x)
    };
    Ok(Pair::of(apply, transpose))
}

/// The product of the factors, summed and laid out as the operand `x` with axes `own`.
fn pulled(builder: &mut Builder, own: &Term, factors: &[(Term, String)], x: &str) -> Result<String> {
    // Letters of this operand alone, and the later ones of a diagonal, come from no factor.
    let from_factors = |position: usize, letter: &char| {
        own.iter().position(|other| other == letter) == Some(position)
            && factors.iter().any(|(term, _)| term.contains(letter))
    };
    let kept: Term = own.iter().enumerate().filter(|(at, letter)| from_factors(*at, letter)).map(|(_, l)| *l).collect();
    let missing: Vec<i64> =
        own.iter().enumerate().filter(|(at, letter)| !from_factors(*at, letter)).map(|(at, _)| at as i64).collect();
    let mut value = contracted(builder, factors, &kept)?;
    if !missing.is_empty() {
        value = builder.unsqueezed(&value, &missing)?;
    }
    for (at, letter) in own.iter().enumerate() {
        if let Some(first) = own.iter().position(|other| other == letter).filter(|&first| first < at) {
            let diagonal = diagonal(builder, x, first, at)?;
            value = builder.mul(&value, &diagonal)?;
        }
    }
    if builder.same_shape(&value, x) {
        return Ok(value);
    }
    // Sizes of 1 broadcast against the same letter elsewhere, in either direction.
    let value = builder.expanded_like(&value, x)?;
    builder.summed_to(&value, x)
}

/// The factors multiplied and summed over all axes but `kept`. Scalars are multiplied at the end.
fn contracted(builder: &mut Builder, factors: &[(Term, String)], kept: &Term) -> Result<String> {
    let (scalars, tensors): (Vec<_>, Vec<_>) = factors.iter().partition(|(term, _)| term.is_empty());
    let mut value = match tensors.as_slice() {
        [] => None,
        [(term, name)] if term == kept => Some(name.clone()),
        tensors => {
            let terms: Vec<String> = tensors.iter().map(|(term, _)| spelled(term)).collect();
            let names: Vec<&str> = tensors.iter().map(|(_, name)| name.as_str()).collect();
            let equation = format!("{}->{}", terms.join(","), spelled(kept));
            Some(builder.emit("Einsum", &names, &[("equation", Attribute::Text(equation))])?)
        }
    };
    for (_, scalar) in scalars {
        value = Some(match value {
            Some(value) => builder.mul(&value, scalar)?,
            None => scalar.clone(),
        });
    }
    value.ok_or_else(|| super::super::error::GradientError::Request("a sum without operands".to_owned()))
}

/// 1 where the indices of two axes of `x` are equal and 0 elsewhere, in a shape that broadcasts against `x`.
fn diagonal(builder: &mut Builder, x: &str, first: usize, second: usize) -> Result<String> {
    let size = builder.size_value(x, first)?;
    let square = builder.emit("Concat", &[&size, &size], &[("axis", Attribute::Int(0))])?;
    let zero = Tensor::from_floats(builder.element(x)?, vec![1], &[0.0])?;
    let zeros = builder.emit("ConstantOfShape", &[&square], &[("value", Attribute::Tensor(zero))])?;
    let code = builder.element(x)?.code();
    let unit = builder.emit("EyeLike", &[&zeros], &[("dtype", Attribute::Int(code.into()))])?;
    let axes: Vec<i64> =
        (0..builder.rank(x)?).filter(|axis| ![first, second].contains(axis)).map(|axis| axis as i64).collect();
    if axes.is_empty() { Ok(unit) } else { builder.unsqueezed(&unit, &axes) }
}
