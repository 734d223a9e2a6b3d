//! The order in which skills can be put: what is required comes first.

use std::collections::HashMap;

use super::{Rejection, Stub};

/// Sorts what was found so that every required skill comes before those that require it and every version after the one
/// before it, as near to the given order as that allows. Doubles and skills that require each other are rejected; what is
/// required and not among them is left to whoever knows what else there is.
pub fn sort(stubs: Vec<Stub>, rejected: &mut Vec<Rejection>) -> Vec<Stub> {
    let mut stubs = without_doubles(stubs, rejected);
    let needs = needs(&mut stubs);
    let mut walk = Walk::new(&stubs, &needs);
    for node in 0..stubs.len() {
        walk.from(node);
    }
    let Walk { order, cycle_of, .. } = walk;
    let mut stubs: Vec<Option<Stub>> = stubs.into_iter().map(Some).collect();
    for (node, cycle) in cycle_of.into_iter().enumerate() {
        let Some((cycle, stub)) = cycle.and_then(|cycle| Some((cycle, stubs[node].take()?))) else { continue };
        let reason = format!("skills require each other: {cycle}");
        rejected.push(Rejection { source: stub.source, id: Some(stub.id), reason });
    }
    order.into_iter().filter_map(|node| stubs[node].take()).collect()
}

fn without_doubles(stubs: Vec<Stub>, rejected: &mut Vec<Rejection>) -> Vec<Stub> {
    let mut first: HashMap<(String, u32), String> = HashMap::with_capacity(stubs.len());
    let mut kept = Vec::with_capacity(stubs.len());
    for stub in stubs {
        let key = (stub.id.clone(), stub.version);
        match first.get(&key) {
            None => {
                first.insert(key, stub.source.clone());
                kept.push(stub);
            }
            Some(other) => {
                let which = if stub.version == 0 { String::new() } else { format!(" and version {}", stub.version) };
                let reason = format!("the id `{}`{which} is that of {other} too", stub.id);
                rejected.push(Rejection { source: stub.source, id: Some(stub.id), reason });
            }
        }
    }
    kept
}

/// For each skill those that must come before it. Says on the way which version is the newest of its id.
fn needs(stubs: &mut [Stub]) -> Vec<Vec<usize>> {
    let mut versions: HashMap<String, Vec<usize>> = HashMap::with_capacity(stubs.len());
    for (node, stub) in stubs.iter().enumerate() {
        versions.entry(stub.id.clone()).or_default().push(node);
    }
    for nodes in versions.values_mut() {
        nodes.sort_by_key(|&node| stubs[node].version);
        let newest = nodes.last().copied();
        nodes.iter().for_each(|&node| stubs[node].is_newest = Some(node) == newest);
    }
    let mut needs: Vec<Vec<usize>> = stubs
        .iter()
        .map(|stub| {
            // Any version will do; the first one is the first to be there.
            let first = |id: &String| versions.get(id).and_then(|nodes| nodes.first().copied());
            stub.required.iter().filter_map(first).collect()
        })
        .collect();
    for nodes in versions.values() {
        nodes.windows(2).for_each(|pair| needs[pair[1]].push(pair[0]));
    }
    needs
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Colour {
    Unseen,
    OnPath,
    Done,
}

/// A depth-first walk that keeps its own path: chains may be as long as the library is large.
struct Walk<'s> {
    stubs: &'s [Stub],
    needs: &'s [Vec<usize>],
    colours: Vec<Colour>,
    order: Vec<usize>,
    /// For each skill that is on a cycle, the cycle.
    cycle_of: Vec<Option<String>>,
}

impl<'s> Walk<'s> {
    fn new(stubs: &'s [Stub], needs: &'s [Vec<usize>]) -> Self {
        let count = stubs.len();
        let (colours, order) = (vec![Colour::Unseen; count], Vec::with_capacity(count));
        Walk { stubs, needs, colours, order, cycle_of: vec![None; count] }
    }

    fn from(&mut self, start: usize) {
        if self.colours[start] != Colour::Unseen {
            return;
        }
        self.colours[start] = Colour::OnPath;
        let mut path = vec![(start, 0)];
        while let Some((node, next)) = path.last_mut() {
            let Some(&needed) = self.needs[*node].get(*next) else {
                self.colours[*node] = Colour::Done;
                self.order.push(*node);
                path.pop();
                continue;
            };
            *next += 1;
            match self.colours[needed] {
                Colour::Unseen => {
                    self.colours[needed] = Colour::OnPath;
                    path.push((needed, 0));
                }
                Colour::OnPath => self.mark_cycle(&path, needed),
                Colour::Done => {}
            }
        }
    }

    /// The path from `first` to its end closes a cycle.
    fn mark_cycle(&mut self, path: &[(usize, usize)], first: usize) {
        /// What a person reads of a cycle.
        const SHOWN: usize = 12;
        let start = path.iter().position(|(node, _)| *node == first).unwrap_or(0);
        let cycle: Vec<usize> = path[start..].iter().map(|(node, _)| *node).collect();
        if cycle.iter().all(|&node| self.cycle_of[node].is_some()) {
            return;
        }
        let mut names: Vec<&str> = cycle.iter().take(SHOWN).map(|&node| self.stubs[node].id.as_str()).collect();
        if cycle.len() > SHOWN {
            names.push("...");
        }
        names.push(&self.stubs[first].id);
        // One version of a skill may need another of the same.
        names.dedup();
        if names.len() == 1 {
            names.push(names[0]);
        }
        let text = names.join(" -> ");
        cycle.into_iter().for_each(|node| {
            self.cycle_of[node].get_or_insert_with(|| text.clone());
        });
    }
}

#[cfg(test)]
mod tests {
    use super::super::Place;
    use super::*;

    fn stub(id: &str, version: u32, required: &[&str]) -> Stub {
        let place = Place::Line { offset: 0, length: 0 };
        let required = required.iter().map(|&id| id.to_owned()).collect();
        let (id, name, source) = (id.to_owned(), id.to_owned(), format!("{id}.{version}"));
        Stub { source, id, name, version, required, is_newest: true, place }
    }

    fn sorted(stubs: Vec<Stub>) -> (String, Vec<String>) {
        let mut rejected = Vec::new();
        let order = sort(stubs, &mut rejected);
        let order: Vec<_> = order.iter().map(|stub| stub.source.clone()).collect();
        let rejected = rejected.iter().map(|rejection| format!("{}: {}", rejection.source, rejection.reason));
        (order.join(" "), rejected.collect())
    }

    #[test]
    fn what_is_required_comes_first() {
        let stubs = vec![stub("a", 0, &["c", "elsewhere"]), stub("b", 0, &[]), stub("c", 0, &["d"]), stub("d", 0, &[])];
        assert_eq!(sorted(stubs), ("d.0 c.0 a.0 b.0".to_owned(), vec![]));
    }

    #[test]
    fn versions_ascend_and_any_version_of_a_required_skill_will_do() {
        let stubs = vec![stub("a", 2, &["b"]), stub("a", 1, &[]), stub("b", 2, &["a"]), stub("b", 1, &["a"])];
        let mut rejected = Vec::new();
        let order = sort(stubs, &mut rejected);
        let order: Vec<_> = order.iter().map(|stub| (stub.source.as_str(), stub.is_newest)).collect();
        assert_eq!(order, [("a.1", false), ("b.1", false), ("a.2", true), ("b.2", true)]);
        assert_eq!(rejected, []);
    }

    #[test]
    fn cycles_are_named_and_the_rest_is_sorted() {
        let stubs = vec![
            stub("x", 0, &["a"]),
            stub("a", 0, &["b"]),
            stub("b", 0, &["c", "y"]),
            stub("c", 0, &["a"]),
            stub("y", 0, &[]),
            stub("self", 0, &["self"]),
        ];
        let (order, rejected) = sorted(stubs);
        assert_eq!(order, "y.0 x.0", "what only leads to a cycle is left to who knows what else there is");
        let cycle = "skills require each other: a -> b -> c -> a";
        let expected = [("a", cycle), ("b", cycle), ("c", cycle), ("self", "skills require each other: self -> self")];
        assert_eq!(rejected, expected.map(|(id, reason)| format!("{id}.0: {reason}")));
    }

    #[test]
    fn doubles_are_rejected() {
        let (order, rejected) = sorted(vec![stub("a", 0, &[]), stub("a", 0, &[]), stub("a", 1, &[])]);
        assert_eq!(order, "a.0 a.1");
        assert_eq!(rejected, ["a.0: the id `a` is that of a.0 too"]);
    }

    #[test]
    fn long_chains_need_no_stack() {
        const LENGTH: usize = 200_000;
        let chain = |closed: bool| {
            let stubs = (0..LENGTH).map(|n| {
                let next = if n + 1 < LENGTH { format!("s{}", n + 1) } else { "s0".to_owned() };
                let required: &[&str] = if n + 1 < LENGTH || closed { &[&next] } else { &[] };
                stub(&format!("s{n}"), 0, required)
            });
            let mut rejected = Vec::new();
            (sort(stubs.collect(), &mut rejected).first().map(|stub| stub.id.clone()), rejected.len())
        };
        assert_eq!(chain(false), (Some(format!("s{}", LENGTH - 1)), 0));
        assert_eq!(chain(true), (None, LENGTH));
    }
}
