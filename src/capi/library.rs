//! The library object.

use std::ffi::{c_char, c_void};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use super::config::skc_config;
use super::error::{skc_error, skc_status};
use super::guard::{self, ForkMark};
use super::result::{skc_result, skc_results};
use super::skill::skc_skill;
use super::task::skc_task;
use super::text::{c_text, optional_text, skc_blob, text};
use crate::call::{Data, RunOptions, not_json};
use crate::config::Config;
use crate::error::{Code, Error, Result};
use crate::execution::Method;
use crate::json::Value;
use crate::library::{EventCallback, Library, parse_items};
use crate::store::Filter;

/// An open skill library. Any thread may use it at any time; close it once with skc_library_close. After fork() the
/// child gets SKC_E_FORKED from every call and never touches the parent's database.
pub struct skc_library {
    library: Library,
    mark: Arc<ForkMark>,
    /// Calls that hold this object; closing waits until it is alone.
    calls: Mutex<usize>,
    call_ended: Condvar,
}

/// Is told how many runs of skc_library_run_many are done; false cancels the rest. Called on the caller's thread.
pub type skc_progress_fn = Option<unsafe extern "C" fn(user_data: *mut c_void, done: u64, total: u64) -> bool>;

struct Call<'l>(&'l skc_library);

impl<'l> Call<'l> {
    fn count(library: &'l skc_library) -> Self {
        *library.calls.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        Call(library)
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        // Told under the lock: once it is free, skc_library_close may free the object.
        let mut calls = self.0.calls.lock().unwrap_or_else(PoisonError::into_inner);
        *calls -= 1;
        self.0.call_ended.notify_all();
    }
}

impl skc_library {
    /// Runs the body of a function of the library.
    ///
    /// # Safety
    ///
    /// The door's contract.
    pub(super) unsafe fn call(
        library: *mut skc_library,
        err: *mut *mut skc_error,
        body: impl FnOnce(&Library) -> Result<()>,
    ) -> skc_status {
        // SAFETY: the caller's promise.
        unsafe {
            guard::call(err, || {
                let handle = guard::borrow(library, "library")?;
                handle.mark.check()?;
                let _call = Call::count(handle);
                body(&handle.library)
            })
        }
    }

    /// [`call`](Self::call) for functions that give a text.
    ///
    /// # Safety
    ///
    /// The door's contract.
    unsafe fn text(
        library: *mut skc_library,
        out: *mut *mut skc_blob,
        out_name: &str,
        err: *mut *mut skc_error,
        body: impl FnOnce(&Library) -> Result<String>,
    ) -> skc_status {
        // SAFETY: the caller's promise.
        unsafe {
            guard::clear(out);
            skc_library::call(library, err, |library| {
                guard::check_out(out, out_name)?;
                skc_blob::hand_out(&body(library)?, out);
                Ok(())
            })
        }
    }
}

/// Opens a database file, or creates it; ":memory:" opens a private one in memory. `config` may be NULL for the defaults
/// and is copied. SKC_E_SANDBOX when the configured mode cannot be had (the error's `missing` names the guarantees);
/// SKC_E_DATABASE, SKC_E_CORRUPT or SKC_E_NEWER_DATABASE when the file cannot be used; it is not changed then.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn skc_library_open(
    path: *const c_char,
    config: *const skc_config,
    out: *mut *mut skc_library,
    err: *mut *mut skc_error,
) -> skc_status {
    // SAFETY: the door's contract.
    unsafe {
        guard::clear(out);
        guard::call(err, || {
            let path = c_text(path, "path")?;
            guard::check_out(out, "out")?;
            let given = config.as_ref();
            let hook = given.and_then(|config| config.on_event.clone());
            let callback = hook.map(|hook| -> EventCallback { Box::new(move |event| hook.deliver(event)) });
            let config = given.map_or_else(Config::default, |config| config.config.clone());
            let library = Library::open_with_events(path, &config, callback)?;
            let mark = Arc::new(ForkMark::new()?);
            let handle = skc_library { library, mark, calls: Mutex::new(0), call_ended: Condvar::new() };
            *out = Box::into_raw(Box::new(handle));
            Ok(())
        })
    }
}

/// Refuses new calls from now on (SKC_E_CLOSED), cancels runs and tasks and waits for them, as closing does, but frees
/// nothing: the handle stays valid until skc_library_close. For hosts whose threads may be on their way into a call:
/// shut down, wait until they are back, close. May be repeated.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn skc_library_shut_down(library: *mut skc_library) -> skc_status {
    // SAFETY: the door's contract.
    unsafe {
        guard::call(std::ptr::null_mut(), || {
            let handle = guard::borrow(library, "library")?;
            handle.mark.check()?;
            let _call = Call::count(handle);
            handle.library.close();
            Ok(())
        })
    }
}

/// Closes a library: refuses new calls (SKC_E_CLOSED), cancels runs and tasks, waits for calls in progress, writes the
/// counters, frees. No call may begin after this one. NULL is allowed. In a forked child it returns SKC_E_FORKED: the
/// handle is spent there too, and nothing of the parent's is touched.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn skc_library_close(library: *mut skc_library) -> skc_status {
    if library.is_null() {
        return super::error::SKC_OK;
    }
    // SAFETY: the door's contract: opened by this library, closed once.
    unsafe {
        guard::call(std::ptr::null_mut(), || {
            let handle = &*library;
            // In a child, its locks may be held by threads that are not there, and its connections are the parent's:
            // the memory is left alone on purpose.
            handle.mark.check()?;
            handle.library.close();
            let mut calls = handle.calls.lock().unwrap_or_else(PoisonError::into_inner);
            while *calls > 0 {
                calls = handle.call_ended.wait(calls).unwrap_or_else(PoisonError::into_inner);
            }
            drop(calls);
            drop(Box::from_raw(library));
            Ok(())
        })
    }
}

/// Stores a draft; it is on the disk when this returns. `out_version` may be NULL; it gets the version the content has:
/// the next one if the content is new, the newest if it is equal. SKC_E_SYNTAX with line and column; SKC_E_SECURITY with
/// line, column, rule and findings (what the policy refuses, see docs/POLICY.md); SKC_E_UNSUPPORTED for another
/// language; SKC_E_VALIDATION for a bad schema, a missing package or required skill; SKC_E_CONFLICT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn skc_library_put(
    library: *mut skc_library,
    skill: *const skc_skill,
    out_version: *mut u32,
    err: *mut *mut skc_error,
) -> skc_status {
    // SAFETY: the door's contract.
    unsafe {
        skc_library::call(library, err, |library| {
            let version = library.put(&guard::borrow(skill, "skill")?.skill)?;
            if !out_version.is_null() {
                *out_version = version;
            }
            Ok(())
        })
    }
}

/// A stored version with its whole record; version 0 is the newest. SKC_E_NOT_FOUND when it is not there.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn skc_library_get(
    library: *mut skc_library,
    id: *const c_char,
    version: u32,
    out: *mut *mut skc_skill,
    err: *mut *mut skc_error,
) -> skc_status {
    // SAFETY: the door's contract.
    unsafe {
        guard::clear(out);
        skc_library::call(library, err, |library| {
            let id = c_text(id, "id")?;
            guard::check_out(out, "out")?;
            *out = skc_skill::boxed(library.get(id, version)?);
            Ok(())
        })
    }
}

/// Hides a skill and all its versions. A later put goes on counting. SKC_E_NOT_FOUND when it is not there.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn skc_library_remove(
    library: *mut skc_library,
    id: *const c_char,
    err: *mut *mut skc_error,
) -> skc_status {
    // SAFETY: the door's contract.
    unsafe { skc_library::call(library, err, |library| library.remove(c_text(id, "id")?)) }
}

/// The newest versions that pass a filter, by id, as a JSON array of records without code. The filter is NULL or a JSON
/// object: category, complexity, tags (all of them), name (a part of name or id), active, limit, offset.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn skc_library_list(
    library: *mut skc_library,
    filter_json: *const c_char,
    out_json: *mut *mut skc_blob,
    err: *mut *mut skc_error,
) -> skc_status {
    // SAFETY: the door's contract.
    unsafe {
        skc_library::text(library, out_json, "out_json", err, |library| {
            let filter = Filter::read(&members(optional_text(filter_json, "filter_json")?, "the filter")?)?;
            let records = library.list(&filter)?.iter().map(|skill| skill.to_value(false)).collect();
            Ok(Value::Array(records).to_text())
        })
    }
}

/// Finds skills by words in id, name, description and tags, best first, as a JSON array of id, version, name,
/// description, tags and score (BM25; larger is better). The query is NULL or a JSON object: text, and the members of a
/// filter; limit is 5 unless given.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn skc_library_search(
    library: *mut skc_library,
    query_json: *const c_char,
    out_json: *mut *mut skc_blob,
    err: *mut *mut skc_error,
) -> skc_status {
    const USUAL_LIMIT: u32 = 5;
    // SAFETY: the door's contract.
    unsafe {
        skc_library::text(library, out_json, "out_json", err, |library| {
            let (words, rest): (Vec<_>, Vec<_>) = members(optional_text(query_json, "query_json")?, "the query")?
                .into_iter()
                .partition(|(name, _)| name == "text");
            let words = match words.first() {
                None | Some((_, Value::Null)) => "",
                Some((_, Value::String(words))) => words,
                Some((_, other)) => {
                    return Err(Error::invalid(format!("`text` takes text, not {}", other.kind())).path("text"));
                }
            };
            let mut filter = Filter::read(&rest)?;
            if !rest.iter().any(|(name, value)| name == "limit" && *value != Value::Null) {
                filter.limit = USUAL_LIMIT;
            }
            let found = library.search(words, &filter)?.into_iter().map(|(skill, score)| {
                let mut members = vec![("id", Value::from(skill.id())), ("version", Value::from(skill.version()))];
                members.extend(["name", "description", "tags"].map(|name| (name, skill.field(name))));
                members.push(("score", Value::from(score)));
                Value::object(members)
            });
            Ok(Value::Array(found.collect()).to_text())
        })
    }
}

fn members(text: &str, what: &str) -> Result<Vec<(String, Value)>> {
    if text.trim().is_empty() {
        return Ok(Vec::new());
    }
    match Value::parse(text).map_err(|error| not_json(what, error))? {
        Value::Object(members) => Ok(members),
        other => Err(Error::new(Code::Invalid, format!("{what} is a JSON object, not {}", other.kind()))),
    }
}

/// What is to be said about a source without storing it, as a JSON object: valid (whether a put would take it),
/// findings (array of rule, severity: error or warning, line, column, message, advice, text of the line), deterministic,
/// reasons (why not), slots (name to line), symbols (docstring, functions, classes, imports, reads), policy (the mode),
/// rules_version. docs/POLICY.md lists the rules.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn skc_library_validate(
    library: *mut skc_library,
    code: *const c_char,
    len: usize,
    out_json: *mut *mut skc_blob,
    err: *mut *mut skc_error,
) -> skc_status {
    // SAFETY: the door's contract.
    unsafe {
        skc_library::text(library, out_json, "out_json", err, |library| {
            Ok(library.validate(text(code, len, "code")?)?.to_text())
        })
    }
}

/// The source with the data written into its slots as Python literals: a script that stands alone. Line numbers stay,
/// except that one line is added where the source begins with a compound statement and a name has no slot. Data is a
/// JSON object: inputs, context, both optional objects; NULL with length 0 is none. skc_blob_method says how the slots were
/// found: by parsing (`ast`) or, with the option `inject.fallback = lexical` and a source that does not parse, by tokens.
/// SKC_E_SYNTAX with line and column. Nothing runs and no policy is asked: what is done with the script is the caller's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn skc_library_inject(
    library: *mut skc_library,
    code: *const c_char,
    code_len: usize,
    data: *const c_char,
    data_len: usize,
    out_code: *mut *mut skc_blob,
    err: *mut *mut skc_error,
) -> skc_status {
    // SAFETY: the door's contract.
    unsafe {
        guard::clear(out_code);
        skc_library::call(library, err, |library| {
            guard::check_out(out_code, "out_code")?;
            let data = Data::parse(text(data, data_len, "data")?)?;
            let script = library.inject(text(code, code_len, "code")?, &data)?;
            let method = match script.method {
                Method::Ast => c"ast",
                Method::Lexical => c"lexical",
            };
            skc_blob::hand_out_made_by(method, &script.code, out_code);
            Ok(())
        })
    }
}

/// Runs a skill and waits for its end, however it ends: SKC_OK with a result the caller owns. Data as for
/// skc_library_inject. Options are NULL or a JSON object: version, cache (auto, yes, no, refresh, required), ttl_s,
/// timeout_ms, max_memory_mb, trace.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn skc_library_run(
    library: *mut skc_library,
    id: *const c_char,
    data: *const c_char,
    data_len: usize,
    options_json: *const c_char,
    out: *mut *mut skc_result,
    err: *mut *mut skc_error,
) -> skc_status {
    // SAFETY: the door's contract.
    unsafe {
        guard::clear(out);
        skc_library::call(library, err, |library| {
            let id = c_text(id, "id")?;
            let data = Data::parse(text(data, data_len, "data")?)?;
            let options = RunOptions::parse(optional_text(options_json, "options_json")?)?;
            guard::check_out(out, "out")?;
            *out = Box::into_raw(Box::new(skc_result::new(library.run(id, data, &options)?)));
            Ok(())
        })
    }
}

/// Runs a skill on many data, several at a time (option concurrency; as many as there are processors unless given).
/// Items are a JSON array of data. `progress` may be NULL; it is called on this thread after each run, and false cancels
/// what runs and what waits. All items are checked before the first runs. The caller owns the results, which come in the
/// order of the items.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn skc_library_run_many(
    library: *mut skc_library,
    id: *const c_char,
    items_json: *const c_char,
    len: usize,
    options_json: *const c_char,
    progress: skc_progress_fn,
    user_data: *mut c_void,
    out: *mut *mut skc_results,
    err: *mut *mut skc_error,
) -> skc_status {
    // SAFETY: the door's contract; the host gave `progress` and `user_data` to be called on this thread.
    unsafe {
        guard::clear(out);
        skc_library::call(library, err, |library| {
            let id = c_text(id, "id")?;
            guard::check_out(items_json, "items_json")?;
            let items = parse_items(text(items_json, len, "items_json")?)?;
            let options = RunOptions::parse(optional_text(options_json, "options_json")?)?;
            guard::check_out(out, "out")?;
            let results = library.run_many(id, items, &options, |done, total| {
                progress.is_none_or(|progress| progress(user_data, done, total))
            })?;
            *out = skc_results::boxed(results);
            Ok(())
        })
    }
}

/// Queues a run and comes back at once with a task the caller owns. Everything is copied. SKC_E_BUSY when the queue is
/// full; otherwise as skc_library_run.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn skc_library_submit(
    library: *mut skc_library,
    id: *const c_char,
    data: *const c_char,
    data_len: usize,
    options_json: *const c_char,
    out: *mut *mut skc_task,
    err: *mut *mut skc_error,
) -> skc_status {
    // SAFETY: the door's contract.
    unsafe {
        guard::clear(out);
        skc_library::call(library, err, |opened| {
            let id = c_text(id, "id")?;
            let data = Data::parse(text(data, data_len, "data")?)?;
            let options = RunOptions::parse(optional_text(options_json, "options_json")?)?;
            guard::check_out(out, "out")?;
            let task = opened.submit(id, data, &options)?;
            *out = skc_task::boxed(task, guard::borrow(library, "library")?.mark.clone());
            Ok(())
        })
    }
}

/// Everything that was counted, as one JSON object; docs/STATISTICS.md describes it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn skc_library_stats(
    library: *mut skc_library,
    out_json: *mut *mut skc_blob,
    err: *mut *mut skc_error,
) -> skc_status {
    // SAFETY: the door's contract.
    unsafe { skc_library::text(library, out_json, "out_json", err, |library| Ok(library.stats()?.to_text())) }
}

/// The same numbers as OpenMetrics text.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn skc_library_metrics(
    library: *mut skc_library,
    out_openmetrics: *mut *mut skc_blob,
    err: *mut *mut skc_error,
) -> skc_status {
    // SAFETY: the door's contract.
    unsafe { skc_library::text(library, out_openmetrics, "out_openmetrics", err, Library::metrics) }
}

/// Whether each part works, really tried, as a JSON object: status (healthy, degraded, unhealthy) and components. Starts
/// one child; takes as long as a short run.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn skc_library_health(
    library: *mut skc_library,
    out_json: *mut *mut skc_blob,
    err: *mut *mut skc_error,
) -> skc_status {
    // SAFETY: the door's contract.
    unsafe { skc_library::text(library, out_json, "out_json", err, |library| Ok(library.health()?.to_text())) }
}

/// Empties a cache: "execution", "prepared", "metadata" or "all". Counters go on.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn skc_library_clear(
    library: *mut skc_library,
    which: *const c_char,
    err: *mut *mut skc_error,
) -> skc_status {
    // SAFETY: the door's contract.
    unsafe { skc_library::call(library, err, |library| library.clear(c_text(which, "which")?)) }
}

/// Drops what is expired in all caches. `out_count` may be NULL; it gets how many entries that were.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn skc_library_evict_expired(
    library: *mut skc_library,
    out_count: *mut u64,
    err: *mut *mut skc_error,
) -> skc_status {
    // SAFETY: the door's contract.
    unsafe {
        skc_library::call(library, err, |library| {
            let count = library.evict_expired()?;
            if !out_count.is_null() {
                *out_count = count;
            }
            Ok(())
        })
    }
}
