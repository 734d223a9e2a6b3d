//! The library object.

use std::ffi::{c_char, c_void};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::config::{Hook, skc_config};
use super::error::{skc_error, skc_status};
use super::guard::{self, ForkMark};
use super::result::{skc_result, skc_results};
use super::skill::skc_skill;
use super::task::skc_task;
use super::text::{c_text, optional_text, skc_blob, text};
use crate::call::{Data, RunOptions, members};
use crate::config::Config;
use crate::error::Result;
use crate::execution::Method;
use crate::json::Value;
use crate::library::{EventCallback, ExportOptions, ImportOptions, Library, parse_items};
use crate::store::{Filter, Query};

/// An open skill library. Any thread may use it at any time; close it once with skc_library_close. After fork() the
/// child gets SKC_E_FORKED from every call and never touches the parent's database.
pub struct skc_library {
    library: Library,
    mark: Arc<ForkMark>,
    /// Calls that hold this object; closing waits until it is alone.
    calls: AtomicUsize,
}

/// Is told how many runs of skc_library_run_many are done; false cancels the rest. Called on the caller's thread.
pub type skc_progress_fn = Option<unsafe extern "C" fn(user_data: *mut c_void, done: u64, total: u64) -> bool>;

struct Call<'l>(&'l skc_library);

impl<'l> Call<'l> {
    fn count(library: &'l skc_library) -> Self {
        // In one order with the flag that says "closed": either closing sees this call, or this call sees that it is closed.
        library.calls.fetch_add(1, Ordering::SeqCst);
        Call(library)
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        // The last touch: from here on skc_library_close may free the object. A condition variable would be touched after that, so
        // closing waits by looking.
        self.0.calls.fetch_sub(1, Ordering::Release);
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
/// and is copied. What `sandbox.mode` asks for is found out by the first call that starts a child (put, run, submit's run,
/// validate, health), which fails with SKC_E_SANDBOX if it cannot be had (the error's `missing` names the guarantees).
/// SKC_E_DATABASE, SKC_E_CORRUPT or SKC_E_NEWER_DATABASE when the file cannot be used, SKC_E_UNSUPPORTED when it lies on a network
/// file system (option `store.network_files`); it is not changed then. With `store.access` = `read_only` nothing is ever changed, and a
/// damaged file is opened as far as it can be read. docs/STORE.md has the whole of it.
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
            let callback = |hook: Option<&Arc<Hook>>| {
                let hook = hook?.clone();
                Some(Box::new(move |line: &str| hook.deliver(line)) as EventCallback)
            };
            let on_event = callback(given.and_then(|config| config.on_event.as_ref()));
            let on_log = callback(given.and_then(|config| config.on_log.as_ref()));
            let config = given.map_or_else(Config::default, |config| config.config.clone());
            let library = Library::open_with(path, &config, on_event, on_log)?;
            let mark = Arc::new(ForkMark::new()?);
            let handle = skc_library { library, mark, calls: AtomicUsize::new(0) };
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
            // Closed, so calls end in no time.
            while handle.calls.load(Ordering::SeqCst) > 0 {
                std::thread::sleep(Duration::from_micros(100));
            }
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
/// object: category, complexity, tags (all of them), name (a part of name or id), active, state, min_success_rate (0
/// to 1), min_usage_count, after (an id: only those after it, for the next page),
/// limit, offset.
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

/// Finds skills, best first, as a JSON array of id, version, name, description, tags, state, score, text_score and vector_score. The query
/// is NULL or a JSON object: text (words, or their beginnings, in id, name, description, tags and code), embedding (an array of
/// as many numbers as the stored ones have), min_score, vector_weight, and the members of a filter; limit is 5 unless given. What is not
/// active is found only if state or active asks for it.
///
/// score is BM25 for text alone (larger is better), the cosine for an embedding alone (-1 to 1), and for both together, from
/// 0 to 1, vector_weight (0.5 unless given) of the cosine and the rest of BM25 divided by the best of this search. The parts are null where a
/// skill has none. Fails with SKC_E_INVALID for an embedding of another length.
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
            let members = members(optional_text(query_json, "query_json")?, "the query")?;
            let mut query = Query::read(&members)?;
            if !members.iter().any(|(name, value)| name == "limit" && *value != Value::Null) {
                query.filter.limit = USUAL_LIMIT;
            }
            let found = library.search(&query)?.into_iter().map(|found| {
                let skill = &found.skill;
                let mut members = vec![("id", Value::from(skill.id())), ("version", Value::from(skill.version()))];
                members.extend(["name", "description", "tags", "state"].map(|name| (name, skill.field(name))));
                members.push(("score", Value::from(found.score)));
                members.push(("text_score", found.text.map_or(Value::Null, Value::from)));
                members.push(("vector_score", found.vector.map_or(Value::Null, Value::from)));
                Value::object(members)
            });
            Ok(Value::Array(found.collect()).to_text())
        })
    }
}

/// Sets a skill's state: "active", "quarantined" (set aside) or "retired" (put away). What is not active is not run (its runs end as
/// SKC_OUTCOME_REJECTED) and not found unless asked for. Failures in a row are counted from the beginning.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn skc_library_set_state(
    library: *mut skc_library,
    id: *const c_char,
    state: *const c_char,
    err: *mut *mut skc_error,
) -> skc_status {
    // SAFETY: the door's contract.
    unsafe { skc_library::call(library, err, |library| library.set_state(c_text(id, "id")?, c_text(state, "state")?)) }
}

/// Makes the index of words anew from the skills and says how many it has; out_count may be NULL. Every put changes the index with the
/// skill, so this is needed only if somebody else wrote into the file.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn skc_library_rebuild_index(
    library: *mut skc_library,
    out_count: *mut u64,
    err: *mut *mut skc_error,
) -> skc_status {
    // SAFETY: the door's contract.
    unsafe {
        skc_library::call(library, err, |library| {
            let count = library.rebuild_index()?;
            if let Some(out) = out_count.as_mut() {
                *out = count;
            }
            Ok(())
        })
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
/// skc_library_inject. Options are NULL or a JSON object: version, cache (auto, yes, no, refresh, required), ttl_s, trace,
/// and limits, which count before the skill's and the library's own and may be larger: timeout_ms, max_cpu_s,
/// max_memory_mb, max_file_mb, max_open_files, max_threads, max_output_kb, max_answer_kb. They are the options of the same
/// names in docs/CONFIGURATION.md (room sandbox), which has units, ranges and defaults.
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
            let data = text(data, data_len, "data")?;
            let options = RunOptions::parse(optional_text(options_json, "options_json")?)?;
            guard::check_out(out, "out")?;
            *out = Box::into_raw(Box::new(skc_result::new(library.run_text(id, data, &options)?)));
            Ok(())
        })
    }
}

/// Runs a skill on many data, several at a time (option concurrency; as many as there are processors unless given). The
/// other options are those of skc_library_run and hold for each run.
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

/// Queues a run and comes back at once with a task the caller owns. Everything is copied. The skills that wait take turns:
/// of one with many tasks, at most one more begins before another skill's single task. SKC_E_BUSY when the queue is full
/// (option task.queue, all skills together); otherwise as skc_library_run.
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

/// What somebody could change, judged by the statistics alone, as a JSON array of objects: rule, severity (info, warning), message, remedy,
/// evidence (the numbers behind it), sample. Empty while all is well, or too little has happened to say. docs/STATISTICS.md has the rules.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn skc_library_recommendations(
    library: *mut skc_library,
    out_json: *mut *mut skc_blob,
    err: *mut *mut skc_error,
) -> skc_status {
    // SAFETY: the door's contract.
    unsafe { skc_library::text(library, out_json, "out_json", err, |library| Ok(library.recommendations()?.to_text())) }
}

/// How some of the numbers went, as a JSON object: interval_s, and samples, the newest last; docs/STATISTICS.md describes them. The newest
/// 360 are kept (option `monitor.history_interval_s`).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn skc_library_history(
    library: *mut skc_library,
    out_json: *mut *mut skc_blob,
    err: *mut *mut skc_error,
) -> skc_status {
    // SAFETY: the door's contract.
    unsafe { skc_library::text(library, out_json, "out_json", err, |library| Ok(library.history()?.to_text())) }
}

/// How the calls of a skill, or of all skills that are there (`id` NULL), ended, as far as the database knows, so that of earlier
/// processes too: a JSON array of objects, day (UTC, "2026-01-31"), skill, version, outcome, count, the oldest day first. SKC_E_NOT_FOUND for a
/// skill that is not there.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn skc_library_outcomes(
    library: *mut skc_library,
    id: *const c_char,
    out_json: *mut *mut skc_blob,
    err: *mut *mut skc_error,
) -> skc_status {
    // SAFETY: the door's contract.
    unsafe {
        skc_library::text(library, out_json, "out_json", err, |library| {
            let id = if id.is_null() { None } else { Some(c_text(id, "id")?) };
            Ok(library.outcomes(id)?.to_text())
        })
    }
}

/// Reads this process's memory figures now, records them as the event `memory_report` (and `memory_high`, if they have just reached the
/// threshold), and gives them as a JSON object: the section `memory` of the statistics. Its status is "off" with `memory.enabled` = false,
/// and "unavailable" where the figures cannot be read; both are SKC_OK. `out_json` may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn skc_library_report_memory(
    library: *mut skc_library,
    out_json: *mut *mut skc_blob,
    err: *mut *mut skc_error,
) -> skc_status {
    // SAFETY: the door's contract.
    unsafe {
        guard::clear(out_json);
        skc_library::call(library, err, |library| {
            let report = library.report_memory()?;
            if !out_json.is_null() {
                skc_blob::hand_out(&report.to_text(), out_json);
            }
            Ok(())
        })
    }
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

/// Whether each part works, really tried, as a JSON object: status (healthy, degraded, unhealthy) and components, each with
/// status, message, remedy (null if it is healthy) and more; docs/STATISTICS.md describes it. Starts one child; takes as long as a
/// short run, and about monitor.health_timeout_ms at most, whatever hangs.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn skc_library_health(
    library: *mut skc_library,
    out_json: *mut *mut skc_blob,
    err: *mut *mut skc_error,
) -> skc_status {
    // SAFETY: the door's contract.
    unsafe { skc_library::text(library, out_json, "out_json", err, |library| Ok(library.health()?.to_text())) }
}

/// Every bound (entries, bytes) of every cache of which at least `threshold` is used now, as a JSON array of objects: cache,
/// bound, size, max_size, threshold, message. The threshold is a share: 0.85 is 85 %. Asking raises no event and changes no
/// counter. SKC_E_INVALID with the path `threshold` when it is not from 0 to 1, or not a number.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn skc_library_check_caches(
    library: *mut skc_library,
    threshold: f64,
    out_json: *mut *mut skc_blob,
    err: *mut *mut skc_error,
) -> skc_status {
    // SAFETY: the door's contract.
    unsafe {
        skc_library::text(library, out_json, "out_json", err, |library| Ok(library.check_caches(threshold)?.to_text()))
    }
}

/// Checks the database file now. "quick" reads every page; "full" also holds every index against its table, and every version of every
/// skill against the hash of its contents. Gives a JSON object: ok (true if nothing was found), findings (an array of kind, where,
/// message), took_ms. Damage is not an error: it is SKC_OK with findings, which skc_library_health shows from then on, and the
/// event `store_damaged`; docs/STORE.md says what to do. Takes as long as reading the file; others may read and write meanwhile.
/// SKC_E_INVALID for another word; SKC_E_BUSY or SKC_E_DATABASE if the check could not be made.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn skc_library_check(
    library: *mut skc_library,
    which: *const c_char,
    out_json: *mut *mut skc_blob,
    err: *mut *mut skc_error,
) -> skc_status {
    // SAFETY: the door's contract.
    unsafe {
        skc_library::text(library, out_json, "out_json", err, |library| {
            Ok(library.check(c_text(which, "which")?)?.to_text())
        })
    }
}

/// Writes a copy of the database to `path` (UTF-8), where nothing may be yet, while others read and write: everything as it was at one
/// moment. The copy is checked and on the disk before it has its name; until then there is a file beside it whose name begins with a
/// dot. It is a library like any other, with the permissions of the file; one of ":memory:" can be read by its owner alone. Takes about as
/// long as writing the file. SKC_E_INVALID if there is something at the path, SKC_E_DATABASE if nothing can be written there, SKC_E_CORRUPT
/// if the database is too damaged to be copied; nothing is left at the path then.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn skc_library_backup(
    library: *mut skc_library,
    path: *const c_char,
    err: *mut *mut skc_error,
) -> skc_status {
    // SAFETY: the door's contract.
    unsafe { skc_library::call(library, err, |library| library.backup(c_text(path, "path")?)) }
}

/// Empties a cache: "execution" (with the results that are kept in the database), "prepared", "metadata" or "all". Counters go on.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn skc_library_clear(
    library: *mut skc_library,
    which: *const c_char,
    err: *mut *mut skc_error,
) -> skc_status {
    // SAFETY: the door's contract.
    unsafe { skc_library::call(library, err, |library| library.clear(c_text(which, "which")?)) }
}

/// Drops what is expired in all caches, and of the results in the database. `out_count` may be NULL; it gets how many entries that were.
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

/// Stores the skills of a bundle file, a folder of SKILL.md folders or a folder of the reference system's JSON files;
/// docs/EXCHANGE.md describes them. Each skill goes the way of skc_library_put. What cannot be read or is refused is listed with
/// the reason and the rest is imported: SKC_OK says that everything was looked at, not that everything was taken. The path is
/// NUL-terminated UTF-8; symbolic links below it are not followed. Options are NULL or a JSON object: format (auto, the default,
/// bundle, markdown, reference), on_conflict (for ids that are there with other content: new_version, the default, skip, or
/// fail, which lists them as rejected), dry_run (true: check everything, store nothing).
/// `out_json` gets a JSON object the caller owns: format; imported (array of id, version, source; version is null in a dry run);
/// unchanged (how many were there already); skipped (how many on_conflict left alone); rejected (array of source, id, reason;
/// id may be null); notes (array of source, note). An import is not one transaction: what was imported stays when a later
/// skill stops it, and it may be repeated. SKC_E_INVALID when nothing can be read at the path; SKC_E_UNSUPPORTED for a bundle of
/// a later format; what stops everything (SKC_E_DATABASE, SKC_E_BUSY, SKC_E_SANDBOX, SKC_E_CLOSED ...) with what was done so far
/// as `report` in the error's JSON. Takes about as long as putting each skill; other threads may use the library meanwhile.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn skc_library_import(
    library: *mut skc_library,
    path: *const c_char,
    options_json: *const c_char,
    out_json: *mut *mut skc_blob,
    err: *mut *mut skc_error,
) -> skc_status {
    // SAFETY: the door's contract.
    unsafe {
        skc_library::text(library, out_json, "out_json", err, |library| {
            let path = c_text(path, "path")?;
            let options = ImportOptions::parse(optional_text(options_json, "options_json")?)?;
            Ok(library.import(path, &options)?.to_text())
        })
    }
}

/// Writes skills to a bundle file or to a folder; docs/EXCHANGE.md describes the formats and what each keeps. The target appears
/// when everything is written and on the disk; if anything fails before that, what was there is there still. The path is
/// NUL-terminated UTF-8; its parent folder must be there. Options are NULL or a JSON object: format (bundle, the default,
/// markdown, reference), ids (array of skill ids) or filter (as skc_library_list takes it; all skills unless given), versions
/// (newest, the default, or all, for bundles), overwrite (true: replace the file, or the files of the same names in the folder;
/// otherwise a target that is there is SKC_E_INVALID, except an empty folder).
/// `out_json` gets a JSON object the caller owns: format; exported (how many skills); versions (how many versions of them);
/// rejected (array of source, id, reason: what could not be read or does not fit); notes (array of source, note: what the format
/// could not keep). Skills put or removed meanwhile may be in it or not. SKC_E_INVALID for a bad option or target;
/// SKC_E_DATABASE when the library cannot be read or the target cannot be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn skc_library_export(
    library: *mut skc_library,
    path: *const c_char,
    options_json: *const c_char,
    out_json: *mut *mut skc_blob,
    err: *mut *mut skc_error,
) -> skc_status {
    // SAFETY: the door's contract.
    unsafe {
        skc_library::text(library, out_json, "out_json", err, |library| {
            let path = c_text(path, "path")?;
            let options = ExportOptions::parse(optional_text(options_json, "options_json")?)?;
            Ok(library.export(path, &options)?.to_text())
        })
    }
}
