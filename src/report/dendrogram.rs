//! A clustering as a tree: the order in which it is drawn, and its drawing.

use super::{
    colour::Colour,
    svg::{Anchor, Drawing, Lettering, Place, Stroke, short},
};
use crate::stats::Merge;

/// The leaves from first to last. Of the two ways to put the two halves of a cluster, and of each half's own two, those are
/// taken that bring the nearest rows side by side.
pub fn order(merges: &[Merge], n: usize, distance: impl Fn(usize, usize) -> f64) -> Vec<usize> {
    let mut clusters: Vec<Vec<usize>> = (0..n).map(|leaf| vec![leaf]).collect();
    for merge in merges {
        let mut take = |cluster: usize| clusters.get_mut(cluster).map(std::mem::take).unwrap_or_default();
        let (mut first, mut second) = (take(merge.first), take(merge.second));
        let gap = |left: Option<&usize>, right: Option<&usize>| match (left, right) {
            (Some(&left), Some(&right)) => distance(left, right),
            _ => 0.0,
        };
        let ways = [
            gap(first.last(), second.first()),
            gap(first.last(), second.last()),
            gap(first.first(), second.first()),
            gap(first.first(), second.last()),
        ];
        let best = ways.iter().enumerate().min_by(|a, b| a.1.total_cmp(b.1)).map_or(0, |(way, _)| way);
        if best >= 2 {
            first.reverse();
        }
        if best % 2 == 1 {
            second.reverse();
        }
        first.extend(second);
        clusters.push(first);
    }
    let mut order = clusters.pop().unwrap_or_default();
    // Merges that leave some apart: those come last.
    let apart = clusters.into_iter().flatten().collect::<Vec<_>>();
    order.extend(apart);
    order
}

/// How far the cut and the axis are from the outermost leaves.
const MARGIN: f64 = 16.0;

/// A tree that grows from the left to leaves at the right.
pub struct Tree<'a> {
    pub merges: &'a [Merge],
    /// Leaves from top to bottom.
    pub order: &'a [usize],
    /// The known group of each leaf, where there are any.
    pub groups: &'a [usize],
    /// Clusters that the tree is cut into.
    pub n_clusters: usize,
}

/// A part of the tree: where its stem ends, and the group that all its leaves share.
#[derive(Clone, Copy)]
struct Branch {
    tip: Place,
    group: Option<usize>,
}

impl Tree<'_> {
    /// Draws the tree between `left` and `right`, its leaves at these heights.
    pub fn draw(&self, drawing: &mut Drawing, left: f64, right: f64, rows: &[f64]) {
        let n = self.order.len();
        let tallest = self.merges.iter().map(|merge| merge.height).fold(0.0, f64::max);
        let at = |height: f64| right - if tallest > 0.0 { (right - left) * height / tallest } else { 0.0 };
        let leaf = |leaf: usize| {
            let row = self.order.iter().position(|other| *other == leaf).unwrap_or(leaf);
            Branch { tip: (right, rows.get(row).copied().unwrap_or_default()), group: self.groups.get(leaf).copied() }
        };
        let mut branches: Vec<Branch> = (0..n).map(leaf).collect();
        for merge in self.merges {
            let (Some(&first), Some(&second)) = (branches.get(merge.first), branches.get(merge.second)) else {
                continue;
            };
            let x = at(merge.height);
            let group = first.group.filter(|_| first.group == second.group);
            for branch in [first, second] {
                let middle = (first.tip.1 + second.tip.1) / 2.0;
                let path = format!("M{} {}H{}V{}", short(branch.tip.0), short(branch.tip.1), short(x), short(middle));
                drawing.path(&path, Stroke::new(colour(branch.group), 1.6));
            }
            branches.push(Branch { tip: (x, (first.tip.1 + second.tip.1) / 2.0), group });
        }
        let (top, bottom) = (rows.first().copied().unwrap_or_default(), rows.last().copied().unwrap_or_default());
        let (top, bottom) = (top - MARGIN, bottom + MARGIN);
        if let Some(cut) = self.cut() {
            let x = at(cut);
            drawing.line((x, top), (x, bottom), Stroke::dashed(Colour::Muted, 1.0));
        }
        let small = Lettering::new(9.5, Colour::Muted);
        drawing.line((left, bottom + 6.0), (right, bottom + 6.0), Stroke::new(Colour::Line, 1.0));
        drawing.text((right, bottom + 17.0), "0", small.anchored(Anchor::Middle));
        drawing.text((left, bottom + 17.0), &height_text(tallest), small);
    }

    /// A height between the last merge that is kept and the first that is not.
    fn cut(&self) -> Option<f64> {
        let kept = self.order.len().checked_sub(self.n_clusters)?;
        let next = self.merges.get(kept)?.height;
        let below = kept.checked_sub(1).and_then(|last| self.merges.get(last)).map_or(0.0, |merge| merge.height);
        Some((below + next) / 2.0)
    }
}

fn colour(group: Option<usize>) -> Colour {
    group.map_or(Colour::Muted, Colour::Group)
}

fn height_text(height: f64) -> String {
    super::words::number(height)
}
