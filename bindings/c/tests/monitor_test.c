/* What the library says of itself across the C door: lines, memory, curves, days, and which run is meant. */

#define _DEFAULT_SOURCE
#include "check.h"

#include <pthread.h>
#include <unistd.h>

#define TRACE "0af7651916cd43dd8448eb211c80319c"

/* What a callback heard. */
typedef struct {
    pthread_mutex_t lock;
    char text[65536];
    size_t length, lines, dropped;
} listener;

static listener new_listener(void) {
    listener heard;
    memset(&heard, 0, sizeof heard);
    CHECK(pthread_mutex_init(&heard.lock, NULL) == 0);
    return heard;
}

static void hear(void *user_data, const char *json, size_t len) {
    listener *heard = user_data;
    CHECK(json[len] == 0 && json[0] == '{');
    pthread_mutex_lock(&heard->lock);
    CHECK(heard->length + len + 2 < sizeof heard->text);
    memcpy(heard->text + heard->length, json, len);
    heard->length += len;
    heard->text[heard->length++] = '\n';
    heard->lines++;
    pthread_mutex_unlock(&heard->lock);
}

static void forget(void *user_data) { ((listener *)user_data)->dropped++; }

static void lines_come_to_a_callback_until_the_library_is_closed(void) {
    listener lines = new_listener(), events = new_listener();
    skc_config *config = new_config();
    OK(skc_config_set(config, "monitor.log_level", "trace", &err));
    OK(skc_config_on_log(config, hear, &lines, forget, &err));
    OK(skc_config_on_event(config, hear, &events, forget, &err));
    skc_library *library = NULL;
    OK(skc_library_open(":memory:", config, &library, &err));
    skc_config_free(config);
    put(library, "one", "result = 1");
    skc_result_free(run(library, "one", NULL, "{\"trace\":\"00-" TRACE "-b7ad6b7169203331-01\"}"));
    skc_result *hit = run(library, "one", NULL, NULL);
    char own[33];
    CHECK(skc_result_trace_id(hit).len == 32);
    memcpy(own, skc_result_trace_id(hit).ptr, sizeof own);
    skc_view view;
    skc_result_view(hit, &view, sizeof view);
    CHECK(strcmp(view.trace_id.ptr, own) == 0 && has(skc_result_json(hit), own));
    skc_result_free(hit);
    OK(skc_library_close(library));
    /* Closing hands over what waits, and then nothing calls any more. */
    CHECK(lines.dropped == 1 && events.dropped == 1 && events.lines == 2);
    CHECK(strstr(lines.text, "the library is open") && strstr(lines.text, "the library is closed"));
    CHECK(strstr(lines.text, "\"trace_id\":\"" TRACE "\"") && strstr(lines.text, own));
    CHECK(strstr(lines.text, "\"level\":\"debug\"") && strstr(lines.text, "\"level\":\"trace\""));
    CHECK(strstr(lines.text, "\"kind\":\"skill_put\"") && strstr(events.text, "\"seq\":2"));
}

/* A callback that shuts its own library down, and is slow. */
typedef struct {
    skc_library *library;
    int calls, is_closed, late;
} closer;

static void shut_down(void *user_data, const char *json, size_t len) {
    closer *mine = user_data;
    UNUSED(json);
    UNUSED(len);
    usleep(20000);
    __atomic_add_fetch(&mine->calls, 1, __ATOMIC_SEQ_CST);
    __atomic_add_fetch(&mine->late, __atomic_load_n(&mine->is_closed, __ATOMIC_SEQ_CST), __ATOMIC_SEQ_CST);
    skc_library *library = __atomic_load_n(&mine->library, __ATOMIC_SEQ_CST);
    if (library) skc_library_shut_down(library);
}

static void no_callback_runs_after_closing(void) {
    closer events = {NULL, 0, 0, 0}, lines = {NULL, 0, 0, 0};
    skc_config *config = new_config();
    OK(skc_config_on_event(config, shut_down, &events, NULL, &err));
    OK(skc_config_on_log(config, shut_down, &lines, NULL, &err));
    skc_library *library = NULL;
    OK(skc_library_open(":memory:", config, &library, &err));
    skc_config_free(config);
    for (int i = 0; i < 20; i++)
        OK(skc_library_report_memory(library, NULL, &err));
    __atomic_store_n(&events.library, library, __ATOMIC_SEQ_CST);
    __atomic_store_n(&lines.library, library, __ATOMIC_SEQ_CST);
    while (skc_library_report_memory(library, NULL, NULL) == SKC_OK)
        usleep(1000);
    OK(skc_library_close(library));
    __atomic_store_n(&events.is_closed, 1, __ATOMIC_SEQ_CST);
    __atomic_store_n(&lines.is_closed, 1, __ATOMIC_SEQ_CST);
    usleep(200000);
    CHECK(events.calls >= 20 && lines.calls >= 20 && events.late == 0 && lines.late == 0);
}

static void memory_curves_and_days_are_documents(void) {
    skc_library *library = open_memory();
    put(library, "one", "result = 1");
    skc_result_free(run(library, "one", NULL, NULL));
    skc_blob *blob = NULL;
    OK(skc_library_report_memory(library, &blob, &err));
    CHECK(has(skc_blob_str(blob), "\"status\":\"ok\"") && has(skc_blob_str(blob), "\"limit_source\":"));
    skc_blob_free(blob);
    OK(skc_library_report_memory(library, NULL, &err));
    OK(skc_library_set_state(library, "one", "quarantined", &err));
    OK(skc_library_recommendations(library, &blob, &err));
    CHECK(has(skc_blob_str(blob), "\"rule\":\"quarantine\""));
    skc_blob_free(blob);
    OK(skc_library_history(library, &blob, &err));
    CHECK(has(skc_blob_str(blob), "\"interval_s\":10"));
    skc_blob_free(blob);
    OK(skc_library_outcomes(library, NULL, &blob, &err));
    CHECK(has(skc_blob_str(blob), "\"skill\":\"one\",\"version\":1,\"outcome\":\"success\",\"count\":1"));
    skc_blob_free(blob);
    REFUSED(SKC_E_NOT_FOUND, "no skill `two`", skc_library_outcomes(library, "two", &blob, &err));
    CHECK(blob == NULL);
    OK(skc_library_close(library));
}

static void what_is_not_there_is_refused(void) {
    skc_blob *blob = (skc_blob *)1;
    skc_config *config = new_config();
    REFUSED(SKC_E_INVALID, "`callback` is NULL", skc_config_on_log(config, NULL, NULL, NULL, &err));
    REFUSED(SKC_E_INVALID, "config", skc_config_on_log(NULL, hear, NULL, NULL, &err));
    skc_config_free(config);
    REFUSED(SKC_E_INVALID, "library", skc_library_history(NULL, &blob, &err));
    CHECK(blob == NULL);
    skc_library *library = open_memory();
    REFUSED(SKC_E_INVALID, "out_json", skc_library_history(library, NULL, &err));
    REFUSED(SKC_E_INVALID, "id", skc_library_outcomes(library, "\xff", &blob, &err));
    CHECK(skc_library_shut_down(library) == SKC_OK);
    REFUSED(SKC_E_CLOSED, "closed", skc_library_report_memory(library, &blob, &err));
    OK(skc_library_close(library));
    CHECK(skc_result_trace_id(NULL).len == 0 && skc_result_trace_id(NULL).ptr != NULL);
}

int main(void) {
    RUN_TEST(lines_come_to_a_callback_until_the_library_is_closed);
    RUN_TEST(no_callback_runs_after_closing);
    RUN_TEST(memory_curves_and_days_are_documents);
    RUN_TEST(what_is_not_there_is_refused);
    return 0;
}
