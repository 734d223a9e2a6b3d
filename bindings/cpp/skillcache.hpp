/// skillcache for C++17: thin, movable, closable wrappers around skillcache.h.
///
/// Every class owns one C object and frees it; none can be copied. A call that could not be carried out throws Error; a
/// run that fails inside the skill is a Result with an outcome. Texts given out are views into their object: they end
/// with it. Values and documents are JSON text, for whichever JSON library the host has.
///
/// Threads: Library and Task may be used from any thread at any time, Result may be read from any; the others have one
/// owner at a time. After fork() the child's calls throw Error with SKC_E_FORKED; destructors work.

#ifndef SKILLCACHE_HPP
#define SKILLCACHE_HPP

#include <skillcache.h>

#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace skillcache {

inline std::string_view view(skc_str text) noexcept { return {text.ptr, text.len}; }

/// Why a call could not be carried out.
class Error : public std::runtime_error {
  public:
    Error(skc_status code, std::string_view message, std::string_view json = {})
        : std::runtime_error(std::string(message)), code_(code), json_(json) {}

    /// SKC_E_...
    skc_status code() const noexcept { return code_; }
    /// "E_NOT_FOUND", ...
    const char *name() const noexcept { return skc_status_name(code_); }
    /// The whole error as JSON: line, column, path, rule, missing, suggestion, retriable.
    const std::string &json() const noexcept { return json_; }

  private:
    skc_status code_;
    std::string json_;
};

namespace detail {

template <auto Free> struct Deleter {
    template <typename T> void operator()(T *object) const noexcept { Free(object); }
};

template <typename T, auto Free> using Handle = std::unique_ptr<T, Deleter<Free>>;

using ErrorHandle = Handle<skc_error, skc_error_free>;
using Blob = Handle<skc_blob, skc_blob_free>;

/// Throws what a call left in its `err`.
inline void check(skc_status status, skc_error *error) {
    ErrorHandle owned(error);
    if (status == SKC_OK) return;
    if (!owned) throw Error(status, skc_status_name(status));
    throw Error(status, view(skc_error_message(error)), view(skc_error_json(error)));
}

/// Calls a function that ends in `T **out, skc_error **err`, and hands out what it made.
template <typename T, typename Function, typename... Arguments> T *make(Function function, Arguments... arguments) {
    T *out = nullptr;
    skc_error *error = nullptr;
    skc_status status = function(arguments..., &out, &error);
    check(status, error);
    return out;
}

/// Calls a function that ends in `skc_error **err`.
template <typename Function, typename... Arguments> void call(Function function, Arguments... arguments) {
    skc_error *error = nullptr;
    skc_status status = function(arguments..., &error);
    check(status, error);
}

/// NULL for nothing, which the library takes as its default.
inline const char *optional(const std::string &text) noexcept { return text.empty() ? nullptr : text.c_str(); }

} // namespace detail

/// Limits of a run, as JSON for a call's options or a skill's field `limits`. The call's count before the skill's and
/// those before the library's, whether smaller or larger. Ranges are those of the options of the same names (room
/// sandbox).
struct Limits {
    /// Wall-clock time.
    std::optional<std::uint64_t> timeout_ms;
    /// Processor time.
    std::optional<std::uint64_t> max_cpu_s;
    /// Address space, in MiB.
    std::optional<std::uint64_t> max_memory_mb;
    /// The private folder, in MiB.
    std::optional<std::uint64_t> max_file_mb;
    /// Descriptors.
    std::optional<std::uint64_t> max_open_files;
    /// Threads, where they can be counted.
    std::optional<std::uint64_t> max_threads;
    /// What is kept of stdout, and of stderr, in KiB.
    std::optional<std::uint64_t> max_output_kb;
    /// The answer, in KiB of JSON text.
    std::optional<std::uint64_t> max_answer_kb;

    std::string json() const {
        std::string members;
        const auto add = [&members](const char *name, const std::optional<std::uint64_t> &limit) {
            if (!limit) return;
            members += (members.empty() ? "\"" : ",\"") + std::string(name) + "\":" + std::to_string(*limit);
        };
        add("timeout_ms", timeout_ms);
        add("max_cpu_s", max_cpu_s);
        add("max_memory_mb", max_memory_mb);
        add("max_file_mb", max_file_mb);
        add("max_open_files", max_open_files);
        add("max_threads", max_threads);
        add("max_output_kb", max_output_kb);
        add("max_answer_kb", max_answer_kb);
        return "{" + members + "}";
    }
};

/// How a run ended. A copy of nothing: views live as long as this object.
class Result {
  public:
    explicit Result(skc_result *result) noexcept : result_(result) {}

    /// SKC_OUTCOME_...
    std::int32_t outcome() const noexcept { return skc_result_outcome(result_.get()); }
    /// "success", "error", ...
    const char *outcome_name() const noexcept { return skc_outcome_name(outcome()); }
    bool ok() const noexcept { return outcome() == SKC_OUTCOME_SUCCESS; }
    /// The answer as JSON; empty unless ok().
    std::string_view value() const noexcept { return view(skc_result_value(result_.get())); }
    /// What the skill printed, raw.
    std::string_view captured_stdout() const noexcept { return view(skc_result_stdout(result_.get())); }
    std::string_view captured_stderr() const noexcept { return view(skc_result_stderr(result_.get())); }
    /// The traceback or the reason; empty on success.
    std::string_view error() const noexcept { return view(skc_result_error(result_.get())); }
    std::string_view level() const noexcept { return view(skc_result_level(result_.get())); }
    /// How events and log lines name the run: 32 hexadecimal digits.
    std::string_view trace_id() const noexcept { return view(skc_result_trace_id(result_.get())); }
    bool cached() const noexcept { return skc_result_is_cached(result_.get()); }
    std::uint64_t duration_us() const noexcept { return skc_result_duration_us(result_.get()); }
    /// Everything as JSON.
    std::string_view json() const noexcept { return view(skc_result_json(result_.get())); }
    /// Everything in one call, with what has no getter here: usage, version, truncation.
    skc_view all() const noexcept {
        skc_view all;
        skc_result_view(result_.get(), &all, sizeof all);
        return all;
    }

  private:
    detail::Handle<skc_result, skc_result_free> result_;
};

/// A skill: a draft to be put, or a stored version.
class Skill {
  public:
    explicit Skill(skc_skill *skill) noexcept : skill_(skill) {}
    /// A draft; what is wrong with it is said when it is put.
    Skill(const std::string &id, std::string_view code) : skill_(skc_skill_new(id.c_str(), code.data(), code.size())) {
        if (!skill_) throw Error(SKC_E_INVALID, "the id and the code of a skill must be UTF-8");
    }

    /// Sets a field of the record; lists, schemas and parameters as JSON text.
    Skill &set(const std::string &field, const std::string &value) {
        detail::call(skc_skill_set, skill_.get(), field.c_str(), value.c_str());
        return *this;
    }

    std::string_view id() const noexcept { return view(skc_skill_id(skill_.get())); }
    std::string_view code() const noexcept { return view(skc_skill_code(skill_.get())); }
    /// From 1; 0 for a draft.
    std::uint32_t version() const noexcept { return skc_skill_version(skill_.get()); }
    std::string_view json() const noexcept { return view(skc_skill_json(skill_.get())); }

    const skc_skill *get() const noexcept { return skill_.get(); }

  private:
    detail::Handle<skc_skill, skc_skill_free> skill_;
};

/// A run in the background. Destroying it lets the run go on unobserved.
class Task {
  public:
    explicit Task(skc_task *task) noexcept : task_(task) {}

    /// Whether it has finished.
    bool poll() const {
        skc_status status = skc_task_poll(task_.get());
        if (status != SKC_OK && status != SKC_PENDING) detail::check(status, nullptr);
        return status == SKC_OK;
    }
    /// A new result each time. Throws SKC_E_TIMEOUT when `timeout_ms` ran out; negative waits for ever.
    Result wait(std::int64_t timeout_ms = -1) const {
        return Result(detail::make<skc_result>(skc_task_wait, task_.get(), timeout_ms));
    }
    /// Ends the run, a waiting one at once.
    void cancel() { detail::check(skc_task_cancel(task_.get()), nullptr); }
    /// Readable once the task has finished; owned by the task.
    int fd() const noexcept { return skc_task_fd(task_.get()); }

  private:
    detail::Handle<skc_task, skc_task_free> task_;
};

/// The options of a library; a temporary is enough, opening copies it.
class Config {
  public:
    Config() : config_(skc_config_new()) {}

    /// docs/CONFIGURATION.md lists the options.
    Config &set(const std::string &key, const std::string &value) {
        detail::call(skc_config_set, config_.get(), key.c_str(), value.c_str());
        return *this;
    }
    /// Every event as JSON, one call at a time, on a thread of the library. It must not throw (that ends the program)
    /// and must not close the library it came from.
    Config &on_event(std::function<void(std::string_view)> callback) {
        return listen(skc_config_on_event, std::move(callback));
    }
    /// What the library says while it works, as JSON, as far as the option monitor.log_level says. Otherwise as
    /// on_event.
    Config &on_log(std::function<void(std::string_view)> callback) {
        return listen(skc_config_on_log, std::move(callback));
    }

    const skc_config *get() const noexcept { return config_.get(); }

  private:
    Config &listen(decltype(&skc_config_on_event) listen_to, std::function<void(std::string_view)> callback) {
        using Callback = std::function<void(std::string_view)>;
        if (!callback) throw Error(SKC_E_INVALID, "the callback is empty");
        auto owned = std::make_unique<Callback>(std::move(callback));
        auto deliver = [](void *user_data, const char *json, std::size_t length) noexcept {
            (*static_cast<Callback *>(user_data))({json, length});
        };
        auto drop = [](void *user_data) noexcept { delete static_cast<Callback *>(user_data); };
        detail::call(listen_to, config_.get(), +deliver, static_cast<void *>(owned.get()), +drop);
        owned.release();
        return *this;
    }

    detail::Handle<skc_config, skc_config_free> config_;
};

/// A source with data written into it, and how the places for it were found: "ast" or "lexical".
struct Script {
    std::string code;
    std::string method;
};

/// An open library. Data are JSON: {"inputs": {...}, "context": {...}}; options are JSON too, and may be empty.
class Library {
  public:
    explicit Library(const std::string &path, const Config &config = Config()) {
        if (skc_abi() != SKC_ABI) throw Error(SKC_E_UNSUPPORTED, "libskillcache has another ABI than skillcache.h");
        library_.reset(detail::make<skc_library>(skc_library_open, path.c_str(), config.get()));
    }

    /// Cancels what runs, waits for calls in progress, and closes. May be repeated; no other call may begin after it.
    void close() {
        if (library_) detail::check(skc_library_close(library_.release()), nullptr);
    }

    std::uint32_t put(const Skill &skill) {
        std::uint32_t version = 0;
        detail::call(skc_library_put, library_.get(), skill.get(), &version);
        return version;
    }
    std::uint32_t put(const std::string &id, std::string_view code) { return put(Skill(id, code)); }
    /// Version 0 is the newest.
    Skill get(const std::string &id, std::uint32_t version = 0) const {
        return Skill(detail::make<skc_skill>(skc_library_get, library_.get(), id.c_str(), version));
    }
    void remove(const std::string &id) { detail::call(skc_library_remove, library_.get(), id.c_str()); }
    std::string list(const std::string &filter = {}) const { return text(skc_library_list, detail::optional(filter)); }
    std::string search(const std::string &query) const { return text(skc_library_search, detail::optional(query)); }
    std::string validate(std::string_view code) const { return text(skc_library_validate, code.data(), code.size()); }
    /// Stores the skills of a bundle file or a folder. The report is JSON: format, imported, unchanged, skipped,
    /// rejected (source, id, reason), notes; what is refused is listed there and the rest is imported.
    std::string import_skills(const std::string &path, const std::string &options = {}) {
        return text(skc_library_import, path.c_str(), detail::optional(options));
    }
    /// Writes skills to a bundle file or a folder. The report is JSON: format, exported, versions, rejected, notes.
    std::string export_skills(const std::string &path, const std::string &options = {}) const {
        return text(skc_library_export, path.c_str(), detail::optional(options));
    }
    /// The code with the data written into it: a script that stands alone.
    Script inject(std::string_view code, std::string_view data) const {
        detail::Blob blob(detail::make<skc_blob>(skc_library_inject, library_.get(), code.data(), code.size(),
                                                 data.data(), data.size()));
        return {std::string(view(skc_blob_str(blob.get()))), std::string(view(skc_blob_method(blob.get())))};
    }

    Result run(const std::string &id, std::string_view data = {}, const std::string &options = {}) {
        return Result(detail::make<skc_result>(skc_library_run, library_.get(), id.c_str(), data.data(), data.size(),
                                               detail::optional(options)));
    }
    /// Runs a skill on each item of a JSON array of data. `progress` gets how many are done, of how many; false cancels
    /// the rest, and what it throws is thrown from here.
    std::vector<std::string> run_many(const std::string &id, std::string_view items, const std::string &options = {},
                                      const std::function<bool(std::uint64_t, std::uint64_t)> &progress = {}) {
        Progress state{progress, nullptr};
        detail::Handle<skc_results, skc_results_free> results(detail::make<skc_results>(
            skc_library_run_many, library_.get(), id.c_str(), items.data(), items.size(), detail::optional(options),
            progress ? &Progress::report : nullptr, static_cast<void *>(&state)));
        if (state.thrown) std::rethrow_exception(state.thrown);
        std::vector<std::string> documents;
        for (std::size_t i = 0; i < skc_results_len(results.get()); i++)
            documents.emplace_back(view(skc_result_json(skc_results_at(results.get(), i))));
        return documents;
    }
    Task submit(const std::string &id, std::string_view data = {}, const std::string &options = {}) {
        return Task(detail::make<skc_task>(skc_library_submit, library_.get(), id.c_str(), data.data(), data.size(),
                                           detail::optional(options)));
    }

    std::string stats() const { return text(skc_library_stats); }
    std::string metrics() const { return text(skc_library_metrics); }
    /// What somebody could change, judged by the statistics alone: rule, severity, message, remedy, evidence, sample.
    std::string recommendations() const { return text(skc_library_recommendations); }
    /// How some of the numbers went: interval_s, and samples, the newest last.
    std::string history() const { return text(skc_library_history); }
    /// How the calls of a skill, or of all for an empty id, ended, by day: day, skill, version, outcome, count.
    std::string outcomes(const std::string &id = {}) const { return text(skc_library_outcomes, detail::optional(id)); }
    /// Reads this process's memory figures now and records them as an event: the section memory of the statistics.
    std::string report_memory() { return text(skc_library_report_memory); }
    std::string health() const { return text(skc_library_health); }
    /// The oldest unread event as JSON; nothing when none came within `timeout_ms` (negative: for ever).
    std::optional<std::string> next_event(std::int64_t timeout_ms = 0) {
        try {
            return text(skc_library_next_event, timeout_ms);
        } catch (const Error &error) {
            if (error.code() == SKC_E_TIMEOUT) return std::nullopt;
            throw;
        }
    }
    /// Readable while events wait; owned by the library.
    int event_fd() const noexcept { return skc_library_event_fd(library_.get()); }
    /// "active", "quarantined" or "retired".
    void set_state(const std::string &id, const std::string &state) {
        detail::call(skc_library_set_state, library_.get(), id.c_str(), state.c_str());
    }
    /// Makes the index of words anew and says how many skills it has.
    std::uint64_t rebuild_index() {
        std::uint64_t count = 0;
        detail::call(skc_library_rebuild_index, library_.get(), &count);
        return count;
    }
    /// The bounds of the caches of which at least `threshold` (0 to 1) is used now, as a JSON array: cache, bound,
    /// size, max_size, threshold, message.
    std::string check_caches(double threshold) const { return text(skc_library_check_caches, threshold); }
    /// Checks the database file now, "quick" or "full". JSON: ok, findings (kind, where, message), took_ms.
    std::string check(const std::string &which = "quick") const { return text(skc_library_check, which.c_str()); }
    /// Writes a copy of the database as of now to a path where nothing is yet.
    void backup(const std::string &path) const { detail::call(skc_library_backup, library_.get(), path.c_str()); }
    /// "execution", "prepared", "metadata" or "all".
    void clear(const std::string &which = "all") { detail::call(skc_library_clear, library_.get(), which.c_str()); }
    std::uint64_t evict_expired() {
        std::uint64_t count = 0;
        detail::call(skc_library_evict_expired, library_.get(), &count);
        return count;
    }

  private:
    struct Progress {
        const std::function<bool(std::uint64_t, std::uint64_t)> &callback;
        std::exception_ptr thrown;

        static bool report(void *user_data, std::uint64_t done, std::uint64_t total) noexcept {
            auto *state = static_cast<Progress *>(user_data);
            try {
                return !state->thrown && state->callback(done, total);
            } catch (...) {
                state->thrown = std::current_exception();
                return false;
            }
        }
    };

    template <typename Function, typename... Arguments>
    std::string text(Function function, Arguments... arguments) const {
        detail::Blob blob(detail::make<skc_blob>(function, library_.get(), arguments...));
        return std::string(view(skc_blob_str(blob.get())));
    }

    detail::Handle<skc_library, skc_library_close> library_;
};

} // namespace skillcache

#endif
