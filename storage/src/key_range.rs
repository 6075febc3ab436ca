//! Which keys a scan visits, and in which order.
//!
//! Keys compare as unsigned bytes, a prefix before what it begins; there is no other order.

use std::ops::Bound;

/// The order of a scan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Smallest key first.
    Forward,
    /// Largest key first.
    Reverse,
}

/// A contiguous set of keys. Bounds that exclude each other make an empty range, not an error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRange {
    start: Bound<Vec<u8>>,
    end: Bound<Vec<u8>>,
}

impl KeyRange {
    /// The keys between two bounds.
    #[must_use]
    pub fn new(start: Bound<Vec<u8>>, end: Bound<Vec<u8>>) -> Self {
        Self { start, end }
    }

    /// Every key.
    #[must_use]
    pub fn all() -> Self {
        Self::new(Bound::Unbounded, Bound::Unbounded)
    }

    /// The keys that begin with `prefix`.
    #[must_use]
    pub fn prefix(prefix: impl Into<Vec<u8>>) -> Self {
        let prefix = prefix.into();
        let end = successor_of_prefix(&prefix).map_or(Bound::Unbounded, Bound::Excluded);
        Self::new(Bound::Included(prefix), end)
    }

    /// `start` and every key after it.
    #[must_use]
    pub fn from(start: impl Into<Vec<u8>>) -> Self {
        Self::new(Bound::Included(start.into()), Bound::Unbounded)
    }

    /// Every key after `start`: where a page of results goes on.
    #[must_use]
    pub fn after(start: impl Into<Vec<u8>>) -> Self {
        Self::new(Bound::Excluded(start.into()), Bound::Unbounded)
    }

    /// Every key before `end`.
    #[must_use]
    pub fn before(end: impl Into<Vec<u8>>) -> Self {
        Self::new(Bound::Unbounded, Bound::Excluded(end.into()))
    }

    /// `end` and every key before it.
    #[must_use]
    pub fn up_to(end: impl Into<Vec<u8>>) -> Self {
        Self::new(Bound::Unbounded, Bound::Included(end.into()))
    }

    /// `start` and the keys after it that come before `end`.
    #[must_use]
    pub fn between(start: impl Into<Vec<u8>>, end: impl Into<Vec<u8>>) -> Self {
        Self::new(Bound::Included(start.into()), Bound::Excluded(end.into()))
    }

    /// The lower bound.
    #[must_use]
    pub fn start(&self) -> Bound<&[u8]> {
        self.start.as_ref().map(Vec::as_slice)
    }

    /// The upper bound.
    #[must_use]
    pub fn end(&self) -> Bound<&[u8]> {
        self.end.as_ref().map(Vec::as_slice)
    }

    /// Whether the key lies in the range.
    #[must_use]
    pub fn contains(&self, key: &[u8]) -> bool {
        !self.is_before_start(key) && !self.is_after_end(key)
    }

    /// Whether the bounds leave no room for a key.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        match (self.start(), self.end()) {
            (Bound::Unbounded, Bound::Excluded(end)) => end.is_empty(),
            (Bound::Unbounded, _) | (_, Bound::Unbounded) => false,
            (Bound::Included(start), Bound::Included(end)) => start > end,
            (Bound::Included(start), Bound::Excluded(end))
            | (Bound::Excluded(start), Bound::Included(end)) => start >= end,
            // The least key after `start` is `start` with a zero byte appended.
            (Bound::Excluded(start), Bound::Excluded(end)) => {
                start >= end
                    || (end.len() == start.len() + 1
                        && end.last() == Some(&0)
                        && end.starts_with(start))
            }
        }
    }

    /// Whether both ends are open.
    #[must_use]
    pub fn is_all(&self) -> bool {
        matches!((&self.start, &self.end), (Bound::Unbounded, Bound::Unbounded))
    }

    pub(crate) fn is_before_start(&self, key: &[u8]) -> bool {
        match self.start() {
            Bound::Unbounded => false,
            Bound::Included(start) => key < start,
            Bound::Excluded(start) => key <= start,
        }
    }

    pub(crate) fn is_after_end(&self, key: &[u8]) -> bool {
        match self.end() {
            Bound::Unbounded => false,
            Bound::Included(end) => key > end,
            Bound::Excluded(end) => key >= end,
        }
    }
}

/// The least key greater than every key with this prefix, if there is one.
fn successor_of_prefix(prefix: &[u8]) -> Option<Vec<u8>> {
    let kept = prefix.iter().rposition(|&byte| byte != u8::MAX)?;
    let mut successor = prefix.get(..=kept)?.to_vec();
    if let Some(last) = successor.last_mut() {
        *last += 1;
    }
    Some(successor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefix_range_ends_at_the_next_prefix() {
        let range = KeyRange::prefix([7, 255]);
        assert!(range.contains(&[7, 255]));
        assert!(range.contains(&[7, 255, 255, 255]));
        assert!(!range.contains(&[7, 254, 255]));
        assert!(!range.contains(&[8]));
    }

    #[test]
    fn prefix_of_greatest_bytes_has_no_upper_bound() {
        let range = KeyRange::prefix([255, 255]);
        assert!(range.contains(&[255, 255, 255]));
        assert!(!range.contains(&[255, 254]));
        assert_eq!(range.end(), Bound::Unbounded);
    }

    #[test]
    fn empty_prefix_is_every_key() {
        let range = KeyRange::prefix([]);
        assert!(range.contains(&[]));
        assert!(range.contains(&[255]));
    }

    #[test]
    fn bounds_that_exclude_each_other_are_empty() {
        let excluded = |start: &[u8], end: &[u8]| {
            KeyRange::new(Bound::Excluded(start.to_vec()), Bound::Excluded(end.to_vec()))
        };
        assert!(KeyRange::between([2], [1]).is_empty());
        assert!(KeyRange::between([1], [1]).is_empty());
        assert!(KeyRange::before([]).is_empty());
        assert!(excluded(&[1], &[1, 0]).is_empty());
        assert!(!excluded(&[1], &[1, 0, 0]).is_empty());
        assert!(!excluded(&[1], &[2]).is_empty());
        assert!(!KeyRange::up_to([]).is_empty());
    }
}
