/* sys/copy.h */
#include "check.h"

#include "sys/copy.h"

static void
test_blocks_begin_with_a_page(void)
{
    char *blocks[40];
    for (size_t i = 0; i < 40; i++) {
        size_t size = (1 + any_below(100)) * AF_PAGE;
        blocks[i] = af_page_alloc(size);
        CHECK(blocks[i] != NULL);
        CHECK_EQ((uintptr_t)blocks[i] % AF_PAGE, 0);
        memset(blocks[i], (int)i, size);
    }
    for (size_t i = 0; i < 40; i++) {
        CHECK_EQ(blocks[i][AF_PAGE - 1], i);
        free(blocks[i]);
    }
}

static int
machine_is_amd(void)
{
    char line[256];
    int found = 0;
    FILE *file = fopen("/proc/cpuinfo", "r");
    while (file != NULL && !found && fgets(line, sizeof(line), file) != NULL) {
        found = strncmp(line, "vendor_id", 9) == 0 && strstr(line, "AuthenticAMD") != NULL;
    }
    if (file != NULL) {
        fclose(file);
    }
    return found;
}

/* 1 to 31 bytes into a page, and only where the processor is of that kind. */
static void
test_where_copying_is_slow(void)
{
    char *block = af_page_alloc(3 * AF_PAGE);
    CHECK(block != NULL);
    int amd = machine_is_amd(), hostile = 0;
#ifdef AF_HOSTILE
    hostile = 1;            /* then it is always said to be */
#endif
    printf("  %s\n", amd ? "AMD" : "another make");
    for (size_t i = 0; i < 3 * AF_PAGE; i++) {
        size_t at = i % AF_PAGE;
        CHECK_EQ(af_copies_slowly_to(block + i), hostile || (amd && at >= 1 && at <= 31));
    }
    free(block);
}

int
main(int argc, char **argv)
{
    check_begin(argc, argv);
    RUN(test_blocks_begin_with_a_page);
    RUN(test_where_copying_is_slow);
    return 0;
}
