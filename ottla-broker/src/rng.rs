//! Random numbers from a seed: the broker draws none from anywhere else.

/// A seeded source of random numbers (SplitMix64). The same seed gives the same numbers in every release.
#[derive(Debug, Clone)]
pub struct Rng(u64);

impl Rng {
    /// A source that is wholly determined by `seed`.
    #[must_use]
    pub fn seeded(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 random bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Sixteen random bytes that make a version 4 UUID.
    pub fn uuid(&mut self) -> [u8; 16] {
        let bits = (u128::from(self.next_u64()) << 64) | u128::from(self.next_u64());
        let versioned = (bits & !(0xF << 76) & !(0b11 << 62)) | (0x4 << 76) | (0b10 << 62);
        versioned.to_be_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::Rng;

    #[test]
    fn equal_seeds_give_equal_numbers() {
        let (mut one, mut two) = (Rng::seeded(7), Rng::seeded(7));
        assert_eq!(one.next_u64(), two.next_u64());
        assert_eq!(one.uuid(), two.uuid());
        assert_ne!(one.uuid(), two.next_u64().to_be_bytes().repeat(2)[..]);
    }

    #[test]
    fn uuids_are_of_version_four() {
        let uuid = Rng::seeded(1).uuid();
        assert_eq!(uuid[6] >> 4, 4);
        assert_eq!(uuid[8] >> 6, 0b10);
    }
}
