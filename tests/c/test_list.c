/* base/list.h against an array. */
#include "check.h"

#include "base/list.h"

typedef struct {
    int name;
    af_link link;
} item;

static int
name_of(const af_link *link)
{
    return af_container_of(link, item, link)->name;
}

/* The list is exactly these, read in both directions. */
static void
check_is(const af_link *head, item *const *want, size_t n)
{
    const af_link *l = head;
    for (size_t i = 0; i < n; i++) {
        l = l->next;
        CHECK(l == &want[i]->link);
        CHECK_EQ(name_of(l), want[i]->name);
        CHECK(af_list_linked(l));
    }
    CHECK(l->next == head);
    l = head;
    for (size_t i = n; i-- > 0;) {
        l = l->prev;
        CHECK(l == &want[i]->link);
    }
    CHECK(l->prev == head);
}

static void
test_zeroed_memory_is_in_no_list(void)
{
    item it;
    memset(&it, 0, sizeof(it));
    CHECK(!af_list_linked(&it.link));
}

static void
test_empty(void)
{
    af_link head;
    af_list_init(&head);
    check_is(&head, NULL, 0);
}

static void
test_the_last_one_out_leaves_it_empty(void)
{
    af_link head;
    item it = {.name = 1}, *want[] = {&it};
    af_list_init(&head);
    for (int i = 0; i < 3; i++) {
        af_list_append(&head, &it.link);
        check_is(&head, want, 1);
        af_list_remove(&it.link);
        CHECK(!af_list_linked(&it.link) && it.link.prev == NULL);
        check_is(&head, NULL, 0);
    }
}

static void
test_members_may_go_while_it_is_walked(void)
{
    af_link head;
    item items[9] = {{0}}, *left[9];
    size_t n = 0;
    af_list_init(&head);
    for (int i = 0; i < 9; i++) {
        items[i].name = i;
        af_list_append(&head, &items[i].link);
    }
    for (af_link *l = head.next, *next; l != &head; l = next) {
        next = l->next;
        if (name_of(l) % 3 == 0) {
            af_list_remove(l);
        }
        else {
            left[n++] = af_container_of(l, item, link);
        }
    }
    CHECK_EQ(n, 6);
    check_is(&head, left, n);
}

/* Members that move between two lists. */
static void
test_as_an_array(void)
{
    enum { ITEMS = 40, STEPS = 20000 };
    af_link head[2];
    item items[ITEMS], *want[2][ITEMS];
    size_t len[2] = {0, 0};
    memset(items, 0, sizeof(items));
    for (int i = 0; i < ITEMS; i++) {
        items[i].name = i;
    }
    af_list_init(&head[0]);
    af_list_init(&head[1]);
    for (int step = 0; step < STEPS; step++) {
        item *it = &items[any_below(ITEMS)];
        if (af_list_linked(&it->link)) {
            for (int which = 0; which < 2; which++) {
                size_t i = 0;
                while (i < len[which] && want[which][i] != it) {
                    i++;
                }
                if (i < len[which]) {
                    len[which]--;
                    memmove(&want[which][i], &want[which][i + 1], (len[which] - i) * sizeof(want[which][0]));
                }
            }
            af_list_remove(&it->link);
        }
        else {
            int which = (int)any_below(2);
            af_list_append(&head[which], &it->link);
            want[which][len[which]++] = it;
        }
        check_is(&head[0], want[0], len[0]);
        check_is(&head[1], want[1], len[1]);
    }
}

int
main(int argc, char **argv)
{
    check_begin(argc, argv);
    RUN(test_zeroed_memory_is_in_no_list);
    RUN(test_empty);
    RUN(test_the_last_one_out_leaves_it_empty);
    RUN(test_members_may_go_while_it_is_walked);
    RUN(test_as_an_array);
    return 0;
}
