/* Never the same thing twice: which runs are the same, what is kept and for how long, and who waits for whom. */

#define _POSIX_C_SOURCE 200809L

#include "gate.h"

#include <pthread.h>
#include <time.h>

enum { THREADS = 16 };

static void pause_ms(long ms) { nanosleep(&(struct timespec){ms / 1000, ms % 1000 * 1000000}, NULL); }

static double seconds(void) {
    struct timespec now;
    CHECK(clock_gettime(CLOCK_MONOTONIC, &now) == 0);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* A number of a section of the statistics. */
static long number(skc_library *library, const char *section, const char *name) {
    char words[64];
    skc_blob *stats = NULL;
    OK(skc_library_stats(library, &stats, &err));
    snprintf(words, sizeof words, "\"%s\":{", section);
    const char *place = strstr(skc_blob_str(stats).ptr, words);
    CHECK(place != NULL);
    snprintf(words, sizeof words, "\"%s\":", name);
    place = strstr(place, words);
    CHECK(place != NULL);
    const long value = strtol(place + strlen(words), NULL, 10);
    skc_blob_free(stats);
    return value;
}

/* Comes back when so many calls have looked for a result in vain, and had time to find each other. */
static void until_misses(skc_library *library, long count) {
    const double begin = seconds();
    while (number(library, "execution", "misses") < count) {
        CHECK(seconds() < begin + 60);
        pause_ms(2);
    }
    pause_ms(200);
}

static skc_library *open_with(const char *option, const char *value) {
    skc_library *library = NULL;
    skc_config *config = new_config();
    if (option) OK(skc_config_set(config, option, value, &err));
    OK(skc_library_open(":memory:", config, &library, &err));
    skc_config_free(config);
    return library;
}

/* A skill whose answers are kept, deterministic or not. */
static void put_kept(skc_library *library, const char *id, const char *code) {
    skc_skill *skill = skc_skill_new(id, code, SKC_NTS);
    OK(skc_skill_set(skill, "cache", "yes", &err));
    OK(skc_library_put(library, skill, NULL, &err));
    skc_skill_free(skill);
}

static bool is_cached(skc_library *library, const char *data, const char *options) {
    skc_result *result = run(library, "s", data, options);
    CHECK(skc_result_outcome(result) == SKC_OUTCOME_SUCCESS);
    const bool cached = skc_result_is_cached(result);
    skc_result_free(result);
    return cached;
}

static void equal_data_are_one_run_however_they_are_spelled(void) {
    skc_library *library = open_memory();
    put(library, "s", "result = [inputs, context]");
    static const char *const equal[] = {
        "{\"inputs\":{\"a\":1.5,\"b\":[1,\"x\"]},\"context\":{\"c\":true}}",
        " { \"inputs\" : {\"a\":1.5, \"b\":[1, \"x\"]},\n\"context\" : {\"c\":true} } ",
        "{\"inputs\":{\"a\":1.50,\"b\":[1,\"x\"]},\"context\":{\"c\":true}}",
        "{\"inputs\":{\"\\u0061\":15e-1,\"b\":[1,\"\\u0078\"]},\"context\":{\"c\":true}}",
        "{\"context\":{\"c\":true},\"inputs\":{\"a\":1.5,\"b\":[1,\"x\"]}}",
    };
    for (int round = 0; round < 2; round++)
        for (size_t i = 0; i < sizeof equal / sizeof *equal; i++)
            CHECK(is_cached(library, equal[i], NULL) == (round + i > 0));
    static const char *const different[] = {
        "{\"inputs\":{\"a\":1}}",         "{\"inputs\":{\"a\":1.0}}",       "{\"inputs\":{\"a\":\"1\"}}",
        "{\"inputs\":{\"a\":1,\"b\":2}}", "{\"inputs\":{\"b\":2,\"a\":1}}", "{\"context\":{\"a\":1}}",
        "{\"inputs\":{\"a\":true}}",      "{\"inputs\":{\"a\":-0.0}}",      "{\"inputs\":{\"a\":0.0}}",
    };
    for (size_t i = 0; i < sizeof different / sizeof *different; i++) {
        CHECK(!is_cached(library, different[i], NULL));
        CHECK(is_cached(library, different[i], NULL));
    }
    /* A task's data become the same key. */
    skc_task *task = NULL;
    skc_result *result = NULL;
    OK(skc_library_submit(library, "s", equal[2], SKC_NTS, NULL, &task, &err));
    OK(skc_task_wait(task, -1, &result, &err));
    CHECK(skc_result_is_cached(result));
    skc_result_free(result);
    skc_task_free(task);
    OK(skc_library_close(library));
}

static void each_mode_reads_and_keeps_what_it_says(void) {
    skc_library *library = open_memory();
    put(library, "s", "import time\nresult = time.time_ns()");
    static const struct {
        const char *options;
        bool cached;
    } steps[] = {
        {NULL, false},
        {"{\"cache\":\"auto\"}", false},
        {"{\"cache\":\"no\"}", false},
        {"{\"cache\":\"yes\"}", false},
        {"{\"cache\":\"yes\"}", true},
        {"{\"cache\":\"required\"}", true},
        {"{\"cache\":\"no\"}", false},
        {"{\"cache\":\"refresh\"}", false},
        {"{\"cache\":\"auto\"}", false},
        {"{\"cache\":\"required\"}", true},
    };
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++)
        CHECK(is_cached(library, NULL, steps[i].options) == steps[i].cached);
    CHECK(number(library, "execution", "hits") == 3 && number(library, "execution", "misses") == 1);
    OK(skc_library_close(library));
}

static void required_says_why_a_result_cannot_be_kept(void) {
    skc_library *library = open_with("cache.execution.max_mb", "1");
    skc_result *result = (skc_result *)1;
    put(library, "s", "result = 'x' * 300000");
    REFUSED(SKC_E_CACHE_OVERFLOW, "time to live",
            skc_library_run(library, "s", NULL, 0, "{\"cache\":\"required\",\"ttl_s\":0}", &result, &err));
    CHECK(result == NULL && number(library, "runs", "total") == 0);
    REFUSED(SKC_E_CACHE_OVERFLOW, "cache.execution.max_mb",
            skc_library_run(library, "s", NULL, 0, "{\"cache\":\"required\"}", &result, &err));
    CHECK(result == NULL && number(library, "execution", "refusals") == 1);
    CHECK(!is_cached(library, NULL, "{\"cache\":\"yes\"}") && !is_cached(library, NULL, "{\"cache\":\"yes\"}"));
    CHECK(number(library, "execution", "refusals") == 3 && number(library, "execution", "size") == 0);
    OK(skc_library_close(library));
}

static void a_result_expires(void) {
    skc_library *library = open_memory();
    put(library, "s", "result = 1");
    CHECK(!is_cached(library, NULL, "{\"ttl_s\":0.05}"));
    /* The kernel turns its coarse clock at ticks, which a virtual machine may have to wait for. */
    pause_ms(1000);
    CHECK(!is_cached(library, NULL, NULL));
    CHECK(is_cached(library, NULL, NULL) && number(library, "execution", "expirations") == 1);
    OK(skc_library_close(library));
}

static void what_a_hit_gave_outlives_everything_and_its_copy_is_the_callers(void) {
    skc_library *library = open_memory();
    put(library, "s", "print('said')\nresult = [1, 2]");
    CHECK(!is_cached(library, NULL, NULL));
    skc_result *hit = run(library, "s", NULL, NULL);
    char copy[16];
    const skc_str value = skc_result_value(hit);
    CHECK(value.len < sizeof copy);
    memcpy(copy, value.ptr, value.len + 1);
    memset(copy, '#', value.len);
    skc_result *later = run(library, "s", NULL, NULL);
    CHECK(skc_result_is_cached(later) && is(skc_result_value(later), "[1,2]") &&
          is(skc_result_stdout(later), "said\n"));
    skc_result_free(hit);
    OK(skc_library_clear(library, "all", &err));
    OK(skc_library_close(library));
    CHECK(is(skc_result_value(later), "[1,2]"));
    skc_result_free(later);
}

/* A run on a thread of its own. */
typedef struct {
    skc_library *library;
    const char *data, *options;
    pthread_t thread;
    skc_status status;
    skc_result *result;
} runner;

static void *go(void *argument) {
    runner *self = argument;
    const size_t length = self->data ? SKC_NTS : 0;
    self->status = skc_library_run(self->library, "s", self->data, length, self->options, &self->result, NULL);
    return NULL;
}

static void start(runner *self, skc_library *library, const char *data, const char *options) {
    *self = (runner){.library = library, .data = data, .options = options};
    CHECK(pthread_create(&self->thread, NULL, go, self) == 0);
}

/* Waits for its end, and says whether memory answered. */
static bool ended(runner *self, int32_t outcome, const char *value) {
    CHECK(pthread_join(self->thread, NULL) == 0);
    CHECK(self->status == SKC_OK && skc_result_outcome(self->result) == outcome);
    CHECK(is(skc_result_value(self->result), value));
    const bool cached = skc_result_is_cached(self->result);
    skc_result_free(self->result);
    return cached;
}

static void of_many_who_ask_at_once_one_runs(void) {
    const gate gate = new_gate();
    skc_library *library = open_held(&gate);
    runner runners[THREADS];
    int executed = 0;
    for (int i = 0; i < THREADS; i++)
        start(&runners[i], library, i % 2 ? "{\"inputs\":{\"v\":1.50}}" : "{ \"inputs\": {\"v\": 1.5} }", NULL);
    until_misses(library, THREADS);
    open_gate(&gate);
    for (int i = 0; i < THREADS; i++)
        executed += !ended(&runners[i], SKC_OUTCOME_SUCCESS, "1.5");
    CHECK(executed == 1 && number(library, "runs", "executed") == 1);
    CHECK(number(library, "execution", "coalesced") == THREADS - 1);
    CHECK(number(library, "runs", "cached") == THREADS - 1);
    OK(skc_library_close(library));
    remove_gate(&gate);
}

static void a_new_version_is_what_those_who_wait_get(void) {
    const gate gate = new_gate();
    skc_library *library = open_held(&gate);
    runner leader, waiters[2];
    start(&leader, library, NULL, NULL);
    until_misses(library, 1);
    for (int i = 0; i < 2; i++)
        start(&waiters[i], library, NULL, NULL);
    until_misses(library, 3);
    put_kept(library, "s", "import time\ntime.sleep(0.2)\nresult = 'new'");
    const int cached =
        ended(&waiters[0], SKC_OUTCOME_SUCCESS, "\"new\"") + ended(&waiters[1], SKC_OUTCOME_SUCCESS, "\"new\"");
    open_gate(&gate);
    CHECK(cached == 1 && !ended(&leader, SKC_OUTCOME_SUCCESS, "\"awake\""));
    CHECK(number(library, "execution", "size") == 1 && is_cached(library, NULL, NULL));
    OK(skc_library_close(library));
    remove_gate(&gate);
}

static void what_was_begun_before_the_cache_was_emptied_is_not_kept(void) {
    const gate gate = new_gate();
    skc_library *library = open_held(&gate);
    runner leader;
    start(&leader, library, NULL, NULL);
    until_misses(library, 1);
    OK(skc_library_clear(library, "execution", &err));
    open_gate(&gate);
    CHECK(!ended(&leader, SKC_OUTCOME_SUCCESS, "\"awake\"") && number(library, "execution", "size") == 0);
    OK(skc_library_close(library));
    remove_gate(&gate);
}

static void who_waits_for_a_run_that_fails_runs(void) {
    const gate gate = new_gate();
    skc_library *library = open_held(&gate);
    runner leader, waiter;
    start(&leader, library, NULL, "{\"timeout_ms\":700}");
    until_misses(library, 1);
    start(&waiter, library, NULL, NULL);
    until_misses(library, 2);
    CHECK(!ended(&leader, SKC_OUTCOME_TIMEOUT, ""));
    open_gate(&gate);
    CHECK(!ended(&waiter, SKC_OUTCOME_SUCCESS, "\"awake\"") && number(library, "runs", "executed") == 2);
    OK(skc_library_close(library));
    remove_gate(&gate);
}

static void who_waits_can_be_cancelled_and_has_a_time_of_its_own(void) {
    const gate gate = new_gate();
    skc_library *library = open_held(&gate);
    runner leader;
    start(&leader, library, NULL, NULL);
    until_misses(library, 1);
    skc_task *task = NULL;
    skc_result *result = NULL;
    OK(skc_library_submit(library, "s", NULL, 0, NULL, &task, &err));
    until_misses(library, 2);
    CHECK(skc_task_cancel(task) == SKC_OK);
    OK(skc_task_wait(task, 60000, &result, &err));
    CHECK(skc_result_outcome(result) == SKC_OUTCOME_CANCELLED);
    skc_result_free(result);
    skc_task_free(task);
    result = run(library, "s", NULL, "{\"timeout_ms\":100}");
    CHECK(skc_result_outcome(result) == SKC_OUTCOME_TIMEOUT && has(skc_result_error(result), "waited"));
    skc_result_free(result);
    open_gate(&gate);
    CHECK(!ended(&leader, SKC_OUTCOME_SUCCESS, "\"awake\"") && is_cached(library, NULL, NULL));
    OK(skc_library_close(library));
    remove_gate(&gate);
}

static void shutting_down_ends_who_runs_and_who_waits(void) {
    const gate gate = new_gate();
    skc_library *library = open_held(&gate);
    runner runners[3];
    const double begin = seconds();
    for (int i = 0; i < 3; i++)
        start(&runners[i], library, NULL, NULL);
    until_misses(library, 3);
    CHECK(skc_library_shut_down(library) == SKC_OK);
    for (int i = 0; i < 3; i++)
        CHECK(!ended(&runners[i], SKC_OUTCOME_CANCELLED, ""));
    CHECK(seconds() < begin + 200);
    OK(skc_library_close(library));
    remove_gate(&gate);
}

int main(void) {
    RUN_TEST(equal_data_are_one_run_however_they_are_spelled);
    RUN_TEST(each_mode_reads_and_keeps_what_it_says);
    RUN_TEST(required_says_why_a_result_cannot_be_kept);
    RUN_TEST(a_result_expires);
    RUN_TEST(what_a_hit_gave_outlives_everything_and_its_copy_is_the_callers);
    RUN_TEST(of_many_who_ask_at_once_one_runs);
    RUN_TEST(a_new_version_is_what_those_who_wait_get);
    RUN_TEST(what_was_begun_before_the_cache_was_emptied_is_not_kept);
    RUN_TEST(who_waits_for_a_run_that_fails_runs);
    RUN_TEST(who_waits_can_be_cancelled_and_has_a_time_of_its_own);
    RUN_TEST(shutting_down_ends_who_runs_and_who_waits);
    return 0;
}
