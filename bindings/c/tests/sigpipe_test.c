/* A host with the default disposition of SIGPIPE, which ends the process, survives skills that die before or while they
 * read their job. */

#define _POSIX_C_SOURCE 200809L

#include "check.h"

#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MEBIBYTE = 1 << 20 };

/* {"inputs":{"text":"xxx..."}} with a text of some size. */
static char *job(size_t size) {
    static const char begin[] = "{\"inputs\":{\"text\":\"", end[] = "\"}}";
    char *data = malloc(sizeof begin + size + sizeof end);
    CHECK(data != NULL);
    memcpy(data, begin, sizeof begin - 1);
    memset(data + sizeof begin - 1, 'x', size);
    memcpy(data + sizeof begin - 1 + size, end, sizeof end);
    return data;
}

static void a_skill_that_dies_is_a_crash(void) {
    static const char *const deaths[] = {"import os\nos._exit(0)", "import os\nos.kill(os.getpid(), 9)",
                                         "import os\nos.close(3)\nos._exit(1)"};
    skc_library *library = open_unchecked();
    char *data = job(MEBIBYTE);
    for (size_t i = 0; i < sizeof deaths / sizeof *deaths; i++) {
        put(library, "death", deaths[i]);
        skc_result *result = run(library, "death", data, NULL);
        CHECK(skc_result_outcome(result) == SKC_OUTCOME_CRASHED);
        skc_result_free(result);
    }
    free(data);
    OK(skc_library_close(library));
}

/* The interpreter itself cannot take the job into its memory, so it dies while the host still writes. */
static void an_interpreter_that_dies_before_it_has_read_its_job(void) {
    skc_library *library = open_memory();
    put(library, "echo", "result = len(inputs['text'])");
    char *data = job(24 * MEBIBYTE);
    skc_result *result = run(library, "echo", data, "{\"max_memory_mb\": 32}");
    int32_t outcome = skc_result_outcome(result);
    CHECK(outcome == SKC_OUTCOME_MEMORY_LIMIT || outcome == SKC_OUTCOME_CRASHED);
    skc_result_free(result);
    result = run(library, "echo", data, "{\"max_memory_mb\": 1024}");
    CHECK(is(skc_result_value(result), "25165824"));
    skc_result_free(result);
    free(data);
    OK(skc_library_close(library));
}

/* An interpreter that answers who it is and, once, that nothing confines it; after that it closes everything without
   reading a byte. */
static void an_interpreter_that_never_reads_its_job(void) {
    char folder[] = "/tmp/sigpipe_test-XXXXXX", path[64];
    CHECK(mkdtemp(folder) != NULL);
    snprintf(path, sizeof path, "%s/python", folder);
    FILE *script = fopen(path, "w");
    CHECK(script != NULL);
    fprintf(script,
            "#!/bin/sh\n"
            "case \"$*\" in\n"
            "*version_info*) printf '{\"program\": \"%s\", \"version\": [3, 11], \"implementation\": \"cpython\","
            " \"identity\": \"none\", \"version_text\": \"none\", \"bootstrap\": \"\", \"site\": [], \"library\": "
            "\"/nowhere\", \"prefixes\": []}\\n' ;;\n"
            "*) if [ ! -e %s.probed ]; then\n"
            "  touch %s.probed; printf '\\0\\0\\0\\020S{\"files\":false}' >&3; sleep 60\n"
            "  fi\n"
            "  exec 3>&- ; exit 0 ;;\n"
            "esac\n",
            path, path, path);
    fclose(script);
    CHECK(chmod(path, 0700) == 0);

    skc_config *config = skc_config_new();
    skc_library *library = NULL;
    OK(skc_config_set(config, "python.executable", path, &err));
    OK(skc_config_set(config, "sandbox.mode", "best_effort", &err));
    OK(skc_config_set(config, "sandbox.without", "namespaces, landlock, seccomp", &err));
    OK(skc_library_open(":memory:", config, &library, &err));
    skc_config_free(config);
    /* A put asks the interpreter, so it is refused; megabytes of code that nobody reads must not end this process. */
    char *code = malloc(3 * MEBIBYTE + 16);
    CHECK(code != NULL);
    memset(code, '#', 3 * MEBIBYTE);
    strcpy(code + 3 * MEBIBYTE, "\nresult = 1");
    skc_skill *skill = skc_skill_new("long", code, SKC_NTS);
    REFUSED(SKC_E_SANDBOX, "interpreter", skc_library_put(library, skill, NULL, &err));
    skc_skill_free(skill);
    free(code);
    OK(skc_library_close(library));
    CHECK(unlink(path) == 0);
    strcat(path, ".probed");
    CHECK(unlink(path) == 0 && rmdir(folder) == 0);
}

/* The control: with this disposition, a plain write to a pipe that nobody reads ends a process. */
static void the_disposition_is_deadly(void) {
    pid_t child = fork();
    if (child == 0) {
        int ends[2];
        if (pipe(ends) != 0 || close(ends[0]) != 0) _exit(1);
        _exit(write(ends[1], "x", 1) == 1 ? 2 : 3);
    }
    int status = 0;
    CHECK(waitpid(child, &status, 0) == child && WIFSIGNALED(status) && WTERMSIG(status) == SIGPIPE);
}

int main(void) {
    signal(SIGPIPE, SIG_DFL);
    RUN_TEST(the_disposition_is_deadly);
    RUN_TEST(a_skill_that_dies_is_a_crash);
    RUN_TEST(an_interpreter_that_dies_before_it_has_read_its_job);
    RUN_TEST(an_interpreter_that_never_reads_its_job);
    return 0;
}
