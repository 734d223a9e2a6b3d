//! Injection and the policy, beside the reference's way (`ast` and `astor`), libcst and papermill.
//!
//! The peers run in a Python of their own, `SKC_PEERS_PYTHON`, which `make bench` sets up; without it their rows are left out.
//!
//! `cargo bench --bench injection -- WORD` runs the rows whose name has the word.

#[path = "../tests/oracle/child.rs"]
mod child;
mod pairing;

use std::hint::black_box;
use std::time::{Duration, Instant};

use child::PythonChild;
use pairing::{Row, heading};
use skillcache::json::Value;
use skillcache::python::{Policy, Template, analyse};

/// Ten lines as skills have them.
const BLOCK: &str = r#"
def average_NUMBER(values, window=3):
    """The moving average of values."""
    if window < 1 or not values:
        raise ValueError(f"no window of {window} in {len(values)} values")
    sums = [sum(values[at : at + window]) for at in range(len(values) - window + 1)]
    # The last one counts twice.
    weights = {"first": 1.0, "last": 2.0, "between": math.sqrt(window)}
    return [round(total / window * weights.get("first", 1), 4) for total in sums] + [weights["last"]]
"#;

/// A skill of so many lines, with two slots.
fn skill(lines: usize) -> String {
    let mut code = "\"\"\"Averages.\"\"\"\nimport math\n\ninputs = {\"prices\": []}\ncontext = {}\n".to_owned();
    for number in 0.. {
        let block = BLOCK.replace("NUMBER", &number.to_string());
        if code.lines().count() + block.lines().count() >= lines {
            break;
        }
        code += &block;
    }
    while code.lines().count() + 1 < lines {
        code += "# ...\n";
    }
    code + "result = average_0(inputs[\"prices\"])\n"
}

/// 227 bytes of JSON, as the reference was measured with.
fn inputs() -> Value {
    let prices: Vec<Value> = (0..23).map(|day| Value::from(100.25 + f64::from(day))).collect();
    let inputs = Value::object([
        ("prices", Value::Array(prices)),
        ("symbol", Value::from("A'B\"C")),
        ("window", Value::from(5u32)),
    ]);
    let missing = 227 - inputs.to_text().len() - r#","note":"""#.len();
    let mut members = inputs.as_object().expect("it is one").to_vec();
    members.push(("note".to_owned(), Value::from("x".repeat(missing))));
    let inputs = Value::Object(members);
    assert_eq!(inputs.to_text().len(), 227);
    inputs
}

/// The Python that has the peers.
struct Peers(PythonChild);

impl Peers {
    fn start() -> Option<Self> {
        let python = std::env::var_os("SKC_PEERS_PYTHON")?;
        Some(Peers(PythonChild::start(python, concat!(env!("CARGO_MANIFEST_DIR"), "/benches/peers.py"))))
    }

    /// What one call takes.
    fn time(&mut self, peer: &str, code: &str, calls: u32) -> Duration {
        let question = Value::object([
            ("peer", Value::from(peer)),
            ("code", Value::from(code)),
            ("inputs", inputs()),
            ("context", Value::object([("unit", Value::from("C"))])),
            ("calls", Value::from(calls)),
        ]);
        let answer = self.0.ask(&question).expect("it answers");
        let seconds = answer.get("seconds").and_then(Value::as_f64);
        Duration::from_secs_f64(seconds.unwrap_or_else(|| panic!("{peer}: {}", answer.to_text())))
    }
}

fn timed(calls: u32, mut work: impl FnMut()) -> Duration {
    let start = Instant::now();
    (0..calls).for_each(|_| work());
    start.elapsed() / calls
}

fn against_peers(peers: &mut Peers, lines: usize, names: [&'static str; 2], calls: [u32; 2]) {
    let code = skill(lines);
    let (inputs, context) = (inputs(), Value::object([("unit", Value::from("C"))]));
    let template = Template::parse(&code).expect("a skill");
    let data = [Some(&inputs), Some(&context), None];
    for (peer, peer_calls) in [("astor", 200 / lines as u32 + 1), ("libcst", 1), ("papermill", 20)] {
        let row = |name| Row { name, peer, blocks: 15, calls: 1, peer_calls };
        row(names[0]).run_timed(
            || timed(calls[0], || drop(black_box(template.inject(black_box(data))))),
            || peers.time(peer, &code, peer_calls),
        );
        row(names[1]).run_timed(
            || {
                timed(calls[1], || {
                    let template = Template::parse(black_box(&code)).expect("a skill");
                    black_box(template.inject(data));
                })
            },
            || peers.time(peer, &code, peer_calls),
        );
    }
}

/// The policy's walk is the difference between the two sides.
fn policy() {
    let code = skill(500);
    let policy = Policy::default();
    let row = Row {
        name: "analysis with the policy, 500 lines",
        peer: "the same without",
        blocks: 100,
        calls: 20,
        peer_calls: 20,
    };
    row.run(
        || drop(black_box(analyse(black_box(&code), Some(&policy)))),
        || drop(black_box(analyse(black_box(&code), None))),
    );
    let row = Row {
        name: "whole analysis, 500 lines",
        peer: "parsing and finding the slots",
        blocks: 100,
        calls: 20,
        peer_calls: 20,
    };
    row.run(
        || drop(black_box(analyse(black_box(&code), Some(&policy)))),
        || drop(black_box(Template::parse(black_box(&code)))),
    );
}

fn main() {
    heading();
    policy();
    let Some(mut peers) = Peers::start() else {
        return println!(
            "SKC_PEERS_PYTHON is not set (make bench sets it): no rows beside astor, libcst and papermill"
        );
    };
    against_peers(&mut peers, 50, ["fill a prepared template, 50 lines", "first injection, 50 lines"], [5000, 500]);
    against_peers(&mut peers, 500, ["fill a prepared template, 500 lines", "first injection, 500 lines"], [5000, 50]);
}
