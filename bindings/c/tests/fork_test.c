/* After fork() the child is refused everything, may free what it has, and the parent's database is not touched. */

#define _POSIX_C_SOURCE 200809L

#include "check.h"

#include <sys/wait.h>
#include <unistd.h>

static void child_of(skc_library *library, skc_task *task, skc_result *result, skc_skill *skill, skc_blob *blob) {
    skc_library *none = NULL;
    skc_skill *no_skill = NULL;
    skc_blob *no_blob = NULL;
    skc_result *no_result = NULL;
    skc_results *no_results = NULL;
    skc_task *no_task = NULL;
    UNUSED(none);
    REFUSED(SKC_E_FORKED, "fork", skc_library_put(library, skill, NULL, &err));
    REFUSED(SKC_E_FORKED, "fork", skc_library_get(library, "one", 0, &no_skill, &err));
    REFUSED(SKC_E_FORKED, "fork", skc_library_remove(library, "one", &err));
    REFUSED(SKC_E_FORKED, "fork", skc_library_list(library, NULL, &no_blob, &err));
    REFUSED(SKC_E_FORKED, "fork", skc_library_search(library, NULL, &no_blob, &err));
    REFUSED(SKC_E_FORKED, "fork", skc_library_validate(library, "x", 1, &no_blob, &err));
    REFUSED(SKC_E_FORKED, "fork", skc_library_inject(library, "x", 1, NULL, 0, &no_blob, &err));
    REFUSED(SKC_E_FORKED, "fork", skc_library_run(library, "one", NULL, 0, NULL, &no_result, &err));
    REFUSED(SKC_E_FORKED, "fork", skc_library_run_many(library, "one", "[]", 2, NULL, NULL, NULL, &no_results, &err));
    REFUSED(SKC_E_FORKED, "fork", skc_library_submit(library, "one", NULL, 0, NULL, &no_task, &err));
    REFUSED(SKC_E_FORKED, "fork", skc_library_stats(library, &no_blob, &err));
    REFUSED(SKC_E_FORKED, "fork", skc_library_metrics(library, &no_blob, &err));
    REFUSED(SKC_E_FORKED, "fork", skc_library_health(library, &no_blob, &err));
    REFUSED(SKC_E_FORKED, "fork", skc_library_next_event(library, 0, &no_blob, &err));
    REFUSED(SKC_E_FORKED, "fork", skc_library_import(library, "x", NULL, &no_blob, &err));
    REFUSED(SKC_E_FORKED, "fork", skc_library_export(library, "x", NULL, &no_blob, &err));
    REFUSED(SKC_E_FORKED, "fork", skc_library_check_caches(library, 0.5, &no_blob, &err));
    REFUSED(SKC_E_FORKED, "fork", skc_library_check(library, "quick", &no_blob, &err));
    REFUSED(SKC_E_FORKED, "fork", skc_library_backup(library, "/tmp/no-copy.db", &err));
    REFUSED(SKC_E_FORKED, "fork", skc_library_clear(library, "all", &err));
    REFUSED(SKC_E_FORKED, "fork", skc_library_evict_expired(library, NULL, &err));
    REFUSED(SKC_E_FORKED, "fork", skc_library_set_state(library, "one", "active", &err));
    REFUSED(SKC_E_FORKED, "fork", skc_library_rebuild_index(library, NULL, &err));
    REFUSED(SKC_E_FORKED, "fork", skc_task_wait(task, -1, &no_result, &err));
    CHECK(skc_task_poll(task) == SKC_E_FORKED && skc_task_cancel(task) == SKC_E_FORKED);
    CHECK(skc_task_fd(task) == -1 && skc_library_event_fd(library) == -1);
    CHECK(is(skc_result_value(result), "1") && is(skc_skill_id(skill), "one") && has(skc_blob_str(blob), "runs"));
    skc_result_free(result);
    skc_skill_free(skill);
    skc_blob_free(blob);
    skc_task_free(task);
    CHECK(skc_library_close(library) == SKC_E_FORKED);
}

int main(void) {
    char folder[] = "/tmp/fork_test-XXXXXX", path[64];
    CHECK(mkdtemp(folder) != NULL);
    snprintf(path, sizeof path, "%s/skills.db", folder);
    skc_library *library = NULL;
    OK(skc_library_open(path, NULL, &library, &err));
    put(library, "one", "result = 1");
    put(library, "sleep", "import time\ntime.sleep(60)");
    skc_result *result = run(library, "one", NULL, NULL);
    skc_skill *skill = NULL;
    skc_blob *blob = NULL;
    skc_task *task = NULL;
    OK(skc_library_get(library, "one", 0, &skill, &err));
    OK(skc_library_stats(library, &blob, &err));
    OK(skc_library_submit(library, "sleep", NULL, 0, NULL, &task, &err));

    for (int i = 0; i < 3; i++) {
        pid_t child = fork();
        if (child == 0) {
            child_of(library, task, result, skill, blob);
            _exit(0);
        }
        int status = 0;
        CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
    }

    CHECK(skc_task_poll(task) == SKC_PENDING);
    skc_task_free(task);
    skc_blob_free(blob);
    skc_skill_free(skill);
    skc_result_free(result);
    put(library, "two", "result = 2");
    result = run(library, "one", NULL, NULL);
    CHECK(skc_result_is_cached(result));
    skc_result_free(result);
    OK(skc_library_close(library));
    OK(skc_library_open(path, NULL, &library, &err));
    result = run(library, "two", NULL, NULL);
    CHECK(is(skc_result_value(result), "2"));
    skc_result_free(result);
    OK(skc_library_close(library));
    CHECK(unlink(path) == 0 && rmdir(folder) == 0);
    puts("a forked child is refused, and the parent works on ok");
    return 0;
}
