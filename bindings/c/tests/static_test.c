/* The static archive links beside another SQLite: this program brings functions of the same names, and each side uses
 * its own. */

#include "check.h"

const char *sqlite3_libversion(void);
int sqlite3_open_v2(const char *path, void **database, int flags, const char *vfs);

const char *sqlite3_libversion(void) { return "the host's own"; }

int sqlite3_open_v2(const char *path, void **database, int flags, const char *vfs) {
    UNUSED(path);
    UNUSED(database);
    UNUSED(flags);
    UNUSED(vfs);
    return 77;
}

int main(void) {
    skc_library *library = open_memory();
    put(library, "one", "result = 1");
    skc_result *result = run(library, "one", NULL, NULL);
    CHECK(is(skc_result_value(result), "1"));
    skc_result_free(result);
    OK(skc_library_close(library));
    CHECK(sqlite3_open_v2("x", NULL, 0, NULL) == 77 && strcmp(sqlite3_libversion(), "the host's own") == 0);
    puts("the archive links beside another SQLite ok");
    return 0;
}
