//! Attempts 55 to 61: the interpreter's state, and what a run finds of the one before.

use std::fs;

use skillcache::{Code, Data, Outcome, Skill};

use crate::host::Control::{Bare, Succeeds};
use crate::host::{self, Attempt, answer, assert_all_is_well, attempt, confined, run, run_again};
use crate::situations::{self, Situation, User};

pub const ATTEMPTS: &[Attempt] = &[
    attempt(
        56,
        "the host's variables",
        Bare,
        "result = bool(set(os.environ) - set('HOME LANG LC_ALL MALLOC_ARENA_MAX PATH TMPDIR TZ'.split()))",
    ),
    attempt(
        56,
        "the first environment",
        Bare,
        "result = bool(tried(lambda: open('/proc/self/environ', 'rb').read(1)))",
    ),
    attempt(
        56,
        "the parent's environment",
        Succeeds,
        "result = bool(tried(lambda: open('/proc/%d/stat' % os.getppid(), 'rb').read(1)))",
    ),
];

#[test]
fn attempt_55_modules_in_the_folder_are_not_imported() {
    let library = confined(&[]);
    let plant = "import os\nfor name in ('json.py', 'random.py', 'sitecustomize.py', 'usercustomize.py', 'encodings.py'):\n  \
        open(name, 'w').write('evil = True')\nopen('x.pth', 'w').write('import evil')\nos.makedirs('json')\n";
    let look = "import json, random, sys\nresult = [hasattr(json, 'evil'), hasattr(random, 'evil'), 'sitecustomize' in sys.modules, 'usercustomize' in sys.modules]";
    for code in [format!("{plant}{look}"), look.to_owned()] {
        assert_eq!(answer(&library, &code), "[false,false,false,false]");
    }
    // A skill that asks for its own folder gets it, in its own run.
    let asked =
        format!("{plant}import sys\nsys.path.insert(0, os.getcwd())\nimport random\nresult = hasattr(random, 'evil')");
    assert_eq!(answer(&library, &asked), "true");
    assert_eq!(answer(&library, look), "[false,false,false,false]");
}

/// Under variables of the host that would lead an interpreter elsewhere; started by the test below.
#[test]
fn the_interpreter_is_its_own() {
    let look = "import json, os, sys\nresult = [hasattr(json, 'evil'), 'evil' in sys.modules, 'sitecustomize' in sys.modules, sys.flags.inspect, sys.flags.optimize]";
    assert_eq!(answer(&confined(&[]), look), "[false,false,false,0,0]");
}

#[test]
fn attempt_55_variables_of_the_interpreter_are_ignored() {
    let folder = tempfile::tempdir().expect("a folder");
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("passable");
    for name in ["json.py", "sitecustomize.py"] {
        fs::write(folder.path().join(name), "evil = True\nimport sys\nsys.modules['evil'] = 1\n").expect("written");
    }
    let path = folder.path().to_str().expect("UTF-8");
    let startup = format!("{path}/json.py");
    let variables =
        [("PYTHONPATH", path), ("PYTHONSTARTUP", &startup), ("PYTHONINSPECT", "1"), ("PYTHONOPTIMIZE", "2")];
    let started = situations::again_with(
        Situation::now(),
        User::Same,
        &["--exact", "state::the_interpreter_is_its_own"],
        &variables,
    );
    situations::assert_success(&started);
    // An interpreter that listens to them is led astray.
    let led = std::process::Command::new(host::bare("").get_program())
        .args(["-c", "import json; print(hasattr(json, 'evil'))"])
        .env("PYTHONPATH", path)
        .output()
        .expect("it starts");
    assert_eq!(String::from_utf8_lossy(&led.stdout).trim(), "True");
}

#[test]
fn attempt_57_odd_sources_are_decoded_once_or_refused() {
    let library = confined(&[]);
    for source in [
        "# coding: latin-1\nresult = 1",
        "result = 1\0",
        "from __future__ import braces",
        "result = 1\nfrom __future__ import annotations",
    ] {
        let error = library.put(&Skill::new("attempt", source)).expect_err(source);
        assert_eq!(error.code(), Code::Syntax, "{source:?}: {error}");
    }
    let source = "# coding: utf-8\nfrom __future__ import annotations\nresult = 'é😀'";
    library.put(&Skill::new("attempt", source)).expect("it is Python");
    assert_eq!(run_again(&library, Data::default()).value.as_deref(), Some("\"é😀\""));
    assert_eq!(
        answer(&library, "result = __builtins__ is not None and annotations if 'annotations' in globals() else None"),
        "null"
    );
    for code in [
        "compile(b'# coding: nonsense\\n1', 'x', 'exec')",
        "compile('1\\0', 'x', 'exec')",
        "compile('\\ud800', 'x', 'exec')",
    ] {
        let result = run(&library, code);
        assert_eq!(result.outcome, Outcome::Error, "{code}: {result:?}");
    }
    assert!(Data::parse(r#"{"inputs":{"x":"\ud800"}}"#).is_err(), "a lone surrogate is no text");
    assert_all_is_well(&library, "odd sources");
}

#[test]
fn attempt_58_data_is_never_code() {
    let texts = [
        r#"\"\"\" + __import__('os').abort() + \"\"\""#,
        r#"'; import os; os.abort() #"#,
        r#"\\'); import os; os.abort() #"#,
        r#"\n\r\u2028import os; os.abort()\n"#,
        r#"{__import__('os').abort()}"#,
        r#"%s %(x)s {0.__class__} \u0000 \\N{BULLET} \\x27"#,
    ];
    let library = confined(&[]);
    for source in ["result = inputs['x']", "inputs = {'x': ''}\nresult = inputs['x']"] {
        library.put(&Skill::new("attempt", source)).expect("it is Python");
        for text in texts {
            let data = Data::parse(&format!(r#"{{"inputs":{{"x":"{text}"}}}}"#)).expect("data");
            let expected = data.inputs.as_ref().and_then(|inputs| inputs.get("x")).map(|value| value.to_text());
            let result = run_again(&library, data);
            assert_eq!(result.value.as_deref(), expected.as_deref(), "{result:?}");
        }
    }
    // Where text is pasted into code, it is code.
    library.put(&Skill::new("attempt", "exec(\"x = '\" + inputs['x'] + \"'\")")).expect("it is Python");
    let pasted = Data::parse(&format!(r#"{{"inputs":{{"x":"{}"}}}}"#, texts[1])).expect("data");
    assert_eq!(run_again(&library, pasted).outcome, Outcome::Crashed);
}

#[test]
fn attempt_59_what_a_run_rebinds_is_gone_in_the_next() {
    let library = confined(&[]);
    let rebind = "import atexit, builtins, json, os, sys, threading, time\n\
        class D:\n  def __del__(self): os.write(1, b'late')\nkept = D()\natexit.register(os.write, 1, b'late')\n\
        def late():\n  time.sleep(5)\n  os.write(1, b'late')\nthreading.Thread(target=late, daemon=True).start()\n\
        builtins.sum = lambda x: 42\njson.dumps = lambda *a: 'evil'\nsys.modules['math'] = None\nsys.setrecursionlimit(99)\n\
        result = [sum([]), json.dumps(1)]";
    let look = "import json, sys\ntry:\n  import math\n  m = True\nexcept ImportError:\n  m = False\nresult = [sum([]), json.dumps(1), m, sys.getrecursionlimit()]";
    let fresh = answer(&library, look);
    assert_eq!(fresh, r#"[0,"1",true,1000]"#);
    let result = run(&library, rebind);
    assert_eq!(result.value.as_deref(), Some(r#"[42,"evil"]"#), "{result:?}");
    assert_eq!(result.stdout.bytes, b"", "nothing runs on after the answer");
    assert_eq!(answer(&library, look), fresh);
    assert_all_is_well(&library, "monkeypatches");
}

#[test]
fn attempt_60_chance_differs_from_run_to_run() {
    let library = confined(&[]);
    let code =
        "import random, secrets, uuid\nresult = [random.random(), str(uuid.uuid4()), secrets.token_hex(8), hash('x')]";
    library.put(&Skill::new("attempt", code)).expect("it is Python");
    let draw = || -> Vec<String> {
        let value = run_again(&library, Data::default()).value.expect("a value");
        value.trim_matches(['[', ']']).split(',').map(str::to_owned).collect()
    };
    let draws = [draw(), draw(), draw()];
    for what in 0..4 {
        assert!(draws[0][what] != draws[1][what] && draws[1][what] != draws[2][what], "{draws:?}");
    }
    // A seed is obeyed: it was chance that differed.
    let seeded = "import random\nrandom.seed(1)\nresult = random.random()";
    assert_eq!(answer(&library, seeded), answer(&library, seeded));
}

#[test]
fn attempt_61_the_world_is_pinned_in_each_run() {
    let library = confined(&[]);
    let look = "import locale, os, sys, time\nmask = os.umask(0)\nos.umask(mask)\n\
        result = [time.tzname[0], time.localtime(0).tm_hour, locale.setlocale(locale.LC_ALL, ''), sys.getfilesystemencoding(), sys.getrecursionlimit(), mask, \
        os.getcwd() == os.path.realpath(os.environ['HOME']), os.listdir('.')]";
    let fresh = answer(&library, look);
    assert_eq!(fresh, r#"["UTC",0,"C.UTF-8","utf-8",1000,63,true,[]]"#);
    let change = "import locale, os, sys, time\nos.environ['TZ'] = 'Asia/Tokyo'\ntime.tzset()\nlocale.setlocale(locale.LC_ALL, 'C')\nos.umask(0)\n\
        sys.setrecursionlimit(5000)\nos.mkdir('d')\nos.chdir('d')\nresult = 1";
    assert_eq!(answer(&library, change), "1");
    assert_eq!(answer(&library, look), fresh);
}

#[test]
fn attempt_59_a_run_that_rebinds_builtins_ends_all_the_same() {
    let library = confined(&[]);
    for rebind in [
        "builtins.len = lambda x: 42",
        "builtins.isinstance = lambda *a: False",
        "builtins.memoryview = None",
        "builtins.str = builtins.type = None",
        "import _json\n_json.make_encoder = _json.encode_basestring_ascii = None",
        "import posix\nposix.write = posix.read = posix._exit = None",
    ] {
        let result = run(
            &library,
            &format!("import atexit, builtins, os\natexit.register(os.write, 1, b'late')\n{rebind}\nresult = 1"),
        );
        assert_eq!((result.value.as_deref(), &result.stdout.bytes[..]), (Some("1"), &b""[..]), "{rebind}: {result:?}");
    }
}
