/* Checks that stop the program and say where. */

#ifndef CHECK_H
#define CHECK_H

#include <skillcache.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHECK(condition)                                                                                               \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            fprintf(stderr, "%s:%d: FAILED: %s\n", __FILE__, __LINE__, #condition);                                    \
            exit(1);                                                                                                   \
        }                                                                                                              \
    } while (0)

/* A call that must succeed; says the library's own words otherwise. */
#define OK(call)                                                                                                       \
    do {                                                                                                               \
        skc_error *err = NULL;                                                                                         \
        skc_status status_ = (call);                                                                                   \
        if (status_ != SKC_OK) {                                                                                       \
            fprintf(stderr, "%s:%d: FAILED: %s: %s (%s)\n", __FILE__, __LINE__, #call, skc_error_message(err).ptr,     \
                    skc_status_name(status_));                                                                         \
            exit(1);                                                                                                   \
        }                                                                                                              \
        CHECK(err == NULL);                                                                                            \
    } while (0)

/* A call that must be refused with a status, in words that contain some text; the call names its error `err`. */
#define REFUSED(code, words, call)                                                                                     \
    do {                                                                                                               \
        skc_error *err = (skc_error *)1;                                                                               \
        skc_status status_ = (call);                                                                                   \
        if (status_ != (code) || err == NULL || !strstr(skc_error_message(err).ptr, words)) {                          \
            fprintf(stderr, "%s:%d: FAILED: %s gave %s: %s\n", __FILE__, __LINE__, #call, skc_status_name(status_),    \
                    skc_error_message(status_ ? err : NULL).ptr);                                                      \
            exit(1);                                                                                                   \
        }                                                                                                              \
        CHECK(skc_error_code(err) == (code));                                                                          \
        CHECK(strstr(skc_error_json(err).ptr, skc_status_name(code)) != NULL);                                         \
        skc_error_free(err);                                                                                           \
    } while (0)

#define RUN_TEST(test)                                                                                                 \
    do {                                                                                                               \
        test();                                                                                                        \
        printf("%s ok\n", #test);                                                                                      \
        fflush(stdout);                                                                                                \
    } while (0)

#define UNUSED(parameter) ((void)(parameter))

/* What runs are confined by: SKC_TEST_LEVEL, for emulators that know no layers; otherwise everything. */
static inline const char *level(void) { return getenv("SKC_TEST_LEVEL") ? getenv("SKC_TEST_LEVEL") : "strict"; }

static inline skc_config *new_config(void) {
    skc_config *config = skc_config_new();
    /* Time is what few tests are about; a busy machine, or an emulator, takes seconds to start an interpreter. */
    OK(skc_config_set(config, "sandbox.timeout_ms", "300000", &err));
    if (strcmp(level(), "strict") != 0) {
        OK(skc_config_set(config, "sandbox.mode", "best_effort", &err));
        /* The emulator itself lives in the child until its interpreter starts. */
        OK(skc_config_set(config, "sandbox.max_memory_mb", "1024", &err));
    }
    return config;
}

static inline skc_library *open_memory(void) {
    skc_library *library = NULL;
    skc_config *config = new_config();
    OK(skc_library_open(":memory:", config, &library, &err));
    skc_config_free(config);
    CHECK(library != NULL);
    return library;
}

/* For skills that the policy refuses: the sandbox is tested with them. */
static inline skc_library *open_unchecked(void) {
    skc_library *library = NULL;
    skc_config *config = new_config();
    OK(skc_config_set(config, "policy.mode", "off", &err));
    OK(skc_library_open(":memory:", config, &library, &err));
    skc_config_free(config);
    return library;
}

static inline void put(skc_library *library, const char *id, const char *code) {
    skc_skill *skill = skc_skill_new(id, code, SKC_NTS);
    CHECK(skill != NULL);
    OK(skc_library_put(library, skill, NULL, &err));
    skc_skill_free(skill);
}

static inline skc_result *run(skc_library *library, const char *id, const char *data, const char *options) {
    skc_result *result = NULL;
    OK(skc_library_run(library, id, data, data ? SKC_NTS : 0, options, &result, &err));
    CHECK(result != NULL);
    return result;
}

static inline bool is(skc_str text, const char *expected) {
    return text.len == strlen(expected) && memcmp(text.ptr, expected, text.len) == 0 && text.ptr[text.len] == '\0';
}

static inline bool has(skc_str text, const char *part) { return strstr(text.ptr, part) != NULL; }

#endif
