/*
 * skillcache: the skill library that agents embed.
 *
 * Generated from src/capi by `make header`; do not edit.
 *
 * A run that fails inside the skill is SKC_OK with an outcome; another status means that the call itself could not be
 * carried out. *out and *err are set to NULL on entry; scalar outputs are untouched on failure; err may be NULL. Any other
 * NULL, and text that is not UTF-8, is SKC_E_INVALID, unless a function says that it takes NULL. What a function named
 * *_new or an output pointer hands out is the caller's, to be freed once with the free function of its type; every other
 * pointer is a borrowed view, valid as long as the object it came from. Every *_free takes NULL. Getters given NULL return
 * an empty skc_str, 0, false, or outcome -1.
 *
 * Threads: library and task may be used from any thread at any time; a result is immutable and may be read from any; a
 * config, skill, error or blob has one owner at a time. Nothing here is thread-local. After fork() the child may free
 * its objects and gets SKC_E_FORKED from everything else.
 */

#ifndef SKILLCACHE_H
#define SKILLCACHE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/** For every length: "the text ends at its NUL". */
#define SKC_NTS ((size_t)-1)

/**
 * The version of the header as 0xMMmmpp00: 0x00010000 is 0.1.0.
 */
#define SKC_VERSION_NUMBER 65536

/**
 * The version of the binary interface: the major number of the soname. It changes only when a host compiled against an
 * older header would break.
 */
#define SKC_ABI 0

/**
 * The skill set `result` to a JSON value that obeys its output schema.
 */
#define SKC_OUTCOME_SUCCESS 0

/**
 * An exception was not caught.
 */
#define SKC_OUTCOME_ERROR 1

/**
 * The skill ended without setting `result`.
 */
#define SKC_OUTCOME_NO_RESULT 2

/**
 * The inputs break the input schema; nothing ran.
 */
#define SKC_OUTCOME_INVALID_INPUT 3

/**
 * `result` is not a JSON value, or breaks the output schema.
 */
#define SKC_OUTCOME_INVALID_OUTPUT 4

/**
 * The stored version is refused by today's rules; nothing ran.
 */
#define SKC_OUTCOME_REJECTED 5

/**
 * The operating system refused the skill something (EPERM, EACCES).
 */
#define SKC_OUTCOME_DENIED 6

/**
 * Wall-clock or processor time ran out.
 */
#define SKC_OUTCOME_TIMEOUT 7

/**
 * Memory ran out.
 */
#define SKC_OUTCOME_MEMORY_LIMIT 8

/**
 * The answer is larger than its bound.
 */
#define SKC_OUTCOME_OUTPUT_LIMIT 9

/**
 * A file or the private folder grew beyond its bound, or the disk is full.
 */
#define SKC_OUTCOME_DISK_LIMIT 10

/**
 * The process ended without an answer: a signal, an exit, a broken answer channel.
 */
#define SKC_OUTCOME_CRASHED 11

/**
 * The run was cancelled.
 */
#define SKC_OUTCOME_CANCELLED 12

/**
 * An owned text, made by this library. One owner at a time; free it once with skc_blob_free. It outlives the library
 * it came from.
 */
typedef struct skc_blob skc_blob;

/**
 * The options of a library before it is opened. Starts with the defaults. One owner at a time; opening copies it, so it
 * may be reused, changed and freed at any time; free it once with skc_config_free.
 */
typedef struct skc_config skc_config;

/**
 * Why a call failed. Owned by whoever gave the `err` pointer; one owner at a time; free it once with skc_error_free.
 */
typedef struct skc_error skc_error;

/**
 * An open skill library. Any thread may use it at any time; close it once with skc_library_close. After fork() the
 * child gets SKC_E_FORKED from every call and never touches the parent's database.
 */
typedef struct skc_library skc_library;

/**
 * How a run ended. Immutable: any thread may read it; free it once with skc_result_free. It outlives the library.
 */
typedef struct skc_result skc_result;

/**
 * The results of skc_library_run_many, in the order of its items. Immutable: any thread may read them; free them once
 * with skc_results_free.
 */
typedef struct skc_results skc_results;

/**
 * A skill: a draft to be put, or a stored version. One owner at a time; free it once with skc_skill_free. It outlives
 * the library it came from.
 */
typedef struct skc_skill skc_skill;

/**
 * A submitted run. Any thread may use it at any time; free it once with skc_task_free. It outlives the library; a task
 * that had not finished when the library was closed reports SKC_E_CANCELLED.
 */
typedef struct skc_task skc_task;

/**
 * What became of a call: SKC_OK, SKC_PENDING, or one of SKC_E_*. A run that fails inside the skill is SKC_OK with an
 * outcome; any other status means that the call itself could not be carried out. Numbers never change meaning.
 */
typedef int32_t skc_status;

/**
 * Gets one event, or one log line, as JSON text of `len` bytes (a NUL follows), valid during the call. Runs on a thread of the
 * library, one call at a time for each library; that of events and that of log lines may run at the same time. It may call anything but
 * skc_library_close of the library it came from.
 */
typedef void (*skc_event_fn)(void *user_data, const char *json, size_t len);

/**
 * Gets `user_data` once, when nothing will use it any more.
 */
typedef void (*skc_drop_fn)(void *user_data);

/**
 * Is told how many runs of skc_library_run_many are done; false cancels the rest. Called on the caller's thread.
 */
typedef bool (*skc_progress_fn)(void *user_data, uint64_t done, uint64_t total);

/**
 * A borrowed view. `ptr` is never NULL and `ptr[len]` is 0; the bytes are UTF-8, but for captured output, which is what
 * the skill wrote. Valid as long as the object it was asked of; never freed by the caller.
 */
typedef struct {
    /**
     * The first byte.
     */
    const char *ptr;
    /**
     * How many bytes, the final NUL not counted.
     */
    size_t len;
} skc_str;

/**
 * Everything of a result in one call, for bindings that pay for each. Fields are only ever added at the end; give
 * skc_result_view the size you know.
 */
typedef struct {
    /**
     * The answer as JSON; empty unless the outcome is success.
     */
    skc_str value;
    /**
     * What the skill printed, raw.
     */
    skc_str captured_stdout;
    /**
     * What it wrote to stderr, raw.
     */
    skc_str captured_stderr;
    /**
     * The traceback or the reason; empty on success.
     */
    skc_str error;
    /**
     * type, message, line ... as a JSON object; empty on success.
     */
    skc_str error_json;
    /**
     * What confined the run: "strict", "partial", "process-only"; "none" if nothing ran.
     */
    skc_str level;
    /**
     * What the call took, in microseconds.
     */
    uint64_t duration_us;
    /**
     * Processor time of the child in microseconds; 0 on a hit.
     */
    uint64_t cpu_us;
    /**
     * The child's largest resident size in bytes, of one that crashed the largest of some samples; 0 on a hit and where it
     * could not be read.
     */
    uint64_t peak_memory_bytes;
    /**
     * SKC_OUTCOME_*; -1 for no result.
     */
    int32_t outcome;
    /**
     * The version that ran.
     */
    uint32_t skill_version;
    /**
     * Whether memory answered.
     */
    bool cached;
    /**
     * Whether more was printed than is kept.
     */
    bool stdout_truncated;
    /**
     * Likewise for stderr.
     */
    bool stderr_truncated;
    /**
     * Bytes that it wrote to stdout, kept or not; 0 on a hit, as the next three.
     */
    uint64_t stdout_written_bytes;
    /**
     * Bytes that it wrote to stderr, kept or not.
     */
    uint64_t stderr_written_bytes;
    /**
     * Bytes of its answer as it was sent; 0 for one beyond its bound.
     */
    uint64_t answer_bytes;
    /**
     * Bytes that its private folder held at the end.
     */
    uint64_t folder_bytes;
    /**
     * What confined the run, on a hit when it ran: level, layers, guarantees, missing, threads as a JSON
     * object; empty if nothing ran.
     */
    skc_str sandbox_json;
    /**
     * The trace id by which events and log lines name the run, as skc_result_trace_id.
     */
    skc_str trace_id;
} skc_view;

/**
 * The call was carried out.
 */
#define SKC_OK 0

/**
 * The task has not finished.
 */
#define SKC_PENDING 1

/**
 * An argument is wrong: NULL, not UTF-8, not JSON, out of range, unknown.
 */
#define SKC_E_INVALID 10

/**
 * No skill of that id, or no such version of it.
 */
#define SKC_E_NOT_FOUND 11

/**
 * expected_version is not the newest version.
 */
#define SKC_E_CONFLICT 12

/**
 * The time given to the call ran out. It may be repeated.
 */
#define SKC_E_TIMEOUT 13

/**
 * The library was closed while the call waited.
 */
#define SKC_E_CANCELLED 14

/**
 * The confinement asked for cannot be had on this machine.
 */
#define SKC_E_SANDBOX 15

/**
 * The database could not be opened, read or written.
 */
#define SKC_E_DATABASE 16

/**
 * A queue is full or another process holds the write lock. The call may be repeated.
 */
#define SKC_E_BUSY 17

/**
 * The call was made in a child of fork(); only the process that opened the library may use it.
 */
#define SKC_E_FORKED 18

/**
 * A bug in this library: a panic was caught at the door.
 */
#define SKC_E_PANIC 19

/**
 * What was asked for is not supported: a language, an interpreter, a platform.
 */
#define SKC_E_UNSUPPORTED 20

/**
 * The code is not Python the interpreter accepts.
 */
#define SKC_E_SYNTAX 21

/**
 * The policy refuses the code.
 */
#define SKC_E_SECURITY 22

/**
 * A value that had to be cached (cache = required) does not fit or must not be cached.
 */
#define SKC_E_CACHE_OVERFLOW 23

/**
 * No database connection became free in time.
 */
#define SKC_E_POOL_EXHAUSTED 24

/**
 * The file is not a database, or a damaged one.
 */
#define SKC_E_CORRUPT 25

/**
 * The database was written by a newer version of this library.
 */
#define SKC_E_NEWER_DATABASE 26

/**
 * The skill record is refused: a bad schema, a missing package or required skill.
 */
#define SKC_E_VALIDATION 27

/**
 * The library is closed.
 */
#define SKC_E_CLOSED 28

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/**
 * The version of this library as 0xMMmmpp00: major, minor, patch. Compare it with the header's
 * SKC_VERSION_NUMBER at start-up.
 */
uint32_t skc_version_number(void);

/**
 * The version as text: "0.1.0". Static; never NULL.
 */
const char *skc_version_string(void);

/**
 * SKC_ABI of this library. Compare it with the header's at start-up.
 */
uint32_t skc_abi(void);

/**
 * A new configuration with the defaults. Never NULL.
 */
skc_config *skc_config_new(void);

/**
 * Frees a configuration. NULL is allowed.
 */
void skc_config_free(skc_config *config);

/**
 * Sets one option from text; docs/CONFIGURATION.md lists them. SKC_E_INVALID for an unknown option (the error's
 * `suggestion` is the nearest known one) and for a value out of range (the message states the range); nothing changes
 * then.
 */
skc_status skc_config_set(skc_config *config, const char *key, const char *value, skc_error **err);

/**
 * Has every event of the libraries opened with this configuration delivered to `callback`; skc_library_next_event is
 * refused then. `user_data` may be NULL. `drop` may be NULL; otherwise it gets `user_data` once, after the last library
 * and configuration that know it are gone. On failure `user_data` stays the caller's.
 */
skc_status skc_config_on_event(skc_config *config,
                               skc_event_fn callback,
                               void *user_data,
                               skc_drop_fn drop,
                               skc_error **err);

/**
 * Has what the libraries opened with this configuration say while they work delivered to `callback`, as far as the option
 * `monitor.log_level` says (info unless it is set): JSON objects with time, level, target, message, fields. docs/STATISTICS.md has
 * more of it. Nothing is ever printed, with or without a callback. The rest is as for skc_config_on_event; both may be set.
 */
skc_status skc_config_on_log(skc_config *config,
                             skc_event_fn callback,
                             void *user_data,
                             skc_drop_fn drop,
                             skc_error **err);

/**
 * Opens a database file, or creates it; ":memory:" opens a private one in memory. `config` may be NULL for the defaults
 * and is copied. What `sandbox.mode` asks for is found out by the first call that starts a child (put, run, submit's run,
 * validate, health), which fails with SKC_E_SANDBOX if it cannot be had (the error's `missing` names the guarantees).
 * SKC_E_DATABASE, SKC_E_CORRUPT or SKC_E_NEWER_DATABASE when the file cannot be used, SKC_E_UNSUPPORTED when it lies on a network
 * file system (option `store.network_files`); it is not changed then. With `store.access` = `read_only` nothing is ever changed, and a
 * damaged file is opened as far as it can be read. docs/STORE.md has the whole of it.
 */
skc_status skc_library_open(const char *path,
                            const skc_config *config,
                            skc_library **out,
                            skc_error **err);

/**
 * Refuses new calls from now on (SKC_E_CLOSED), cancels runs and tasks and waits for them, as closing does, but frees
 * nothing: the handle stays valid until skc_library_close. For hosts whose threads may be on their way into a call:
 * shut down, wait until they are back, close. May be repeated.
 */
skc_status skc_library_shut_down(skc_library *library);

/**
 * Closes a library: refuses new calls (SKC_E_CLOSED), cancels runs and tasks, waits for calls in progress, writes the
 * counters, frees. No call may begin after this one. NULL is allowed. In a forked child it returns SKC_E_FORKED: the
 * handle is spent there too, and nothing of the parent's is touched.
 */
skc_status skc_library_close(skc_library *library);

/**
 * Stores a draft; it is on the disk when this returns. `out_version` may be NULL; it gets the version the content has:
 * the next one if the content is new, the newest if it is equal. SKC_E_SYNTAX with line and column; SKC_E_SECURITY with
 * line, column, rule and findings (what the policy refuses, see docs/POLICY.md); SKC_E_UNSUPPORTED for another
 * language; SKC_E_VALIDATION for a bad schema, a missing package or required skill; SKC_E_CONFLICT.
 */
skc_status skc_library_put(skc_library *library, const skc_skill *skill, uint32_t *out_version, skc_error **err);

/**
 * A stored version with its whole record; version 0 is the newest. SKC_E_NOT_FOUND when it is not there.
 */
skc_status skc_library_get(skc_library *library, const char *id, uint32_t version, skc_skill **out, skc_error **err);

/**
 * Hides a skill and all its versions. A later put goes on counting. SKC_E_NOT_FOUND when it is not there.
 */
skc_status skc_library_remove(skc_library *library, const char *id, skc_error **err);

/**
 * The newest versions that pass a filter, by id, as a JSON array of records without code. The filter is NULL or a JSON
 * object: category, complexity, tags (all of them), name (a part of name or id), active, state, min_success_rate (0
 * to 1), min_usage_count, after (an id: only those after it, for the next page),
 * limit, offset.
 */
skc_status skc_library_list(skc_library *library, const char *filter_json, skc_blob **out_json, skc_error **err);

/**
 * Finds skills, best first, as a JSON array of id, version, name, description, tags, state, score, text_score and vector_score. The query
 * is NULL or a JSON object: text (words, or their beginnings, in id, name, description, tags and code), embedding (an array of
 * as many numbers as the stored ones have), min_score, vector_weight, and the members of a filter; limit is 5 unless given. What is not
 * active is found only if state or active asks for it.
 *
 * score is BM25 for text alone (larger is better), the cosine for an embedding alone (-1 to 1), and for both together, from
 * 0 to 1, vector_weight (0.5 unless given) of the cosine and the rest of BM25 divided by the best of this search. The parts are null where a
 * skill has none. Fails with SKC_E_INVALID for an embedding of another length.
 */
skc_status skc_library_search(skc_library *library,
                              const char *query_json,
                              skc_blob **out_json,
                              skc_error **err);

/**
 * Sets a skill's state: "active", "quarantined" (set aside) or "retired" (put away). What is not active is not run (its runs end as
 * SKC_OUTCOME_REJECTED) and not found unless asked for. Failures in a row are counted from the beginning.
 */
skc_status skc_library_set_state(skc_library *library,
                                 const char *id,
                                 const char *state,
                                 skc_error **err);

/**
 * Makes the index of words anew from the skills and says how many it has; out_count may be NULL. Every put changes the index with the
 * skill, so this is needed only if somebody else wrote into the file.
 */
skc_status skc_library_rebuild_index(skc_library *library,
                                     uint64_t *out_count,
                                     skc_error **err);

/**
 * What is to be said about a source without storing it, as a JSON object: valid (whether a put would take it),
 * findings (array of rule, severity: error or warning, line, column, message, advice, text of the line), deterministic,
 * reasons (why not), slots (name to line), symbols (docstring, functions, classes, imports, reads), policy (the mode),
 * rules_version. docs/POLICY.md lists the rules.
 */
skc_status skc_library_validate(skc_library *library,
                                const char *code,
                                size_t len,
                                skc_blob **out_json,
                                skc_error **err);

/**
 * The source with the data written into its slots as Python literals: a script that stands alone. Line numbers stay,
 * except that one line is added where the source begins with a compound statement and a name has no slot. Data is a
 * JSON object: inputs, context, both optional objects; NULL with length 0 is none. skc_blob_method says how the slots were
 * found: by parsing (`ast`) or, with the option `inject.fallback = lexical` and a source that does not parse, by tokens.
 * SKC_E_SYNTAX with line and column. Nothing runs and no policy is asked: what is done with the script is the caller's.
 */
skc_status skc_library_inject(skc_library *library,
                              const char *code,
                              size_t code_len,
                              const char *data,
                              size_t data_len,
                              skc_blob **out_code,
                              skc_error **err);

/**
 * Runs a skill and waits for its end, however it ends: SKC_OK with a result the caller owns. Data as for
 * skc_library_inject. Options are NULL or a JSON object: version, cache (auto, yes, no, refresh, required), ttl_s, trace,
 * and limits, which count before the skill's and the library's own and may be larger: timeout_ms, max_cpu_s,
 * max_memory_mb, max_file_mb, max_open_files, max_threads, max_output_kb, max_answer_kb. They are the options of the same
 * names in docs/CONFIGURATION.md (room sandbox), which has units, ranges and defaults.
 */
skc_status skc_library_run(skc_library *library,
                           const char *id,
                           const char *data,
                           size_t data_len,
                           const char *options_json,
                           skc_result **out,
                           skc_error **err);

/**
 * Runs a skill on many data, several at a time (option concurrency; as many as there are processors unless given). The
 * other options are those of skc_library_run and hold for each run.
 * Items are a JSON array of data. `progress` may be NULL; it is called on this thread after each run, and false cancels
 * what runs and what waits. All items are checked before the first runs. The caller owns the results, which come in the
 * order of the items.
 */
skc_status skc_library_run_many(skc_library *library,
                                const char *id,
                                const char *items_json,
                                size_t len,
                                const char *options_json,
                                skc_progress_fn progress,
                                void *user_data,
                                skc_results **out,
                                skc_error **err);

/**
 * Queues a run and comes back at once with a task the caller owns. Everything is copied. The skills that wait take turns:
 * of one with many tasks, at most one more begins before another skill's single task. SKC_E_BUSY when the queue is full
 * (option task.queue, all skills together); otherwise as skc_library_run.
 */
skc_status skc_library_submit(skc_library *library,
                              const char *id,
                              const char *data,
                              size_t data_len,
                              const char *options_json,
                              skc_task **out,
                              skc_error **err);

/**
 * Everything that was counted, as one JSON object; docs/STATISTICS.md describes it.
 */
skc_status skc_library_stats(skc_library *library, skc_blob **out_json, skc_error **err);

/**
 * What somebody could change, judged by the statistics alone, as a JSON array of objects: rule, severity (info, warning), message, remedy,
 * evidence (the numbers behind it), sample. Empty while all is well, or too little has happened to say. docs/STATISTICS.md has the rules.
 */
skc_status skc_library_recommendations(skc_library *library,
                                       skc_blob **out_json,
                                       skc_error **err);

/**
 * How some of the numbers went, as a JSON object: interval_s, and samples, the newest last; docs/STATISTICS.md describes them. The newest
 * 360 are kept (option `monitor.history_interval_s`).
 */
skc_status skc_library_history(skc_library *library,
                               skc_blob **out_json,
                               skc_error **err);

/**
 * How the calls of a skill, or of all skills that are there (`id` NULL), ended, as far as the database knows, so that of earlier
 * processes too: a JSON array of objects, day (UTC, "2026-01-31"), skill, version, outcome, count, the oldest day first. SKC_E_NOT_FOUND for a
 * skill that is not there.
 */
skc_status skc_library_outcomes(skc_library *library,
                                const char *id,
                                skc_blob **out_json,
                                skc_error **err);

/**
 * Reads this process's memory figures now, records them as the event `memory_report` (and `memory_high`, if they have just reached the
 * threshold), and gives them as a JSON object: the section `memory` of the statistics. Its status is "off" with `memory.enabled` = false,
 * and "unavailable" where the figures cannot be read; both are SKC_OK. `out_json` may be NULL.
 */
skc_status skc_library_report_memory(skc_library *library,
                                     skc_blob **out_json,
                                     skc_error **err);

/**
 * The same numbers as OpenMetrics text.
 */
skc_status skc_library_metrics(skc_library *library, skc_blob **out_openmetrics, skc_error **err);

/**
 * Whether each part works, really tried, as a JSON object: status (healthy, degraded, unhealthy) and components, each with
 * status, message, remedy (null if it is healthy) and more; docs/STATISTICS.md describes it. Starts one child; takes as long as a
 * short run, and about monitor.health_timeout_ms at most, whatever hangs.
 */
skc_status skc_library_health(skc_library *library,
                              skc_blob **out_json,
                              skc_error **err);

/**
 * Every bound (entries, bytes) of every cache of which at least `threshold` is used now, as a JSON array of objects: cache,
 * bound, size, max_size, threshold, message. The threshold is a share: 0.85 is 85 %. Asking raises no event and changes no
 * counter. SKC_E_INVALID with the path `threshold` when it is not from 0 to 1, or not a number.
 */
skc_status skc_library_check_caches(skc_library *library,
                                    double threshold,
                                    skc_blob **out_json,
                                    skc_error **err);

/**
 * Checks the database file now. "quick" reads every page; "full" also holds every index against its table, and every version of every
 * skill against the hash of its contents. Gives a JSON object: ok (true if nothing was found), findings (an array of kind, where,
 * message), took_ms. Damage is not an error: it is SKC_OK with findings, which skc_library_health shows from then on, and the
 * event `store_damaged`; docs/STORE.md says what to do. Takes as long as reading the file; others may read and write meanwhile.
 * SKC_E_INVALID for another word; SKC_E_BUSY or SKC_E_DATABASE if the check could not be made.
 */
skc_status skc_library_check(skc_library *library,
                             const char *which,
                             skc_blob **out_json,
                             skc_error **err);

/**
 * Writes a copy of the database to `path` (UTF-8), where nothing may be yet, while others read and write: everything as it was at one
 * moment. The copy is checked and on the disk before it has its name; until then there is a file beside it whose name begins with a
 * dot. It is a library like any other, with the permissions of the file; one of ":memory:" can be read by its owner alone. Takes about as
 * long as writing the file. SKC_E_INVALID if there is something at the path, SKC_E_DATABASE if nothing can be written there, SKC_E_CORRUPT
 * if the database is too damaged to be copied; nothing is left at the path then.
 */
skc_status skc_library_backup(skc_library *library,
                              const char *path,
                              skc_error **err);

/**
 * Empties a cache: "execution" (with the results that are kept in the database), "prepared", "metadata" or "all". Counters go on.
 */
skc_status skc_library_clear(skc_library *library,
                             const char *which,
                             skc_error **err);

/**
 * Drops what is expired in all caches, and of the results in the database. `out_count` may be NULL; it gets how many entries that were.
 */
skc_status skc_library_evict_expired(skc_library *library,
                                     uint64_t *out_count,
                                     skc_error **err);

/**
 * Stores the skills of a bundle file, a folder of SKILL.md folders or a folder of the reference system's JSON files;
 * docs/EXCHANGE.md describes them. Each skill goes the way of skc_library_put. What cannot be read or is refused is listed with
 * the reason and the rest is imported: SKC_OK says that everything was looked at, not that everything was taken. The path is
 * NUL-terminated UTF-8; symbolic links below it are not followed. Options are NULL or a JSON object: format (auto, the default,
 * bundle, markdown, reference), on_conflict (for ids that are there with other content: new_version, the default, skip, or
 * fail, which lists them as rejected), dry_run (true: check everything, store nothing).
 * `out_json` gets a JSON object the caller owns: format; imported (array of id, version, source; version is null in a dry run);
 * unchanged (how many were there already); skipped (how many on_conflict left alone); rejected (array of source, id, reason;
 * id may be null); notes (array of source, note). An import is not one transaction: what was imported stays when a later
 * skill stops it, and it may be repeated. SKC_E_INVALID when nothing can be read at the path; SKC_E_UNSUPPORTED for a bundle of
 * a later format; what stops everything (SKC_E_DATABASE, SKC_E_BUSY, SKC_E_SANDBOX, SKC_E_CLOSED ...) with what was done so far
 * as `report` in the error's JSON. Takes about as long as putting each skill; other threads may use the library meanwhile.
 */
skc_status skc_library_import(skc_library *library,
                              const char *path,
                              const char *options_json,
                              skc_blob **out_json,
                              skc_error **err);

/**
 * Writes skills to a bundle file or to a folder; docs/EXCHANGE.md describes the formats and what each keeps. The target appears
 * when everything is written and on the disk; if anything fails before that, what was there is there still. The path is
 * NUL-terminated UTF-8; its parent folder must be there. Options are NULL or a JSON object: format (bundle, the default,
 * markdown, reference), ids (array of skill ids) or filter (as skc_library_list takes it; all skills unless given), versions
 * (newest, the default, or all, for bundles), overwrite (true: replace the file, or the files of the same names in the folder;
 * otherwise a target that is there is SKC_E_INVALID, except an empty folder).
 * `out_json` gets a JSON object the caller owns: format; exported (how many skills); versions (how many versions of them);
 * rejected (array of source, id, reason: what could not be read or does not fit); notes (array of source, note: what the format
 * could not keep). Skills put or removed meanwhile may be in it or not. SKC_E_INVALID for a bad option or target;
 * SKC_E_DATABASE when the library cannot be read or the target cannot be written to.
 */
skc_status skc_library_export(skc_library *library,
                              const char *path,
                              const char *options_json,
                              skc_blob **out_json,
                              skc_error **err);

/**
 * A draft. Nothing is checked before it is put, except that id and code are text: NULL if either is NULL (a NULL code
 * of length 0 is empty) or not UTF-8.
 */
skc_skill *skc_skill_new(const char *id, const char *code, size_t code_len);

/**
 * Sets a field of a draft: plain text for texts and choices, JSON text for lists, schemas, parameters, numbers and
 * true/false. The fields are those of skc_skill_json, and expected_version: the put fails with SKC_E_CONFLICT unless
 * that is the newest version (0: not there yet). The limits of skc_library_run are fields too; each sets one member of
 * `limits`, and a limit counts before the library's own. SKC_E_INVALID for an unknown field or a value it does not take. Views
 * of this skill's JSON end here.
 */
skc_status skc_skill_set(skc_skill *skill,
                         const char *field,
                         const char *value,
                         skc_error **err);

/**
 * Its id. Empty for NULL.
 */
skc_str skc_skill_id(const skc_skill *skill);

/**
 * Its source, exactly as it was put. Empty for NULL.
 */
skc_str skc_skill_code(const skc_skill *skill);

/**
 * Its version, from 1; 0 for a draft and for NULL.
 */
uint32_t skc_skill_version(const skc_skill *skill);

/**
 * The whole record as a JSON object. Empty for NULL.
 */
skc_str skc_skill_json(const skc_skill *skill);

/**
 * Frees a skill. NULL is allowed.
 */
void skc_skill_free(skc_skill *skill);

/**
 * SKC_OUTCOME_*; -1 for NULL.
 */
int32_t skc_result_outcome(const skc_result *result);

/**
 * The answer as JSON text; empty unless the outcome is success.
 */
skc_str skc_result_value(const skc_result *result);

/**
 * What the skill printed: raw bytes, cut at its bound. On a hit, what it printed when it ran.
 */
skc_str skc_result_stdout(const skc_result *result);

/**
 * What the skill wrote to stderr, likewise.
 */
skc_str skc_result_stderr(const skc_result *result);

/**
 * The traceback, with the skill's own lines, or the reason; empty on success.
 */
skc_str skc_result_error(const skc_result *result);

/**
 * What confined the run: "strict" (every guarantee of docs/SECURITY.md), "partial" (some; skc_result_json says which),
 * "process-only" (limits, a clean environment and a clean end; no kernel sandbox), "none" (nothing ran).
 */
skc_str skc_result_level(const skc_result *result);

/**
 * The trace id by which events and log lines name the run: 32 hexadecimal digits, those of the call's `trace` if that is a W3C
 * traceparent, or else the run's own.
 */
skc_str skc_result_trace_id(const skc_result *result);

/**
 * Whether memory answered. False for NULL.
 */
bool skc_result_is_cached(const skc_result *result);

/**
 * What the call took, in microseconds. 0 for NULL.
 */
uint64_t skc_result_duration_us(const skc_result *result);

/**
 * Fills a view with everything, in one call. `sizeof_view` is sizeof(skc_view) as the caller knows it: an older, smaller
 * view gets its own fields only, and what a newer one has beyond ours is zeroed. A NULL result gives empty texts and the
 * outcome -1; a NULL `out` nothing.
 */
void skc_result_view(const skc_result *result,
                     skc_view *out,
                     size_t sizeof_view);

/**
 * Everything as one JSON object: outcome, skill, cached, value, stdout, stderr, stdout_truncated, stderr_truncated,
 * duration_us, usage (cpu_us, peak_memory_bytes, stdout_bytes, stderr_bytes, answer_bytes, folder_bytes), level, sandbox,
 * trace, trace_id, error. Empty for NULL.
 */
skc_str skc_result_json(const skc_result *result);

/**
 * Frees a result. NULL is allowed. Not for results borrowed from skc_results.
 */
void skc_result_free(skc_result *result);

/**
 * How many results there are. 0 for NULL.
 */
size_t skc_results_len(const skc_results *results);

/**
 * A borrowed result, valid as long as the results; NULL for NULL and beyond the end. Do not free it.
 */
const skc_result *skc_results_at(const skc_results *results, size_t index);

/**
 * Frees all the results. NULL is allowed.
 */
void skc_results_free(skc_results *results);

/**
 * SKC_OK once the task has finished, SKC_PENDING before. Costs two loads and no lock: call it in every frame.
 */
skc_status skc_task_poll(const skc_task *task);

/**
 * A descriptor that is readable once the task has finished; made by the first of these calls. The task owns it: poll it, do
 * not read or close it. -1 when the process is out of descriptors, for
 * NULL and in a forked child.
 */
int skc_task_fd(skc_task *task);

/**
 * Waits for the result: `timeout_ms` milliseconds, 0 only looks, negative waits for ever. Each SKC_OK gives a new result
 * that the caller owns. SKC_E_TIMEOUT when it did not finish in time, SKC_E_CANCELLED when the library was closed first,
 * and whatever skc_library_run would have returned.
 */
skc_status skc_task_wait(skc_task *task,
                         int64_t timeout_ms,
                         skc_result **out,
                         skc_error **err);

/**
 * Ends the run: its result has the outcome cancelled. One that waits has it when this returns, and its place in the queue
 * is free; one that is running has it as soon as its child is gone. A finished task keeps its result.
 */
skc_status skc_task_cancel(skc_task *task);

/**
 * Frees a task. A running one goes on unobserved. NULL is allowed.
 */
void skc_task_free(skc_task *task);

/**
 * The oldest event that was not read, as a JSON object: seq, kind, severity, time, message, fields. Waits `timeout_ms`
 * milliseconds for one, 0 only looks, negative waits for ever. SKC_E_TIMEOUT when none came; SKC_E_CLOSED when the
 * library is closed meanwhile. Each event goes to one caller.
 */
skc_status skc_library_next_event(skc_library *library, int64_t timeout_ms, skc_blob **out_json, skc_error **err);

/**
 * A descriptor that is readable while events wait, and once the library is shut down. The library owns it: poll it, do not read or close it. -1 for NULL,
 * in a forked child, and for a library whose events go to a callback.
 */
int skc_library_event_fd(skc_library *library);

/**
 * The status the call returned. SKC_OK for NULL.
 */
skc_status skc_error_code(const skc_error *error);

/**
 * One sentence: what was wrong, where, and what would be right. Empty for NULL.
 */
skc_str skc_error_message(const skc_error *error);

/**
 * The whole error as a JSON object: code, name, message, retriable, and what applies of line, column (from 1), path,
 * rule, missing (array of names), suggestion, findings (as skc_library_validate lists them), report (what
 * skc_library_import had done before it stopped). Empty for NULL.
 */
skc_str skc_error_json(const skc_error *error);

/**
 * Frees an error. NULL is allowed.
 */
void skc_error_free(skc_error *error);

/**
 * The name of a status without its prefix: "OK", "PENDING", "E_INVALID" ... "E_UNKNOWN" for a number that is none.
 * Static; never NULL.
 */
const char *skc_status_name(skc_status status);

/**
 * The name of an outcome: "success", "error" ... "unknown" for a number that is none. Static; never NULL.
 */
const char *skc_outcome_name(int32_t outcome);

/**
 * The text of a blob. Empty for NULL.
 */
skc_str skc_blob_str(const skc_blob *blob);

/**
 * How the code of skc_library_inject was made: `ast` (the source was parsed) or `lexical` (it does not parse, and
 * `inject.fallback` is `lexical`). Empty for any other blob and for NULL. Static: valid for ever.
 */
skc_str skc_blob_method(const skc_blob *blob);

/**
 * Frees a blob. NULL is allowed.
 */
void skc_blob_free(skc_blob *blob);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* SKILLCACHE_H */
