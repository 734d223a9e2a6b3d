/* What a project that finds skillcache with CMake would write first. */

#include <skillcache.h>

int main(void) {
    skc_library *library = NULL;
    if (skc_abi() != SKC_ABI || skc_library_open(":memory:", NULL, &library, NULL) != SKC_OK) return 1;
    return skc_library_close(library);
}
