//! Which partition a record goes to: by key as Java's client does, or to the partition of the moment without one.

/// The partition of a key, the same that Java's client chooses: murmur2, made positive, modulo the partitions.
///
/// 0 if there are no partitions.
#[must_use]
pub fn partition_for_key(key: &[u8], partitions: u32) -> u32 {
    (murmur2(key) & 0x7fff_ffff).checked_rem(partitions).unwrap_or(0)
}

/// The 32-bit murmur2 hash with the seed that Java's client uses.
#[must_use]
pub fn murmur2(data: &[u8]) -> u32 {
    const SEED: u32 = 0x9747_b28c;
    const M: u32 = 0x5bd1_e995;
    const R: u32 = 24;

    // Lengths beyond 32 bits cannot be keys; Java's hash takes the length modulo 2^32 as well.
    let mut h = SEED ^ data.len() as u32;
    let (words, tail) = data.as_chunks::<4>();
    for word in words {
        let mut k = u32::from_le_bytes(*word).wrapping_mul(M);
        k = (k ^ (k >> R)).wrapping_mul(M);
        h = h.wrapping_mul(M) ^ k;
    }
    if !tail.is_empty() {
        for (at, byte) in tail.iter().enumerate() {
            h ^= u32::from(*byte) << (8 * at);
        }
        h = h.wrapping_mul(M);
    }
    h = (h ^ (h >> 13)).wrapping_mul(M);
    h ^ (h >> 15)
}

/// The next partition for records without a key, once the present one had its share (KIP-480, KIP-794).
///
/// `loads` has, per partition, how many batches wait there, or `None` where nobody leads it. A partition is chosen
/// with a probability that falls with its queue, so that a slow broker gets less and all get the same when none is
/// slow. Where no partition has a leader, all are alike. `None` if there are no partitions.
pub fn next_sticky<L>(random: u64, loads: L) -> Option<u32>
where
    L: Iterator<Item = Option<u32>> + Clone,
{
    let partitions = u64::try_from(loads.clone().count()).ok().filter(|count| *count > 0)?;
    let Some(longest) = loads.clone().flatten().max() else {
        return u32::try_from(random % partitions).ok();
    };
    let weight = |load: u32| u64::from(longest - load) + 1;
    let total: u64 = loads.clone().flatten().map(weight).sum();
    let mut left = random % total;
    for (partition, load) in (0_u32..).zip(loads) {
        let Some(load) = load else { continue };
        match left.checked_sub(weight(load)) {
            Some(rest) => left = rest,
            None => return Some(partition),
        }
    }
    // `left` is below the sum of the weights that were just subtracted.
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The vectors of Java's `UtilsTest`.
    #[test]
    fn murmur2_is_that_of_java() {
        for (key, hash) in [
            ("21", -973_932_308),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            ("abc", 479_470_107),
        ] {
            assert_eq!(murmur2(key.as_bytes()) as i32, hash, "{key}");
        }
    }

    #[test]
    fn a_key_always_goes_to_the_same_partition() {
        // 479470107 & 0x7fffffff, modulo 6 and 7.
        assert_eq!(partition_for_key(b"abc", 6), 479_470_107 % 6);
        // Negative hashes are made positive by clearing the sign, not by negating.
        assert_eq!(partition_for_key(b"21", 7), (-973_932_308_i32 as u32 & 0x7fff_ffff) % 7);
        assert_eq!(partition_for_key(b"", 1), 0);
        assert_eq!(partition_for_key(b"abc", 0), 0);
    }

    fn shares(loads: &[Option<u32>]) -> Vec<u32> {
        let mut shares = vec![0; loads.len()];
        for random in 0..60 {
            let chosen = next_sticky(random, loads.iter().copied()).map(|p| p as usize);
            shares[chosen.expect("there are partitions")] += 1;
        }
        shares
    }

    #[test]
    fn partitions_with_equal_queues_get_equal_shares() {
        assert_eq!(shares(&[Some(3), Some(3), Some(3)]), [20, 20, 20]);
    }

    #[test]
    fn a_longer_queue_gets_less() {
        // Weights 1, 3 and 2 of 6.
        assert_eq!(shares(&[Some(2), Some(0), Some(1)]), [10, 30, 20]);
    }

    #[test]
    fn a_partition_without_leader_gets_nothing_unless_there_is_no_other() {
        assert_eq!(shares(&[None, Some(7), None]), [0, 60, 0]);
        assert_eq!(shares(&[None, None, None]), [20, 20, 20]);
        assert_eq!(next_sticky(5, std::iter::empty()), None);
    }
}
