//! Runs that are answered from memory, through the C door, beside the least that a host would otherwise do, in one run.
//!
//! `cargo bench --bench cached -- WORD` runs the rows whose name has the word.

mod pairing;

use std::cell::Cell;
use std::ffi::{CString, c_char};
use std::hint::black_box;
use std::num::NonZeroUsize;
use std::ptr::{null, null_mut};
use std::sync::{Barrier, Mutex};
use std::thread;
use std::time::Instant;

use pairing::{Row, heading};
use skillcache::cache::key;
use skillcache::capi::config::{skc_config_free, skc_config_new, skc_config_set};
use skillcache::capi::library::{skc_library, skc_library_close, skc_library_open, skc_library_put, skc_library_run};
use skillcache::capi::result::{skc_result_free, skc_result_is_cached};
use skillcache::capi::skill::{skc_skill_free, skc_skill_new};
use skillcache::json::canonical_data;

const CODE: &str = "inputs = {'prices': []}\nresult = sum(inputs['prices']) / len(inputs['prices'])\n";

/// A library as a host written in C has it.
struct Host(*mut skc_library);

// SAFETY: any thread may use a library at any time.
unsafe impl Sync for Host {}

impl Host {
    fn open(path: &str, options: &[(&str, &str)]) -> Self {
        let text = |text: &str| CString::new(text).expect("no NUL");
        let mut library = null_mut();
        // SAFETY: pointers are NULL, made by the library, or NUL-terminated and alive.
        unsafe {
            let config = skc_config_new();
            for (name, value) in options {
                assert_eq!(skc_config_set(config, text(name).as_ptr(), text(value).as_ptr(), null_mut()), 0);
            }
            assert_eq!(skc_library_open(text(path).as_ptr(), config, &mut library, null_mut()), 0);
            skc_config_free(config);
            let skill = skc_skill_new(c"mean".as_ptr(), CODE.as_ptr().cast(), CODE.len());
            assert_eq!(skc_library_put(library, skill, null_mut(), null_mut()), 0);
            skc_skill_free(skill);
        }
        Host(library)
    }

    /// Runs the skill; says whether memory answered.
    fn run(&self, data: &str) -> bool {
        let mut result = null_mut();
        // SAFETY: as above; the data is not NUL-terminated and comes with its length.
        unsafe {
            let data: (*const c_char, usize) = (data.as_ptr().cast(), data.len());
            let status = skc_library_run(self.0, c"mean".as_ptr(), data.0, data.1, null(), &mut result, null_mut());
            assert_eq!(status, 0);
            let is_cached = skc_result_is_cached(result);
            skc_result_free(result);
            is_cached
        }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // SAFETY: opened by the library, closed once.
        unsafe { skc_library_close(self.0) };
    }
}

/// A run's data with so many prices, and `space` in a place of its own.
fn data(prices: usize, space: usize) -> String {
    let prices: Vec<String> =
        (0..prices).map(|day| format!("{}{}.25", " ".repeat(usize::from(day == space)), 100 + day)).collect();
    format!(r#"{{"inputs": {{"prices": [{}]}}}}"#, prices.join(","))
}

/// What is left if nothing is checked: the text looked up in an `lru` cache behind a mutex, and the answer copied.
fn plain_map(text: &str) -> impl Fn(&str) + use<> {
    let plain = Mutex::new(lru::LruCache::new(NonZeroUsize::new(1000).expect("not 0")));
    plain.lock().expect("no panic").put(text.to_owned(), "114.25".to_owned());
    move |text| assert!(plain.lock().expect("no panic").get(black_box(text)).cloned().is_some())
}

/// What a host does that wants equal data to be equal: read it into values, write them sorted, hash that.
fn parse_and_hash(text: &str) {
    let value: serde_json::Value = serde_json::from_str(black_box(text)).expect("JSON");
    black_box(blake3::hash(value.to_string().as_bytes()));
}

const SMALL: usize = 29;
const LARGE: usize = 1420;

fn same_bytes(host: &Host, store: &str) {
    let text = data(SMALL, usize::MAX);
    host.run(&text);
    let plain = plain_map(&text);
    let name = format!("from memory, same bytes, 200 B, {store}");
    let row = Row { name: &name, peer: "Mutex<LruCache> by the text", blocks: 300, calls: 500, peer_calls: 500 };
    row.run(|| assert!(host.run(black_box(&text))), || plain(&text));
}

/// Every call has white space where none of the last thousand had any, so that no text is known.
fn other_spelling(host: &Host, prices: usize, name: &str, calls: u32) {
    const KNOWN: usize = 1400;
    host.run(&data(prices, usize::MAX));
    let texts: Vec<String> = match prices {
        SMALL => {
            (0..KNOWN).map(|count| format!("{}{}", data(prices, count % SMALL), " ".repeat(count / SMALL))).collect()
        }
        _ => (0..KNOWN).map(|space| data(prices, space)).collect(),
    };
    let next = Cell::new(0);
    let row = Row { name, peer: "serde_json, sorted, blake3", blocks: 100, calls, peer_calls: calls };
    row.run(
        || {
            next.set((next.get() + 1) % KNOWN);
            assert!(host.run(black_box(&texts[next.get()])));
        },
        || parse_and_hash(&texts[0]),
    );
}

/// What a key costs by itself: the data read, its canonical text, the hash of that.
fn key_alone(prices: usize, name: &str, calls: u32) {
    let (text, skill) = (data(prices, 0), key::of_code(CODE));
    let row = Row { name, peer: "serde_json, sorted, blake3", blocks: 100, calls, peer_calls: calls };
    row.run(
        || {
            let data = canonical_data(black_box(&text)).expect("JSON");
            black_box(key::of_run(&skill, data.inputs(), data.context()));
        },
        || parse_and_hash(&text),
    );
}

/// A thousand threads that ask for the same at the same time.
fn stampede() {
    const THREADS: usize = 1000;
    let host = Host::open(":memory:", &[]);
    let (text, all_are_there) = (data(SMALL, usize::MAX), Barrier::new(THREADS));
    let start = Instant::now();
    let executed: usize = thread::scope(|scope| {
        let ask = || {
            all_are_there.wait();
            usize::from(!host.run(&text))
        };
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(ask)).collect();
        threads.into_iter().map(|thread| thread.join().expect("no panic")).sum()
    });
    assert_eq!(executed, 1);
    println!("{THREADS} identical concurrent runs: {executed} executed, all answered after {:.0?}", start.elapsed());
}

/// With the monitor and without: libraries that take turns. Several of each, opened in either order, because where in memory a library
/// happens to lie makes a per cent or two.
fn monitor() {
    const PAIRS: usize = 8;
    let text = data(SMALL, usize::MAX);
    let open = |on: &'static str| {
        let host = Host::open(":memory:", &[("monitor.enabled", on)]);
        assert!(!host.run(&text));
        host
    };
    let pairs: Vec<[Host; 2]> = (0..PAIRS)
        .map(|pair| {
            if pair.is_multiple_of(2) {
                let on = open("true");
                [on, open("false")]
            } else {
                let off = open("false");
                [open("true"), off]
            }
        })
        .collect();
    let row = Row {
        name: "from memory, same bytes, monitor on",
        peer: "monitor.enabled = false",
        blocks: 4000,
        calls: 500,
        peer_calls: 500,
    };
    let block = |round: &Cell<usize>, side: usize| {
        let host = &pairs[round.replace(round.get() + 1) % PAIRS][side];
        let start = Instant::now();
        (0..500).for_each(|_| assert!(host.run(black_box(&text))));
        start.elapsed() / 500
    };
    let rounds = [Cell::new(0), Cell::new(0)];
    row.run_timed(|| block(&rounds[0], 0), || block(&rounds[1], 1));
}

/// The same for runs that are executed.
fn monitor_of_real_runs() {
    let open = |on| Host::open(":memory:", &[("monitor.enabled", on), ("cache.execution.enabled", "false")]);
    let (on, off, text) = (open("true"), open("false"), data(SMALL, usize::MAX));
    let row =
        Row { name: "executed, monitor on", peer: "monitor.enabled = false", blocks: 300, calls: 1, peer_calls: 1 };
    row.run(|| assert!(!on.run(black_box(&text))), || assert!(!off.run(black_box(&text))));
}

fn main() {
    let folder = tempfile::tempdir().expect("a folder");
    heading();
    let memory = Host::open(":memory:", &[]);
    same_bytes(&memory, "in memory");
    let file = Host::open(folder.path().join("skills.db").to_str().expect("UTF-8"), &[]);
    same_bytes(&file, "file");
    other_spelling(&memory, SMALL, "from memory, other spelling, 200 B", 200);
    other_spelling(&memory, LARGE, "from memory, other spelling, 10 kB", 20);
    key_alone(SMALL, "key, 200 B", 1000);
    key_alone(LARGE, "key, 10 kB", 50);
    monitor();
    monitor_of_real_runs();
    stampede();
}
