//! Decompressed keys of recent signers. Decompressing takes about a third of a
//! batched verification; what the cache holds never changes what is accepted.

use curve25519_dalek::edwards::EdwardsPoint;

use super::PublicKey;

/// A bounded cache of negated points, each key in the one place that its bytes choose.
#[derive(Debug)]
pub struct KeyCache {
    /// A power of two many.
    places: Vec<Option<(PublicKey, EdwardsPoint)>>,
}

impl KeyCache {
    /// A cache for at least `keys` keys, 200 bytes each.
    #[must_use]
    pub fn new(keys: usize) -> Self {
        Self { places: vec![None; keys.max(1).next_power_of_two()] }
    }

    /// The negated point of a key; none if it is not the encoding of a point.
    pub(super) fn negated_point(&mut self, key: &PublicKey) -> Option<EdwardsPoint> {
        let bytes = key.0.first_chunk::<8>().copied().unwrap_or_default();
        // The low bits of a point's y are as good as random, and who grinds them only evicts.
        let mask = self.places.len().saturating_sub(1) as u64;
        let place = usize::try_from(u64::from_le_bytes(bytes) & mask).unwrap_or(0);
        match self.places.get_mut(place) {
            Some(Some((cached, point))) if cached == key => Some(*point),
            Some(empty_or_other) => {
                let point = -key.point()?;
                *empty_or_other = Some((*key, point));
                Some(point)
            }
            None => key.point().map(|point| -point),
        }
    }
}
