//! Minimum cuts of small flow networks: the cheapest set of edges between a source and a sink.
//!
//! Shortest augmenting paths (Edmonds and Karp 1972). The work is bounded: a network that takes longer has no answer.

use std::collections::VecDeque;

/// Most edges looked at before the search gives up.
const WORK: u64 = 200_000_000;

/// The capacity of an edge that is never cut.
pub(crate) const UNCUTTABLE: u64 = u64::MAX / 4;

/// A directed network. Vertices 0 and 1 are source and sink.
pub(crate) struct Flow {
    /// Edge 2k and its reverse 2k + 1: where they lead, and how much they can still carry.
    heads: Vec<usize>,
    room: Vec<u64>,
    /// The edges that leave each vertex.
    leaving: Vec<Vec<usize>>,
}

impl Flow {
    pub(crate) const SOURCE: usize = 0;
    pub(crate) const SINK: usize = 1;

    pub(crate) fn new() -> Self {
        Flow { heads: Vec::new(), room: Vec::new(), leaving: vec![Vec::new(); 2] }
    }

    pub(crate) fn add_vertex(&mut self) -> usize {
        self.leaving.push(Vec::new());
        self.leaving.len() - 1
    }

    /// Adds an edge between vertices that were added before.
    pub(crate) fn add_edge(&mut self, from: usize, to: usize, capacity: u64) {
        for (from, to, capacity) in [(from, to, capacity), (to, from, 0)] {
            if let Some(leaving) = self.leaving.get_mut(from) {
                leaving.push(self.heads.len());
            }
            self.heads.push(to);
            self.room.push(capacity);
        }
    }

    /// For each vertex whether it lies on the sink's side of the minimum cut that is nearest to the sink. `None` where
    /// finding it takes too long.
    pub(crate) fn sink_side(mut self) -> Option<Vec<bool>> {
        let mut work = 0;
        while let Some(path) = self.shortest_path(&mut work) {
            if work > WORK {
                return None;
            }
            self.augment(&path);
        }
        Some(self.reaching_sink())
    }

    /// The edges of a shortest path from source to sink with room on it.
    #[allow(clippy::indexing_slicing, reason = "vertices and edges were numbered by this type")]
    fn shortest_path(&self, work: &mut u64) -> Option<Vec<usize>> {
        let mut reached_by: Vec<Option<usize>> = vec![None; self.leaving.len()];
        let mut queue = VecDeque::from([Self::SOURCE]);
        while let Some(vertex) = queue.pop_front() {
            *work += self.leaving[vertex].len() as u64;
            for &edge in &self.leaving[vertex] {
                let head = self.heads[edge];
                if self.room[edge] == 0 || head == Self::SOURCE || reached_by[head].is_some() {
                    continue;
                }
                reached_by[head] = Some(edge);
                if head == Self::SINK {
                    let mut path = Vec::new();
                    let mut at = head;
                    while let Some(edge) = reached_by[at] {
                        path.push(edge);
                        at = self.heads[edge ^ 1];
                    }
                    return Some(path);
                }
                queue.push_back(head);
            }
        }
        None
    }

    #[allow(clippy::indexing_slicing, reason = "edges were numbered by this type")]
    fn augment(&mut self, path: &[usize]) {
        let amount = path.iter().map(|&edge| self.room[edge]).min().unwrap_or(0);
        for &edge in path {
            self.room[edge] -= amount;
            self.room[edge ^ 1] = self.room[edge ^ 1].saturating_add(amount);
        }
    }

    #[allow(clippy::indexing_slicing, reason = "vertices and edges were numbered by this type")]
    fn reaching_sink(&self) -> Vec<bool> {
        let mut reaches = vec![false; self.leaving.len()];
        reaches[Self::SINK] = true;
        let mut stack = vec![Self::SINK];
        while let Some(vertex) = stack.pop() {
            for &edge in &self.leaving[vertex] {
                let tail = self.heads[edge];
                if self.room[edge ^ 1] > 0 && !reaches[tail] {
                    reaches[tail] = true;
                    stack.push(tail);
                }
            }
        }
        reaches
    }
}

#[cfg(test)]
mod tests {
    use super::{Flow, UNCUTTABLE};

    #[test]
    fn the_cheapest_cut_nearest_to_the_sink_is_found() {
        // source → a ⇒ b ⇒ c → sink, with b ⇒ c as cheap as a ⇒ b, and a second way from a to c.
        for (way, expected) in [(0, [false, false, true]), (7, [false, false, true]), (1, [false, false, true])] {
            let mut flow = Flow::new();
            let [a, b, c] = [flow.add_vertex(), flow.add_vertex(), flow.add_vertex()];
            flow.add_edge(Flow::SOURCE, a, UNCUTTABLE);
            flow.add_edge(a, b, 3);
            flow.add_edge(b, c, 3);
            flow.add_edge(a, c, way);
            flow.add_edge(c, Flow::SINK, UNCUTTABLE);
            let side = flow.sink_side().unwrap();
            assert_eq!([side[a], side[b], side[c]], expected, "{way}");
        }
        let mut flow = Flow::new();
        let [a, b] = [flow.add_vertex(), flow.add_vertex()];
        flow.add_edge(Flow::SOURCE, a, 5);
        flow.add_edge(a, b, 2);
        flow.add_edge(b, Flow::SINK, 4);
        let side = flow.sink_side().unwrap();
        assert_eq!((side[Flow::SOURCE], side[a], side[b], side[Flow::SINK]), (false, false, true, true));
    }
}
