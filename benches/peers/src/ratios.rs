//! Hit ratios by simulation: no clock, the same figures every time.

use std::sync::Arc;

use skillcache::cache::Policy;

use crate::ours::Ours;
use crate::subject::{Foyer, Lru, Moka, Queues, Quick, Shards, Subject};
use crate::traces::{KEYS, Key, Mix, Trace};
use crate::two_queues::{Promotion, Rules};

const SEED: u64 = 1;
/// Requests between two rounds of put-off work.
const SETTLE: usize = 64;

/// Capacities of 1 % and 10 % of the keys.
pub const CAPACITIES: [usize; 2] = [KEYS / 100, KEYS / 10];

/// Percent of the counted requests that were hits.
pub fn ratio(subject: &dyn Subject, trace: &Trace) -> f64 {
    let value: Arc<[u8]> = Arc::from([0; 8]);
    let (mut hits, mut counted) = (0_u32, 0_u32);
    for (at, request) in trace.requests.iter().enumerate() {
        let key = &trace.keys[request.key as usize];
        let is_hit = subject.get(key).is_some();
        if !is_hit {
            subject.put(*key, value.clone());
        }
        hits += u32::from(is_hit && request.is_counted);
        counted += u32::from(request.is_counted);
        if at % SETTLE == 0 {
            subject.settle();
        }
    }
    f64::from(hits) * 100.0 / f64::from(counted)
}

const TITLE: &str = "hit ratio, %: capacity of 1 % / 10 %";

type Make<'a> = Box<dyn Fn(usize) -> Box<dyn Subject> + 'a>;

fn table(title: &str, rows: &[(String, Make)], traces: &[(Mix, [Trace; 2])]) {
    print!("{title:<44}");
    traces.iter().for_each(|(mix, _)| print!(" {:>14}", mix.name()));
    println!();
    for (name, make) in rows {
        print!("{name:<44}");
        for (_, pair) in traces {
            let [small, large] = [0, 1].map(|at| ratio(&*make(CAPACITIES[at]), &pair[at]));
            print!(" {:>14}", format!("{small:.1} / {large:.1}"));
        }
        println!();
    }
}

fn traces() -> Vec<(Mix, [Trace; 2])> {
    Mix::ALL.into_iter().map(|mix| (mix, CAPACITIES.map(|capacity| Trace::new(mix, capacity, SEED)))).collect()
}

fn queues(rules: Rules) -> Make<'static> {
    Box::new(move |capacity| Box::new(Queues::new("", Rules { entries: capacity, ..rules })))
}

fn ours(policy: Policy) -> Make<'static> {
    Box::new(move |capacity| Box::new(Ours::new("", policy, capacity, 1)))
}

/// The peers, 2Q by the book, and the library's own.
pub fn peers(is_wanted: &dyn Fn(&str) -> bool) {
    let rows: Vec<(String, Make)> = vec![
        ("LRU".into(), Box::new(|capacity| Box::new(Lru::new(capacity)))),
        ("quick_cache".into(), Box::new(|capacity| Box::new(Quick::new(capacity, Shards::One)))),
        ("moka".into(), Box::new(|capacity| Box::new(Moka::new(capacity)))),
        ("foyer S3-FIFO".into(), Box::new(|capacity| Box::new(Foyer::s3_fifo(capacity, Shards::One)))),
        ("foyer LRU".into(), Box::new(|capacity| Box::new(Foyer::lru(capacity, Shards::One)))),
        ("2Q of 1994".into(), queues(Rules::classic(0))),
        ("2Q, prototype".into(), queues(Rules::recommended())),
        ("LRU, ours".into(), ours(Policy::Lru)),
        ("2Q, ours".into(), ours(Policy::TwoQueues)),
    ];
    let rows: Vec<_> = rows.into_iter().filter(|(name, _)| is_wanted(name)).collect();
    table(TITLE, &rows, &traces());
}

/// The variants of 2Q: shares, promotion, order, ghosts.
pub fn variants(is_wanted: &dyn Fn(&str) -> bool) {
    let mut rows: Vec<(String, Make)> = Vec::new();
    let promotions = [
        ("never", Promotion::Never),
        ("at hit 1", Promotion::AtHit(1)),
        ("at hit 2", Promotion::AtHit(2)),
        ("at hit 3", Promotion::AtHit(3)),
        ("at hit 4", Promotion::AtHit(4)),
        ("leaving after 1", Promotion::OnLeaving(1)),
        ("leaving after 2", Promotion::OnLeaving(2)),
        ("leaving after 3", Promotion::OnLeaving(3)),
    ];
    for probation in [5, 10, 15, 20, 25, 40] {
        for (word, promotion) in promotions {
            for ghosts in [50, 75, 100, 200] {
                let rules = Rules { probation, ghosts, promotion, ..Rules::classic(0) };
                let lru = Rules { probation_is_lru: true, ..rules };
                let left = Rules { main_leaves_ghosts: true, ..rules };
                for (more, rules) in [("", rules), (", LRU", lru), (", main's ghosts", left)] {
                    rows.push((format!("{probation} %, {word}, ghosts {ghosts} %{more}"), queues(rules)));
                }
            }
        }
    }
    let rows: Vec<_> = rows.into_iter().filter(|(name, _)| is_wanted(name)).collect();
    table(TITLE, &rows, &traces());
}

/// Small caches, where shares round.
pub fn small(is_wanted: &dyn Fn(&str) -> bool) {
    print!("{:<44}", "hit ratio, %");
    Mix::ALL.iter().for_each(|mix| print!(" {:>14}", mix.name()));
    println!();
    for capacity in [1, 2, 3, 10, 30, 100, 300] {
        let traces = Mix::ALL.map(|mix| Trace::new(mix, capacity, SEED));
        let rules = |least| Rules { least, ..Rules::recommended() };
        let wide = Rules { probation: 20, ..Rules::recommended() };
        let rows: Vec<(&str, Make)> = vec![
            ("LRU", queues(Rules::lru())),
            ("quick_cache", Box::new(|capacity| Box::new(Quick::new(capacity, Shards::One)))),
            ("foyer S3-FIFO", Box::new(|capacity| Box::new(Foyer::s3_fifo(capacity, Shards::One)))),
            ("2Q, prototype", queues(Rules::recommended())),
            ("2Q, prototype, probation at least 4", queues(rules(4))),
            ("2Q, prototype, probation at least 10", queues(rules(10))),
            ("2Q, prototype, probation of 20 %", queues(wide)),
        ];
        for (name, make) in rows {
            let name = format!("{capacity} entries, {name}");
            if !is_wanted(&name) {
                continue;
            }
            print!("{name:<44}");
            for trace in &traces {
                print!(" {:>14}", format!("{:.1}", ratio(&*make(capacity), trace)));
            }
            println!();
        }
    }
}

/// From 1 to 256 units, small ones as common as large ones; 46 on average.
fn weigh(key: &Key) -> usize {
    let share = f64::from(u16::from_le_bytes([key[16], key[17]])) / f64::from(u16::MAX);
    (share * 256_f64.ln()).exp() as usize
}

/// Entries of different weight: the weights bind, the number of entries hardly ever.
pub fn weights(is_wanted: &dyn Fn(&str) -> bool) {
    let weighed = |rules: Rules, room: usize| -> Make {
        Box::new(move |capacity| {
            Box::new(Queues::weighed("", Rules { entries: capacity * room, weight: capacity * 46, ..rules }, weigh))
        })
    };
    let many = Rules { ghosts_of_residents: false, ..Rules::recommended() };
    let rows: Vec<(String, Make)> = vec![
        ("LRU".into(), weighed(Rules::lru(), 10)),
        ("2Q, ghosts up to max_entries (10 x)".into(), weighed(many, 10)),
        ("2Q, ghosts up to entries there".into(), weighed(Rules::recommended(), 10)),
        ("2Q, entries bind as well".into(), weighed(Rules::recommended(), 1)),
        ("LRU, entries bind as well".into(), weighed(Rules::lru(), 1)),
    ];
    let rows: Vec<_> = rows.into_iter().filter(|(name, _)| is_wanted(name)).collect();
    table("hit ratio, % (weights 1 to 256)", &rows, &traces());
}
