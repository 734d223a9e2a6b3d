//! The road from put to kept result, through the Rust door: every outcome, every rule of the contract.

use skillcache::{CacheMode, Code, Config, Data, Library, Outcome, RunOptions, RunResult, Skill};

/// A library in memory. What the policy refuses is what the sandbox is tested with, so it is off unless asked for.
fn open(options: &[(&str, &str)]) -> Library {
    open_at(":memory:", &[&[("policy.mode", "off")], options].concat())
}

fn open_at(path: &str, options: &[(&str, &str)]) -> Library {
    let mut config = Config::default();
    for (name, value) in options {
        config.set(name, value).unwrap_or_else(|error| panic!("{error}"));
    }
    Library::open(path, &config).unwrap_or_else(|error| panic!("{error}"))
}

fn put(library: &Library, id: &str, code: &str, fields: &[(&str, &str)]) -> u32 {
    let mut skill = Skill::new(id, code);
    for (name, value) in fields {
        skill.set(name, value).unwrap_or_else(|error| panic!("{error}"));
    }
    library.put(&skill).unwrap_or_else(|error| panic!("{code}: {error}"))
}

fn run(library: &Library, id: &str, data: &str) -> RunResult {
    run_with(library, id, data, "")
}

fn run_with(library: &Library, id: &str, data: &str, options: &str) -> RunResult {
    let options = RunOptions::parse(options).unwrap_or_else(|error| panic!("{error}"));
    let data = Data::parse(data).unwrap_or_else(|error| panic!("{error}"));
    library.run(id, data, &options).unwrap_or_else(|error| panic!("{error}"))
}

/// Puts and runs code once.
fn once(code: &str, fields: &[(&str, &str)], options: &[(&str, &str)]) -> RunResult {
    let library = open(options);
    put(&library, "s", code, fields);
    run(&library, "s", "")
}

/// Runs code that prints this and then goes on until its time is over. Starting an interpreter counts, so a busy machine gets more
/// time when that was too little.
fn once_until_its_time_is_over(code: &str, printed: &[u8]) -> RunResult {
    let run = |millis| once(code, &[], &[("sandbox.timeout_ms", millis)]);
    let mut results = ["700", "7000", "70000"].into_iter().map(run);
    results.find(|result| result.stdout.bytes == printed).unwrap_or_else(|| panic!("{code} had no time to print"))
}

fn failure(result: &RunResult) -> &skillcache::Failure {
    result.failure.as_deref().unwrap_or_else(|| panic!("{result:?}"))
}

#[test]
fn an_exception_may_say_what_is_no_text() {
    let result = once("raise ValueError('\\udcff bad')", &[], &[]);
    assert_eq!(result.outcome, Outcome::Error, "{result:?}");
    let failure = result.failure.expect("a reason");
    assert_eq!((failure.kind.as_str(), failure.message.as_str()), ("ValueError", "\\udcff bad"));
    assert!(failure.traceback.contains("\\udcff bad"), "{failure:?}");
}

#[test]
fn a_skill_answers_and_the_second_call_comes_from_memory() {
    let library = open(&[]);
    assert_eq!(put(&library, "mean", "print('hi')\nresult = sum(inputs['x']) / len(inputs['x'])", &[]), 1);
    let first = run(&library, "mean", r#"{"inputs":{"x":[1,2,6]}}"#);
    assert_eq!((first.outcome, first.value.as_deref(), first.is_cached), (Outcome::Success, Some("3.0"), false));
    assert_eq!((first.stdout.bytes.as_slice(), first.level()), (&b"hi\n"[..], "strict"));
    assert!(first.usage.peak_memory > 1 << 20 && !first.usage.cpu.is_zero(), "{first:?}");
    let second = run(&library, "mean", r#" { "inputs" : {"x" : [1, 2, 6] } } "#);
    assert!(second.is_cached);
    assert_eq!((second.value, second.stdout), (first.value, first.stdout));
    assert!(!run(&library, "mean", r#"{"inputs":{"x":[1,2,6.0]}}"#).is_cached, "6 and 6.0 are different values");
}

#[test]
fn every_json_value_arrives_equal_and_comes_back_equal() {
    let library = open(&[]);
    put(&library, "echo", "result = [inputs['v'], type(inputs['v']).__name__]", &[("cache", "no")]);
    let digits = "9".repeat(5000);
    for (value, kind) in [
        ("null", "NoneType"),
        ("true", "bool"),
        ("0", "int"),
        ("-1", "int"),
        (digits.as_str(), "int"),
        ("1.0", "float"),
        ("-0.0", "float"),
        ("1e22", "float"),
        ("5e-324", "float"),
        ("1.7976931348623157e308", "float"),
        (r#""""#, "str"),
        (r#""\"\\\n\u0000\u007f{x}'''é😀\u202e""#, "str"),
        (r#"{"b":1,"a":[{},[]]}"#, "dict"),
        (r#"{"$serde_json::private::Number":"1"}"#, "dict"),
    ] {
        let result = run(&library, "echo", &format!("{{\"inputs\":{{\"v\":{value}}}}}"));
        let expected = skillcache::json::Value::parse(&format!("[{value},\"{kind}\"]")).expect("json").to_text();
        assert_eq!(result.value.as_deref(), Some(expected.as_str()), "{result:?}");
    }
    let megabyte = "é\\\"\n".repeat(250_000);
    let text = skillcache::json::Value::from(megabyte.as_str()).to_text();
    let result = run(&library, "echo", &format!("{{\"inputs\":{{\"v\":{text}}}}}"));
    assert_eq!(result.value.as_deref().map(str::len), Some(text.len() + r#"[,"str"]"#.len()));
}

#[test]
fn names_are_bound_where_the_contract_says() {
    let library = open(&[]);
    let code = "\"\"\"doc\"\"\"\nfrom __future__ import annotations\ninputs = {\n  'a': 1,\n}\nresult = [inputs, context, parameters, __doc__, __name__]";
    put(&library, "s", code, &[("parameters", r#"{"p":1}"#)]);
    assert_eq!(run(&library, "s", "").value.as_deref(), Some(r#"[{"a":1},{},{"p":1},"doc","__main__"]"#));
    let data = r#"{"inputs":{"b":2},"context":{"c":3}}"#;
    assert_eq!(run(&library, "s", data).value.as_deref(), Some(r#"[{"b":2},{"c":3},{"p":1},"doc","__main__"]"#));
    put(&library, "late", "def f(inputs):\n  return inputs\ninputs = {'a': 1}\nresult = f(inputs)", &[]);
    assert_eq!(run(&library, "late", r#"{"inputs":{"a":5}}"#).value.as_deref(), Some(r#"{"a":5}"#));
    put(&library, "own", "x = inputs['a']\ninputs = {'a': 1}\nresult = [x, inputs]", &[]);
    assert_eq!(run(&library, "own", r#"{"inputs":{"a":5}}"#).value.as_deref(), Some(r#"[5,{"a":1}]"#));
    put(&library, "names", "result = sorted(n for n in globals() if n[0] != '_')", &[]);
    assert_eq!(run(&library, "names", "").value.as_deref(), Some(r#"["context","inputs","parameters"]"#));
}

#[test]
fn errors_carry_the_users_own_line_and_no_path_of_the_host() {
    let code = "inputs = {\n  'a': 1,\n}\nimport json\ndef f(x):\n    return json.loads(x)\nresult = f('{')\n";
    let library = open(&[]);
    put(&library, "s", code, &[]);
    let result = run(&library, "s", r#"{"inputs":{"a":2}}"#);
    let failure = failure(&result);
    assert_eq!((result.outcome, failure.kind.as_str(), failure.line), (Outcome::Error, "JSONDecodeError", Some(6)));
    assert!(failure.traceback.contains("line 7, in <module>\n    result = f('{')"), "{}", failure.traceback);
    assert!(failure.traceback.contains("File \"<python>/json/"), "{}", failure.traceback);
    assert!(!failure.traceback.contains("bootstrap") && !failure.traceback.contains("_main"), "{}", failure.traceback);
    assert!(!failure.traceback.contains("File \"/"), "{}", failure.traceback);
    let library = open(&[]);
    put(&library, "s", "from json import nothing_like_it", &[]);
    assert!(!self::failure(&run(&library, "s", "")).message.contains("(/"));
    put(&library, "t", "import os\nraise ValueError(os.getcwd())", &[]);
    assert_eq!(self::failure(&run(&library, "t", "")).message, "/private");
    let library = open(&[("sandbox.mode", "best_effort"), ("sandbox.without", "namespaces")]);
    put(&library, "t", "import os\nraise ValueError(os.getcwd())", &[]);
    assert_eq!(self::failure(&run(&library, "t", "")).message, "<folder>");
}

#[test]
fn each_ending_has_its_outcome() {
    for (code, outcome, part) in [
        ("result = None", Outcome::Success, ""),
        ("raise ValueError('boom')", Outcome::Error, "boom"),
        ("import sys\nsys.exit(3)", Outcome::Error, "3"),
        ("exit()", Outcome::Error, ""),
        ("class E(Exception):\n  def __str__(self): raise E\nraise E", Outcome::Error, "could not be shown"),
        ("def f(): f()\nf()", Outcome::Error, "recursion"),
        ("x = 1", Outcome::NoResult, "result"),
        ("result = 1\ndel result", Outcome::NoResult, "result"),
        ("result = {1, 2}", Outcome::InvalidOutput, "set is not a JSON value"),
        ("result = float('nan')", Outcome::InvalidOutput, "JSON"),
        ("result = []\nresult.append(result)", Outcome::InvalidOutput, "ircular"),
        ("result = '\\ud800'", Outcome::InvalidOutput, "surrogate"),
        ("result = {1: 1, '1': 2}", Outcome::InvalidOutput, "duplicate"),
        ("result = x = []\nfor _ in range(150):\n  x.append([])\n  x = x[0]", Outcome::InvalidOutput, "deeper"),
        ("result = x = []\nfor _ in range(100000):\n  x.append([])\n  x = x[0]", Outcome::InvalidOutput, "recursion"),
        ("raise PermissionError(13, 'no')", Outcome::Denied, "no"),
        ("raise OSError(28, 'full')", Outcome::DiskLimit, "full"),
        ("f = open('big', 'wb')\nf.write(b'x' * (3 << 20))\nf.flush()", Outcome::DiskLimit, "large"),
        ("x = bytearray(1 << 30)", Outcome::MemoryLimit, "128 MiB"),
        ("x = [0]\nwhile True: x = x + x", Outcome::MemoryLimit, "128 MiB"),
        ("result = 'x' * 100000", Outcome::OutputLimit, "100002 bytes"),
        ("while True: pass", Outcome::Timeout, "1000 ms"),
        (
            "import signal, time\nfor s in range(1, 32):\n  try: signal.signal(s, signal.SIG_IGN)\n  except OSError: pass\ntime.sleep(60)",
            Outcome::Timeout,
            "ms",
        ),
        ("import os\nos._exit(0)", Outcome::Crashed, "status 0"),
        ("import os\nos.kill(os.getpid(), 9)", Outcome::Crashed, "SIGKILL"),
        ("import os\nos.abort()", Outcome::Crashed, "SIGABRT"),
        (
            "import os\nfor fd in range(1024):\n  try: os.close(fd)\n  except OSError: pass\nresult = 1",
            Outcome::Crashed,
            "",
        ),
        ("import os\nos.write(3, b'\\0\\0\\0\\5Sxx')\nos._exit(0)", Outcome::Crashed, ""),
        ("import os\nos.write(3, b'\\0\\0\\0\\2S1junk')\nos._exit(0)", Outcome::Crashed, "bytes after"),
        ("import sys\nsys.stdout.close()\nsys.stderr.close()\nresult = 1", Outcome::Success, ""),
    ] {
        // Short only where it is to run out: on a busy machine an interpreter may take a second to start.
        let timeout_ms = if outcome == Outcome::Timeout { "1000" } else { "120000" };
        let options =
            [("sandbox.timeout_ms", timeout_ms), ("sandbox.max_answer_kb", "64"), ("sandbox.max_file_mb", "1")];
        let result = once(code, &[], &options);
        assert_eq!(result.outcome, outcome, "{code}\n{result:?}");
        if outcome != Outcome::Success {
            assert!(failure(&result).message.contains(part), "{code}\n{result:?}");
            assert_eq!(result.value, None);
        }
    }
}

#[test]
fn processor_time_ends_as_timeout() {
    let result = once(
        "import signal\nsignal.signal(signal.SIGXCPU, signal.SIG_IGN)\nwhile True: pass",
        &[],
        &[("sandbox.max_cpu_s", "1"), ("sandbox.timeout_ms", "600000")],
    );
    assert_eq!(result.outcome, Outcome::Timeout, "{result:?}");
    assert!(failure(&result).message.contains("processor time"), "{result:?}");
}

#[test]
fn output_is_captured_cut_and_never_the_answer() {
    let forged = "import sys\nprint('{\"ok\": true}')\nprint('S123', file=sys.stderr)\nresult = 'mine'";
    let result = once(forged, &[], &[]);
    assert_eq!(result.value.as_deref(), Some("\"mine\""));
    assert_eq!(
        (result.stdout.bytes.as_slice(), result.stderr.bytes.as_slice()),
        (&b"{\"ok\": true}\n"[..], &b"S123\n"[..])
    );
    let result = once("for i in range(300):\n  print('x' * 9999)\nresult = 1", &[], &[("sandbox.max_output_kb", "16")]);
    assert_eq!(
        (result.outcome, result.stdout.bytes.len(), result.stdout.is_truncated),
        (Outcome::Success, 16 << 10, true)
    );
    let result = once_until_its_time_is_over("print('before')\nwhile True: pass", b"before\n");
    assert_eq!(result.outcome, Outcome::Timeout);
    let result = once("import os\nos.write(1, b'\\xff\\xfe')\nresult = 1", &[], &[]);
    assert_eq!(result.stdout.bytes, b"\xff\xfe");
}

#[test]
fn an_exception_that_lies_about_itself_is_an_error_all_the_same() {
    for code in [
        "e = SyntaxError('x')\ne.lineno = object()\nraise e",
        "class T:\n  def __str__(self): raise ValueError\ne = SyntaxError('x')\ne.msg = T()\nraise e",
        "e = SyntaxError('x')\ne.msg = 'x' * 9000000\nraise e",
        "class M(type):\n  __name__ = property(lambda c: 7)\nclass E(Exception, metaclass=M): pass\nraise E('x')",
        "raise type('E' * 9000000, (Exception,), {})('x')",
        "class E(OSError):\n  errno = property(lambda s: 1 / 0)\nraise E('x')",
        "import builtins\nbuiltins.BaseException = builtins.MemoryError = builtins.str = None\nraise KeyError('x')",
    ] {
        let result = once(code, &[], &[]);
        assert_eq!(result.outcome, Outcome::Error, "{code}: {result:?}");
    }
    for code in
        ["import builtins\nbuiltins.object = None\nresult = 1", "import builtins\nbuiltins.isinstance = 7\nresult = 1"]
    {
        let result = once(code, &[], &[]);
        assert_eq!(result.value.as_deref(), Some("1"), "{code}: {result:?}");
    }
}

#[test]
fn the_childs_world_is_clean_and_pinned() {
    // SAFETY-free by design: the host's environment is only read here, never changed.
    let code = "import os, sys, time\n\
        fds = []\n\
        for n in range(64):\n  try:\n    os.fstat(n)\n    fds.append(n)\n  except OSError:\n    pass\n\
        result = [sorted(os.environ), os.environ['TZ'], time.tzname[0], os.getcwd() == os.environ['HOME'],\n\
          os.listdir('.'), fds, os.getsid(0) == os.getpid(), oct(os.umask(0)), sys.stdin.read(),\n\
          [p for p in sys.path if 'site-packages' in p or p == ''], sys.argv]";
    let result = once(code, &[], &[]);
    let expected = r#"[["HOME","LANG","LC_ALL","MALLOC_ARENA_MAX","PATH","TMPDIR","TZ"],"UTC","UTC",true,[],[0,1,2,3],true,"0o77","",[],[""]]"#;
    assert_eq!(result.value.as_deref(), Some(expected), "{result:?}");
}

#[test]
fn nothing_of_a_run_survives_it() {
    let marker = format!("skillcache-survivor-{}", std::process::id());
    let daemon = format!(
        "import os, time, sys\n\
         if os.fork() == 0:\n  os.setsid()\n  if os.fork() == 0:\n    sys.argv = ['x']\n    open('/dev/null')\n    \
         os.execv('/bin/sleep', ['{marker}', '600'])\n  os._exit(0)\n\
         time.sleep(0.3)\n"
    );
    for ending in ["result = 1", "time.sleep(60)", "os.kill(os.getpid(), 9)", "os._exit(0)"] {
        let unconfined = [("sandbox.mode", "best_effort"), ("sandbox.without", "namespaces, landlock, seccomp")];
        once(&format!("{daemon}{ending}"), &[], &[&[("sandbox.timeout_ms", "1500")], &unconfined[..]].concat());
        let alive = std::fs::read_dir("/proc").expect("proc").flatten().any(|entry| {
            std::fs::read(entry.path().join("cmdline")).is_ok_and(|line| line.starts_with(marker.as_bytes()))
        });
        assert!(!alive, "{ending}");
    }
}

#[test]
fn schemas_are_checked_before_and_after() {
    let library = open(&[]);
    let fields = [
        ("input_schema", r#"{"type":"object","required":["x"],"properties":{"x":{"type":"integer"}}}"#),
        ("output_schema", r#"{"type":"integer","maximum":10}"#),
    ];
    put(&library, "s", "result = inputs['x'] * 2", &fields);
    assert_eq!(run(&library, "s", r#"{"inputs":{"x":5}}"#).outcome, Outcome::Success);
    let result = run(&library, "s", r#"{"inputs":{"x":"5"}}"#);
    assert_eq!(
        (result.outcome, failure(&result).path.as_deref(), failure(&result).rule.as_deref()),
        (Outcome::InvalidInput, Some("$.x"), Some("type"))
    );
    let result = run(&library, "s", r#"{"inputs":{"x":6}}"#);
    assert_eq!((result.outcome, failure(&result).rule.as_deref()), (Outcome::InvalidOutput, Some("maximum")));
    let mut unknown = Skill::new("bad", "result = 1");
    unknown.set("input_schema", r#"{"type":"nothing"}"#).expect("an object");
    assert_eq!(library.put(&unknown).expect_err("no schema").code(), Code::Validation);
}

#[test]
fn caching_obeys_skill_call_and_determinism() {
    let library = open(&[]);
    put(&library, "pure", "result = inputs", &[]);
    put(&library, "clock", "import time\nresult = time.time()", &[]);
    put(&library, "declared", "import time\nresult = time.time()", &[("cache", "yes")]);
    put(&library, "never", "result = 1", &[("cache", "no")]);
    let twice = |id: &str, options: &str| [0, 1].map(|_| run_with(&library, id, "", options).is_cached);
    assert_eq!(twice("pure", ""), [false, true]);
    assert_eq!(twice("clock", ""), [false, false]);
    assert_eq!(twice("declared", ""), [false, true]);
    assert_eq!(twice("never", ""), [false, false]);
    assert_eq!(twice("pure", r#"{"cache":"no"}"#), [false, false]);
    assert_eq!(twice("pure", r#"{"cache":"refresh"}"#), [false, false]);
    assert_eq!(twice("clock", r#"{"cache":"yes"}"#), [false, true]);
    assert_eq!(twice("never", r#"{"cache":"yes","ttl_s":0}"#), [false, false]);
    let required =
        RunOptions { cache: Some(CacheMode::Required), ttl: Some(std::time::Duration::ZERO), ..RunOptions::default() };
    assert_eq!(library.run("never", Data::default(), &required).expect_err("not kept").code(), Code::CacheOverflow);
    put(&library, "pure", "result = [inputs]", &[]);
    assert!(!run(&library, "pure", "").is_cached, "another version is another key");
    assert!(run_with(&library, "pure", "", r#"{"version":1}"#).is_cached, "the old version is still in memory");
    library.clear("execution").expect("known");
    assert!(!run(&library, "pure", "").is_cached);
    let failing = open(&[]);
    put(&failing, "f", "raise ValueError(inputs)", &[("cache", "yes")]);
    assert_eq!([0, 1].map(|_| run(&failing, "f", "").is_cached), [false, false], "only successes are kept");
}

#[test]
fn member_order_is_seen_unless_the_skill_declares_otherwise() {
    let library = open(&[]);
    put(&library, "keep", "result = list(inputs)", &[]);
    put(&library, "sort", "result = list(inputs)", &[("key_order", "ignore")]);
    let (ab, ba) = (r#"{"inputs":{"a":1,"b":2}}"#, r#"{"inputs":{"b":2,"a":1}}"#);
    assert_eq!(run(&library, "keep", ab).value.as_deref(), Some(r#"["a","b"]"#));
    let other = run(&library, "keep", ba);
    assert_eq!((other.value.as_deref(), other.is_cached), (Some(r#"["b","a"]"#), false));
    assert_eq!(run(&library, "sort", ab).value.as_deref(), Some(r#"["a","b"]"#));
    let other = run(&library, "sort", ba);
    assert_eq!((other.value.as_deref(), other.is_cached), (Some(r#"["a","b"]"#), true));
}

#[test]
fn bad_skills_are_refused_with_place_and_name() {
    let library = open(&[]);
    let refuse = |code: &str, fields: &[(&str, &str)]| {
        let mut skill = Skill::new("s", code);
        for (name, value) in fields {
            skill.set(name, value).unwrap_or_else(|error| panic!("{error}"));
        }
        library.put(&skill).expect_err(code)
    };
    for (code, line, column) in [
        ("x = 1\ny = = 2", 2, 5),
        ("x = 1\nreturn x", 2, 1),
        ("def f(a, a): pass", 1, 10),
        ("for x in y:\n  pass\nbreak", 3, 1),
        ("x = 1\0", 1, 6),
        ("# coding: latin-1\nx = 1", 1, 11),
    ] {
        let error = refuse(code, &[]);
        assert_eq!((error.code(), error.details().line), (Code::Syntax, Some(line)), "{code}: {error}");
        assert!(error.details().column.is_some_and(|found| found.abs_diff(column) <= 1), "{code}: {error:?}");
    }
    let error = refuse("result = 1", &[("dependencies", r#"["json","no_such_package_xyz"]"#)]);
    assert_eq!(
        (error.code(), error.details().missing.as_slice()),
        (Code::Validation, &["no_such_package_xyz".to_owned()][..])
    );
    let error = refuse("result = 1", &[("required_skills", r#"["nobody"]"#)]);
    assert_eq!((error.code(), error.details().missing.as_slice()), (Code::Validation, &["nobody".to_owned()][..]));
    let error = refuse("puts 1", &[("language", "ruby")]);
    assert!(error.code() == Code::Unsupported && error.message().contains("ruby"), "{error}");
    assert_eq!(library.get("s", 0).expect_err("nothing was stored").code(), Code::NotFound);
    assert_eq!(library.put(&Skill::new("../x", "result = 1")).expect_err("id").code(), Code::Invalid);
    put(&library, "s", "result = 1", &[]);
    assert_eq!(run(&library, "s", "").outcome, Outcome::Success, "the library still works");
}

#[test]
fn bad_data_is_refused_with_its_path() {
    for (data, path) in [
        ("{", "$"),
        ("[]", "$"),
        (r#"{"inputs":[]}"#, "$.inputs"),
        (r#"{"inputs":{"a":1,"a":2}}"#, "$.inputs.a"),
        (r#"{"inputs":{"a":[1,NaN]}}"#, "$.inputs.a[1]"),
        (r#"{"input":{}}"#, "$.input"),
    ] {
        let error = Data::parse(data).expect_err(data);
        assert_eq!((error.code(), error.details().path.as_deref()), (Code::Invalid, Some(path)), "{error}");
    }
    let error = RunOptions::parse(r#"{"timeout":5}"#).expect_err("unknown");
    assert_eq!(error.details().suggestion.as_deref(), Some("timeout_ms"));
    assert_eq!(RunOptions::parse(r#"{"timeout_ms":0}"#).expect_err("range").code(), Code::Invalid);
}

/// What the kernel and the host hold a run to, as far as the run can see it.
const SEE_LIMITS: &str = "import resource, shutil\nsoft = lambda name: resource.getrlimit(getattr(resource, name))[0]\n\
    result = {'max_cpu_s': soft('RLIMIT_CPU'), 'max_memory_mb': soft('RLIMIT_AS') >> 20, 'max_file_mb': soft('RLIMIT_FSIZE') >> 20,\n\
    'disk': shutil.disk_usage('.').total >> 20, 'max_open_files': soft('RLIMIT_NOFILE'), 'max_threads': soft('RLIMIT_NPROC')}";

#[test]
fn a_calls_limit_counts_before_the_skills_and_that_before_the_librarys() {
    let library = open(&[
        ("sandbox.max_cpu_s", "11"),
        ("sandbox.max_memory_mb", "100"),
        ("sandbox.max_file_mb", "1"),
        ("sandbox.max_open_files", "20"),
        ("sandbox.max_threads", "7"),
    ]);
    put(&library, "plain", SEE_LIMITS, &[("cache", "no")]);
    // Smaller and larger than the library's, by the object and by the fields.
    let own = [
        ("cache", "no"),
        ("limits", r#"{"max_cpu_s":5,"max_memory_mb":200}"#),
        ("max_file_mb", "2"),
        ("max_open_files", "40"),
    ];
    put(&library, "own", SEE_LIMITS, &own);
    let asked = r#"{"max_cpu_s":6,"max_memory_mb":90,"max_file_mb":3,"max_open_files":30,"max_threads":9}"#;
    for (id, options, expected) in [
        ("plain", "", [11, 100, 1, 20, 7]),
        ("own", "", [5, 200, 2, 40, 7]),
        ("own", asked, [6, 90, 3, 30, 9]),
        ("plain", asked, [6, 90, 3, 30, 9]),
        ("own", r#"{"max_memory_mb":null}"#, [5, 200, 2, 40, 7]),
    ] {
        let result = run_with(&library, id, "", options);
        let seen = skillcache::json::Value::parse(result.value.as_deref().unwrap_or_else(|| panic!("{result:?}")));
        let seen = seen.expect("JSON");
        let number = |name: &str| seen.get(name).and_then(|value| value.as_i64()).expect("a number");
        let names = ["max_cpu_s", "max_memory_mb", "max_file_mb", "max_open_files", "max_threads"];
        // Threads are counted in a user namespace alone, and the folder is bounded as a whole in a mount namespace.
        let layers = &result.confinement.as_ref().expect("it ran").layers;
        let has = |layer: &str| layers.iter().any(|name| name == layer);
        let counted = if has("user") { names.len() } else { names.len() - 1 };
        assert_eq!(
            names[..counted].iter().map(|name| number(name)).collect::<Vec<_>>(),
            expected[..counted],
            "{id} {options}"
        );
        assert!(!has("mount") || number("disk") == number("max_file_mb"), "{seen:?}");
    }
}

#[test]
fn time_output_and_answers_are_limited_at_every_level() {
    let library = open(&[("sandbox.max_output_kb", "2"), ("sandbox.max_answer_kb", "2")]);
    let code = "import time\nprint('x' * 9999)\ntime.sleep(inputs.get('s', 0))\nresult = 'y' * inputs.get('n', 0)";
    put(&library, "plain", code, &[("cache", "no")]);
    put(
        &library,
        "own",
        code,
        &[("cache", "no"), ("timeout_ms", "200"), ("max_output_kb", "0"), ("max_answer_kb", "1")],
    );
    let kept = |id: &str, options: &str| run_with(&library, id, "", options).stdout.bytes.len();
    assert_eq!([kept("plain", ""), kept("plain", r#"{"max_output_kb":3}"#)], [2 << 10, 3 << 10]);
    let patient = r#"{"timeout_ms":60000}"#;
    assert_eq!(kept("own", patient), 0);
    let said = |id: &str, data: &str, options: &str| {
        let result = run_with(&library, id, data, options);
        (result.outcome, result.failure.map(|failure| failure.message.clone()).unwrap_or_default())
    };
    let sleeping = said("own", r#"{"inputs":{"s":60}}"#, "");
    assert_eq!(sleeping, (Outcome::Timeout, "the run took longer than 200 ms".to_owned()));
    let sleeping = said("own", r#"{"inputs":{"s":60}}"#, r#"{"timeout_ms":250}"#);
    assert_eq!(sleeping, (Outcome::Timeout, "the run took longer than 250 ms".to_owned()));
    let long = r#"{"inputs":{"n":1500}}"#;
    assert_eq!(said("plain", long, patient).0, Outcome::Success);
    let refused = said("own", long, patient);
    assert!(refused.0 == Outcome::OutputLimit && refused.1.contains("at most 1024"), "{refused:?}");
    assert_eq!(said("own", long, r#"{"timeout_ms":60000,"max_answer_kb":2}"#).0, Outcome::Success);
}

#[test]
fn a_limit_out_of_range_states_the_range_and_where() {
    let library = open(&[]);
    let stated =
        |error: skillcache::Error| (error.message().to_owned(), error.details().path.clone().unwrap_or_default());
    let range = "it takes a whole number from 32 to 1048576 (MiB)";
    let (message, path) = stated(RunOptions::parse(r#"{"max_memory_mb":1}"#).expect_err("too small"));
    assert_eq!((message, path.as_str()), (format!("`max_memory_mb` cannot be 1: {range}"), "max_memory_mb"));
    let mut skill = Skill::new("s", "result = 1");
    let (message, path) = stated(skill.set("limits", r#"{"max_memory_mb":1}"#).expect_err("too small"));
    assert_eq!(
        (message, path.as_str()),
        (format!("`limits.max_memory_mb` cannot be 1: {range}"), "limits.max_memory_mb")
    );
    let (message, _) = stated(Config::default().set("sandbox.max_memory_mb", "1").expect_err("too small"));
    assert!(message.contains(range), "{message}");
    for (option, meant) in [("max_memory", "max_memory_mb"), ("sandbox.max_cpu_s", "max_cpu_s"), ("cpu", "")] {
        let error = RunOptions::parse(&format!("{{\"{option}\":1}}")).expect_err(option);
        assert_eq!(error.details().suggestion.as_deref().unwrap_or_default(), meant, "{error}");
    }
    skill.set("max_threads", "4").expect("in range");
    library.put(&skill).expect("a skill");
    let record = library.get("s", 0).expect("there").to_value(false).to_text();
    assert!(record.contains(r#""limits":{"max_threads":4},"timeout_ms":null,"max_cpu_s":null"#), "{record}");
    assert!(record.contains(r#""max_threads":4,"max_output_kb":null"#), "{record}");
}

#[test]
fn strict_names_what_is_missing() {
    let library = open(&[("sandbox.without", "namespaces, landlock, seccomp")]);
    let error = library.put(&Skill::new("s", "result = 1")).expect_err("nothing confines it");
    assert_eq!(error.code(), Code::Sandbox);
    for guarantee in ["files", "network", "processes", "kill"] {
        assert!(error.details().missing.iter().any(|missing| missing == guarantee), "{error}");
    }
    assert!(error.message().contains("user namespaces") && error.message().contains("best_effort"), "{error}");
    let library = open(&[("sandbox.without", "namespaces, landlock, seccomp"), ("sandbox.mode", "best_effort")]);
    put(&library, "s", "result = 1", &[]);
    assert_eq!(run(&library, "s", "").level(), "process-only");
}

#[test]
fn an_inactive_skill_is_rejected_and_an_interpreter_that_is_none_is_unsupported() {
    let library = open(&[]);
    put(&library, "s", "result = 1", &[("is_active", "false")]);
    assert_eq!(run(&library, "s", "").outcome, Outcome::Rejected);
    for (executable, part) in [
        ("no-such-python", "no `no-such-python` in PATH"),
        ("/bin/false", "status 1"),
        ("/bin/echo", "printed"),
        ("/bin/ls", "status 2"),
    ] {
        let library = open(&[("python.executable", executable)]);
        let error = library.put(&Skill::new("s", "result = 1")).expect_err(executable);
        assert_eq!(error.code(), Code::Unsupported);
        assert!(error.message().contains(part), "{error}");
        // Whatever it said of the program it was given.
        assert!(error.message().len() < 500, "{error}");
    }
}

#[test]
fn many_runs_and_tasks_can_be_cancelled() {
    // Whoever is not cancelled takes ten minutes.
    let library = open(&[("sandbox.timeout_ms", "600000")]);
    put(&library, "s", "import time\ntime.sleep(inputs['s'])\nresult = inputs['s']", &[]);
    let items = |seconds: &[&str]| {
        seconds.iter().map(|s| Data::parse(&format!("{{\"inputs\":{{\"s\":{s}}}}}")).expect("data")).collect()
    };
    let results = library.run_many("s", items(&["0", "0.1", "0"]), &RunOptions::default(), |_, _| true).expect("runs");
    let values: Vec<_> = results.iter().map(|result| result.value.as_deref()).collect();
    assert_eq!(values, [Some("0"), Some("0.1"), Some("0")]);
    let started = std::time::Instant::now();
    let results =
        library.run_many("s", items(&["0", "600", "600", "600"]), &RunOptions::default(), |_, _| false).expect("runs");
    assert_eq!(results.iter().filter(|result| result.outcome == Outcome::Cancelled).count(), 3);
    let task = library.submit("s", items(&["600"]).remove(0), &RunOptions::default()).expect("queued");
    assert_eq!(task.wait(Some(std::time::Duration::from_millis(100))).expect_err("running").code(), Code::Timeout);
    task.cancel();
    assert_eq!(task.wait(None).expect("a result").outcome, Outcome::Cancelled);
    let task = library.submit("s", items(&["600"]).remove(0), &RunOptions::default()).expect("queued");
    std::thread::sleep(std::time::Duration::from_millis(200));
    library.close();
    assert_eq!(task.wait(None).expect_err("closed").code(), Code::Cancelled);
    assert_eq!(library.run("s", Data::default(), &RunOptions::default()).expect_err("closed").code(), Code::Closed);
    assert!(started.elapsed() < std::time::Duration::from_secs(300));
}

#[test]
fn statistics_add_up_and_events_arrive() {
    let library = open(&[
        ("cache.execution.max_entries", "2"),
        ("cache.prepared.max_entries", "500"),
        ("monitor.health_timeout_ms", "120000"),
    ]);
    put(&library, "s", "result = inputs", &[]);
    put(&library, "bad", "raise ValueError", &[]);
    for data in ["", "", r#"{"inputs":{"a":1}}"#, r#"{"inputs":{"a":2}}"#] {
        run(&library, "s", data);
    }
    run_with(&library, "bad", "", r#"{"trace":"abc"}"#);
    let number_in = |stats: &skillcache::json::Value, path: &[&str]| {
        path.iter().try_fold(stats, |value, name| value.get(name)).and_then(|value| value.as_i64())
    };
    // Whoever asks waits only a moment for what is counted to be written.
    let given_up = std::time::Instant::now() + std::time::Duration::from_secs(60);
    let stats = loop {
        let stats = library.stats().expect("open");
        if number_in(&stats, &["store", "usage_count"]) == Some(5) || std::time::Instant::now() > given_up {
            break stats;
        }
    };
    let number = |path: &[&str]| number_in(&stats, path);
    assert_eq!(number(&["runs", "total"]), Some(5));
    assert_eq!(
        (
            number(&["runs", "cached"]),
            number(&["runs", "by_outcome", "success"]),
            number(&["runs", "by_outcome", "error"])
        ),
        (Some(1), Some(4), Some(1))
    );
    assert_eq!(
        (number(&["caches", "execution", "hits"]), number(&["caches", "execution", "misses"])),
        (Some(1), Some(4))
    );
    assert_eq!(
        (number(&["caches", "execution", "size"]), number(&["caches", "execution", "evictions"])),
        (Some(2), Some(1))
    );
    assert_eq!(
        (number(&["store", "skills"]), number(&["store", "usage_count"]), number(&["store", "success_count"])),
        (Some(2), Some(5), Some(4))
    );
    let mut kinds = Vec::new();
    while let Ok(event) = library.next_event(Some(std::time::Duration::ZERO)) {
        let event = skillcache::json::Value::parse(&event).expect("json");
        kinds.push(event.get("kind").and_then(|kind| kind.as_str()).unwrap_or_default().to_owned());
    }
    assert_eq!(kinds, ["sandbox_level", "skill_put", "skill_put", "cache_utilization", "run_failed"]);
    let metrics = library.metrics().expect("open");
    assert!(metrics.contains(r#"skillcache_runs_total{outcome="success",cached="true"} 1"#), "{metrics}");
    assert!(metrics.ends_with("# EOF\n"), "{metrics}");
    let health = library.health().expect("open");
    assert_eq!(health.get("status").and_then(|status| status.as_str()), Some("healthy"), "{}", health.to_text());
}

#[test]
fn an_answer_that_shows_an_address_is_kept_only_if_the_skill_says_so() {
    let library = open(&[]);
    put(&library, "judged", "result = str(lambda: 1)", &[]);
    put(&library, "printed", "print(lambda: 1)\nresult = 1", &[]);
    put(&library, "said", "result = str(lambda: 1)", &[("cache", "yes")]);
    for (id, is_kept) in [("judged", false), ("printed", false), ("said", true)] {
        run(&library, id, "");
        assert_eq!(run(&library, id, "").is_cached, is_kept, "{id}");
    }
}

#[test]
fn what_the_policy_refuses_is_not_put_and_says_why() {
    let library = open_at(":memory:", &[]);
    let draft = Skill::new("s", "import time\nx = 1\nresult = eval('1') + open(2)\n");
    let error = library.put(&draft).expect_err("refused");
    assert_eq!(error.code(), Code::Security);
    let details = error.details();
    assert_eq!((details.line, details.column, details.rule.as_deref()), (Some(3), Some(10), Some("dynamic-code")));
    assert_eq!(details.findings.len(), 3, "{}", error.to_json());
    for part in ["line 3, column 10: `eval`", "2 more findings", "ast.literal_eval"] {
        assert!(error.message().contains(part), "{error}");
    }
    assert_eq!(library.get("s", 0).expect_err("not there").code(), Code::NotFound);
    let verdict = library.validate("import os\n").expect("a verdict").to_text();
    assert!(verdict.starts_with(r#"{"valid":false,"findings":[{"rule":"import-forbidden""#), "{verdict}");
}

#[test]
fn a_stored_version_that_the_rules_refuse_is_rejected() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("skills.db").display().to_string();
    let lax = open_at(&path, &[("policy.mode", "warn")]);
    put(&lax, "s", "import os\nresult = os.sep", &[]);
    assert_eq!(run(&lax, "s", "").outcome, Outcome::Success);
    lax.close();
    let strict = open_at(&path, &[]);
    let result = run(&strict, "s", "");
    assert_eq!(result.outcome, Outcome::Rejected);
    let failure = failure(&result);
    assert_eq!((failure.line, failure.rule.as_deref()), (Some(1), Some("import-forbidden")), "{failure:?}");
    assert!(failure.text().contains("`import os`"), "{failure:?}");
    assert!(strict.get("s", 1).is_ok(), "it can still be read");
    strict.close();
    let allowed = open_at(&path, &[("policy.allow_imports", "os, ctypes")]);
    assert_eq!(run(&allowed, "s", "").outcome, Outcome::Success);
}

#[test]
fn the_policy_can_warn_or_be_off() {
    let code = "import os\nresult = os.sep\ninputs = 1";
    for (mode, findings) in [("warn", 2), ("off", 1)] {
        let library = open_at(":memory:", &[("policy.mode", mode)]);
        put(&library, "s", code, &[]);
        let verdict = library.validate(code).expect("a verdict");
        assert_eq!(verdict.get("valid").and_then(|valid| valid.as_bool()), Some(true));
        // What hides the inputs is a matter of the slots, not of the policy.
        assert_eq!(verdict.get("findings").and_then(|list| list.as_array()).map(<[_]>::len), Some(findings), "{mode}");
        for kind in ["sandbox_level", "skill_put", "policy_findings"] {
            let event = library.next_event(Some(std::time::Duration::ZERO)).expect("an event");
            assert!(event.contains(&format!(r#""kind":"{kind}""#)), "{mode}: {event}");
        }
    }
}

#[test]
fn a_source_that_does_not_parse_is_filled_only_where_that_was_asked_for() {
    let code = "inputs = {'a': 1}\nprint inputs\n";
    let data = Data::parse(r#"{"inputs": {"b": 2}}"#).expect("data");
    let error = open(&[]).inject(code, &data).expect_err("refused by default");
    assert_eq!((error.code(), error.details().line), (Code::Syntax, Some(2)));
    assert!(error.message().contains("in `print inputs`"), "{error}");
    let lexical = open(&[("inject.fallback", "lexical")]);
    let script = lexical.inject(code, &data).expect("filled");
    assert_eq!((script.code.as_str(), script.method.name()), ("inputs = {\"b\": 2}\nprint inputs\n", "lexical"));
    let parsed = lexical.inject("result = 1\n", &data).expect("filled");
    assert_eq!((parsed.code.as_str(), parsed.method.name()), ("inputs = {\"b\": 2}; result = 1\n", "ast"));
    let error = lexical.inject("print inputs\ninputs = {}\n", &data).expect_err("used before");
    assert_eq!((error.code(), error.details().missing.as_slice()), (Code::Syntax, &["inputs".to_owned()][..]));
    let error = lexical.inject("# coding: latin-1\nprint 1\n", &Data::default()).expect_err("not UTF-8");
    assert!(error.message().contains("UTF-8"), "{error}");
    assert_eq!(lexical.inject("print context\n", &Data::default()).expect("nothing to fill").code, "print context\n");
}

#[test]
fn a_skill_is_found_and_described_by_what_its_code_says() {
    let library = open(&[]);
    let code = "'''Moving averages.'''\nimport math\ndef crossover(fast, slow):\n    '''Where they cross.'''\nresult = inputs['prices']";
    put(&library, "s", code, &[]);
    put(&library, "other", "result = 1", &[]);
    for word in ["crossover", "averages", "math", "prices", "cross"] {
        let found = library.search(&skillcache::Query::words(word)).expect("a search");
        assert_eq!(found.iter().map(|found| found.skill.id()).collect::<Vec<_>>(), ["s"], "{word}");
    }
    let record = library.get("s", 0).expect("there").to_value(false);
    let symbols = record.get("symbols").expect("symbols").to_text();
    assert!(
        symbols.contains(r#""signature":"crossover(fast, slow)","line":3,"summary":"Where they cross.""#),
        "{symbols}"
    );
    assert!(symbols.contains(r#""reads":{"inputs":[{"name":"prices","required":true}]"#), "{symbols}");
}

#[test]
fn a_verdict_is_kept() {
    let library = open_at(":memory:", &[]);
    let hits = || {
        let stats = library.stats().expect("statistics");
        let prepared = stats.get("caches").and_then(|caches| caches.get("prepared"));
        prepared.and_then(|cache| cache.get("hits")).and_then(|hits| hits.as_i64()).expect("a number")
    };
    library.validate("import os\n").expect("a verdict");
    let before = hits();
    library.validate("import os\n").expect("a verdict");
    assert!(hits() > before, "it was judged anew");
}
