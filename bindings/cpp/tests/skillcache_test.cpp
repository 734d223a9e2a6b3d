// The C++ binding: the story, errors, ownership, threads.

#include <skillcache.hpp>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <thread>
#include <type_traits>
#include <vector>

using skillcache::Config;
using skillcache::Error;
using skillcache::Library;
using skillcache::Result;
using skillcache::Skill;
using skillcache::Task;

#define CHECK(condition)                                                                                               \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            std::fprintf(stderr, "%s:%d: FAILED: %s\n", __FILE__, __LINE__, #condition);                               \
            std::exit(1);                                                                                              \
        }                                                                                                              \
    } while (0)

static bool has(std::string_view text, std::string_view part) { return text.find(part) != text.npos; }

template <typename Call> static Error refused(skc_status code, Call call) {
    try {
        call();
    } catch (const Error &error) {
        CHECK(error.code() == code);
        CHECK(has(error.json(), error.name()) && !std::string_view(error.what()).empty());
        return error;
    }
    CHECK(!"refused");
    std::abort();
}

static void the_story() {
    Library library(":memory:", Config().set("sandbox.timeout_ms", "60000"));
    CHECK(library.put(Skill("mean", "result = sum(inputs['x']) / len(inputs['x'])").set("tags", "[\"math\"]")) == 1);
    CHECK(library.put("mean", "print('hi')\nresult = sum(inputs['x']) / len(inputs['x'])") == 2);
    Result first = library.run("mean", R"({"inputs": {"x": [1, 2, 6]}})");
    CHECK(first.ok() && first.value() == "3.0" && !first.cached() && first.captured_stdout() == "hi\n");
    CHECK(first.level() == "strict" && first.all().skill_version == 2 && first.all().peak_memory_bytes > 0);
    Result second = library.run("mean", R"({"inputs": {"x": [1, 2, 6]}})");
    CHECK(second.cached() && second.value() == first.value() && has(second.json(), "\"cached\":true"));
    CHECK(!library.run("mean", R"({"inputs": {"x": [1]}})", R"({"version": 1})").cached());
    CHECK(library.get("mean").version() == 2 &&
          library.get("mean", 1).code() == "result = sum(inputs['x']) / len(inputs['x'])");
    CHECK(has(library.list(), "\"id\":\"mean\"") && has(library.search(R"({"text": "mean"})"), "score"));
    CHECK(has(library.validate("import time"), "\"deterministic\":false"));
    const skillcache::Script script = library.inject("result = inputs", R"({"inputs": {"a": 1}})");
    CHECK(script.code == "inputs = {\"a\": 1}; result = inputs" && script.method == "ast");
    CHECK(has(library.stats(), "\"total\":3") && has(library.metrics(), "# EOF") && has(library.health(), "healthy"));
    CHECK(has(*library.next_event(), "sandbox_level"));
    while (library.next_event()) {
    }
    library.clear();
    CHECK(!library.run("mean", R"({"inputs": {"x": [1, 2, 6]}})").cached() && library.evict_expired() == 0);
    library.set_state("mean", "retired");
    CHECK(library.search(R"({"text": "mean"})") == "[]" && library.rebuild_index() >= 1);
    library.set_state("mean", "active");
    CHECK(has(refused(SKC_E_INVALID, [&] { library.set_state("mean", "gone"); }).what(), "retired"));
    library.remove("mean");
    library.close();
    library.close();
    CHECK(first.value() == "3.0");
}

static void errors_leave_the_library_working() {
    Library library(":memory:");
    refused(SKC_E_NOT_FOUND, [&] { library.run("nope"); });
    CHECK(has(refused(SKC_E_SYNTAX, [&] { library.put("s", "x = 1\nreturn x"); }).json(), "\"line\":2"));
    CHECK(has(refused(SKC_E_INVALID, [] { Config().set("pool.sise", "3"); }).what(), "pool.size"));
    refused(SKC_E_INVALID, [] { Config().set("pool.size", "0"); });
    refused(SKC_E_INVALID, [&] { library.run("s", "not json"); });
    refused(SKC_E_INVALID, [&] { library.run("s", R"({"inputs": []})"); });
    refused(SKC_E_DATABASE, [] { Library("/no/such/folder/skills.db"); });
    refused(SKC_E_SANDBOX, [] {
        Library bare(":memory:", Config().set("sandbox.without", "namespaces, landlock, seccomp"));
        bare.put("s", "result = 1");
    });
    try {
        Skill("\xff", "result = 1");
        CHECK(!"refused");
    } catch (const Error &error) {
        CHECK(error.code() == SKC_E_INVALID);
    }
    library.put("s", "raise ValueError('boom')");
    Result failed = library.run("s");
    CHECK(failed.outcome() == SKC_OUTCOME_ERROR && std::string_view(failed.outcome_name()) == "error");
    CHECK(has(failed.error(), "boom") && failed.value().empty());
}

static void a_full_cache_is_said() {
    Library library(":memory:",
                    Config().set("cache.execution.max_entries", "1").set("cache.prepared.max_entries", "9"));
    library.put("one", "result = 1");
    CHECK(library.check_caches(0.85) == "[]");
    library.run("one");
    CHECK(library.check_caches(0.85) ==
          R"-([{"cache":"execution","bound":"entries","size":1,"max_size":1,"threshold":0.85,)-"
          R"-("message":"Cache utilization alert: 100.0% exceeds threshold of 85.0% (1/1)"}])-");
    CHECK(has(library.check_caches(0), R"("cache":"metadata","bound":"bytes")"));
    for (const double threshold : {-0.01, 1.01, std::numeric_limits<double>::quiet_NaN()})
        CHECK(has(refused(SKC_E_INVALID, [&] { library.check_caches(threshold); }).json(), R"("path":"threshold")"));
    library.close();
    refused(SKC_E_INVALID, [&] { library.check_caches(1); });
}

static void a_library_is_checked_and_copied() {
    char folder[] = "/tmp/skillcache_test-XXXXXX";
    CHECK(mkdtemp(folder) != nullptr);
    const std::string file = std::string(folder) + "/skills.db", copy = std::string(folder) + "/copy.db";
    {
        Library library(file);
        library.put("one", "result = 1");
        CHECK(has(library.check(), R"({"ok":true,"findings":[],)"));
        CHECK(has(library.check("full"), R"("ok":true)"));
        refused(SKC_E_INVALID, [&] { library.check("slow"); });
        library.backup(copy);
        refused(SKC_E_INVALID, [&] { library.backup(copy); });
        library.put("two", "result = 2");
    }
    {
        Library library(copy, Config().set("store.access", "read_only"));
        CHECK(library.get("one").code() == "result = 1");
        refused(SKC_E_NOT_FOUND, [&] { library.get("two"); });
        refused(SKC_E_UNSUPPORTED, [&] { library.put("two", "result = 2"); });
    }
    CHECK(std::system(("rm -r " + std::string(folder)).c_str()) == 0);
}

static void skills_go_out_and_come_in() {
    char folder[] = "/tmp/skillcache-XXXXXX";
    CHECK(mkdtemp(folder) != nullptr);
    const std::string path = std::string(folder) + "/skills.jsonl";
    Library library(":memory:");
    library.put("one", "result = 1");
    CHECK(library.export_skills(path) == R"({"format":"bundle","exported":1,"versions":1,"rejected":[],"notes":[]})");
    CHECK(has(refused(SKC_E_INVALID, [&] { library.export_skills(path); }).what(), "overwrite"));
    Library other(":memory:");
    CHECK(has(other.import_skills(path), R"("imported":[{"id":"one","version":1,"source":"line 2"}])"));
    CHECK(other.run("one").value() == "1");
    CHECK(has(other.import_skills(path, R"({"on_conflict": "skip"})"), R"("unchanged":1,"skipped":0)"));
    CHECK(has(refused(SKC_E_INVALID, [&] { other.import_skills(path, R"({"dry": true})"); }).json(), "dry"));
    CHECK(std::remove(path.c_str()) == 0 && std::remove(folder) == 0);
}

/// Holds runs up until it is opened: they look for a file in the folder of packages, all of the host that they can see.
class Gate {
  public:
    Gate() {
        char folder[] = "/tmp/gate-XXXXXX";
        CHECK(mkdtemp(folder) != nullptr);
        folder_ = folder;
    }
    ~Gate() {
        std::remove(file().c_str());
        std::remove(folder_.c_str());
    }
    Gate(const Gate &) = delete;
    Gate &operator=(const Gate &) = delete;

    void open() const {
        std::FILE *const opened = std::fopen(file().c_str(), "w");
        CHECK(opened != nullptr && std::fclose(opened) == 0);
    }

    /// A library with a skill that waits at the gate, and is kept all the same.
    Library library() const {
        Library library(":memory:", Config()
                                        .set("policy.mode", "off")
                                        .set("python.site_packages", folder_)
                                        .set("sandbox.timeout_ms", "300000"));
        const std::string code = "import os, time\nwhile not os.path.exists('" + file() +
                                 "'): time.sleep(0.01)\nresult = inputs.get('v', 'awake')";
        library.put(Skill("s", code).set("cache", "yes"));
        return library;
    }

  private:
    std::string file() const { return folder_ + "/open"; }

    std::string folder_;
};

/// Comes back when so many calls have looked for a result in vain, and had time to find each other.
static void until_misses(const Library &library, int count) {
    const auto give_up = std::chrono::steady_clock::now() + std::chrono::minutes(1);
    const auto misses = [&] {
        const std::string stats = library.stats();
        const std::size_t place = stats.find("\"misses\":", stats.find("\"execution\":{"));
        CHECK(place != stats.npos);
        return std::atoi(stats.c_str() + place + 9);
    };
    while (misses() < count) {
        CHECK(std::chrono::steady_clock::now() < give_up);
        std::this_thread::sleep_for(std::chrono::milliseconds(2));
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(200));
}

static void what_is_the_same_is_cached_as_far_as_asked() {
    Library library(":memory:", Config().set("cache.execution.max_mb", "1"));
    library.put("s", "result = 'x' * inputs.get('n', 1)");
    const auto cached = [&](std::string_view data, const std::string &options = {}) {
        return library.run("s", data, options).cached();
    };
    const std::string_view data = R"({"inputs": {"n": 2, "v": 1.5}, "context": {}})";
    CHECK(!cached(data) && cached(data) && cached(R"({"context":{},"inputs":{"\u006e":2,"v":1.50}})"));
    CHECK(!cached(R"({"inputs": {"v": 1.5, "n": 2}})") && !cached(R"({"inputs": {"n": 2, "v": 1}})"));
    CHECK(!cached(R"({"inputs": {"n": 2, "v": 1.0}})"));
    CHECK(!cached(data, R"({"cache": "no"})") && !cached(data, R"({"cache": "refresh"})"));
    CHECK(cached(data, R"({"cache": "required"})") && cached(data, R"({"cache": "yes"})"));
    const std::string_view large = R"({"inputs": {"n": 300000}})";
    CHECK(has(refused(SKC_E_CACHE_OVERFLOW, [&] { cached(large, R"({"cache": "required"})"); }).what(), "max_mb"));
    CHECK(!cached(large) && !cached(large) && has(library.stats(), R"("refusals":3)"));
    refused(SKC_E_CACHE_OVERFLOW, [&] { cached(large, R"({"cache": "required", "ttl_s": 0})"); });
    CHECK(!cached("{}", R"({"ttl_s": 0.05})"));
    // The kernel turns its coarse clock at ticks, which a virtual machine may have to wait for.
    std::this_thread::sleep_for(std::chrono::seconds(1));
    CHECK(!cached("{}") && cached("{}"));
}

static void of_many_who_ask_at_once_one_runs() {
    const Gate gate;
    Library library = gate.library();
    std::atomic<int> executed = 0;
    std::vector<std::thread> threads;
    for (int i = 0; i < 16; i++)
        threads.emplace_back([&] {
            const Result result = library.run("s", R"({"inputs": {"v": 1.5}})");
            CHECK(result.value() == "1.5");
            executed += !result.cached();
        });
    until_misses(library, 16);
    gate.open();
    for (std::thread &thread : threads)
        thread.join();
    CHECK(executed == 1 && has(library.stats(), R"("executed":1,)") && has(library.stats(), R"("coalesced":15,)"));
}

static void who_waits_is_not_bound_to_whom_it_waits_for() {
    const Gate gate;
    Library library = gate.library();
    const std::string_view data = "{}";
    const Task leader = library.submit("s", data);
    until_misses(library, 1);
    Task cancelled = library.submit("s", data);
    const Task waiter = library.submit("s", data);
    until_misses(library, 3);
    cancelled.cancel();
    CHECK(cancelled.wait(60000).outcome() == SKC_OUTCOME_CANCELLED);
    const Result late = library.run("s", data, R"({"timeout_ms": 100})");
    CHECK(late.outcome() == SKC_OUTCOME_TIMEOUT && has(late.error(), "waited") && !leader.poll());
    library.put(Skill("s", "result = 'new'").set("cache", "yes"));
    CHECK(waiter.wait().value() == "\"new\"");
    gate.open();
    CHECK(leader.wait().value() == "\"awake\"");
    CHECK(library.run("s", data).cached() && has(library.stats(), R"("execution":{"size":1,)"));
}

static void objects_move_and_are_not_copied() {
    static_assert(!std::is_copy_constructible_v<Library> && !std::is_copy_constructible_v<Result>);
    static_assert(std::is_nothrow_move_constructible_v<Library> && std::is_nothrow_move_assignable_v<Task>);
    Library first(":memory:");
    first.put("one", "result = 1");
    Library second = std::move(first);
    first.close();
    refused(SKC_E_INVALID, [&] { first.stats(); });
    Result result = second.run("one");
    result = second.run("one");
    CHECK(result.value() == "1" && result.cached());
}

static void tasks_and_many_runs() {
    const Gate gate;
    Library library = gate.library();
    library.put("sleep", "import time\ntime.sleep(inputs['s'])\nresult = 'awake'");
    Task task = library.submit("s", "{}");
    CHECK(!task.poll() && task.fd() >= 0);
    refused(SKC_E_TIMEOUT, [&] { task.wait(0); });
    gate.open();
    CHECK(task.wait().value() == "\"awake\"" && task.poll());
    Task endless = library.submit("sleep", R"({"inputs": {"s": 60}})");
    endless.cancel();
    CHECK(endless.wait().outcome() == SKC_OUTCOME_CANCELLED);

    library.put("twice", "result = inputs['x'] * 2");
    const char *items = R"([{"inputs": {"x": 1}}, {"inputs": {"x": 2}}])";
    std::uint64_t last = 0;
    auto documents = library.run_many("twice", items, {}, [&](std::uint64_t done, std::uint64_t total) {
        last = done;
        return total == 2;
    });
    CHECK(last == 2 && documents.size() == 2 && has(documents[1], "\"value\":4"));
    CHECK(library.run_many("twice", items).size() == 2);
    try {
        library.run_many("twice", items, {}, [](auto, auto) -> bool { throw std::logic_error("mine"); });
        CHECK(!"thrown");
    } catch (const std::logic_error &error) {
        CHECK(std::string_view(error.what()) == "mine");
    }
    Task orphan = library.submit("sleep", R"({"inputs": {"s": 60}})");
    library.close();
    refused(SKC_E_CANCELLED, [&] { orphan.wait(); });
}

static void limits_of_call_and_skill() {
    Library library(":memory:", Config().set("policy.mode", "off").set("sandbox.max_cpu_s", "9"));
    skillcache::Limits own;
    own.max_cpu_s = 5;
    own.max_output_kb = 0;
    CHECK(own.json() == R"({"max_cpu_s":5,"max_output_kb":0})" && skillcache::Limits().json() == "{}");
    const char *code = "import resource\nprint('x')\nresult = resource.getrlimit(resource.RLIMIT_CPU)[0]";
    library.put(Skill("own", code).set("limits", own.json()).set("max_file_mb", "1").set("cache", "no"));
    CHECK(has(library.get("own").json(), "\"max_cpu_s\":5") && has(library.get("own").json(), "\"max_file_mb\":1"));
    Result first = library.run("own");
    CHECK(first.value() == "5" && first.captured_stdout().empty());
    skillcache::Limits asked;
    asked.max_cpu_s = 12;
    asked.max_output_kb = 1;
    Result second = library.run("own", {}, asked.json());
    CHECK(second.value() == "12" && second.captured_stdout() == "x\n");
    asked.max_cpu_s = 0;
    CHECK(has(refused(SKC_E_INVALID, [&] { library.run("own", {}, asked.json()); }).what(), "from 1 to 86400"));
}

static void a_waiting_task_is_cancelled_at_once() {
    Library library(":memory:", Config().set("task.workers", "1").set("task.queue", "1"));
    library.put("sleep", "import time\ntime.sleep(inputs['s'])\nresult = 'awake'");
    auto submit = [&library](const char *seconds) {
        return library.submit("sleep", std::string(R"({"inputs": {"s": )") + seconds + "}}");
    };
    auto patiently = [&submit] {
        for (;;) {
            try {
                return submit("60");
            } catch (const Error &error) {
                /* The worker has not taken the one before yet. */
                CHECK(error.code() == SKC_E_BUSY);
                std::this_thread::sleep_for(std::chrono::milliseconds(5));
            }
        }
    };
    Task running = patiently(), waiting = patiently();
    refused(SKC_E_BUSY, [&] { submit("0"); });
    waiting.cancel();
    CHECK(waiting.poll() && waiting.wait(0).outcome() == SKC_OUTCOME_CANCELLED && !running.poll());
    Task next = submit("0");
    running.cancel();
    CHECK(next.wait().value() == "\"awake\"" && running.wait().outcome() == SKC_OUTCOME_CANCELLED);
}

static void events_come_to_a_callback() {
    std::atomic<int> events{0};
    {
        Library library(":memory:", Config().on_event([&](std::string_view json) { events += has(json, "\"seq\":"); }));
        library.put("one", "result = 1");
    }
    CHECK(events == 2);
}

static void the_library_says_what_it_does() {
    std::atomic<int> opened{0}, runs{0};
    {
        Config config;
        config.set("monitor.log_level", "debug").on_log([&](std::string_view json) {
            opened += has(json, "the library is open");
            runs += has(json, "\"level\":\"debug\"");
        });
        Library library(":memory:", config);
        library.put("one", "result = 1");
        Result result =
            library.run("one", {}, R"({"trace":"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"})");
        CHECK(result.trace_id() == "0af7651916cd43dd8448eb211c80319c");
        CHECK(library.run("one").trace_id().size() == 32);
        CHECK(has(library.outcomes("one"), "\"count\":2") && has(library.outcomes(), "\"skill\":\"one\""));
        refused(SKC_E_NOT_FOUND, [&] { library.outcomes("two"); });
        library.set_state("one", "quarantined");
        CHECK(has(library.recommendations(), "\"rule\":\"quarantine\""));
        CHECK(has(library.report_memory(), "\"status\":\"ok\"") && has(library.history(), "\"samples\":"));
    }
    CHECK(opened == 1 && runs == 1);
}

static void threads_share_a_library() {
    Library library(":memory:");
    library.put("twice", "result = inputs['x'] * 2");
    std::vector<std::thread> threads;
    for (int i = 0; i < 4; i++) {
        threads.emplace_back([&library, i] {
            std::string data = R"({"inputs": {"x": )" + std::to_string(i) + "}}";
            for (int j = 0; j < 10; j++)
                CHECK(library.run("twice", data).value() == std::to_string(2 * i));
        });
    }
    for (auto &thread : threads)
        thread.join();
    CHECK(has(library.stats(), "\"total\":40"));
}

int main() {
    the_story();
    errors_leave_the_library_working();
    a_full_cache_is_said();
    a_library_is_checked_and_copied();
    skills_go_out_and_come_in();
    what_is_the_same_is_cached_as_far_as_asked();
    of_many_who_ask_at_once_one_runs();
    who_waits_is_not_bound_to_whom_it_waits_for();
    objects_move_and_are_not_copied();
    tasks_and_many_runs();
    limits_of_call_and_skill();
    a_waiting_task_is_cancelled_at_once();
    events_come_to_a_callback();
    the_library_says_what_it_does();
    threads_share_a_library();
    std::puts("the C++ binding ok");
}
