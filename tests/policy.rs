//! What the policy says of evasions and of harmless skills: the whole list of findings, each with its line.
//!
//! Every evasion must be refused by default, every harmless skill let through. Where a row's findings change, the change is
//! reviewed here: a new false alarm costs a user a skill.

use std::fs;
use std::path::PathBuf;

use skillcache::json::Value;
use skillcache::python::{Policy, Severity, analyse};

/// A source, and its findings as `line rule`, warnings with a `?`.
type Row = (&'static str, &'static [&'static str]);

const EVASIONS: &[Row] = &[
    ("import json\njson.codecs.open('/etc/passwd')", &["2 module-attribute"]),
    ("from json import codecs\ncodecs.open('/etc/passwd')", &["2 module-attribute"]),
    ("import xml.etree.ElementTree as ET\nET.parse('/etc/passwd')", &["2 file-access"]),
    ("import unittest.mock\nunittest.mock.patch('os.system')", &["1 import-forbidden"]),
    ("globals()[''.join(reversed('__snitliub__'))]", &["1 obfuscated-name", "1 namespace-access?"]),
    ("import statistics\ngetattr(statistics.random, '_' 'os').system('id')", &["2 module-attribute"]),
    ("getattr(print, '\\x5f_self__')", &["1 dunder-attribute", "1 dunder-text"]),
    ("import operator\noperator.attrgetter('__class__' '.__globals__')", &["2 dunder-attribute"]),
    (
        "import operator, statistics\noperator.attrgetter('random._os.system')(statistics)('id')",
        &["2 module-attribute"],
    ),
    ("if inputs:\n    open = 1\nelif context:\n    open = 2\nopen('x')", &["5 file-access"]),
    ("try:\n    open = 1\nexcept E:\n    pass\nopen('x')", &["5 file-access"]),
    ("if inputs:\n    open = 1\nelse:\n    if context:\n        open = 2\nopen('x')", &["6 file-access"]),
    ("for x in [1]:\n    if x:\n        break\n    else:\n        open = 1\nopen('x')", &["6 file-access"]),
    // Imports in every form.
    ("import os", &["1 import-forbidden"]),
    ("import os as operating\noperating.system('id')", &["1 import-forbidden"]),
    ("import os.path\nos.system('id')", &["1 import-risky?", "2 import-forbidden"]),
    ("import math, subprocess", &["1 import-forbidden"]),
    ("from os import system", &["1 import-forbidden"]),
    ("from os import path, system as s", &["1 import-risky?", "1 import-forbidden"]),
    ("from os import *", &["1 import-forbidden", "1 import-star"]),
    ("from . import os", &["1 import-relative"]),
    ("from .os import system", &["1 import-relative"]),
    ("def f():\n    import socket\n    return socket", &["2 import-forbidden"]),
    ("try:\n    import ctypes\nexcept ImportError:\n    pass", &["2 import-forbidden"]),
    ("if inputs:\n    from ctypes import CDLL", &["2 import-forbidden"]),
    ("import urllib.request as u", &["1 import-forbidden"]),
    ("import http.client", &["1 import-forbidden"]),
    ("import concurrent.futures\nconcurrent.futures.ProcessPoolExecutor()", &["1 import-risky?", "2 process-access"]),
    ("from concurrent.futures import ProcessPoolExecutor", &["1 process-access"]),
    ("import asyncio\nasyncio.create_subprocess_shell('id')", &["1 import-risky?", "2 process-access"]),
    ("import _io, _posixsubprocess", &["1 import-risky?", "1 import-forbidden"]),
    ("import posix\nposix.system('id')", &["1 import-forbidden"]),
    ("import pickle\npickle.loads(b'')", &["1 import-forbidden"]),
    ("import requests", &["1 import-forbidden"]),
    ("__import__('os').system('id')", &["1 import-computed"]),
    ("i = __import__\ni('os')", &["1 import-computed"]),
    ("import importlib\nimportlib.import_module('os')", &["1 import-forbidden"]),
    ("from importlib import import_module as f\nf('os')", &["1 import-forbidden"]),
    ("import builtins\nbuiltins.eval('1')", &["1 import-forbidden"]),
    ("import sys\nsys.modules['os'].system('id')", &["1 import-risky?", "2 interpreter-state"]),
    ("from sys import modules", &["1 interpreter-state"]),
    ("import sys as s\nm = s\nm.modules", &["1 import-risky?", "3 interpreter-state"]),
    ("import pkgutil\npkgutil.resolve_name('os:system')", &["1 import-forbidden"]),
    // Modules behind modules.
    ("import statistics\nstatistics.random._os.system('id')", &["2 module-attribute"]),
    ("import random as r\nr._os", &["2 module-attribute"]),
    ("from random import _os", &["1 module-attribute"]),
    ("import os.path\nos.path.os.system('id')", &["1 import-risky?", "2 module-attribute"]),
    ("import collections\nc = collections\nc._sys.modules", &["3 module-attribute"]),
    ("import re\nx = [re][0]\nx.copyreg.sys.modules\nx.enum.sys", &["3 module-attribute", "4 module-attribute?"]),
    ("import logging\ngetattr(logging, 'os').system('id')", &["1 import-risky?", "2 module-attribute"]),
    ("import math\nmath.__loader__.load_module('os')", &["2 dunder-attribute"]),
    ("import math\nmath.__dict__", &["2 namespace-access", "2 namespace-access?"]),
    // Built-in functions.
    ("eval('1+1')", &["1 dynamic-code"]),
    ("e = eval\ne('1')", &["1 dynamic-code"]),
    ("list(map(exec, ['x = 1']))", &["1 dynamic-code"]),
    ("@exec\n@input\nclass A: pass", &["1 dynamic-code", "2 terminal-access"]),
    ("class A:\n    __class_getitem__ = exec\nA['import os']", &["2 dynamic-code"]),
    ("compile('1', '', 'eval')", &["1 dynamic-code"]),
    ("open('/etc/passwd').read()", &["1 file-access"]),
    ("if False:\n    open = None\nopen('/etc/passwd')", &["3 file-access"]),
    ("def f():\n    return open('/etc/passwd')\nresult = f()\nopen = 1", &["2 file-access"]),
    ("open = 1\ndel open\nopen('/etc/passwd')", &["3 file-access"]),
    ("def f():\n    open = 1\nopen('/etc/passwd')", &["3 file-access"]),
    ("open = open\nopen('x')", &["1 file-access"]),
    ("(lambda o=open: o('/etc/passwd'))()", &["1 file-access"]),
    ("[open for open in [open]][0]('x')", &["1 file-access"]),
    ("x = breakpoint", &["1 terminal-access"]),
    ("import io\nio.open('/etc/passwd')", &["1 import-risky?", "2 file-access"]),
    ("from codecs import open as o\no('/etc/passwd')", &["1 file-access"]),
    ("import pathlib\npathlib.Path('/etc/passwd').read_text()", &["1 import-risky?", "2 file-access"]),
    ("from pathlib import Path\np = Path('/etc')\nlist(p.glob('*'))", &["1 import-risky?", "3 file-access"]),
    ("import gzip\ngzip.open('/tmp/x')", &["1 import-risky?", "2 file-access"]),
    ("import timeit\ntimeit.timeit('print(1)')", &["1 import-risky?", "2 dynamic-code"]),
    ("import typing\nclass A:\n    x: 'print(1)'\ntyping.get_type_hints(A)", &["4 dynamic-code"]),
    // Attributes.
    ("().__class__.__bases__[0].__subclasses__()", &["1 dunder-attribute", "1 dunder-attribute"]),
    ("''.__class__.__mro__[1]", &["1 dunder-attribute"]),
    ("type('').mro()", &["1 dunder-attribute"]),
    ("object.__subclasses__()", &["1 dunder-attribute"]),
    ("(lambda: 0).__globals__['__builtins__']", &["1 dunder-attribute", "1 dunder-text"]),
    ("(lambda: 0).__code__.co_consts", &["1 frame-access", "1 frame-access"]),
    ("print.__self__.eval('1')", &["1 dunder-attribute"]),
    (
        "try:\n    1 / 0\nexcept ZeroDivisionError as e:\n    e.__traceback__.tb_frame.f_globals",
        &["4 frame-access", "4 frame-access", "4 frame-access"],
    ),
    ("def g():\n    yield\nx = g()\nx.gi_frame.f_back", &["4 frame-access", "4 frame-access"]),
    ("import sys\nsys._getframe(1)", &["1 import-risky?", "2 frame-access"]),
    ("import inspect\ninspect.currentframe().f_back", &["1 import-risky?", "2 frame-access", "2 frame-access"]),
    ("import gc\ngc.get_objects()", &["1 import-risky?", "2 interpreter-state"]),
    ("[].__reduce_ex__(2)[0].__globals__", &["1 dunder-attribute", "1 dunder-attribute"]),
    ("(1).__getattribute__('__class__')", &["1 dunder-attribute"]),
    ("f'{().__class__.__base__.__subclasses__()}'", &["1 dunder-attribute", "1 dunder-attribute"]),
    ("match print:\n    case object(__self__=b):\n        b.eval('1')", &["2 dunder-attribute"]),
    ("__builtins__['eval']('1')", &["1 builtins-access"]),
    ("getattr(__builtins__, 'eval')('1')", &["1 builtins-access", "1 builtins-access"]),
    ("globals()['__builtins__']", &["1 namespace-access?", "1 dunder-text"]),
    ("vars(__builtins__)", &["1 builtins-access", "1 namespace-access?", "1 builtins-access"]),
    ("import warnings\nwarnings.catch_warnings()._module.__builtins__", &["1 import-risky?", "2 builtins-access"]),
    // Names in text.
    ("getattr((), '__class__'), getattr(type(()), '__subclasses__')()", &["1 dunder-attribute", "1 dunder-text"]),
    ("getattr(print, '__se' + 'lf__')", &["1 computed-attribute?", "1 obfuscated-name"]),
    ("getattr(print, '__fles__'[::-1])", &["1 computed-attribute?", "1 obfuscated-name"]),
    ("getattr(print, ''.join(['__', 'self', '__']))", &["1 obfuscated-name", "1 obfuscated-name"]),
    ("getattr(print, ''.join(map(chr, [95, 95, 115])))", &["1 obfuscated-name"]),
    ("getattr(print, chr(95) + chr(95) + 'self__')", &["1 obfuscated-name", "1 obfuscated-name"]),
    ("getattr(print, '__SELF__'.lower())", &["1 computed-attribute?", "1 obfuscated-name"]),
    ("getattr(print, bytes([95, 95]).decode() + 'self__')", &["1 obfuscated-name"]),
    ("from operator import attrgetter\nattrgetter('__class__.__subclasses__')(())", &["2 dunder-attribute"]),
    ("import operator\noperator.methodcaller('__subclasses__')(object)", &["2 dunder-attribute", "2 dunder-text"]),
    ("n = '__globals__'\ng = getattr(f, n)", &["1 dunder-text", "2 computed-attribute?"]),
    ("'{0.__class__.__init__.__globals__}'.format(1)", &["1 format-traversal"]),
    ("t = '{x[__globals__]}'\nt.format(x=1)", &["1 format-traversal"]),
    ("'{a.__class__}'.format_map({'a': 1})", &["1 format-traversal"]),
    ("x = {}\nx['ev' + 'al']", &["2 obfuscated-name"]),
    ("from sys import *\nmodules['os']", &["1 import-star", "1 import-risky?"]),
    ("import sys\nvars(sys)['modules']", &["1 import-risky?", "2 namespace-access", "2 namespace-access?"]),
    ("import sys\ngetattr(sys, inputs['x'])", &["1 import-risky?", "2 computed-attribute"]),
    ("class A:\n    open = 1\n    def f(self):\n        return open('x')\nresult = A().f()", &["4 file-access"]),
    ("def f():\n    global open\n    open = 1\nopen('x')", &["4 file-access"]),
    ("try:\n    open = 1\n    1 / 0\nexcept ZeroDivisionError:\n    open('x')", &["5 file-access"]),
    ("('{0.__cla' + 'ss__}').format(1)", &["1 format-traversal"]),
    ("def f(m):\n    return m.os.system('id')\nimport statistics\nf(statistics.random)", &["2 module-attribute"]),
];

const HARMLESS: &[Row] = &[
    ("import xml.etree.ElementTree as ET\nresult = ET.fromstring('<a/>').tag", &[]),
    ("result = sum(inputs['x'])", &[]),
    ("import math, re, json, itertools\nfrom collections import Counter\nresult = 1", &[]),
    ("from datetime import datetime\nresult = datetime(2020, 1, 1).isoformat()", &[]),
    ("import os.path\nresult = os.path.join('a', 'b')", &["1 import-risky?"]),
    ("import os\nresult = os.path.basename(inputs['p'])", &["1 import-risky?"]),
    ("from os import path\nresult = path.splitext('a.b')", &["1 import-risky?"]),
    ("from os.path import join\nresult = join('a', 'b')", &["1 import-risky?"]),
    ("import sys\nresult = sys.maxsize", &["1 import-risky?"]),
    ("import time\nresult = time.time()", &["1 import-risky?"]),
    ("import threading\nlock = threading.Lock()\nresult = 1", &["1 import-risky?"]),
    ("import inspect\ndef f(a): pass\nresult = list(inspect.signature(f).parameters)", &["1 import-risky?"]),
    ("import weakref\nclass A: pass\na = A()\nresult = weakref.ref(a)() is a", &["1 import-risky?"]),
    ("from urllib.parse import quote\nresult = quote('a b')", &["1 import-risky?"]),
    ("import urllib.parse\nresult = urllib.parse.quote('a b')", &["1 import-risky?"]),
    ("import io\nbuffer = io.StringIO()\nbuffer.write('a')\nresult = buffer.getvalue()", &["1 import-risky?"]),
    ("import pathlib\nresult = pathlib.PurePosixPath('a/b').name", &["1 import-risky?"]),
    ("import gzip\nresult = len(gzip.compress(b'a'))", &["1 import-risky?"]),
    ("from http import HTTPStatus\nresult = HTTPStatus(404).phrase", &["1 import-risky?"]),
    ("import asyncio\nasync def f(): return 1\nresult = asyncio.run(f())", &["1 import-risky?"]),
    ("from concurrent.futures import ThreadPoolExecutor\nresult = 1", &["1 import-risky?"]),
    ("import re\nresult = re.compile('a').sub('b', 'a')", &[]),
    ("import ast\nresult = ast.literal_eval('[1]')", &[]),
    ("def open(door): return door + 1\nresult = open(1)", &[]),
    (
        "class Door:\n    def open(self): return 1\n    def eval(self): return 2\nd = Door()\nresult = d.open() + d.eval()",
        &[],
    ),
    ("if inputs:\n    input = 1\nelse:\n    input = 2\nresult = input", &[]),
    ("try:\n    input = inputs['x']\nexcept KeyError:\n    input = 0\nresult = input", &[]),
    ("try:\n    (input, x) = 1, 2\nexcept KeyError:\n    raise\nresult = input", &[]),
    (
        "if inputs:\n    input = 1\nelif context:\n    raise ValueError\nelse:\n    try:\n        input = 1\n    finally:\n        pass\nresult = input",
        &[],
    ),
    ("from types import SimpleNamespace\nresult = SimpleNamespace(os=1).os", &[]),
    ("class Phone:\n    def __init__(self, os): self.os = os\nresult = Phone('x').os", &[]),
    ("input = inputs['x']\nfile = input + 1\nresult = [file, input]", &[]),
    ("def compile(rules): return len(rules)\ndef main(): return compile([1])\nresult = main()", &[]),
    ("def main(): return compile([1])\ndef compile(rules): return len(rules)\nresult = main()", &[]),
    ("total = 0\nfor file in inputs['files']:\n    total += file['size']\nresult = total", &[]),
    ("for input in [1, 2]:\n    result = input", &[]),
    ("def f(input, open=None):\n    return input, open\nresult = f(1)", &[]),
    ("result = [input for input in [1, 2]]", &[]),
    ("result = (lambda eval: eval + 1)(1)", &[]),
    ("exec_time = 1\nevaluate = 2\nopening = {'open': 1, 'eval': 2}\nresult = opening['open']", &[]),
    (
        "class A:\n    def __init__(self): self.x = 1\n    def __repr__(self): return f'{self.__class__.__name__}({self.x})'\nresult = repr(A())",
        &[],
    ),
    ("class A:\n    def __getattr__(self, name): return super().__getattribute__(name)\nresult = 1", &[]),
    (
        "from dataclasses import dataclass\n@dataclass(frozen=True)\nclass P:\n    file: str\n    code: int\nresult = P('a', 1).code",
        &[],
    ),
    ("import math\nop = inputs.get('op', 'sqrt')\nresult = getattr(math, op)(4)", &["3 computed-attribute?"]),
    ("class A:\n    def do_x(self): return 1\nresult = getattr(A(), f\"do_{'x'}\")()", &["3 computed-attribute?"]),
    ("result = hasattr(inputs, 'keys')", &[]),
    ("template = 'hello {name}'\nresult = template.format(name='x')", &[]),
    ("result = inputs['template'].format(x=1)", &["1 format-computed?"]),
    ("result = '{:>10}|{0[a]}|{1.real}'.format({'a': 1}, 2)", &[]),
    ("'''Docs mention eval(), open() and obj.__class__.__bases__.'''\nresult = 'import os'", &[]),
    ("# eval('1')\nresult = \"os.system('id')\"", &[]),
    ("if __name__ == '__main__':\n    result = 1", &[]),
    (
        "import traceback\ntry:\n    1 / 0\nexcept ZeroDivisionError:\n    result = traceback.format_exc()",
        &["1 import-risky?"],
    ),
    ("import logging\nlogging.getLogger('x').info('y')\nresult = 1", &["1 import-risky?"]),
    ("import numpy as np\nresult = float(np.random.default_rng(1).random())", &[]),
    ("import scipy.signal\nresult = scipy.signal.get_window('hann', 3).tolist()", &[]),
    (
        "class Response:\n    code = 1\n    signal = 2\n    def open(self): return self.code\nresult = Response().open()",
        &[],
    ),
];

fn findings(source: &str, policy: &Policy) -> Vec<String> {
    let analysis = analyse(source, Some(policy)).unwrap_or_else(|fault| panic!("{source}: {fault:?}"));
    let shown = |finding: &skillcache::python::Finding| {
        let mark = if finding.severity == Severity::Warning { "?" } else { "" };
        format!("{} {}{mark}", finding.line, finding.rule)
    };
    analysis.findings.iter().map(shown).collect()
}

fn errors(findings: &[String]) -> usize {
    findings.iter().filter(|finding| !finding.ends_with('?')).count()
}

#[test]
fn every_evasion_is_refused_by_default() {
    for (source, expected) in EVASIONS {
        let found = findings(source, &Policy::default());
        assert_eq!(found, *expected, "{source}");
        assert!(errors(&found) > 0, "let through: {source}");
    }
}

#[test]
fn nothing_harmless_is_refused_by_default() {
    for (source, expected) in HARMLESS {
        let found = findings(source, &Policy::default());
        assert_eq!(found, *expected, "{source}");
        assert_eq!(errors(&found), 0, "a false alarm: {source}: {found:?}");
    }
}

#[test]
fn no_skill_of_the_corpus_or_the_examples_is_refused() {
    let examples = fs::read_dir(root().join("examples/skills")).expect("the examples").map(|file| {
        let path = file.expect("a file").path();
        (path.display().to_string(), fs::read_to_string(&path).expect("a source"))
    });
    let mut skills: Vec<(String, String)> = examples.filter(|(path, _)| path.ends_with(".py")).collect();
    assert!(skills.len() >= 8, "{skills:?}");
    let corpora =
        std::env::var_os("SKILLCACHE_CORPORA").map_or_else(|| root().join("../shared/corpora"), PathBuf::from);
    match fs::read_to_string(corpora.join("mbpp-cases.jsonl")) {
        Ok(cases) => skills.extend(cases.lines().map(|line| {
            let case = Value::parse(line).expect("JSON");
            let text = |name| case.get(name).map(|value| value.as_str().map_or_else(|| value.to_text(), str::to_owned));
            (text("id").expect("an id"), text("code").expect("code"))
        })),
        Err(error) => println!("the corpus is not here ({error}): only the examples were checked"),
    }
    for (name, source) in skills {
        let found = findings(&source, &Policy::default());
        assert_eq!(errors(&found), 0, "{name}: {found:?}");
    }
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn a_host_changes_what_is_said_of_modules() {
    for (allow, deny, source, expected) in [
        ("os", "", "import os\nos.system('id')", &[][..]),
        ("os.path", "", "import os\nos.path.join('a')", &[]),
        ("os.path", "", "import os\nos.system('id')", &["1 import-forbidden"]),
        ("sys", "sys.modules", "import sys\nsys.modules\nsys.maxsize", &["2 import-denied"]),
        ("", "json", "import json.decoder\nimport jsonish", &["1 import-denied"]),
        ("", "json.decoder", "import json\njson.decoder.scanner", &["2 import-denied"]),
        ("os", "os", "import os", &["1 import-denied"]),
        ("os.path", "os", "from os import path\nimport os", &["2 import-denied"]),
        ("math", "*", "import math\nimport json\nmath.sqrt(2)", &["2 import-denied"]),
        ("pathlib", "", "import pathlib\npathlib.Path('x').read_text()", &[]),
        ("socket", "", "import statistics\nx.socket", &[]),
        ("", "", "eval('1')", &["1 dynamic-code"]),
        ("builtins", "", "eval('1')", &["1 dynamic-code"]),
    ] {
        assert_eq!(findings(source, &Policy::new(allow, deny)), expected, "{allow} / {deny}: {source}");
    }
}

#[test]
fn a_finding_says_where_what_and_what_instead() {
    let source = "x = 'äö'; import os as o  # here\ninputs = {}\ninputs = {'a': 1}\n";
    let analysis = analyse(source, Some(&Policy::default())).expect("it parses");
    let shown = Value::Array(analysis.findings.iter().map(|finding| finding.to_value()).collect()).to_text();
    assert_eq!(
        shown,
        r#"[{"rule":"import-forbidden","severity":"error","line":1,"column":18,"message":"`import os`: reaches files, processes and the environment","advice":"Pass what it needs as inputs; `policy.allow_imports` lets a host allow the module.","text":"x = 'äö'; import os as o  # here"},{"rule":"input-shadowed","severity":"warning","line":3,"column":1,"message":"this assignment of `inputs` hides the data passed to the skill","advice":"Assign to another name, or make the first assignment a plain dict before any use: that is the slot.","text":"inputs = {'a': 1}"}]"#
    );
    let without = analyse(source, None).expect("it parses");
    assert_eq!(without.findings.len(), 1, "the slots' own finding remains");
}

#[test]
fn no_source_makes_it_slow_or_long() {
    let lambdas = "lambda: ".repeat(2500);
    for (name, source) in [
        ("uses", format!("import a\n{}", "a.b\n".repeat(100_000))),
        ("imports", "import a\na\n".repeat(100_000)),
        ("evals", "eval\n".repeat(100_000)),
        ("deep", format!("import a\nx = {lambdas}[{}]", "a, eval, ".repeat(100_000))),
        ("blocks", "if x:\n open = 1\n open\n".repeat(100_000)),
        ("globals", format!("def f():\n global {}\n {}", names(50_000, ", "), names(50_000, " = "))),
        ("sums", format!("x = [{}]", format!("a{}, ", " + 'x'".repeat(2500)).repeat(100))),
        ("sets", format!("x = [{}]", format!("a{}, ", " | x".repeat(2500)).repeat(20))),
        ("attributes", format!("x.os = 1\n{}", "y.os\n".repeat(100_000))),
        ("formats", "x.format()\n".repeat(100_000)),
        ("one line", format!("x = [{}]", "eval, ".repeat(100_000))),
        ("chains", format!("x{}\n", ".os".repeat(2500)).repeat(100)),
        ("import chains", format!("import a\n{}", format!("a{}\n", ".b".repeat(2400)).repeat(200))),
        (
            "long imports",
            format!("import a{}\n", ".b".repeat(2400)).repeat(100) + &format!("a{}\n", ".b".repeat(2400)).repeat(100),
        ),
    ] {
        let analysis = analyse(&source, Some(&Policy::default())).unwrap_or_else(|fault| panic!("{name}: {fault:?}"));
        assert!(analysis.findings.len() <= 200, "{name}");
    }
}

/// So many names, joined.
fn names(count: usize, by: &str) -> String {
    (0..count).map(|number| format!("n{number}")).collect::<Vec<_>>().join(by)
}
