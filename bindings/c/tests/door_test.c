/* The road from put to kept result through the C door, and everything that can be asked on the way. */

#define _POSIX_C_SOURCE 200809L

#include "gate.h"

#include <math.h>
#include <poll.h>
#include <time.h>
#include <unistd.h>

static const char MEAN[] = "inputs = {'x': [0]}\nresult = sum(inputs['x']) / len(inputs['x'])\n";
static const char SLEEP[] = "import time\ntime.sleep(inputs['s'])\nresult = 'awake'\n";

static void versions_agree(void) {
    CHECK(skc_version_number() == SKC_VERSION_NUMBER);
    CHECK(skc_abi() == SKC_ABI);
    CHECK(strcmp(skc_version_string(), "0.1.0") == 0);
    CHECK(strcmp(skc_status_name(SKC_E_NEWER_DATABASE), "E_NEWER_DATABASE") == 0);
    CHECK(strcmp(skc_status_name(12345), "E_UNKNOWN") == 0);
    CHECK(strcmp(skc_outcome_name(SKC_OUTCOME_MEMORY_LIMIT), "memory_limit") == 0);
    CHECK(strcmp(skc_outcome_name(-1), "unknown") == 0);
}

static void a_skill_answers_and_the_second_call_comes_from_memory(void) {
    skc_library *library = open_memory();
    skc_skill *skill = skc_skill_new("mean", MEAN, sizeof MEAN - 1);
    OK(skc_skill_set(skill, "description", "arithmetic mean", &err));
    OK(skc_skill_set(skill, "tags", "[\"math\"]", &err));
    uint32_t version = 0;
    OK(skc_library_put(library, skill, &version, &err));
    CHECK(version == 1);
    skc_skill_free(skill);

    skc_result *first = run(library, "mean", "{\"inputs\":{\"x\":[1,2,6]}}", NULL);
    CHECK(skc_result_outcome(first) == SKC_OUTCOME_SUCCESS);
    CHECK(is(skc_result_value(first), "3.0") && is(skc_result_error(first), "") && !skc_result_is_cached(first));
    CHECK(is(skc_result_level(first), level()) && skc_result_duration_us(first) > 0);
    skc_result *second = run(library, "mean", "{\"inputs\": {\"x\": [1, 2, 6]}}", "{\"trace\": \"abc\"}");
    CHECK(skc_result_is_cached(second) && is(skc_result_value(second), "3.0"));
    CHECK(has(skc_result_json(second), "\"trace\":\"abc\"") && has(skc_result_json(second), "\"cached\":true"));
    OK(skc_library_close(library));

    /* Results outlive the library. */
    CHECK(is(skc_result_value(first), "3.0"));
    skc_result_free(first);
    skc_result_free(second);
}

static void a_failing_run_is_a_result(void) {
    skc_library *library = open_memory();
    put(library, "bad", "import sys\nprint('out')\nprint('err', file=sys.stderr)\nraise ValueError('boom')\n");
    skc_result *result = run(library, "bad", NULL, NULL);
    CHECK(skc_result_outcome(result) == SKC_OUTCOME_ERROR);
    CHECK(is(skc_result_value(result), "") && is(skc_result_stdout(result), "out\n"));
    CHECK(is(skc_result_stderr(result), "err\n") && has(skc_result_error(result), "line 4, in <module>"));
    CHECK(has(skc_result_json(result), "\"line\":4"));
    skc_result_free(result);
    OK(skc_library_close(library));
}

static void a_view_gives_everything_at_once(void) {
    skc_library *library = open_memory();
    put(library, "one", "print('hi')\nresult = 1\n");
    skc_result *result = run(library, "one", NULL, NULL);
    skc_view view;
    memset(&view, 0xff, sizeof view);
    skc_result_view(result, &view, sizeof view);
    CHECK(is(view.value, "1") && is(view.captured_stdout, "hi\n") && is(view.captured_stderr, ""));
    CHECK(is(view.error, "") && is(view.error_json, "") && is(view.level, level()));
    CHECK(view.outcome == SKC_OUTCOME_SUCCESS && view.skill_version == 1 && !view.cached && !view.stdout_truncated);
    CHECK(view.duration_us > 0 && view.cpu_us > 0 && view.peak_memory_bytes > 0);

    /* A host that knows only the first field, and one that knows more than we do. */
    memset(&view, 0xff, sizeof view);
    skc_result_view(result, &view, sizeof view.value);
    CHECK(is(view.value, "1") && view.outcome == -1 && view.duration_us == UINT64_MAX);
    struct {
        skc_view view;
        uint64_t newer[4];
    } larger;
    memset(&larger, 0xff, sizeof larger);
    skc_result_view(result, &larger.view, sizeof larger);
    CHECK(is(larger.view.value, "1") && larger.newer[0] == 0 && larger.newer[3] == 0);
    skc_result_view(NULL, &view, sizeof view);
    CHECK(is(view.value, "") && view.outcome == -1);
    skc_result_view(result, NULL, sizeof view);
    skc_result_free(result);
    OK(skc_library_close(library));
}

static void skills_are_kept_by_version(void) {
    skc_library *library = open_memory();
    put(library, "v", "result = 1");
    put(library, "v", "result = 2");
    skc_skill *skill = NULL;
    OK(skc_library_get(library, "v", 0, &skill, &err));
    CHECK(skc_skill_version(skill) == 2 && is(skc_skill_id(skill), "v") && is(skc_skill_code(skill), "result = 2"));
    CHECK(has(skc_skill_json(skill), "\"usage_count\":0"));
    skc_skill_free(skill);
    OK(skc_library_get(library, "v", 1, &skill, &err));
    CHECK(is(skc_skill_code(skill), "result = 1"));
    skc_result *result = run(library, "v", NULL, "{\"version\": 1}");
    CHECK(is(skc_result_value(result), "1"));
    skc_result_free(result);

    skc_skill *draft = skc_skill_new("v", "result = 3", SKC_NTS);
    OK(skc_skill_set(draft, "expected_version", "1", &err));
    uint32_t version = 77;
    REFUSED(SKC_E_CONFLICT, "2", skc_library_put(library, draft, &version, &err));
    CHECK(version == 77);
    skc_skill_free(draft);

    OK(skc_library_remove(library, "v", &err));
    skc_skill *none = (skc_skill *)1;
    REFUSED(SKC_E_NOT_FOUND, "v", skc_library_get(library, "v", 0, &none, &err));
    CHECK(none == NULL);
    OK(skc_library_close(library));
    /* Skills outlive the library. */
    CHECK(is(skc_skill_code(skill), "result = 1"));
    skc_skill_free(skill);
}

static void documents_come_as_blobs(void) {
    skc_library *library = open_memory();
    put(library, "rsi", "'''Relative strength index.'''\nresult = 1");
    put(library, "sma", "result = 2");
    skc_blob *blob = NULL;
    OK(skc_library_list(library, NULL, &blob, &err));
    CHECK(has(skc_blob_str(blob), "\"id\":\"rsi\"") && has(skc_blob_str(blob), "\"id\":\"sma\""));
    skc_blob_free(blob);
    OK(skc_library_list(library, "{\"name\": \"sm\"}", &blob, &err));
    CHECK(!has(skc_blob_str(blob), "\"id\":\"rsi\""));
    skc_blob_free(blob);
    OK(skc_library_search(library, "{\"text\": \"rsi\"}", &blob, &err));
    CHECK(has(skc_blob_str(blob), "\"score\":"));
    skc_blob_free(blob);
    OK(skc_library_validate(library, MEAN, SKC_NTS, &blob, &err));
    CHECK(has(skc_blob_str(blob), "\"valid\":true") && has(skc_blob_str(blob), "\"inputs\":1"));
    skc_blob_free(blob);
    OK(skc_library_inject(library, MEAN, SKC_NTS, "{\"inputs\":{\"x\":[4]}}", SKC_NTS, &blob, &err));
    CHECK(is(skc_blob_str(blob), "inputs = {\"x\": [4]}\nresult = sum(inputs['x']) / len(inputs['x'])\n"));
    CHECK(is(skc_blob_method(blob), "ast"));
    skc_blob_free(blob);
    skc_skill *evil = skc_skill_new("evil", "import os\nresult = os.getcwd()", SKC_NTS);
    REFUSED(SKC_E_SECURITY, "import os", skc_library_put(library, evil, NULL, &err));
    skc_skill_free(evil);
    OK(skc_library_stats(library, &blob, &err));
    CHECK(has(skc_blob_str(blob), "\"skills\":2"));
    skc_blob_free(blob);
    OK(skc_library_metrics(library, &blob, &err));
    CHECK(has(skc_blob_str(blob), "skillcache_skills 2\n") && has(skc_blob_str(blob), "# EOF\n"));
    skc_blob_free(blob);
    OK(skc_library_health(library, &blob, &err));
    CHECK(has(skc_blob_str(blob), "\"status\":\"healthy\""));
    OK(skc_library_close(library));
    CHECK(has(skc_blob_str(blob), "\"sandbox\""));
    skc_blob_free(blob);
}

static void skills_are_found_by_embedding_and_set_aside(void) {
    skc_library *library = open_memory();
    static const char *const VECTORS[][2] = {{"east", "[1, 0]"}, {"north", "[0, 1]"}};
    for (size_t i = 0; i < 2; i++) {
        skc_skill *skill = skc_skill_new(VECTORS[i][0], "result = 1", SKC_NTS);
        OK(skc_skill_set(skill, "embedding", VECTORS[i][1], &err));
        REFUSED(SKC_E_INVALID, "embedding[0]", skc_skill_set(skill, "embedding", "[null]", &err));
        OK(skc_library_put(library, skill, NULL, &err));
        skc_skill_free(skill);
    }
    skc_blob *blob = NULL;
    OK(skc_library_search(library, "{\"embedding\": [0, 2]}", &blob, &err));
    CHECK(strncmp(skc_blob_str(blob).ptr, "[{\"id\":\"north\"", 14) == 0 &&
          has(skc_blob_str(blob), "\"vector_score\":1.0"));
    skc_blob_free(blob);
    REFUSED(SKC_E_INVALID, "2 numbers", skc_library_search(library, "{\"embedding\": [1]}", &blob, &err));
    OK(skc_library_set_state(library, "north", "retired", &err));
    OK(skc_library_search(library, "{\"embedding\": [0, 2]}", &blob, &err));
    CHECK(!has(skc_blob_str(blob), "north"));
    skc_blob_free(blob);
    skc_result *result = run(library, "north", NULL, NULL);
    CHECK(skc_result_outcome(result) == SKC_OUTCOME_REJECTED && has(skc_result_error(result), "retired"));
    skc_result_free(result);
    REFUSED(SKC_E_INVALID, "quarantined", skc_library_set_state(library, "north", "gone", &err));
    REFUSED(SKC_E_NOT_FOUND, "nobody", skc_library_set_state(library, "nobody", "active", &err));
    uint64_t count = 0;
    OK(skc_library_rebuild_index(library, &count, &err));
    CHECK(count == 2);
    OK(skc_library_close(library));
}

static void caches_are_cleared_and_swept(void) {
    skc_library *library = open_memory();
    put(library, "one", "result = 1");
    skc_result_free(run(library, "one", NULL, NULL));
    OK(skc_library_clear(library, "execution", &err));
    skc_result *result = run(library, "one", NULL, "{\"cache\": \"refresh\", \"ttl_s\": 0.001}");
    CHECK(!skc_result_is_cached(result));
    skc_result_free(result);
    /* The kernel turns its coarse clock at ticks, which a virtual machine may have to wait for. */
    uint64_t count = 0;
    for (int waited = 0; count == 0; waited++) {
        CHECK(waited < 3000);
        nanosleep(&(struct timespec){0, 20000000}, NULL);
        OK(skc_library_evict_expired(library, &count, &err));
    }
    CHECK(count == 1);
    OK(skc_library_evict_expired(library, NULL, &err));
    REFUSED(SKC_E_INVALID, "execution", skc_library_clear(library, "everything", &err));
    OK(skc_library_close(library));
}

static void a_full_cache_is_said(void) {
    skc_library *library = NULL;
    skc_config *config = new_config();
    OK(skc_config_set(config, "cache.execution.max_entries", "1", &err));
    OK(skc_config_set(config, "cache.prepared.max_entries", "9", &err));
    OK(skc_library_open(":memory:", config, &library, &err));
    skc_config_free(config);
    put(library, "one", "result = 1");
    skc_blob *blob = NULL;
    OK(skc_library_check_caches(library, 0.85, &blob, &err));
    CHECK(is(skc_blob_str(blob), "[]"));
    skc_blob_free(blob);
    skc_result_free(run(library, "one", NULL, NULL));
    OK(skc_library_check_caches(library, 0.85, &blob, &err));
    CHECK(is(skc_blob_str(blob),
             "[{\"cache\":\"execution\",\"bound\":\"entries\",\"size\":1,\"max_size\":1,\"threshold\":0.85,"
             "\"message\":\"Cache utilization alert: 100.0% exceeds threshold of 85.0% (1/1)\"}]"));
    skc_blob_free(blob);
    OK(skc_library_check_caches(library, 0, &blob, &err));
    CHECK(has(skc_blob_str(blob), "\"cache\":\"metadata\",\"bound\":\"bytes\""));
    skc_blob_free(blob);
    static const double wrong[] = {-0.01, 1.01, HUGE_VAL, -HUGE_VAL, (double)NAN};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        skc_error *error = NULL;
        blob = (skc_blob *)1;
        CHECK(skc_library_check_caches(library, wrong[i], &blob, &error) == SKC_E_INVALID && blob == NULL);
        CHECK(has(skc_error_json(error), "\"path\":\"threshold\""));
        skc_error_free(error);
    }
    CHECK(skc_library_shut_down(library) == SKC_OK);
    REFUSED(SKC_E_CLOSED, "closed", skc_library_check_caches(library, 0.85, &blob, &err));
    OK(skc_library_close(library));
}

static void a_library_is_checked_and_copied(void) {
    char folder[] = "/tmp/door_test-XXXXXX", file[64], copy[64];
    CHECK(mkdtemp(folder) != NULL);
    snprintf(file, sizeof file, "%s/skills.db", folder);
    snprintf(copy, sizeof copy, "%s/copy.db", folder);
    skc_library *library = NULL;
    skc_blob *blob = NULL;
    skc_config *config = new_config();
    OK(skc_library_open(file, config, &library, &err));
    put(library, "one", "result = 1");
    OK(skc_library_check(library, "full", &blob, &err));
    CHECK(has(skc_blob_str(blob), "{\"ok\":true,\"findings\":[],\"took_ms\":"));
    skc_blob_free(blob);
    OK(skc_library_backup(library, copy, &err));
    REFUSED(SKC_E_INVALID, "already", skc_library_backup(library, copy, &err));
    REFUSED(SKC_E_DATABASE, "no folder", skc_library_backup(library, "/none/copy.db", &err));
    put(library, "two", "result = 2");
    OK(skc_library_close(library));
    OK(skc_config_set(config, "store.access", "read_only", &err));
    OK(skc_library_open(copy, config, &library, &err));
    skc_config_free(config);
    skc_skill *skill = NULL;
    OK(skc_library_get(library, "one", 0, &skill, &err));
    skc_skill_free(skill);
    REFUSED(SKC_E_NOT_FOUND, "two", skc_library_get(library, "two", 0, &skill, &err));
    OK(skc_library_close(library));
    remove(file);
    remove(copy);
    rmdir(folder);
}

static void skills_go_out_and_come_in(void) {
    char folder[] = "/tmp/skillcache-XXXXXX", path[64];
    CHECK(mkdtemp(folder) != NULL);
    snprintf(path, sizeof path, "%s/skills.jsonl", folder);
    skc_library *library = open_memory();
    put(library, "one", "result = 1");
    skc_blob *blob = NULL;
    OK(skc_library_export(library, path, NULL, &blob, &err));
    CHECK(is(skc_blob_str(blob), "{\"format\":\"bundle\",\"exported\":1,\"versions\":1,\"rejected\":[],\"notes\":[]}"));
    skc_blob_free(blob);
    REFUSED(SKC_E_INVALID, "overwrite", skc_library_export(library, path, NULL, &blob, &err));
    OK(skc_library_close(library));
    library = open_memory();
    OK(skc_library_import(library, path, "{\"dry_run\": true}", &blob, &err));
    CHECK(has(skc_blob_str(blob), "{\"id\":\"one\",\"version\":null,\"source\":\"line 2\"}"));
    skc_blob_free(blob);
    OK(skc_library_import(library, path, NULL, &blob, &err));
    CHECK(has(skc_blob_str(blob), "\"imported\":[{\"id\":\"one\",\"version\":1,"));
    skc_blob_free(blob);
    skc_result_free(run(library, "one", NULL, NULL));
    REFUSED(SKC_E_INVALID, "read", skc_library_import(library, "/nowhere/at all", NULL, &blob, &err));
    CHECK(skc_library_shut_down(library) == SKC_OK);
    REFUSED(SKC_E_CLOSED, "closed", skc_library_import(library, path, NULL, &blob, &err));
    OK(skc_library_close(library));
    CHECK(remove(path) == 0 && remove(folder) == 0);
}

typedef struct {
    uint64_t calls, last, stop_after;
} steps;

static bool step(void *user_data, uint64_t done, uint64_t total) {
    steps *seen = user_data;
    CHECK(done == seen->last + 1 && done <= total);
    seen->last = done;
    seen->calls++;
    return done < seen->stop_after;
}

static void many_runs_report_progress_and_can_be_cancelled(void) {
    skc_library *library = open_memory();
    put(library, "twice", "result = inputs['x'] * 2");
    const char *items = "[{\"inputs\":{\"x\":1}},{\"inputs\":{\"x\":2}},{\"inputs\":{\"x\":3}},{\"inputs\":{\"x\":4}}]";
    steps seen = {0, 0, 100};
    skc_results *results = NULL;
    OK(skc_library_run_many(library, "twice", items, SKC_NTS, NULL, step, &seen, &results, &err));
    CHECK(seen.calls == 4 && skc_results_len(results) == 4 && skc_results_at(results, 4) == NULL);
    CHECK(is(skc_result_value(skc_results_at(results, 3)), "8"));
    skc_results_free(results);

    seen = (steps){0, 0, 1};
    const char *options = "{\"concurrency\": 1, \"cache\": \"no\"}";
    OK(skc_library_run_many(library, "twice", items, SKC_NTS, options, step, &seen, &results, &err));
    CHECK(skc_results_len(results) == 4);
    CHECK(skc_result_outcome(skc_results_at(results, 3)) == SKC_OUTCOME_CANCELLED);
    skc_results_free(results);
    OK(skc_library_run_many(library, "twice", "[]", SKC_NTS, NULL, NULL, NULL, &results, &err));
    CHECK(skc_results_len(results) == 0);
    skc_results_free(results);
    results = (skc_results *)1;
    REFUSED(SKC_E_INVALID, "[1]",
            skc_library_run_many(library, "twice", "[{}, 7]", SKC_NTS, NULL, NULL, NULL, &results, &err));
    CHECK(results == NULL);
    OK(skc_library_close(library));
}

static skc_task *submit(skc_library *library, const char *id, const char *data) {
    skc_task *task = NULL;
    OK(skc_library_submit(library, id, data, SKC_NTS, NULL, &task, &err));
    return task;
}

static void tasks_run_in_the_background(void) {
    const gate gate = new_gate();
    skc_library *library = open_held(&gate);
    put(library, "sleep", SLEEP);
    skc_task *task = submit(library, "s", "{}");
    CHECK(skc_task_poll(task) == SKC_PENDING);
    skc_result *result = (skc_result *)1;
    REFUSED(SKC_E_TIMEOUT, "", skc_task_wait(task, 0, &result, &err));
    CHECK(result == NULL);
    struct pollfd readable = {skc_task_fd(task), POLLIN, 0};
    open_gate(&gate);
    CHECK(poll(&readable, 1, 60000) == 1 && skc_task_poll(task) == SKC_OK);
    for (int i = 0; i < 2; i++) {
        OK(skc_task_wait(task, -1, &result, &err));
        CHECK(is(skc_result_value(result), "\"awake\""));
        skc_result_free(result);
    }
    skc_task_free(task);

    task = submit(library, "sleep", "{\"inputs\":{\"s\":600}}");
    CHECK(skc_task_cancel(task) == SKC_OK);
    OK(skc_task_wait(task, 60000, &result, &err));
    CHECK(skc_result_outcome(result) == SKC_OUTCOME_CANCELLED);
    skc_result_free(result);
    skc_task_free(task);

    skc_task_free(submit(library, "sleep", "{\"inputs\":{\"s\":600}}")); /* detached */
    task = submit(library, "sleep", "{\"inputs\":{\"s\":600}}");
    OK(skc_library_close(library));
    REFUSED(SKC_E_CANCELLED, "", skc_task_wait(task, -1, &result, &err));
    CHECK(skc_task_poll(task) == SKC_OK);
    skc_task_free(task);
    remove_gate(&gate);
}

/* Submits until the queue takes it: in a queue of one, the worker has then taken the one before. */
static skc_task *submit_patiently(skc_library *library, const char *data) {
    skc_task *task = NULL;
    while (skc_library_submit(library, "sleep", data, SKC_NTS, NULL, &task, NULL) == SKC_E_BUSY) {
        CHECK(task == NULL);
        nanosleep(&(struct timespec){0, 5000000}, NULL);
    }
    CHECK(task != NULL);
    return task;
}

static void a_waiting_task_is_cancelled_at_once_and_its_place_is_free(void) {
    skc_library *library = NULL;
    skc_config *config = new_config();
    OK(skc_config_set(config, "task.workers", "1", &err));
    OK(skc_config_set(config, "task.queue", "1", &err));
    OK(skc_library_open(":memory:", config, &library, &err));
    skc_config_free(config);
    put(library, "sleep", SLEEP);
    char data[] = "{\"inputs\":{\"s\":600}}";
    skc_task *running = submit_patiently(library, data), *waiting = submit_patiently(library, data), *next = NULL;
    memset(data, '#', sizeof data - 1); /* what was submitted was copied */
    const char *quick = "{\"inputs\":{\"s\":0}}";
    REFUSED(SKC_E_BUSY, "task.queue", skc_library_submit(library, "sleep", quick, SKC_NTS, NULL, &next, &err));
    struct pollfd readable = {skc_task_fd(waiting), POLLIN, 0};
    CHECK(poll(&readable, 1, 0) == 0 && skc_task_poll(waiting) == SKC_PENDING);
    CHECK(skc_task_cancel(waiting) == SKC_OK);
    CHECK(poll(&readable, 1, 0) == 1 && skc_task_poll(waiting) == SKC_OK);
    skc_result *result = NULL;
    OK(skc_task_wait(waiting, 0, &result, &err));
    CHECK(skc_result_outcome(result) == SKC_OUTCOME_CANCELLED);
    skc_result_free(result);
    CHECK(skc_task_poll(running) == SKC_PENDING);
    OK(skc_library_submit(library, "sleep", quick, SKC_NTS, NULL, &next, &err));
    CHECK(skc_task_cancel(running) == SKC_OK);
    OK(skc_task_wait(next, -1, &result, &err));
    CHECK(is(skc_result_value(result), "\"awake\""));
    skc_result_free(result);
    skc_task_free(running);
    skc_task_free(waiting);
    skc_task_free(next);
    OK(skc_library_close(library));
}

static void every_limit_is_an_option_of_a_call_and_a_field_of_a_skill(void) {
    static const char *const limits[][3] = {
        {"timeout_ms", "0", "from 1 to"},      {"max_cpu_s", "0", "from 1 to"},
        {"max_memory_mb", "31", "from 32 to"}, {"max_file_mb", "-1", "from 0 to"},
        {"max_open_files", "15", "from 16"},   {"max_threads", "0", "from 1 to"},
        {"max_output_kb", "-1", "from 0 to"},  {"max_answer_kb", "0", "from 1 to"},
    };
    skc_library *library = open_memory();
    put(library, "one", "result = 1");
    skc_skill *skill = skc_skill_new("s", "result = 1", SKC_NTS);
    for (size_t i = 0; i < sizeof limits / sizeof *limits; i++) {
        char options[64], stated[64];
        skc_result *result = NULL;
        snprintf(options, sizeof options, "{\"%s\": %s}", limits[i][0], limits[i][1]);
        REFUSED(SKC_E_INVALID, limits[i][2], skc_library_run(library, "one", NULL, 0, options, &result, &err));
        REFUSED(SKC_E_INVALID, limits[i][2], skc_skill_set(skill, limits[i][0], limits[i][1], &err));
        REFUSED(SKC_E_INVALID, limits[i][0], skc_skill_set(skill, "limits", options, &err));
        OK(skc_skill_set(skill, limits[i][0], "1000", &err));
        snprintf(stated, sizeof stated, "\"%s\":1000", limits[i][0]);
        CHECK(has(skc_skill_json(skill), stated));
    }
    OK(skc_library_put(library, skill, NULL, &err));
    skc_skill_free(skill);
    skc_result_free(run(library, "s", NULL, "{\"max_cpu_s\": 2, \"max_threads\": 3, \"max_file_mb\": 0}"));
    OK(skc_library_close(library));
}

static void events_are_read_in_order(void) {
    skc_library *library = open_memory();
    put(library, "bad", "result = 1 / 0");
    skc_result_free(run(library, "bad", NULL, NULL));
    struct pollfd readable = {skc_library_event_fd(library), POLLIN, 0};
    static const char *const kinds[] = {"sandbox_level", "skill_put", "run_failed"};
    for (int i = 0; i < 3; i++) {
        char kind[64];
        skc_blob *event = NULL;
        CHECK(poll(&readable, 1, 0) == 1);
        OK(skc_library_next_event(library, 0, &event, &err));
        snprintf(kind, sizeof kind, "\"seq\":%d,\"kind\":\"%s\"", i + 1, kinds[i]);
        CHECK(has(skc_blob_str(event), kind));
        skc_blob_free(event);
    }
    skc_blob *event = (skc_blob *)1;
    REFUSED(SKC_E_TIMEOUT, "", skc_library_next_event(library, 10, &event, &err));
    CHECK(event == NULL && poll(&readable, 1, 0) == 0);
    OK(skc_library_close(library));
}

typedef struct {
    int events, drops;
} delivery;

static void on_event(void *user_data, const char *json, size_t len) {
    delivery *seen = user_data;
    CHECK(json[len] == '\0' && strlen(json) == len && json[0] == '{');
    seen->events++;
}

static void on_drop(void *user_data) { ((delivery *)user_data)->drops++; }

static void events_come_to_a_callback_and_user_data_is_dropped_once(void) {
    delivery seen = {0, 0};
    skc_config *config = new_config();
    OK(skc_config_on_event(config, on_event, &seen, on_drop, &err));
    skc_library *libraries[2];
    for (int i = 0; i < 2; i++)
        OK(skc_library_open(":memory:", config, &libraries[i], &err));
    skc_config_free(config);
    put(libraries[0], "one", "result = 1");
    skc_blob *event = NULL;
    REFUSED(SKC_E_INVALID, "callback", skc_library_next_event(libraries[0], 0, &event, &err));
    OK(skc_library_close(libraries[0]));
    CHECK(seen.drops == 0);
    OK(skc_library_close(libraries[1]));
    CHECK(seen.drops == 1 && seen.events == 2);
}

int main(void) {
    RUN_TEST(versions_agree);
    RUN_TEST(a_skill_answers_and_the_second_call_comes_from_memory);
    RUN_TEST(a_failing_run_is_a_result);
    RUN_TEST(a_view_gives_everything_at_once);
    RUN_TEST(skills_are_kept_by_version);
    RUN_TEST(documents_come_as_blobs);
    RUN_TEST(skills_are_found_by_embedding_and_set_aside);
    RUN_TEST(caches_are_cleared_and_swept);
    RUN_TEST(a_full_cache_is_said);
    RUN_TEST(a_library_is_checked_and_copied);
    RUN_TEST(skills_go_out_and_come_in);
    RUN_TEST(many_runs_report_progress_and_can_be_cancelled);
    RUN_TEST(tasks_run_in_the_background);
    RUN_TEST(a_waiting_task_is_cancelled_at_once_and_its_place_is_free);
    RUN_TEST(every_limit_is_an_option_of_a_call_and_a_field_of_a_skill);
    RUN_TEST(events_are_read_in_order);
    RUN_TEST(events_come_to_a_callback_and_user_data_is_dropped_once);
    return 0;
}
