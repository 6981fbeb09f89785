//! Draws servers by chance, each as often as its weight says, in the same time however many there are (Walker's alias method,
//! after Vose). One generator a worker: no two workers draw the same servers.

/// The draw.
#[derive(Debug)]
pub(super) struct Draw {
    state: u64,
    servers: u32,
    /// For each place, how often of 2³² it stands for itself, and which server it stands for otherwise. None when all weigh
    /// the same.
    places: Option<Box<[(u32, u16)]>>,
}

impl Draw {
    /// Among servers of these weights.
    pub(super) fn new(seed: u64, weights: &[u32]) -> Self {
        let alike = weights.iter().all(|weight| *weight == weights[0]);
        Self {
            state: seed,
            servers: u32::try_from(weights.len()).unwrap_or(u32::MAX),
            places: (!alike).then(|| alias(weights)),
        }
    }

    /// A server.
    pub(super) fn next(&mut self) -> usize {
        let random = self.random();
        let place = ((random >> 32) * u64::from(self.servers)) >> 32;
        let place = place as usize;
        match &self.places {
            Some(places) if random as u32 >= places[place].0 => usize::from(places[place].1),
            _ => place,
        }
    }

    /// SplitMix64.
    fn random(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

fn alias(weights: &[u32]) -> Box<[(u32, u16)]> {
    let count = weights.len();
    let mean = weights.iter().map(|weight| f64::from(*weight)).sum::<f64>() / count as f64;
    let mut left: Vec<f64> = weights.iter().map(|weight| f64::from(*weight) / mean).collect();
    let (mut small, mut large): (Vec<usize>, Vec<usize>) = (0..count).partition(|it| left[*it] < 1.0);
    let mut places: Vec<(u32, u16)> = (0..count).map(|it| (u32::MAX, it as u16)).collect();
    while let (Some(poor), Some(rich)) = (small.pop(), large.pop()) {
        places[poor] = ((left[poor] * f64::from(u32::MAX)) as u32, rich as u16);
        left[rich] -= 1.0 - left[poor];
        if left[rich] < 1.0 { small.push(rich) } else { large.push(rich) }
    }
    places.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn counts(weights: &[u32], draws: usize) -> Vec<usize> {
        let mut draw = Draw::new(7, weights);
        let mut counts = vec![0; weights.len()];
        (0..draws).for_each(|_| counts[draw.next()] += 1);
        counts
    }

    #[test]
    fn each_is_drawn_as_often_as_it_weighs() {
        for weights in [vec![100; 10], vec![100, 1, 300, 50, 549], vec![1, 10_000]] {
            let sum: u32 = weights.iter().sum();
            for (weight, count) in weights.iter().zip(counts(&weights, 100_000)) {
                let expected = 100_000.0 * f64::from(*weight) / f64::from(sum);
                let off = (count as f64 - expected).abs();
                assert!(off < 6.0 * expected.sqrt() + 1.0, "{weights:?}: {count} for {weight}");
            }
        }
    }

    proptest! {
        #[test]
        fn every_draw_is_a_server(seed: u64, weights in prop::collection::vec(1_u32..10_000, 1..50)) {
            let mut draw = Draw::new(seed, &weights);
            prop_assert!((0..200).all(|_| draw.next() < weights.len()));
        }
    }
}
