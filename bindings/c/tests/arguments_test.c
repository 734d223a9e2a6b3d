/* Wrong arguments: every NULL, text that is not UTF-8, lengths, and bad input of every kind. Each is refused with a
 * status and words that help, outputs are NULL, and the library goes on working. */

#define _POSIX_C_SOURCE 200809L

#include "check.h"

#include <sys/stat.h>
#include <unistd.h>

static const char BAD[] = "\xff\xfe";
static skc_library *library;

static void still_works(void) {
    skc_result *result = run(library, "fine", NULL, NULL);
    CHECK(is(skc_result_value(result), "\"fine\""));
    skc_result_free(result);
}

#define INVALID(words, call) REFUSED(SKC_E_INVALID, words, call)

static void null_and_bad_text_are_refused_by_the_library(void) {
    skc_library *opened = (skc_library *)1;
    skc_skill *skill = skc_skill_new("fine", "result = 1", SKC_NTS), *got = (skc_skill *)1;
    skc_blob *blob = (skc_blob *)1;
    skc_result *result = (skc_result *)1;
    skc_results *results = (skc_results *)1;
    skc_task *task = (skc_task *)1;
    INVALID("path", skc_library_open(NULL, NULL, &opened, &err));
    CHECK(opened == NULL);
    INVALID("path", skc_library_open(BAD, NULL, &opened, &err));
    INVALID("out", skc_library_open(":memory:", NULL, NULL, &err));
    INVALID("library", skc_library_put(NULL, skill, NULL, &err));
    INVALID("skill", skc_library_put(library, NULL, NULL, &err));
    INVALID("library", skc_library_get(NULL, "fine", 0, &got, &err));
    CHECK(got == NULL);
    INVALID("id", skc_library_get(library, NULL, 0, &got, &err));
    INVALID("id", skc_library_get(library, BAD, 0, &got, &err));
    INVALID("out", skc_library_get(library, "fine", 0, NULL, &err));
    INVALID("library", skc_library_remove(NULL, "fine", &err));
    INVALID("id", skc_library_remove(library, NULL, &err));
    INVALID("id", skc_library_remove(library, BAD, &err));
    INVALID("library", skc_library_list(NULL, NULL, &blob, &err));
    CHECK(blob == NULL);
    INVALID("filter", skc_library_list(library, BAD, &blob, &err));
    INVALID("filter", skc_library_list(library, "[]", &blob, &err));
    INVALID("limit", skc_library_list(library, "{\"limits\": 3}", &blob, &err));
    INVALID("out", skc_library_list(library, NULL, NULL, &err));
    INVALID("library", skc_library_search(NULL, NULL, &blob, &err));
    INVALID("query", skc_library_search(library, BAD, &blob, &err));
    INVALID("out", skc_library_search(library, NULL, NULL, &err));
    INVALID("library", skc_library_validate(NULL, "x", 1, &blob, &err));
    INVALID("code", skc_library_validate(library, NULL, 1, &blob, &err));
    INVALID("code", skc_library_validate(library, BAD, 2, &blob, &err));
    INVALID("out", skc_library_validate(library, "x", 1, NULL, &err));
    INVALID("library", skc_library_inject(NULL, "x", 1, NULL, 0, &blob, &err));
    INVALID("code", skc_library_inject(library, NULL, 3, NULL, 0, &blob, &err));
    INVALID("data", skc_library_inject(library, "x", 1, NULL, 3, &blob, &err));
    INVALID("data", skc_library_inject(library, "x", 1, BAD, SKC_NTS, &blob, &err));
    INVALID("out", skc_library_inject(library, "x", 1, NULL, 0, NULL, &err));
    INVALID("library", skc_library_run(NULL, "fine", NULL, 0, NULL, &result, &err));
    CHECK(result == NULL);
    INVALID("id", skc_library_run(library, NULL, NULL, 0, NULL, &result, &err));
    INVALID("id", skc_library_run(library, BAD, NULL, 0, NULL, &result, &err));
    INVALID("data", skc_library_run(library, "fine", NULL, 7, NULL, &result, &err));
    INVALID("data", skc_library_run(library, "fine", BAD, 2, NULL, &result, &err));
    INVALID("options", skc_library_run(library, "fine", NULL, 0, BAD, &result, &err));
    INVALID("out", skc_library_run(library, "fine", NULL, 0, NULL, NULL, &err));
    INVALID("library", skc_library_run_many(NULL, "fine", "[]", 2, NULL, NULL, NULL, &results, &err));
    CHECK(results == NULL);
    INVALID("id", skc_library_run_many(library, NULL, "[]", 2, NULL, NULL, NULL, &results, &err));
    INVALID("items", skc_library_run_many(library, "fine", NULL, 2, NULL, NULL, NULL, &results, &err));
    INVALID("items", skc_library_run_many(library, "fine", BAD, 2, NULL, NULL, NULL, &results, &err));
    INVALID("out", skc_library_run_many(library, "fine", "[]", 2, NULL, NULL, NULL, NULL, &err));
    INVALID("library", skc_library_submit(NULL, "fine", NULL, 0, NULL, &task, &err));
    CHECK(task == NULL);
    INVALID("id", skc_library_submit(library, NULL, NULL, 0, NULL, &task, &err));
    INVALID("options", skc_library_submit(library, "fine", NULL, 0, BAD, &task, &err));
    INVALID("out", skc_library_submit(library, "fine", NULL, 0, NULL, NULL, &err));
    INVALID("library", skc_library_stats(NULL, &blob, &err));
    INVALID("out", skc_library_stats(library, NULL, &err));
    INVALID("library", skc_library_metrics(NULL, &blob, &err));
    INVALID("out", skc_library_metrics(library, NULL, &err));
    INVALID("library", skc_library_health(NULL, &blob, &err));
    INVALID("out", skc_library_health(library, NULL, &err));
    INVALID("library", skc_library_next_event(NULL, 0, &blob, &err));
    INVALID("out", skc_library_next_event(library, 0, NULL, &err));
    INVALID("library", skc_library_import(NULL, "x", NULL, &blob, &err));
    CHECK(blob == NULL);
    INVALID("path", skc_library_import(library, NULL, NULL, &blob, &err));
    INVALID("path", skc_library_import(library, BAD, NULL, &blob, &err));
    INVALID("options", skc_library_import(library, "x", BAD, &blob, &err));
    INVALID("out", skc_library_import(library, "x", NULL, NULL, &err));
    INVALID("library", skc_library_export(NULL, "x", NULL, &blob, &err));
    CHECK(blob == NULL);
    INVALID("path", skc_library_export(library, NULL, NULL, &blob, &err));
    INVALID("path", skc_library_export(library, BAD, NULL, &blob, &err));
    INVALID("options", skc_library_export(library, "x", BAD, &blob, &err));
    INVALID("out", skc_library_export(library, "x", NULL, NULL, &err));
    INVALID("library", skc_library_check_caches(NULL, 0.5, &blob, &err));
    CHECK(blob == NULL);
    INVALID("out", skc_library_check_caches(library, 0.5, NULL, &err));
    INVALID("library", skc_library_check(NULL, "quick", &blob, &err));
    INVALID("which", skc_library_check(library, NULL, &blob, &err));
    INVALID("which", skc_library_check(library, BAD, &blob, &err));
    INVALID("slow", skc_library_check(library, "slow", &blob, &err));
    CHECK(blob == NULL);
    INVALID("out", skc_library_check(library, "quick", NULL, &err));
    INVALID("library", skc_library_backup(NULL, "/tmp/no-copy.db", &err));
    INVALID("path", skc_library_backup(library, NULL, &err));
    INVALID("path", skc_library_backup(library, BAD, &err));
    INVALID("path", skc_library_backup(library, "", &err));
    INVALID("library", skc_library_clear(NULL, "all", &err));
    INVALID("which", skc_library_clear(library, NULL, &err));
    INVALID("which", skc_library_clear(library, BAD, &err));
    INVALID("library", skc_library_evict_expired(NULL, NULL, &err));
    INVALID("library", skc_library_set_state(NULL, "fine", "active", &err));
    INVALID("id", skc_library_set_state(library, NULL, "active", &err));
    INVALID("id", skc_library_set_state(library, "no id", "active", &err));
    INVALID("state", skc_library_set_state(library, "fine", NULL, &err));
    INVALID("state", skc_library_set_state(library, "fine", BAD, &err));
    INVALID("library", skc_library_rebuild_index(NULL, NULL, &err));
    CHECK(skc_library_event_fd(NULL) == -1);
    CHECK(skc_library_close(NULL) == SKC_OK);
    /* Without an error to fill, too. */
    CHECK(skc_library_get(library, NULL, 0, &got, NULL) == SKC_E_INVALID);
    skc_skill_free(skill);
    still_works();
}

static void null_and_bad_text_are_refused_by_the_other_objects(void) {
    skc_config *config = skc_config_new();
    INVALID("config", skc_config_set(NULL, "pool.size", "3", &err));
    INVALID("key", skc_config_set(config, NULL, "3", &err));
    INVALID("key", skc_config_set(config, BAD, "3", &err));
    INVALID("value", skc_config_set(config, "pool.size", NULL, &err));
    INVALID("value", skc_config_set(config, "pool.size", BAD, &err));
    INVALID("config", skc_config_on_event(NULL, NULL, NULL, NULL, &err));
    INVALID("callback", skc_config_on_event(config, NULL, NULL, NULL, &err));
    skc_config_free(config);
    CHECK(skc_skill_new(NULL, "x", 1) == NULL && skc_skill_new("x", NULL, 1) == NULL);
    CHECK(skc_skill_new(BAD, "x", 1) == NULL && skc_skill_new("x", BAD, 2) == NULL);
    skc_skill *skill = skc_skill_new("x", "result = 1", SKC_NTS);
    INVALID("skill", skc_skill_set(NULL, "name", "x", &err));
    INVALID("field", skc_skill_set(skill, NULL, "x", &err));
    INVALID("value", skc_skill_set(skill, "name", NULL, &err));
    INVALID("value", skc_skill_set(skill, "name", BAD, &err));
    INVALID("tags", skc_skill_set(skill, "tag", "[]", &err));
    INVALID("tags", skc_skill_set(skill, "tags", "not a list", &err));
    skc_skill_free(skill);
    skc_result *result = (skc_result *)1;
    INVALID("task", skc_task_wait(NULL, 0, &result, &err));
    CHECK(result == NULL && skc_task_poll(NULL) == SKC_E_INVALID && skc_task_cancel(NULL) == SKC_E_INVALID);
    CHECK(skc_task_fd(NULL) == -1);
    still_works();
}

static void getters_and_frees_take_null(void) {
    CHECK(is(skc_skill_id(NULL), "") && is(skc_skill_code(NULL), "") && is(skc_skill_json(NULL), ""));
    CHECK(skc_skill_version(NULL) == 0 && skc_result_outcome(NULL) == -1 && is(skc_result_value(NULL), ""));
    CHECK(is(skc_result_stdout(NULL), "") && is(skc_result_stderr(NULL), "") && is(skc_result_error(NULL), ""));
    CHECK(is(skc_result_level(NULL), "") && is(skc_result_json(NULL), "") && !skc_result_is_cached(NULL));
    CHECK(skc_result_duration_us(NULL) == 0 && skc_results_len(NULL) == 0 && skc_results_at(NULL, 0) == NULL);
    CHECK(is(skc_blob_str(NULL), "") && skc_error_code(NULL) == SKC_OK && is(skc_error_message(NULL), ""));
    CHECK(is(skc_error_json(NULL), "") && is(skc_blob_method(NULL), ""));
    skc_config_free(NULL);
    skc_skill_free(NULL);
    skc_result_free(NULL);
    skc_results_free(NULL);
    skc_task_free(NULL);
    skc_blob_free(NULL);
    skc_error_free(NULL);
}

/* Exactly as many bytes as the length says, so that a sanitizer sees a read beyond. */
static char *exactly(const char *text) {
    char *copy = malloc(strlen(text));
    CHECK(copy != NULL);
    memcpy(copy, text, strlen(text));
    return copy;
}

static void lengths_are_obeyed(void) {
    const char *source = "result = inputs['x']", *text = "{\"inputs\":{\"x\":5}}", *list = "[{\"inputs\":{\"x\":6}}]";
    char *code = exactly(source), *data = exactly(text), *items = exactly(list);
    skc_skill *skill = skc_skill_new("length", code, strlen(source));
    CHECK(is(skc_skill_code(skill), source));
    OK(skc_library_put(library, skill, NULL, &err));
    skc_skill_free(skill);
    skc_result *result = NULL;
    OK(skc_library_run(library, "length", data, strlen(text), NULL, &result, &err));
    CHECK(is(skc_result_value(result), "5"));
    skc_result_free(result);
    skc_results *results = NULL;
    OK(skc_library_run_many(library, "length", items, strlen(list), NULL, NULL, NULL, &results, &err));
    CHECK(is(skc_result_value(skc_results_at(results, 0)), "6"));
    skc_results_free(results);
    skc_blob *blob = NULL;
    OK(skc_library_inject(library, code, strlen(source), data, strlen(text), &blob, &err));
    CHECK(has(skc_blob_str(blob), "inputs = {\"x\": 5}"));
    skc_blob_free(blob);
    free(code);
    free(data);
    free(items);
    skill = skc_skill_new("nul", "result = 'a\0b'", 14);
    REFUSED(SKC_E_SYNTAX, "", skc_library_put(library, skill, NULL, &err));
    skc_skill_free(skill);
    still_works();
}

static void bad_skills_are_refused(void) {
    skc_result *result = NULL;
    REFUSED(SKC_E_NOT_FOUND, "nope", skc_library_run(library, "nope", NULL, 0, NULL, &result, &err));
    skc_skill *skill = skc_skill_new("s", "x = 1\nresult = 1 +* 2\n", SKC_NTS);
    skc_error *error = NULL;
    CHECK(skc_library_put(library, skill, NULL, &error) == SKC_E_SYNTAX);
    CHECK(has(skc_error_json(error), "\"line\":2") && has(skc_error_json(error), "\"column\":13"));
    skc_error_free(error);
    skc_skill_free(skill);
    skill = skc_skill_new("s", "x = 1\nreturn x", SKC_NTS);
    CHECK(skc_library_put(library, skill, NULL, &error) == SKC_E_SYNTAX);
    CHECK(has(skc_error_json(error), "\"line\":2") && has(skc_error_message(error), "return"));
    skc_error_free(error);
    skc_skill_free(skill);
    skill = skc_skill_new("../etc", "result = 1", SKC_NTS);
    INVALID("letters", skc_library_put(library, skill, NULL, &err));
    skc_skill_free(skill);
    skill = skc_skill_new("s", "result = 1", SKC_NTS);
    INVALID("language", skc_skill_set(skill, "langage", "python", &err));
    OK(skc_skill_set(skill, "language", "javascript", &err));
    REFUSED(SKC_E_UNSUPPORTED, "javascript", skc_library_put(library, skill, NULL, &err));
    OK(skc_skill_set(skill, "language", "python", &err));
    OK(skc_skill_set(skill, "dependencies", "[\"no_such_package\"]", &err));
    CHECK(skc_library_put(library, skill, NULL, &error) == SKC_E_VALIDATION);
    CHECK(has(skc_error_json(error), "\"missing\":[\"no_such_package\"]"));
    skc_error_free(error);
    skc_skill_free(skill);
    still_works();
}

static void bad_data_is_refused_with_its_path(void) {
    static const struct {
        const char *data, *words;
    } cases[] = {
        {"not json", "JSON"},
        {"{\"inputs\": {", "JSON"},
        {"[]", "array"},
        {"{\"inputs\": [1]}", "$.inputs"},
        {"{\"inputs\": 3}", "$.inputs"},
        {"{\"context\": \"x\"}", "$.context"},
        {"{\"input\": {}}", "inputs"},
        {"{\"inputs\": {\"a\": 1, \"a\": 2}}", "$.inputs.a"},
        {"{\"inputs\": {\"a\": [NaN]}}", "$.inputs.a[0]"},
        {"{\"inputs\": {\"a\": 1e999}}", "$.inputs.a"},
        {"{\"inputs\": {}} trailing", "JSON"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        skc_result *result = NULL;
        INVALID(cases[i].words, skc_library_run(library, "fine", cases[i].data, SKC_NTS, NULL, &result, &err));
        CHECK(result == NULL);
    }
    static const char *const options[] = {"[]",
                                          "{\"timeout\": 5}",
                                          "{\"timeout_ms\": 0}",
                                          "{\"cache\": \"maybe\"}",
                                          "{\"version\": -1}",
                                          "{\"ttl_s\": \"x\"}",
                                          "{"};
    for (size_t i = 0; i < sizeof options / sizeof *options; i++) {
        skc_result *result = NULL;
        INVALID("", skc_library_run(library, "fine", NULL, 0, options[i], &result, &err));
    }
    still_works();
}

static void bad_options_are_refused(void) {
    skc_config *config = skc_config_new();
    skc_error *error = NULL;
    CHECK(skc_config_set(config, "sandbox.timout_ms", "5", &error) == SKC_E_INVALID);
    CHECK(has(skc_error_json(error), "\"suggestion\":\"sandbox.timeout_ms\""));
    skc_error_free(error);
    INVALID("1000", skc_config_set(config, "pool.size", "0", &err));
    INVALID("whole number", skc_config_set(config, "pool.size", "many", &err));
    OK(skc_config_set(config, "max_execution_cache_size", "7", &err));
    OK(skc_config_set(config, "sandbox.without", "namespaces, landlock, seccomp", &err));
    skc_library *bare = NULL;
    OK(skc_library_open(":memory:", config, &bare, &err));
    skc_skill *skill = skc_skill_new("s", "result = 1", SKC_NTS);
    CHECK(skc_library_put(bare, skill, NULL, &error) == SKC_E_SANDBOX);
    CHECK(has(skc_error_json(error), "\"missing\":[\"files\","));
    skc_error_free(error);
    skc_skill_free(skill);
    skc_library_close(bare);
    skc_config_free(config);
}

/* Overwrites bytes of a file. */
static void patch(const char *path, long offset, const char *bytes, size_t length) {
    FILE *file = fopen(path, "r+b");
    CHECK(file != NULL && fseek(file, offset, SEEK_SET) == 0 && fwrite(bytes, 1, length, file) == length);
    CHECK(fclose(file) == 0);
}

static void files_that_are_no_library_are_refused(void) {
    char folder[] = "/tmp/arguments_test-XXXXXX", path[64], missing[64];
    skc_library *opened = NULL;
    CHECK(mkdtemp(folder) != NULL);
    snprintf(path, sizeof path, "%s/skills.db", folder);
    snprintf(missing, sizeof missing, "%s/missing/skills.db", folder);
    REFUSED(SKC_E_DATABASE, "missing", skc_library_open(missing, NULL, &opened, &err));
    REFUSED(SKC_E_DATABASE, "", skc_library_open(folder, NULL, &opened, &err));
    OK(skc_library_open(path, NULL, &opened, &err));
    OK(skc_library_close(opened));
    /* Bytes 60 to 63 of an SQLite file are its user_version. */
    patch(path, 60, "\0\0\3\347", 4);
    REFUSED(SKC_E_NEWER_DATABASE, "999", skc_library_open(path, NULL, &opened, &err));
    patch(path, 0, "These are my notes.", 19);
    REFUSED(SKC_E_CORRUPT, "", skc_library_open(path, NULL, &opened, &err));
    CHECK(opened == NULL && unlink(path) == 0 && rmdir(folder) == 0);
}

int main(void) {
    library = open_memory();
    put(library, "fine", "result = 'fine'");
    RUN_TEST(null_and_bad_text_are_refused_by_the_library);
    RUN_TEST(null_and_bad_text_are_refused_by_the_other_objects);
    RUN_TEST(getters_and_frees_take_null);
    RUN_TEST(lengths_are_obeyed);
    RUN_TEST(bad_skills_are_refused);
    RUN_TEST(bad_data_is_refused_with_its_path);
    RUN_TEST(bad_options_are_refused);
    RUN_TEST(files_that_are_no_library_are_refused);
    OK(skc_library_close(library));
    return 0;
}
