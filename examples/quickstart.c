#include <skillcache.h>
#include <stdio.h>

int main(void) {
    skc_library *library;
    skc_result *run;
    skc_skill *skill = skc_skill_new("mean", "result = sum(inputs['x']) / len(inputs['x'])", SKC_NTS);
    if (skc_library_open(":memory:", NULL, &library, NULL) || skc_library_put(library, skill, NULL, NULL)) return 1;
    for (int i = 0; i < 2; i++, skc_result_free(run)) {
        if (skc_library_run(library, "mean", "{\"inputs\":{\"x\":[1,2,6]}}", SKC_NTS, NULL, &run, NULL)) return 1;
        printf("%s %s\n", skc_result_value(run).ptr, skc_result_is_cached(run) ? "from memory" : "executed");
    }
    skc_skill_free(skill);
    return skc_library_close(library);
}
