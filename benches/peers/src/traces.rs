//! Request traces, the same in every run.

/// Keys of the Zipf part.
pub const KEYS: usize = 100_000;
/// Requests of a trace; the first quarter warms up.
pub const REQUESTS: usize = 1_000_000;

/// A key of our kind: uniformly random bytes.
pub type Key = [u8; 32];

/// The digest of a number.
pub fn key(seed: u64, number: usize) -> Key {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&seed.to_le_bytes());
    hasher.update(&(number as u64).to_le_bytes());
    *hasher.finalize().as_bytes()
}

/// SplitMix64: small, fast and the same everywhere.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Uniform in 0..1.
    pub fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Uniform below `bound`.
    pub fn below(&mut self, bound: usize) -> usize {
        ((u128::from(self.next()) * bound as u128) >> 64) as usize
    }
}

/// Ranks from 0, where rank r is asked for in proportion to 1 / (r + 1).
pub struct Zipf {
    sums: Vec<f64>,
}

impl Zipf {
    pub fn new(keys: usize) -> Zipf {
        let sums = (1..=keys)
            .scan(0.0, |sum, rank| {
                *sum += 1.0 / rank as f64;
                Some(*sum)
            })
            .collect();
        Zipf { sums }
    }

    pub fn draw(&self, random: &mut Random) -> usize {
        let at = random.unit() * self.sums[self.sums.len() - 1];
        self.sums.partition_point(|&sum| sum <= at).min(self.sums.len() - 1)
    }
}

/// What is mixed into the Zipf requests; it makes up 30 % of a trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mix {
    /// Nothing.
    Zipf,
    /// Keys that are asked for once. They cannot be hits and are not counted.
    OneOffs,
    /// New keys, each asked for three times within a hundred requests. The first cannot be a hit and is not counted.
    Bursts,
    /// The same, within five thousand requests.
    SlowBursts,
    /// Instead of the Zipf part: the newest key is the hottest, every twentieth request brings a new one.
    Drift,
    /// A loop over twice as many keys as the cache holds.
    Loop,
}

impl Mix {
    pub const ALL: [Mix; 6] = [Mix::Zipf, Mix::OneOffs, Mix::Bursts, Mix::Loop, Mix::SlowBursts, Mix::Drift];

    pub fn name(self) -> &'static str {
        match self {
            Mix::Zipf => "Zipf",
            Mix::OneOffs => "+ one-offs",
            Mix::Bursts => "+ bursts",
            Mix::SlowBursts => "+ slow bursts",
            Mix::Drift => "drift",
            Mix::Loop => "+ loop",
        }
    }
}

/// One request.
#[derive(Clone, Copy)]
pub struct Request {
    /// Place of the key in the trace's table.
    pub key: u32,
    /// Whether it belongs in the ratio.
    pub is_counted: bool,
}

/// Requests for the keys of a table.
pub struct Trace {
    pub keys: Vec<Key>,
    pub requests: Vec<Request>,
}

impl Trace {
    pub fn new(mix: Mix, capacity: usize, seed: u64) -> Trace {
        let (zipf, mut random) = (Zipf::new(KEYS), Random(seed));
        let mut keys: usize = KEYS;
        let mut fresh = || {
            keys += 1;
            keys - 1
        };
        let mut repeats: Vec<Vec<usize>> = vec![Vec::new(); REQUESTS + 5001];
        let (mut position, mut due) = (0, Vec::new());
        let requests: Vec<(usize, bool)> = (0..REQUESTS)
            .map(|now| {
                due.append(&mut repeats[now]);
                if let Some(key) = due.pop() {
                    return (key, now >= REQUESTS / 4);
                }
                let (key, is_counted) = match mix {
                    Mix::OneOffs if random.unit() < 0.3 => (fresh(), false),
                    // A repeat takes the place of another request: an eighth of the rest makes a tenth of all.
                    Mix::Bursts | Mix::SlowBursts if random.unit() < 0.125 => {
                        let key = fresh();
                        let within = if mix == Mix::Bursts { 100 } else { 5000 };
                        for _ in 0..2 {
                            repeats[now + 1 + random.below(within)].push(key);
                        }
                        (key, false)
                    }
                    Mix::Loop if random.unit() < 0.3 => {
                        position = (position + 1) % (2 * capacity);
                        (KEYS + position, true)
                    }
                    Mix::Drift => (KEYS + now / 20 - zipf.draw(&mut random), true),
                    _ => (zipf.draw(&mut random), true),
                };
                (key, is_counted && now >= REQUESTS / 4)
            })
            .collect();
        keys += match mix {
            Mix::Loop => 2 * capacity,
            Mix::Drift => REQUESTS / 20 + 1,
            _ => 0,
        };
        let keys = (0..keys).map(|number| key(seed, number)).collect();
        let requests = requests.into_iter().map(|(key, is_counted)| Request { key: key as u32, is_counted }).collect();
        Trace { keys, requests }
    }
}
