// The C++ binding: the story, errors, ownership, threads.

#include <skillcache.hpp>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <thread>
#include <type_traits>

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
    Library library(":memory:", Config().set("sandbox.timeout_ms", "5000"));
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
    Library library(":memory:");
    library.put("sleep", "import time\ntime.sleep(inputs['s'])\nresult = 'awake'");
    Task task = library.submit("sleep", R"({"inputs": {"s": 0.2}})");
    CHECK(!task.poll() && task.fd() >= 0);
    refused(SKC_E_TIMEOUT, [&] { task.wait(0); });
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

static void events_come_to_a_callback() {
    std::atomic<int> events{0};
    {
        Library library(":memory:", Config().on_event([&](std::string_view json) { events += has(json, "\"seq\":"); }));
        library.put("one", "result = 1");
    }
    CHECK(events == 2);
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
    objects_move_and_are_not_copied();
    tasks_and_many_runs();
    events_come_to_a_callback();
    threads_share_a_library();
    std::puts("the C++ binding ok");
}
