/* The library is a guest: it changes nothing of the process that hosts it, leaves nothing behind, and works whatever
 * the host does with signals and children. */

#define _GNU_SOURCE

#include "check.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <locale.h>
#include <pthread.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* The open descriptors; those that exec would keep are counted apart. */
static int descriptors(int *inheritable) {
    DIR *folder = opendir("/proc/self/fd");
    CHECK(folder != NULL);
    int count = 0, kept = 0;
    for (struct dirent *entry; (entry = readdir(folder)) != NULL;) {
        int fd = atoi(entry->d_name), flags = fcntl(fd, F_GETFD);
        if (entry->d_name[0] == '.' || fd == dirfd(folder)) continue;
        count++;
        kept += flags >= 0 && !(flags & FD_CLOEXEC);
    }
    closedir(folder);
    if (inheritable) *inheritable = kept;
    return count;
}

static int threads(void) {
    DIR *folder = opendir("/proc/self/task");
    CHECK(folder != NULL);
    int count = 0;
    for (struct dirent *entry; (entry = readdir(folder)) != NULL;)
        count += entry->d_name[0] != '.';
    closedir(folder);
    return count;
}

static void no_thread_is_left_after_closing(void) {
    for (int i = 0; i < 10; i++) {
        skc_library *library = open_memory();
        put(library, "one", "result = 1");
        CHECK(threads() > 1);
        OK(skc_library_close(library));
    }
    /* Threads that were told to end may take a moment. */
    for (int waited = 0; threads() > 1; waited++) {
        CHECK(waited < 6000);
        usleep(10000);
    }
}

static void nothing_is_left_after_fifty_runs(void) {
    int kept_before, kept_during, before = descriptors(&kept_before);
    skc_library *library = open_unchecked();
    put(library, "one", "result = 1");
    put(library, "bad", "import os\nos._exit(1)");
    skc_result_free(run(library, "one", NULL, "{\"cache\":\"no\"}"));
    int open_now = descriptors(&kept_during);
    CHECK(kept_during == kept_before);
    for (int i = 0; i < 25; i++) {
        skc_result_free(run(library, "one", NULL, "{\"cache\":\"no\"}"));
        skc_result_free(run(library, "bad", NULL, NULL));
    }
    CHECK(descriptors(NULL) == open_now);
    OK(skc_library_close(library));
    CHECK(descriptors(NULL) == before);
    CHECK(waitpid(-1, NULL, WNOHANG) == -1 && errno == ECHILD);
}

static void nothing_of_the_process_is_changed(void) {
    char before[4096], after[4096];
    sigset_t mask_before, mask_after;
    struct sigaction actions[65], action;
    mode_t old = umask(027);
    CHECK(getcwd(before, sizeof before) != NULL);
    pthread_sigmask(SIG_SETMASK, NULL, &mask_before);
    for (int signal = 1; signal < 65; signal++)
        sigaction(signal, NULL, &actions[signal]);
    char *locale = strdup(setlocale(LC_ALL, NULL)), *home = getenv("HOME");

    skc_library *library = open_memory();
    put(library, "one", "result = 1");
    skc_result_free(run(library, "one", NULL, NULL));
    OK(skc_library_close(library));

    CHECK(umask(old) == 027 && getcwd(after, sizeof after) != NULL && strcmp(before, after) == 0);
    pthread_sigmask(SIG_SETMASK, NULL, &mask_after);
    for (int signal = 1; signal < 65; signal++) {
        CHECK(sigismember(&mask_before, signal) == sigismember(&mask_after, signal));
        if (sigaction(signal, NULL, &action) != 0) continue;
        CHECK(action.sa_handler == actions[signal].sa_handler && action.sa_flags == actions[signal].sa_flags);
    }
    CHECK(strcmp(locale, setlocale(LC_ALL, NULL)) == 0 && home == getenv("HOME"));
    free(locale);
}

/* How many threads the library has started by now. All but the main one must block every signal that can be blocked, or
 * the host's handlers would run on them. */
static int blocking_threads(void) {
    DIR *folder = opendir("/proc/self/task");
    CHECK(folder != NULL);
    int workers = 0;
    for (struct dirent *entry; (entry = readdir(folder)) != NULL;) {
        char path[512], line[256], name[64] = "";
        unsigned long long blocked = 0;
        int is_alive = 0;
        if (entry->d_name[0] == '.' || atoi(entry->d_name) == getpid()) continue;
        snprintf(path, sizeof path, "/proc/self/task/%s/status", entry->d_name);
        FILE *status = fopen(path, "r");
        if (!status) continue;
        while (fgets(line, sizeof line, status)) {
            sscanf(line, "Name: %63s", name);
            is_alive |= sscanf(line, "SigBlk: %llx", &blocked) == 1;
        }
        fclose(status);
        /* One that ends between two lines has none. */
        if (!is_alive) continue;
        workers += strcmp(name, "skillcache-task") == 0;
        CHECK((blocked & (1ULL << (SIGALRM - 1))) && (blocked & (1ULL << (SIGCHLD - 1))));
    }
    closedir(folder);
    return workers;
}

static void threads_of_the_library_block_signals(void) {
    skc_library *library = open_memory();
    put(library, "sleep", "import time\ntime.sleep(60)");
    skc_task *task = NULL;
    OK(skc_library_submit(library, "sleep", NULL, 0, NULL, &task, &err));
    int waited = 0;
    while (blocking_threads() == 0) {
        CHECK(++waited < 6000);
        usleep(10000);
    }
    skc_task_free(task);
    OK(skc_library_close(library));
}

static void run_and_time_out(void) {
    skc_library *library = open_unchecked();
    put(library, "one", "result = inputs['x']");
    put(library, "endless", "while True: pass");
    for (int i = 0; i < 10; i++) {
        char data[64];
        snprintf(data, sizeof data, "{\"inputs\":{\"x\":%d}}", i);
        skc_result *result = run(library, "one", data, NULL);
        CHECK(skc_result_outcome(result) == SKC_OUTCOME_SUCCESS);
        skc_result_free(result);
    }
    skc_result *result = run(library, "endless", NULL, "{\"timeout_ms\": 100}");
    CHECK(skc_result_outcome(result) == SKC_OUTCOME_TIMEOUT);
    skc_result_free(result);
    /* Whatever the host does with its children, it is known how a run ended and what it used. */
    skc_view view;
    put(library, "abort", "import os\nos.abort()");
    result = run(library, "abort", NULL, NULL);
    skc_result_view(result, &view, sizeof view);
    CHECK(view.outcome == SKC_OUTCOME_CRASHED && strstr(view.error.ptr, "SIGABRT") && view.cpu_us > 0);
    skc_result_free(result);
    OK(skc_library_close(library));
}

static volatile sig_atomic_t heard = 0;

static void hear(int signal) {
    UNUSED(signal);
    heard++;
}

/* A run is nobody's child but its supervisor's, and that one neither signals nor shows up in a wait. */
static void a_host_hears_nothing_of_runs(void) {
    struct sigaction count = {.sa_handler = hear}, before;
    CHECK(sigaction(SIGCHLD, &count, &before) == 0);
    run_and_time_out();
    skc_library *library = open_memory();
    put(library, "sleep", "import time\ntime.sleep(60)");
    skc_task *task = NULL;
    OK(skc_library_submit(library, "sleep", NULL, 0, NULL, &task, &err));
    for (int waited = 0; waited < 20; waited++) {
        CHECK(waitpid(-1, NULL, WNOHANG) == -1 && errno == ECHILD);
        usleep(10000);
    }
    skc_task_free(task);
    OK(skc_library_close(library));
    CHECK(heard == 0);
    /* The control: a child of the host's own is heard of. */
    pid_t child = fork();
    if (child == 0) _exit(0);
    CHECK(waitpid(child, NULL, 0) == child);
    CHECK(heard == 1);
    CHECK(sigaction(SIGCHLD, &before, NULL) == 0);
}

static void a_host_that_ignores_its_children(void) {
    struct sigaction ignore = {.sa_handler = SIG_IGN}, before;
    CHECK(sigaction(SIGCHLD, &ignore, &before) == 0);
    run_and_time_out();
    CHECK(sigaction(SIGCHLD, &before, NULL) == 0);
}

static volatile sig_atomic_t reaping = 1;

static void *reap_everything(void *unused) {
    UNUSED(unused);
    while (reaping)
        waitpid(-1, NULL, WNOHANG);
    return NULL;
}

static void a_host_that_reaps_every_child_itself(void) {
    pthread_t reaper;
    CHECK(pthread_create(&reaper, NULL, reap_everything, NULL) == 0);
    run_and_time_out();
    reaping = 0;
    CHECK(pthread_join(reaper, NULL) == 0);
}

int main(void) {
    RUN_TEST(no_thread_is_left_after_closing);
    RUN_TEST(nothing_is_left_after_fifty_runs);
    RUN_TEST(nothing_of_the_process_is_changed);
    RUN_TEST(threads_of_the_library_block_signals);
    RUN_TEST(a_host_hears_nothing_of_runs);
    RUN_TEST(a_host_that_ignores_its_children);
    RUN_TEST(a_host_that_reaps_every_child_itself);
    return 0;
}
