//! THE table of the policy: what a skill must not reach, what it reaches at its own risk, and what to do instead.
//!
//! Two severities. An *error* has no harmless use in a skill: files, processes, network, other people's bytes as code,
//! the interpreter's insides. A *warning* is often harmless and only worth knowing. What the reference system bans is an
//! error here unless its row says why not. `docs/POLICY.md` is generated from these rows.
//!
//! The kernel is the boundary; this is lint that catches mistakes and plain malice early, and says why.

use std::fmt::Write as _;
use std::sync::LazyLock;

use foldhash::{HashMap, HashMapExt};

use super::policy::Severity;

/// Counts the changes of this table. A verdict is only good for the rules it was made by.
pub const RULES_VERSION: u32 = 1;

/// What a finding's `rule` names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// Its stable id.
    pub id: &'static str,
    /// What it finds.
    pub about: &'static str,
    /// What would be right.
    pub advice: &'static str,
}

const fn rule(id: &'static str, about: &'static str, advice: &'static str) -> Rule {
    Rule { id, about, advice }
}

/// Every rule, by topic.
pub const RULES: &[Rule] = &[
    rule("syntax", "The source is not Python that the interpreter accepts.", "Correct the line shown."),
    rule(
        "input-shadowed",
        "A module-level assignment hides the data passed to the skill.",
        "Assign to another name, or make the first assignment a plain dict before any use: that is the slot.",
    ),
    rule(
        "import-forbidden",
        "Imports a module that has no harmless use in a skill.",
        "Pass what it needs as inputs; `policy.allow_imports` lets a host allow the module.",
    ),
    rule(
        "import-risky",
        "Imports a module that is often harmless, and sometimes a way out or a source of chance.",
        "Leave it out if a plainer module does.",
    ),
    rule(
        "import-denied",
        "Imports a module that `policy.deny_imports` names.",
        "Use another module, or ask the host to allow it.",
    ),
    rule("import-star", "Imports every name of a module, which hides what is used.", "Import the names that are used."),
    rule(
        "import-relative",
        "A relative import, which always fails: a skill belongs to no package.",
        "Import the module by its full name.",
    ),
    rule(
        "import-computed",
        "Imports by a computed name, which hides what is imported.",
        "Write a plain `import` at the top.",
    ),
    rule(
        "module-attribute",
        "Reaches a forbidden module through another module's attributes.",
        "Leave it out: it is not part of what that module offers.",
    ),
    rule(
        "dynamic-code",
        "Runs text as code.",
        "Write the code itself; for data use `json.loads` or `ast.literal_eval`.",
    ),
    rule("file-access", "Opens, changes or looks for files.", "Pass the data as inputs and return it as the result."),
    rule("process-access", "Starts a process or changes its own.", "Compute here; a skill cannot start programs."),
    rule("network-access", "Opens a connection.", "Fetch the data in the host and pass it as inputs."),
    rule("terminal-access", "Waits for a terminal that a skill does not have.", "Pass the data as inputs."),
    rule(
        "object-loading",
        "Loads objects from bytes, which can run whatever the bytes say.",
        "Pass plain JSON as inputs.",
    ),
    rule("builtins-access", "Reaches the table of built-in functions.", "Call the built-in function by its name."),
    rule(
        "interpreter-state",
        "Reaches or changes the interpreter's own state.",
        "Leave it out: the host sets the interpreter up.",
    ),
    rule(
        "dunder-attribute",
        "Walks from an object to the insides of classes, functions or modules.",
        "Use the object's own methods, `isinstance` or `type(x).__name__`.",
    ),
    rule(
        "dunder-text",
        "Names an inner attribute in text, the way to reach it without writing it.",
        "Use the object's own methods.",
    ),
    rule("frame-access", "Reaches stack frames, code objects or their variables.", "Pass values as arguments."),
    rule(
        "computed-attribute",
        "Looks an attribute up by a computed name.",
        "Use a dict of the functions that are meant.",
    ),
    rule("obfuscated-name", "Builds a name out of pieces so that it cannot be read.", "Write the name itself."),
    rule(
        "namespace-access",
        "Reaches all variables at once, as a dict.",
        "Keep what belongs together in a dict of your own.",
    ),
    rule(
        "format-traversal",
        "A format string that walks into an object's insides.",
        "Format the value itself: `f\"{value}\"`.",
    ),
    rule(
        "format-computed",
        "A format string that is not written here decides what is read.",
        "Use `string.Template`, or write the format string itself.",
    ),
];

/// What a row speaks of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    /// A module, and everything below it that has no row of its own.
    Module,
    /// Something in a module, by its full name.
    Member,
    /// A built-in name.
    Builtin,
    /// An attribute, whatever it belongs to.
    Attribute,
    /// An attribute of objects from modules that reach files.
    PathMethod,
}

/// One row: names and what is to be said of them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Row {
    pub kind: Kind,
    pub rule: &'static str,
    pub severity: Severity,
    /// Separated by white space.
    names: &'static str,
    /// Completes "`name` ...".
    pub reason: &'static str,
}

const fn row(kind: Kind, severity: Severity, rule: &'static str, names: &'static str, reason: &'static str) -> Row {
    Row { kind, rule, severity, names, reason }
}

const ERROR: Severity = Severity::Error;
const WARNING: Severity = Severity::Warning;

/// The rows. A name stands in one row of its kind.
#[rustfmt::skip]
const TABLE: &[Row] = &[
    row(Kind::Module, ERROR, "import-forbidden", "os nt posix",
        "reaches files, processes and the environment"),
    row(Kind::Module, WARNING, "import-risky", "os.path posixpath ntpath genericpath",
        "can ask whether files exist; everything else in it is harmless"),
    row(Kind::Module, ERROR, "import-forbidden", "shutil glob tempfile fileinput filecmp linecache dircache stat statvfs mmap
        zipfile tarfile dbm shelve sqlite3 pwd grp spwd netrc mailbox imghdr sndhdr",
        "reaches files"),
    row(Kind::Module, ERROR, "import-forbidden", "subprocess multiprocessing popen2 commands pexpect sh plumbum pty tty termios
        fcntl resource signal syslog msvcrt winreg posixsubprocess posixshmem winapi",
        "starts processes or changes this one"),
    row(Kind::Module, ERROR, "import-forbidden", "socket socketserver ssl select selectors ftplib smtplib smtpd poplib imaplib nntplib
        telnetlib xmlrpc wsgiref asyncore asynchat cgi cgitb webbrowser antigravity urllib urllib.request urllib.error
        urllib2 httplib http.client http.server http.cookiejar requests httpx aiohttp urllib3 paramiko websocket websockets",
        "reaches the network"),
    row(Kind::Module, WARNING, "import-risky", "urllib.parse http http.cookies",
        "only reads and writes text here, but its neighbours reach the network"),
    row(Kind::Module, ERROR, "import-forbidden", "pickle cPickle cloudpickle dill joblib marshal copyreg copy_reg pickletools jsonpickle",
        "loads objects from bytes, which can run whatever the bytes say"),
    row(Kind::Module, ERROR, "import-forbidden", "ctypes cffi testcapi testinternalcapi xxsubinterpreters interpreters",
        "reaches raw memory or other interpreters"),
    row(Kind::Module, ERROR, "import-forbidden", "builtins __builtin__ __main__ importlib imp zipimport pkgutil pkg_resources runpy site
        frozen_importlib frozen_importlib_external modulefinder ensurepip venv pip setuptools distutils",
        "imports by computed names or reaches every built-in function"),
    row(Kind::Module, ERROR, "import-forbidden", "code codeop pdb bdb cProfile profile trace doctest unittest pydoc lib2to3 idlelib
        py_compile compileall rlcompleter faulthandler curses readline getpass tkinter turtle",
        "runs text as code, changes the interpreter or waits for a terminal"),
    row(Kind::Module, WARNING, "import-risky", "sys", "shows and changes the interpreter's state; the parts that change it are errors"),
    row(Kind::Module, WARNING, "import-risky", "time sched timeit", "shows the clock, so that equal inputs give other answers"),
    row(Kind::Module, WARNING, "import-risky", "threading thread dummy_thread asyncio concurrent concurrent.futures",
        "runs things side by side, bounded by the limits of the run"),
    row(Kind::Module, WARNING, "import-risky", "inspect weakref gc traceback tracemalloc dis atexit warnings logging platform locale
        sysconfig", "shows the interpreter's insides; the parts that lead out are errors"),
    row(Kind::Module, WARNING, "import-risky", "io codecs tokenize gzip bz2 lzma wave pathlib", "works in memory, and can also open files, which is an error"),

    row(Kind::Member, ERROR, "file-access", "io.open io.open_code io.FileIO io.OpenWrapper codecs.open codecs.EncodedFile tokenize.open
        gzip.open gzip.GzipFile bz2.open bz2.BZ2File lzma.open lzma.LZMAFile wave.open logging.FileHandler logging.handlers
        logging.config numpy.memmap numpy.fromfile numpy.save numpy.savez numpy.savetxt numpy.loadtxt numpy.genfromtxt
        xml.etree.ElementTree.parse xml.etree.ElementTree.iterparse xml.dom.minidom.parse xml.sax.parse",
        "opens files"),
    row(Kind::Member, ERROR, "object-loading", "numpy.load pandas.read_pickle numpy.ctypeslib numpy.f2py numpy.distutils",
        "loads objects or machine code from bytes"),
    row(Kind::Member, ERROR, "process-access", "asyncio.create_subprocess_exec asyncio.create_subprocess_shell asyncio.subprocess
        asyncio.base_subprocess concurrent.futures.ProcessPoolExecutor concurrent.futures.process",
        "starts processes"),
    row(Kind::Member, ERROR, "network-access", "asyncio.open_connection asyncio.start_server asyncio.open_unix_connection
        asyncio.start_unix_server", "opens a connection"),
    row(Kind::Member, ERROR, "dynamic-code", "timeit.timeit timeit.repeat timeit.Timer timeit.main typing.get_type_hints
        typing.ForwardRef pandas.eval numexpr.evaluate inspect.get_annotations types.CodeType", "runs text or bytes as code"),
    row(Kind::Member, ERROR, "interpreter-state", "sys.modules sys.path sys.meta_path sys.path_hooks sys.path_importer_cache sys.settrace
        sys.setprofile sys.addaudithook sys._current_exceptions sys.breakpointhook sys.displayhook sys.excepthook sys.unraisablehook
        sys.set_asyncgen_hooks sys.set_coroutine_origin_tracking_depth sys.setdlopenflags sys.setswitchinterval sys.__loader__
        sys._debugmallocstats sys._clear_type_cache sys.monitoring sys.activate_stack_trampoline sys.remote_exec
        threading.settrace threading.setprofile gc.get_objects gc.get_referrers gc.get_referents gc.freeze",
        "reaches or changes the interpreter's own state"),
    row(Kind::Member, ERROR, "frame-access", "inspect.currentframe inspect.stack inspect.trace inspect.getframeinfo inspect.getouterframes
        inspect.getinnerframes inspect.getargvalues inspect.getsource inspect.getsourcefile inspect.getmodule traceback.walk_stack
        traceback.walk_tb traceback.extract_stack", "reaches stack frames or source files"),
    row(Kind::Member, WARNING, "format-computed", "string.Formatter", "formats by a text that may walk into objects"),

    row(Kind::Builtin, ERROR, "dynamic-code", "eval exec execfile compile", "runs text as code"),
    row(Kind::Builtin, ERROR, "file-access", "open file", "opens files"),
    row(Kind::Builtin, ERROR, "import-computed", "__import__ reload", "imports by a computed name"),
    row(Kind::Builtin, ERROR, "terminal-access", "input raw_input breakpoint help", "waits for a terminal"),
    row(Kind::Builtin, ERROR, "builtins-access", "__builtins__ __build_class__ __loader__ __spec__ __cached__ __file__ __path__",
        "reaches the interpreter's insides"),
    row(Kind::Builtin, WARNING, "namespace-access", "globals locals vars", "reaches all variables at once"),

    row(Kind::Attribute, ERROR, "dunder-attribute", "__subclasses__ __bases__ __base__ __mro__ mro __globals__ __closure__ __self__ __func__
        __getattribute__ __getattr__ __reduce__ __reduce_ex__ __setstate__ __getstate__ __loader__ __spec__ __file__ __cached__ __path__ __kwdefaults__
        __subclasshook__ __objclass__",
        "leads into the insides of classes, functions or modules"),
    row(Kind::Attribute, ERROR, "builtins-access", "__builtins__ __import__ __build_class__", "reaches every built-in function"),
    row(Kind::Attribute, ERROR, "frame-access", "__code__ __traceback__ tb_frame tb_next tb_lasti f_back f_globals f_locals f_builtins f_code
        f_trace f_generator gi_frame gi_code gi_yieldfrom cr_frame cr_code cr_origin ag_frame ag_code func_globals func_code co_code co_consts co_names
        _getframe _getframemodulename _current_frames", "reaches stack frames, code or their variables"),
    row(Kind::Attribute, WARNING, "namespace-access", "__dict__", "reaches all attributes at once"),
    row(Kind::Attribute, WARNING, "format-computed", "vformat get_field format_field", "formats by a text that may walk into objects"),

    row(Kind::PathMethod, ERROR, "file-access", "open read_text read_bytes write_text write_bytes unlink rmdir mkdir touch rename
        symlink_to hardlink_to link_to iterdir glob rglob chmod lchmod readlink",
        "reaches files"),
];

/// Modules that no module offers but some have imported for themselves: `statistics.random._os`, `os.path.os`. Only names that
/// mean nothing else as an attribute.
pub(super) const INNER_MODULES: &[&str] = &[
    "os",
    "posix",
    "nt",
    "sys",
    "subprocess",
    "builtins",
    "importlib",
    "ctypes",
    "socket",
    "pickle",
    "marshal",
    "shutil",
    "tempfile",
    "multiprocessing",
    "runpy",
    "pkgutil",
    "sqlite3",
    "imp",
    "fcntl",
    "mmap",
    "copyreg",
];

/// What decodes or assembles text: a name made by these is made not to be read.
pub(super) const DECODERS: &[&str] = &[
    "chr",
    "bytes",
    "bytearray",
    "map",
    "reversed",
    "join",
    "decode",
    "fromhex",
    "b64decode",
    "b32decode",
    "b16decode",
    "a85decode",
    "b85decode",
    "unhexlify",
    "translate",
    "maketrans",
    "decompress",
];

/// By kind and name.
static LOOKUP: LazyLock<[HashMap<&'static str, &'static Row>; Kind::PathMethod as usize + 1]> = LazyLock::new(|| {
    let mut lookup = std::array::from_fn(|_| HashMap::new());
    for row in TABLE {
        lookup[row.kind as usize].extend(row.names.split_whitespace().map(|name| (name, row)));
    }
    lookup
});

/// No name in the table has more parts.
pub(super) const LONGEST_NAME: usize = 4;

/// The row of a name.
pub(super) fn find(kind: Kind, name: &str) -> Option<&'static Row> {
    LOOKUP[kind as usize].get(name).copied()
}

/// The rule of that id.
pub(super) fn named(id: &str) -> &'static Rule {
    const PROOF: &str = "every id used is in the table: tests::every_row_names_a_rule, and the walk's own tests";
    RULES.iter().find(|rule| rule.id == id).expect(PROOF)
}

/// The text of `docs/POLICY.md`.
pub fn documentation() -> String {
    let mut page = format!(
        "# Policy\n\nGenerated from the table in `src/python/rules.rs` by `make header`; do not edit. Rules version {RULES_VERSION}.\n\n\
         A source is read once, and what it reaches is compared with these rows. An *error* refuses the skill \
         (`SKC_E_SECURITY`, `SecurityValidationError`; outcome `rejected` for a version stored before), a *warning* is only said. \
         `validate` lists every finding with rule, severity, line, column, message, advice and the text of the line.\n\n\
         `policy.mode = warn` refuses nothing, `off` does not look. `policy.allow_imports` and `policy.deny_imports` change what is \
         said of modules; the longer name decides, and at equal length the denial.\n\n\
         This is lint. It catches mistakes and plain malice early; it does not confine. Names a skill defines itself are no alarm.\n\n\
         ## Rules\n\n| rule | finds | instead |\n|---|---|---|\n"
    );
    for Rule { id, about, advice } in RULES {
        let _ = writeln!(page, "| `{id}` | {about} | {advice} |");
    }
    let sections = [
        (
            Kind::Module,
            "Modules",
            "A leading underscore changes nothing: `_io` is `io`. Modules without a row are not mentioned.",
        ),
        (
            Kind::Member,
            "Parts of modules",
            "However they are reached: dotted, aliased, imported by name, or by `getattr` with a text.",
        ),
        (Kind::Builtin, "Built-in names", "Called or not, unless the skill defines the name itself before."),
        (Kind::Attribute, "Attributes", "Of whatever object, also in `getattr`, `attrgetter` and class patterns."),
        (Kind::PathMethod, "Methods of paths", "In a skill that imports `pathlib`."),
    ];
    for (kind, title, note) in sections {
        let _ = write!(page, "\n## {title}\n\n{note}\n\n| names | severity | rule | because it |\n|---|---|---|---|\n");
        for row in TABLE.iter().filter(|row| row.kind == kind) {
            let names: Vec<String> = row.names.split_whitespace().map(|name| format!("`{name}`")).collect();
            let _ =
                writeln!(page, "| {} | {} | `{}` | {} |", names.join(", "), row.severity.name(), row.rule, row.reason);
        }
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_names_a_rule() {
        for row in TABLE {
            assert_eq!(named(row.rule).id, row.rule);
        }
        let parts = TABLE.iter().flat_map(|row| row.names.split_whitespace()).map(|name| name.split('.').count());
        assert!(parts.max() <= Some(LONGEST_NAME));
        let names: usize = TABLE.iter().map(|row| row.names.split_whitespace().count()).sum();
        assert_eq!(names, LOOKUP.iter().map(HashMap::len).sum::<usize>(), "a name stands twice");
    }

    #[test]
    fn a_change_of_the_table_changes_its_version() {
        // When this fails: raise RULES_VERSION, run `make header`, and write the new hash here.
        let hash = blake3::hash(format!("{TABLE:?}{INNER_MODULES:?}{DECODERS:?}").as_bytes()).to_hex();
        assert_eq!((RULES_VERSION, &hash[..16]), (1, "ee254dc6bd1a9d53"));
    }

    #[test]
    fn what_the_reference_bans_has_a_row() {
        let modules = "os subprocess sys shutil glob tempfile pickle marshal shelve dbm sqlite3 socket urllib http ftplib smtplib \
            zipfile tarfile ctypes multiprocessing threading asyncio concurrent importlib __builtin__ builtins code inspect runpy \
            pty fcntl termios tty signal resource gc weakref";
        for name in modules.split_whitespace() {
            assert!(find(Kind::Module, name).is_some(), "{name}");
        }
        for name in "eval exec compile __import__ open file input raw_input reload".split_whitespace() {
            assert_eq!(find(Kind::Builtin, name).map(|row| row.severity), Some(ERROR), "{name}");
        }
    }
}
