//! Who is next: the skills that wait take turns, and each has its own tasks in the order in which they came.

use std::sync::Arc;

use lru::LruCache;

/// What waits. Every operation costs the same however much that is; nothing is kept of a skill that has nothing waiting.
///
/// The lists of `lru` are used for what they are, hash maps that know an order: what is put in goes to the back, and what
/// was never touched since comes out in the order in which it went in.
#[derive(Debug)]
pub(super) struct Turns<T> {
    /// The skills that have something waiting, the next one first; each with its own queue, by ticket.
    skills: LruCache<Arc<str>, LruCache<u64, T>>,
    len: usize,
}

impl<T> Default for Turns<T> {
    fn default() -> Self {
        Turns { skills: LruCache::unbounded(), len: 0 }
    }
}

impl<T> Turns<T> {
    /// How much waits, of all skills together.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Puts something at the back of its skill's queue. No ticket may be used twice.
    pub fn push(&mut self, skill: &Arc<str>, ticket: u64, item: T) {
        self.len += 1;
        // Looking does not move a skill to the back; it keeps its turn.
        match self.skills.peek_mut(skill) {
            Some(queue) => drop(queue.push(ticket, item)),
            None => {
                let mut queue = LruCache::unbounded();
                queue.push(ticket, item);
                self.skills.push(skill.clone(), queue);
            }
        }
    }

    /// Takes the oldest of the skill whose turn it is; the skill goes to the back.
    pub fn take_next(&mut self) -> Option<T> {
        let (skill, mut queue) = self.skills.pop_lru()?;
        let (_, item) = queue.pop_lru()?;
        self.len -= 1;
        if !queue.is_empty() {
            self.skills.push(skill, queue);
        }
        Some(item)
    }

    /// Takes one out, if it still waits. The others keep their places.
    pub fn remove(&mut self, skill: &str, ticket: u64) -> Option<T> {
        let queue = self.skills.peek_mut(skill)?;
        let item = queue.pop(&ticket)?;
        self.len -= 1;
        if queue.is_empty() {
            self.skills.pop(skill);
        }
        Some(item)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    /// The same as simply as can be: a ring of queues, searched from the front.
    #[derive(Default)]
    struct Model(VecDeque<(u8, VecDeque<u64>)>);

    impl Model {
        fn push(&mut self, skill: u8, ticket: u64) {
            match self.0.iter_mut().find(|(name, _)| *name == skill) {
                Some((_, queue)) => queue.push_back(ticket),
                None => self.0.push_back((skill, VecDeque::from([ticket]))),
            }
        }

        fn take_next(&mut self) -> Option<u64> {
            let (skill, mut queue) = self.0.pop_front()?;
            let ticket = queue.pop_front();
            if !queue.is_empty() {
                self.0.push_back((skill, queue));
            }
            ticket
        }

        fn remove(&mut self, skill: u8, ticket: u64) -> Option<u64> {
            let (_, queue) = self.0.iter_mut().find(|(name, _)| *name == skill)?;
            let place = queue.iter().position(|other| *other == ticket)?;
            queue.remove(place);
            self.0.retain(|(_, queue)| !queue.is_empty());
            Some(ticket)
        }
    }

    fn skill(number: u8) -> Arc<str> {
        Arc::from(format!("skill{number}"))
    }

    fn filled(skills: &[u8]) -> Turns<u64> {
        let mut turns = Turns::default();
        for (ticket, number) in (0..).zip(skills) {
            turns.push(&skill(*number), ticket, ticket);
        }
        turns
    }

    fn order(mut turns: Turns<u64>) -> Vec<u64> {
        std::iter::from_fn(|| turns.take_next()).collect()
    }

    #[test]
    fn a_thousand_of_one_skill_hold_up_another_by_one() {
        let mut turns = filled(&[0; 1000]);
        turns.push(&skill(1), 1000, 1000);
        let order = order(turns);
        assert_eq!((order[..3].to_vec(), order.len()), (vec![0, 1000, 1], 1001));
    }

    #[test]
    fn skills_take_turns_and_keep_their_own_order() {
        assert_eq!(order(filled(&[0, 0, 0, 1, 1, 2])), [0, 3, 5, 1, 4, 2]);
    }

    #[test]
    fn what_is_removed_leaves_the_others_their_places_and_no_empty_queue() {
        let mut turns = filled(&[0, 1, 0, 2]);
        assert_eq!(
            (turns.remove("skill1", 1), turns.remove("skill1", 1), turns.remove("skill9", 0)),
            (Some(1), None, None)
        );
        assert_eq!((turns.remove("skill0", 3), turns.remove("skill0", 0)), (None, Some(0)));
        assert_eq!((turns.len(), turns.skills.len()), (2, 2));
        assert_eq!(order(turns), [2, 3]);
    }

    proptest! {
        #[test]
        fn the_order_is_that_of_the_model(
            operations in proptest::collection::vec((0u8..4, 0u8..5, any::<prop::sample::Index>()), 0..300)
        ) {
            let (mut turns, mut model, mut submitted) = (Turns::default(), Model::default(), Vec::new());
            for (operation, number, chosen) in operations {
                match operation {
                    0 | 1 => {
                        let ticket = submitted.len() as u64;
                        submitted.push(number);
                        turns.push(&skill(number), ticket, ticket);
                        model.push(number, ticket);
                    }
                    2 => prop_assert_eq!(turns.take_next(), model.take_next()),
                    // Any that ever waited: also one that is gone.
                    _ if !submitted.is_empty() => {
                        let ticket = chosen.index(submitted.len());
                        let number = submitted[ticket];
                        prop_assert_eq!(
                            turns.remove(&skill(number), ticket as u64),
                            model.remove(number, ticket as u64)
                        );
                    }
                    _ => {}
                }
                prop_assert_eq!(turns.len(), model.0.iter().map(|(_, queue)| queue.len()).sum::<usize>());
                prop_assert_eq!(turns.skills.len(), model.0.len());
            }
            prop_assert_eq!(order(turns), std::iter::from_fn(|| model.take_next()).collect::<Vec<_>>());
        }
    }
}
