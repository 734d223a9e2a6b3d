/* Eight threads share one library: they put, get, run, submit and read events at the same time. */

#define _POSIX_C_SOURCE 200809L

#include "check.h"

#include <pthread.h>

enum { THREADS = 8, STEPS = 25 };

static skc_library *library;

static void *work(void *argument) {
    int number = *(int *)argument;
    char id[32], data[64], expected[32];
    snprintf(id, sizeof id, "own-%d", number);
    put(library, id, "result = inputs['x'] * 2");
    for (int i = 0; i < STEPS; i++) {
        snprintf(data, sizeof data, "{\"inputs\":{\"x\":%d}}", i % 3);
        snprintf(expected, sizeof expected, "%d", i % 3 * 2);
        skc_result *result = run(library, i % 2 ? id : "shared", data, NULL);
        CHECK(is(skc_result_value(result), expected));
        skc_result_free(result);
        skc_skill *skill = NULL;
        OK(skc_library_get(library, id, 0, &skill, &err));
        CHECK(is(skc_skill_id(skill), id));
        skc_skill_free(skill);
        skc_blob *event = NULL;
        skc_status status = skc_library_next_event(library, 0, &event, NULL);
        CHECK(status == SKC_OK || status == SKC_E_TIMEOUT);
        skc_blob_free(event);
    }
    skc_task *task = NULL;
    skc_result *result = NULL;
    OK(skc_library_submit(library, id, "{\"inputs\":{\"x\":21}}", SKC_NTS, NULL, &task, &err));
    OK(skc_task_wait(task, -1, &result, &err));
    CHECK(is(skc_result_value(result), "42"));
    skc_result_free(result);
    skc_task_free(task);
    return NULL;
}

int main(void) {
    pthread_t threads[THREADS];
    int numbers[THREADS];
    char total[64];
    library = open_memory();
    put(library, "shared", "result = inputs['x'] * 2");
    for (int i = 0; i < THREADS; i++) {
        numbers[i] = i;
        CHECK(pthread_create(&threads[i], NULL, work, &numbers[i]) == 0);
    }
    for (int i = 0; i < THREADS; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);
    skc_blob *stats = NULL;
    OK(skc_library_stats(library, &stats, &err));
    snprintf(total, sizeof total, "\"runs\":{\"total\":%d,", THREADS * (STEPS + 1));
    CHECK(has(skc_blob_str(stats), total));
    skc_blob_free(stats);
    OK(skc_library_close(library));
    puts("eight threads share a library ok");
    return 0;
}
