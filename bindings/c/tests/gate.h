/* A gate that runs wait at, so that a test decides when they go on. */

#ifndef GATE_H
#define GATE_H

#include "check.h"

#include <unistd.h>

/* Holds runs up until it opens: they look for a file in the folder of packages, all that they can see of the host. */
typedef struct {
    char folder[32], file[48], code[256];
} gate;

static inline gate new_gate(void) {
    gate made = {"/tmp/gate-XXXXXX", "", ""};
    CHECK(mkdtemp(made.folder) != NULL);
    snprintf(made.file, sizeof made.file, "%s/open", made.folder);
    snprintf(made.code, sizeof made.code,
             "import os, time\nwhile not os.path.exists('%s'): time.sleep(0.01)\nresult = inputs.get('v', 'awake')\n",
             made.file);
    return made;
}

static inline void open_gate(const gate *gate) {
    FILE *file = fopen(gate->file, "w");
    CHECK(file != NULL && fclose(file) == 0);
}

static inline void remove_gate(const gate *gate) {
    remove(gate->file);
    CHECK(rmdir(gate->folder) == 0);
}

/* A library with a skill `s` that waits at a gate, and is kept all the same. */
static inline skc_library *open_held(const gate *gate) {
    skc_library *library = NULL;
    skc_config *config = new_config();
    OK(skc_config_set(config, "policy.mode", "off", &err));
    OK(skc_config_set(config, "python.site_packages", gate->folder, &err));
    OK(skc_library_open(":memory:", config, &library, &err));
    skc_config_free(config);
    skc_skill *skill = skc_skill_new("s", gate->code, SKC_NTS);
    OK(skc_skill_set(skill, "cache", "yes", &err));
    OK(skc_library_put(library, skill, NULL, &err));
    skc_skill_free(skill);
    return library;
}

#endif
